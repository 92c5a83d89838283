"""What can differ between machines and days: code revision, packages, hardware, container image."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

from harness import __version__, kernels
from harness.workflow.image import around

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


def environment() -> dict[str, Any]:
    """Code revision, packages, hardware and container image ("" outside of one) of this process."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    revision, clean = code_revision(Path(__file__).parent)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "harness_version": __version__,
        "code_revision": revision,
        "tree_clean": clean,
        "image": around(),
        "packages": {"python": platform.python_version(), **versions},
        "hardware": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": gpu,
            "kernels": kernels.available() or "torch",
            "platform": platform.platform(terse=True),
        },
    }


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def code_revision(folder: Path) -> tuple[str, bool | None]:
    """The git commit of a folder and whether its tree is clean, from HARNESS_REVISION where git can't tell.

    An image has no git: its build sets the variable, with "-changed" at the end for a tree that was not clean.
    ("", None) where neither is there.
    """

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return result.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), not git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        revision = os.environ.get("HARNESS_REVISION", "")
        return revision.removesuffix("-changed"), not revision.endswith("-changed") if revision else None
