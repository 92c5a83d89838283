"""The computation of each stage of the workflow: from the records of earlier stages to its own files."""
