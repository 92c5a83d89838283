"""The environment of a computation: code revision, packages, hardware, container image."""

import contextlib
import importlib.metadata
import os
import platform
import socket
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from harness import kernels
from harness.base import git
from harness.base.errors import HarnessError
from harness.base.paths import SHIPPED
from harness.base.variables import variable, variables
from harness.results.code import PACKAGE
from harness.training.device import pick

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "safetensors",
    "snakemake",
    "dvc",
    "scikit-learn",
    "mnist1d",
    "matplotlib",
    "rocrate",
)
COMPUTING = ("torch", "numpy")  # another version of these may change results, at least their last bits
IMAGE = variable("image")  # digest of the image that this process runs in; an image can't contain its own
MARKER = PACKAGE.parent / ".image"  # created when an image is built


def environment() -> dict[str, Any]:
    """Code revision, packages, hardware and container image ("" outside a container) of this process."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = _version(name)
    revision, clean = code_revision(PACKAGE.parent)
    gpu = _gpu()
    return {
        "harness_version": importlib.metadata.version("lth-harness"),
        "code_revision": revision,
        "tree_clean": clean,
        "image": around(),
        "packages": {"python": platform.python_version(), **versions},
        "hardware": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": gpu,
            "kernels": "torch" if gpu else kernels.available() or "torch",
            "platform": platform.platform(terse=True),
        },
    }


def _gpu() -> str:
    """The name of the GPU that this process computes on; "" for the CPU."""
    try:
        device = pick()
    except HarnessError:  # a stage that computes nothing may run where the chosen device is missing
        return ""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def computed_with() -> dict[str, str]:
    """Versions of the packages that compute a network's numbers."""
    return {name: _version(name) for name in COMPUTING}


@cache
def _version(package: str) -> str:
    """A package's version; to look it up takes a millisecond, and every network's record has it."""
    return importlib.metadata.version(package)


def cpu_model() -> str:
    """The processor's name, as the system reports it."""
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def code_revision(root: Path) -> tuple[str, bool | None]:
    """The git commit of a checkout and whether its tree is clean, or HARNESS_REVISION if there is none.

    Untracked files among the code or the papers make a tree unclean too. An image has no git: its build sets the
    variable, with the suffix "-changed" for a tree that was not clean. A wheel has a file of the same form. ("", None)
    without any of them.
    """
    commit = git.revision(root, *git.CODE)
    if commit is not None:
        return commit
    built = SHIPPED / "revision"
    revision = variables().revision or (built.read_text(encoding="utf-8") if built.is_file() else "")
    return revision.removesuffix("-changed"), not revision.endswith("-changed") if revision else None


def around() -> str:
    """The digest of the image that this process runs in, from HARNESS_IMAGE; "" outside the project's images."""
    return variables().image if MARKER.exists() else ""


def place() -> str:
    """The scope in which a process id is unique: the host's name and, on Linux, the PID namespace."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  no file of that name
    except OSError:
        return socket.gethostname()


def made_with() -> dict[str, Any]:
    """The fields of `environment` that each stage records."""
    values = environment()
    return {key: values[key] for key in ("code_revision", "tree_clean", "packages", "hardware", "image")}
