"""The package in the large: its layers, drawn from the imports, no circle among modules, no name that says nothing."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness.results.code import PACKAGE

# from the bottom up: a folder imports only from folders on lines above its own
LAYERS = """
base
paper kernels
data
networks
training
lottery
plan
results
claims
report
stages
estimate
workflow
compare verify share check bench
publish
__init__
cli
"""
RANKS = {folder: rank for rank, line in enumerate(LAYERS.split("\n")) for folder in line.split()}
#: say nothing of what they name
BANNED = {"given", "sides", "plain", "listed", "asks", "mend", "ran", "facts", "cached"}
FILES = {
    module: path
    for path in sorted(PACKAGE.rglob("*.py"))
    for module in [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)]
}


def modules_imported(path: Path, known: set[str], types: bool = True) -> Iterator[str]:
    """The package's modules that a file imports anywhere, in functions and, with `types`, for type checkers too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(inner) for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in for_types and not types:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known or f"{name}.__init__" in known else node.module for name in names]
        for name in names:
            if name.partition(".")[0] == PACKAGE.name:
                yield name if name in known else f"{name}.__init__"


def imports(types: bool = True) -> dict[str, set[str]]:
    known = set(FILES)
    return {module: set(modules_imported(path, known, types)) - {module} for module, path in FILES.items()}


def folder(module: str) -> str:
    """The folder of a module; of the package's own, its name."""
    return module.split(".")[1]


def test_no_import_points_up_and_no_folders_import_each_other():
    edges: dict[str, set[str]] = defaultdict(set)
    for module, others in imports().items():
        for other in others:
            if folder(module) != folder(other):
                edges[folder(module)].add(folder(other))
                assert RANKS[folder(other)] < RANKS[folder(module)], f"{module} imports {other}, which lies above"
    list(TopologicalSorter(edges).static_order())  # raises CycleError
    assert set(RANKS) == {folder(module) for module in FILES}


def test_a_circle_of_folders_would_be_found():
    with pytest.raises(CycleError):
        list(TopologicalSorter({"plan": {"results"}, "results": {"plan"}}).static_order())


def test_no_modules_import_each_other():
    list(TopologicalSorter(imports(types=False)).static_order())


def test_files_and_definitions_have_names_that_say_what_they_are():
    for module, path in FILES.items():
        assert path.stem not in BANNED, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name.strip("_").lower() not in BANNED, f"{module}: {node.name}"
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assert node.id.strip("_") not in BANNED, f"{module}: line {node.lineno}: {node.id}"
            if isinstance(node, ast.arg):
                assert node.arg not in BANNED, f"{module}: line {node.lineno}: {node.arg}"


def test_no_two_files_of_one_name_mean_different_things():
    """A command's file in cli/ has the name of the folder, or of the file, that it calls."""
    for name in ("compare", "page", "measure", "run", "table", "imagenet", "check"):
        modules = [m for m in FILES if m.rpartition(".")[2] == name and folder(m) != "cli"]
        assert len(modules) <= 1, modules
