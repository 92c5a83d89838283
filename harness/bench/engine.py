"""The engine's own kernels, where this version has them, and the plain torch path that they replaced."""

from collections.abc import Iterator
from contextlib import contextmanager


def kernels() -> str:
    """Name of the kernels in use, "" for torch alone."""
    try:
        from harness.kernels import available
    except ImportError:
        return ""
    return available()


@contextmanager
def torch_alone() -> Iterator[None]:
    """Compute without the engine's own kernels inside the block."""
    try:
        from harness.kernels import without
    except ImportError:
        yield
        return
    with without():
        yield
