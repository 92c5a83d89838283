"""Where stacks are trained: the CPU, or a GPU that torch can use."""

import os

import torch

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables

CHOICE = variable("device")  # auto (the default), cpu, cuda or cuda:N


def pick() -> torch.device:
    """The device of this process: a GPU if there is one, else the CPU, unless HARNESS_DEVICE says which.

    Raises HarnessError for a device that isn't there.
    """
    name = variables().device
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if there else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= there:
        raise HarnessError(f"{CHOICE}={name}: torch finds {there} GPUs here; choose another or cpu")
    if kind == "cuda":  # read when the first product is made: without it, those of a GPU may differ from run to run
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(name)
