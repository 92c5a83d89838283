"""Where stacks are trained: the CPU, or a GPU that torch can use."""

import os

import torch

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables
from harness.paper import Spec
from harness.paper.resources import load_resources

CHOICE = variable("device")  # auto (the default), cpu, cuda or cuda:N


def choose(spec: Spec) -> None:
    """Compute on the CPU, here and in the processes that this one starts, if the scale's rules ask for no GPU.

    A device that HARNESS_DEVICE names, and a scale without rules, are left as they are.
    """
    if variables().device == "auto" and asks_for_gpu(spec) is False:
        os.environ[CHOICE] = "cpu"


def asks_for_gpu(spec: Spec) -> bool | None:
    """Whether the scale's rules ask for a GPU; None if it has none."""
    return load_resources(spec.folder, spec.scale_name).gpus


def pick() -> torch.device:
    """The device of this process: HARNESS_DEVICE, or by default a GPU if available, else the CPU.

    Raises HarnessError for an unknown or missing device.
    """
    name = variables().device
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= gpus:
        raise HarnessError(f"{CHOICE}={name}: torch finds {gpus} GPUs here; choose another or cpu")
    if kind == "cuda":  # read at the first matrix product; without it, a GPU's products may differ from run to run
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(name)
