"""Python statements: the names that they bind, and a normal form in which each name is replaced by its targets."""

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Protocol

# The targets of a name: "module:definition", "module:" (a module's statements on import), "module:*" (the module), or a
# dotted name outside the package. An import with an alternative has several.
Targets = tuple[str, ...]
Parts = list[str | Targets]  # a normal form: text, and the references in it
Origin = tuple[str, str]  # where an import takes a name from: a module and the name there, "" for the module itself
Import = ast.Import | ast.ImportFrom
Scoped = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Inner = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Constant
Named = ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping

SKIPPED = {"ctx", "kind", "type_comment"}  # fields that say nothing, or differ between versions of Python
LISTING = {"pkgutil.iter_modules", "pkgutil.walk_packages"}
OWN = {"__file__", "__name__", "__doc__", "__spec__", "__package__"}  # attributes that every module has


def origins(node: Import, package: str) -> Iterator[tuple[str, Origin]]:
    """The names that an import in a module of `package` binds, each with its origin."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, (alias.name if alias.asname else top, "")
        return
    above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
    module = ".".join(filter(None, (above, node.module)))
    for alias in node.names:
        yield alias.asname or alias.name, (module, alias.name)


def bound(statements: Iterable[ast.AST], package: str) -> tuple[set[str], dict[str, list[Origin]]]:
    """Names that statements bind in their scope, and the names that imports bind, with their origins in order."""
    names: set[str] = set()
    imported: dict[str, list[Origin]] = {}
    elsewhere: set[str] = set()
    pending: deque[ast.AST] = deque(statements)
    while pending:
        node = pending.popleft()
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.add(node.id)
        elif isinstance(node, Scoped):
            names.add(node.name)
        elif isinstance(node, Import):
            for name, origin in origins(node, package):
                imported.setdefault(name, []).append(origin)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere.update(node.names)
        elif not isinstance(node, Inner):
            if isinstance(node, Named):
                names |= {name for name in (getattr(node, "name", None), getattr(node, "rest", None)) if name}
            pending += [child for child in ast.iter_child_nodes(node) if child._fields]
    return names - elsewhere, {name: imported[name] for name in imported.keys() - elsewhere}


def is_silent(statement: ast.AST) -> bool:
    """Whether a statement does nothing: a docstring, `...` or `pass`."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def is_definition(statement: ast.stmt) -> bool:
    """Whether a statement is a function, a class, or an assignment to names alone."""
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
        for target in targets:
            targets += target.elts if isinstance(target, ast.Tuple | ast.List) else ()
        return all(isinstance(target, ast.Name | ast.Tuple | ast.List) for target in targets)
    return isinstance(statement, Scoped) or (
        isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    )


def annotation(node: Any) -> Any:
    """An annotation in which strings that stand for types are parsed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return annotation(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            return node
    if isinstance(node, ast.Subscript) and not ast.unparse(node.value).endswith(("Literal", "Annotated")):
        return ast.Subscript(value=node.value, slice=annotation(node.slice))
    if isinstance(node, ast.Tuple | ast.List):
        return type(node)(elts=[annotation(part) for part in node.elts])
    if isinstance(node, ast.BinOp):
        return ast.BinOp(left=annotation(node.left), op=node.op, right=annotation(node.right))
    return node


class Names(Protocol):
    """The look-ups of names that a `Writer` needs."""

    def named(self, module: str, name: str) -> Targets:
        """What a name at the top level of a module refers to; empty for builtins."""

    def member(self, module: str, name: str) -> Targets:
        """What an attribute of a module refers to; LookupError if there is none."""

    def text_names(self, text: str) -> Targets:
        """What a string names in the package, if anything."""

    def run_by(self, node: Import, package: str) -> Iterator[str]:
        """The modules that an import runs."""


class Writer(ast.NodeVisitor):
    """Writes the normal form of a module's statements to `parts`; `run` gets the modules that their imports run.

    `walked` gets the packages whose submodules they go through.
    """

    def __init__(self, names: Names, module: str, package: str):
        self.names, self.module, self.package = names, module, package
        self.scope: dict[str, Targets] = {}  # names bound by enclosing functions; () for a variable
        self.parts: Parts = []
        self.run: set[str] = set()
        self.walked: set[str] = set()

    def targets(self, node: ast.AST) -> Targets:
        """What a name or a chain of attributes of modules refers to; empty for anything else."""
        if isinstance(node, ast.Name):
            return self.scope[node.id] if node.id in self.scope else self.names.named(self.module, node.id)
        if not isinstance(node, ast.Attribute) or node.attr in OWN:
            return ()
        members: list[Targets] = []
        for target in self.targets(node.value):
            module = target.removesuffix(":*")
            if ":" in module:  # a definition: its attributes are unknown
                return ()
            try:
                members.append(self.names.member(module, node.attr))
            except LookupError:
                return ()  # the whole module counts
        return tuple(dict.fromkeys(target for part in members for target in part))

    def generic_visit(
        self, node: ast.AST, inside: Iterable[str] = (), scope: Mapping[str, Targets] | None = None
    ) -> None:
        """Write a node; the fields named by `inside` see the names of `scope` first."""
        outside = self.scope
        self.parts.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or name in SKIPPED or value == []:
                continue
            self.parts.append(f"{name}=")
            if scope and name in inside:
                self.scope = {**outside, **scope}
            self._write(annotation(value) if name in ("annotation", "returns") else value)
            self.scope = outside
        self.parts.append(")")

    def _write(self, value: Any) -> None:
        if isinstance(value, list):
            self.parts.append("[")
            for item in value:
                if not is_silent(item):
                    self._write(item)
            self.parts.append("]")
        elif isinstance(value, ast.AST):
            self.visit(value)
        else:
            self.parts.append(f"{value!r},")

    def visit_Import(self, node: Import) -> None:
        self.run.update(self.names.run_by(node, self.package))

    visit_ImportFrom = visit_Import

    def visit_Name(self, node: ast.Name | ast.Attribute) -> None:
        targets = self.targets(node)
        last, of = (node.id, ()) if isinstance(node, ast.Name) else (node.attr, self.targets(node.value))
        if last == "__path__" or LISTING & {*targets}:
            self.walked |= {target.removesuffix(":*") for target in of if target.endswith(":*")} or {self.package}
        if targets:
            self.parts.append(targets)
        elif last in OWN and of and all(target.endswith(":*") for target in of):
            self.parts.append(f"{last},")
        else:
            self.generic_visit(node)

    visit_Attribute = visit_Name

    def visit_Constant(self, node: ast.Constant) -> None:
        named = self.names.text_names(node.value) if isinstance(node.value, str) else ()
        self.parts.append(named or f"{node.value!r},")

    def _imported(self, body: list[ast.stmt]) -> tuple[set[str], dict[str, Targets]]:
        names, imported = bound(body, self.package)
        members = {name: [self.names.member(*origin) for origin in sources] for name, sources in imported.items()}
        return names, {name: tuple(dict.fromkeys(chain(*targets))) for name, targets in members.items()}

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        names, imported = (set(), {}) if isinstance(node, ast.Lambda) else self._imported(node.body)
        variadic = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *variadic]
        names |= {argument.arg for argument in parameters}
        self.generic_visit(node, ["body"], {**dict.fromkeys(names, ()), **imported})

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.generic_visit(node, ["body"], self._imported(node.body)[1])

    def _comprehension(self, node: Any) -> None:
        self.visit(node.generators[0].iter)  # evaluated outside
        names = chain(*(bound([part.target], self.package)[0] for part in node.generators))
        self.generic_visit(node, node._fields, dict.fromkeys(names, ()))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension
