"""Reproduces a paper's experiments and gives each of its claims a verdict."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.share.export import load_ticket
    from harness.share.notebook import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_ticket"]


def __getattr__(name: str) -> Any:
    """`harness.load` and `harness.load_ticket`, imported when they are asked for: PyTorch takes seconds."""
    if name == "load":
        from harness.share.notebook import load

        return load
    if name == "load_ticket":
        from harness.share.export import load_ticket

        return load_ticket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
