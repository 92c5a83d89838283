"""Hand-written CPU kernels for the stacks' inner loops: the choice of a build, and the number of threads.

The kernels compute what the torch operations of `harness.networks` compute, up to the rounding of sums. They are
compiled when the package is installed. Where that was not possible, and on other devices, torch computes.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables
from harness.kernels.build import TARGETS, library, source_digest

CHOICE = variable("kernels")  # a build's name, or "torch" for none
LANES = 16  # the kernels take multiples of this many samples, on every CPU
_BUILD_OF = {"AVX512": "avx512", "AVX2": "avx2"}  # torch's name of the CPU's capability -> build


class _Setting:
    """State that can change while the program runs: the pool of threads, and whether the kernels are switched off."""

    threads = 1
    pool: ThreadPoolExecutor | None = None
    off = False


def available() -> str:
    """Name of the kernels' build in use ("avx512", "avx2", "neon"), "" if torch computes.

    Raises HarnessError if HARNESS_KERNELS names a missing build, or if the build was compiled from other sources.
    """
    return "" if _Setting.off or _load() is None else _name()


@contextmanager
def without() -> Iterator[None]:
    """Compute with torch alone inside the block."""
    before, _Setting.off = _Setting.off, True
    try:
        yield
    finally:
        _Setting.off = before


def use_threads(threads: int) -> None:
    """Number of threads that share a kernel's work."""
    if threads != _Setting.threads:
        if _Setting.pool:
            _Setting.pool.shutdown()
        _Setting.pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        _Setting.threads = threads


def call(name: str, *arguments: Any) -> None:
    """Call a kernel on every thread. Its last two arguments are the thread's number and the number of threads."""
    kernel: Callable[..., None] = getattr(_library(), name)
    if _Setting.pool is None:
        kernel(*arguments, 0, 1)
        return
    parts = _Setting.threads
    others = [_Setting.pool.submit(kernel, *arguments, part, parts) for part in range(1, parts)]
    kernel(*arguments, 0, parts)
    for other in others:
        other.result()


def _name() -> str:
    chosen = variables().kernels
    if chosen:
        return "" if chosen == "torch" else chosen
    if "neon" in TARGETS.get(os.uname().machine, {}):
        return "neon"
    return _BUILD_OF.get(torch.backends.cpu.get_cpu_capability(), "")


@cache
def _load() -> ctypes.CDLL | None:
    name = _name()
    path = Path(__file__).parent / library(name)
    if not name or not path.is_file():
        if variables().kernels not in ("", "torch"):
            builds = ", ".join(sorted(file.stem[8:] for file in path.parent.glob(library("*")))) or "none is compiled"
            raise HarnessError(f"{CHOICE}={name}: no such build of the kernels (available: {builds}; or torch)")
        return None
    binary = ctypes.CDLL(str(path))
    if _compiled_of(binary) != source_digest():
        raise HarnessError(
            f"{path}: was not compiled from the sources beside it. Compile them with `pip install -e .` (`make` does), "
            f"or set {CHOICE}=torch to compute without them"
        )
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    binary.execute.argtypes, binary.execute.restype = [pointer, pointer, whole, pointer, whole, whole], None
    return binary


def _compiled_of(binary: ctypes.CDLL) -> str:
    """The digest of the sources that a library was compiled from; "" if it holds none."""
    try:
        return (ctypes.c_char * 64).in_dll(binary, "source_digest").value.decode()
    except ValueError:
        return ""


def _library() -> ctypes.CDLL:
    binary = _load()
    if binary is None:
        raise RuntimeError("the kernels are missing: call available() first")
    return binary
