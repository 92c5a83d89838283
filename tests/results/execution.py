"""Which definitions of the package a stage executes: found by running it under Python's profiler, not by reading it."""

import ast
import dis
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from harness.paper import Spec
from harness.plan.kinds import KINDS, WHOLE, kind_of, prepares
from harness.plan.runs import data_sets, stages
from harness.results.code import PACKAGE
from harness.results.context import Work
from harness.results.exemptions import exempt
from harness.results.folders import Folders
from harness.workflow.run_stage import run_stage

KEPT = ("harness.results.code", "harness.kernels")  # whose caches take long to fill


def digested_as(kind: str) -> str:
    """The kind that exemptions name: what trains is the kind "dense"."""
    return "dense" if KINDS[kind].trains else kind


def module_of(path: str) -> str:
    """The dotted name of a module of the package by its file; "" for any other file."""
    if not path.startswith(f"{PACKAGE}/") or not path.endswith(".py"):
        return ""
    return ".".join(Path(path).relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def names_of(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds; none for any other statement."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


@cache
def top_level(name: str) -> list[ast.stmt]:
    """The statements of a module."""
    return ast.parse(Path(str(sys.modules[name].__file__)).read_text()).body


@cache
def definition_of(code) -> str:
    """The definition "module:name" that code lies in; "" outside the package and for what a module does on import."""
    name = module_of(code.co_filename)
    for node in top_level(name) if name and code.co_name != "<module>" else ():
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        if first <= code.co_firstlineno <= node.end_lineno and names_of(node):
            return f"{name}:{names_of(node)[0]}"
    return ""


class Execution:
    """The code of the package that runs inside the block, but for imports and what exempt definitions call."""

    def __init__(self, exempt_names):
        self.exempt, self.codes = frozenset(exempt_names), set()
        self.place = cache(self._place)

    def _place(self, code):
        """Whether code of the package counts, and whether what it calls may."""
        definition = definition_of(code)
        module = module_of(code.co_filename)
        imports = bool(module) and code.co_name == "<module>"
        return bool(definition), not imports and self.exempt.isdisjoint({definition, module})

    def __enter__(self):
        sys.setprofile(self.note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def note(self, frame, event, _):
        code = frame.f_code
        if event != "call" or code in self.codes or not self.place(code)[0]:
            return
        while frame is not None:
            if not self.place(frame.f_code)[1]:
                return
            frame = frame.f_back
        self.codes.add(code)

    def definitions(self) -> Iterator[str]:
        """The definitions whose code ran, and the assignments whose names this code reads."""
        for code in self.codes:
            yield definition_of(code)
            name = module_of(code.co_filename)
            for read in (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"):
                yield from assignment(name, read)


def assignment(name: str, read: str) -> list[str]:
    """The assignment at the top level of a module of the package that a global name stands for."""
    for node in top_level(name):
        if isinstance(node, ast.Assign | ast.AnnAssign) and read in names_of(node):
            return [f"{name}:{read}"]
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
            for alias in node.names:
                if (alias.asname or alias.name) == read and node.module in sys.modules:
                    return assignment(node.module, alias.name)
    return []


def forget() -> None:
    """Empty the caches of functions, so that each stage calls them as in a process of its own."""
    for name, loaded in list(sys.modules.items()):
        if name.startswith("harness") and not name.startswith(KEPT):
            for value in list(vars(loaded).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def executed(spec: Spec, folders: Folders, whole: bool = True) -> dict[str, set[str]]:
    """Run all stages of a scale, with those of the whole run if `whole`.

    Returns the definitions that each kind of stage executed, but for those that it exempts.
    """
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    planned = [*map(prepares, data_sets(spec)), *(stage.name for stage in stages(spec))]
    for name in [*planned, *(WHOLE if whole else ())]:
        kind = kind_of(name)
        left_out = exempt(digested_as(kind.name))
        home, _, function = kind.compute.partition(":")
        compute = getattr(import_module(home), function)

        def observed(work: Work, compute=compute, left_out=left_out, kind=kind):
            forget()
            fresh = Work(work.spec, work.folders, work.name, work.threads)
            with Execution(left_out) as execution:
                outcome = compute(fresh)
            names = set(execution.definitions())
            found[kind.name] |= {key for key in names if not {key, key.partition(":")[0]} & left_out.keys()}
            return outcome

        setattr(import_module(home), function, observed)
        try:
            run_stage(spec, folders, name, 1)
        finally:
            setattr(import_module(home), function, compute)
    return found
