"""The thin layer between the science and the workflow engine: one function a stage, called by `harness stage`."""
