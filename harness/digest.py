"""Digests of what can change a stage's numbers: the code that computes them, and the settings.

Code is digested without comments, docstrings and layout, so that a comment does not cost days of training.
"""

import ast
from functools import cache
from pathlib import Path

from harness.files import digest

PACKAGE = Path(__file__).parent

# the parts of the package that a kind of stage computes with, as globs
CODE: dict[str, tuple[str, ...]] = {
    "data": ("data/*.py", "seeds.py"),
    "training": (
        "kernels/*.py",
        "kernels/*.[ch]",
        "networks/*.py",
        "training/*.py",
        "data/normalise.py",
        "data/feed.py",
        "data/images.py",
        "pruning/*.py",
        "seeds.py",
        "workflow/train.py",
    ),
    "analysis": (
        "networks/*.py",
        "kernels/*.py",
        "kernels/*.[ch]",
        "analysis/distance.py",
        "analysis/interpolation.py",
        "workflow/compare.py",
    ),
    "share": ("share/tickets.py",),
    "collect": ("analysis/table.py", "workflow/collect.py", "workflow/environment.py"),
    "claims": ("claims/*.py", "spec/claims.py", "spec/measures.py"),
    "report": ("report/*.py", "report/templates/*.j2", "claims/judge.py", "workflow/identity.py"),
    "card": ("share/card.py", "share/crate.py"),
}


def code_digest(part: str, package: Path = PACKAGE) -> str:
    """SHA-256 of the code of one part, see CODE."""
    files = sorted({path for pattern in CODE[part] for path in package.glob(pattern)})
    return digest({path.relative_to(package).as_posix(): _meaning(path) for path in files})


@cache
def cached_code_digest(part: str) -> str:
    """`code_digest` of the running package, computed once."""
    return code_digest(part)


def _meaning(path: Path) -> str:
    """A Python file's syntax tree without docstrings; any other file's text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
