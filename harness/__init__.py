"""Reproduces a paper's experiments and gives each of its claims a verdict."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.share.export import load_ticket

__version__ = "0.1.0"
__all__ = ["__version__", "load_ticket"]


def __getattr__(name: str) -> Any:
    """`harness.load_ticket`, imported when it is asked for: it needs PyTorch, which takes seconds."""
    if name == "load_ticket":
        from harness.share.export import load_ticket

        return load_ticket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
