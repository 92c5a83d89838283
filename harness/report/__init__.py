"""The report of a run: figures, the self-contained page, its Markdown twin, and the terminal's verdict table.

Matplotlib takes most of a second to import, so modules are imported on first use.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "build_report": "harness.report.page",
    "one_line": "harness.report.summary",
    "verdict_table": "harness.report.summary",
}
__all__ = ["build_report", "one_line", "verdict_table"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(name)
