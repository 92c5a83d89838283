"""A package's modules: the targets of their names, and the code that an entry point can reach.

A definition is a function, a class or an assignment at the top level of a module. Keys are `Targets` in the package.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.results.syntax import Import, Origin, Parts, Targets, Writer, bound, is_definition, is_silent, origins


@dataclass
class Module:
    """A module's top level: the bindings of its names, and the statements that run on import."""

    name: str
    package: str  # where relative imports start
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, list[Origin]] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)  # those that run
    effects: list[ast.stmt] = field(default_factory=list)  # statements that are neither definition nor import
    bound: set[str] = field(default_factory=set)  # names that those bind

    def add(self, statement: ast.stmt) -> None:
        """File a statement under the kinds that it belongs to."""
        names, imported = bound([statement], self.package)
        if isinstance(statement, ast.If) and ast.unparse(statement.test).split(".")[-1] == "TYPE_CHECKING":
            _, imported = bound(statement.body, self.package)
            for other in statement.orelse:
                self.add(other)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            self.imports.append(statement)
        elif is_definition(statement):
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
        elif not is_silent(statement):
            self.effects.append(statement)
            self.bound |= names
        for name, sources in imported.items():
            self.imported.setdefault(name, []).extend(sources)


class Package:
    """A package's modules, each parsed when something in it is reached."""

    def __init__(self, root: Path):
        self.root, self.name = root, root.name
        self.files: dict[str, Path] = {}
        for path in root.rglob("*.py"):
            parts = path.relative_to(root.parent).with_suffix("").parts
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self._modules: dict[str, Module] = {}
        self._definitions: dict[str, tuple[Parts, set[str]]] = {}
        self._targets: dict[Origin, Targets] = {}

    def module(self, name: str) -> Module:
        """A module by its dotted name. Raises LookupError if there is none."""
        if name not in self._modules:
            if name not in self.files:
                raise LookupError(f"{name}: no such module in {self.root}")
            path = self.files[name]
            module = Module(name, name if path.stem == "__init__" else name.rpartition(".")[0])
            for statement in ast.parse(path.read_bytes(), str(path)).body:
                module.add(statement)
            self._modules[name] = module
        return self._modules[name]

    def named(self, module: str, name: str, visited: tuple[Origin, ...] = ()) -> Targets:
        """What a name at the top level of a module refers to; empty for builtins."""
        if not visited and (module, name) in self._targets:
            return self._targets[module, name]
        at, targets = self.module(module), list[str]()
        if name in at.definitions:
            targets.append(f"{module}:{name}")
        if name in at.bound:
            targets.append(f"{module}:")
        for origin in at.imported.get(name, ()):
            if origin not in visited:
                targets += self.member(*origin, visited=(*visited, origin))
        if f"{module}.{name}" in self.files:
            targets.append(f"{module}.{name}:*")
        if not visited:
            self._targets[module, name] = tuple(dict.fromkeys(targets))
        return tuple(dict.fromkeys(targets))

    def member(self, module: str, name: str, visited: tuple[Origin, ...] = ()) -> Targets:
        """The targets of importing `name` ("" for the module itself) from a module, inside or outside the package.

        Raises LookupError if the module belongs to the package and has no such name.
        """
        if module.partition(".")[0] != self.name:
            return (f"{module}.{name}".rstrip("."),)
        definitions = self.module(module).definitions
        if not name:
            return (f"{module}:*",)
        targets = self.named(module, name, visited) or (
            (f"{module}:__getattr__",) if "__getattr__" in definitions else ()
        )
        if not targets:
            raise LookupError(f"{module}: it has no {name!r}" + " (star imports can't be followed)" * (name == "*"))
        return targets

    def run_by(self, node: Import, package: str) -> Iterator[str]:
        """The modules of the package that an import statement runs. Raises LookupError for a missing one."""
        pairs = [(alias.name, "") for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            pairs = [origin for _, origin in origins(node, package)]
        for module, member in pairs:
            if module.partition(".")[0] == self.name:
                self.member(module, member)
                yield module
                if member and f"{module}.{member}" in self.files:
                    yield f"{module}.{member}"

    def text_names(self, text: str) -> Targets:
        """What a string such as "package.module" or "package.module:name" names in the package, if anything."""
        if not text.startswith(f"{self.name}."):
            return ()
        if text in self.files:
            return (f"{text}:*",)
        module, _, name = text.rpartition(":" if ":" in text else ".")
        return self.named(module, name) if module in self.files else ()

    def parts(self, key: str) -> Parts:
        """The normal form of a key's definition."""
        return self._read(key)[0]

    def reaches(self, key: str) -> set[str]:
        """The keys that a key reaches in one step."""
        return self._read(key)[1]

    def _read(self, key: str) -> tuple[Parts, set[str]]:
        if key not in self._definitions:
            name, _, definition = key.partition(":")
            module, more = self.module(name), set[str]()
            writer = Writer(self, name, module.package)
            if definition == "*":
                for attribute in sorted({*module.definitions, *module.imported} - {"__all__"}):
                    # of imported modules, only its own submodules count
                    own = [t for t in self.named(name, attribute) if not t.endswith(":*") or t.startswith(f"{name}.")]
                    writer.parts += [attribute, tuple(own)]
            for statement in module.definitions.get(definition, ()) if definition else module.effects:
                writer.visit(statement)
            if definition:
                more.add(f"{name}:")
            else:
                writer.run |= {other for node in module.imports for other in self.run_by(node, module.package)}
                writer.run |= {name.rpartition(".")[0]} & self.files.keys()
                more |= {f"{name}:{other}" for other in module.definitions if self._registers(module, other)}
            more |= {f"{other}:" for other in writer.run}
            more |= {f"{other}:*" for top in writer.walked for other in self.files if other.startswith(f"{top}.")}
            more |= {t for part in writer.parts if isinstance(part, tuple) for t in part if ":" in t}
            self._definitions[key] = _merged(writer.parts), more
        return self._definitions[key]

    def _registers(self, module: Module, name: str) -> bool:
        """Whether a definition registers itself: by a decorator of the package, or as a subclass."""
        writer = Writer(self, module.name, module.package)
        for statement in module.definitions[name]:
            for node in getattr(statement, "decorator_list", ()):
                while node is not None:
                    if any(":" in target for target in writer.targets(node)):
                        return True
                    node = getattr(node, "func", getattr(node, "value", None))
            for keyword in getattr(statement, "keywords", ()):  # a metaclass
                if any(":" in target for target in writer.targets(keyword.value)):
                    return True
            for target in (target for base in getattr(statement, "bases", ()) for target in writer.targets(base)):
                if target not in (f"{module.name}:{name}", f"{module.name}:") and self._registers_subclasses(target):
                    return True
        return False

    def _registers_subclasses(self, key: str) -> bool:
        """Whether a class of the package, or a base of it, acts on each subclass."""
        module, _, name = key.partition(":")
        if module not in self.files or name not in self.module(module).definitions:
            return False
        statements = self.module(module).definitions[name]
        inside = {getattr(node, "name", "") for statement in statements for node in getattr(statement, "body", ())}
        return "__init_subclass__" in inside or self._registers(self.module(module), name)

    def reached(self, entries: Iterable[str], exempt: Iterable[str]) -> set[str]:
        """All keys that entries can reach."""
        left_out = set[str]()
        for name in exempt:
            if re.split("[.:]", name)[0] == self.name:
                left_out |= {*self._entry(name)} if ":" in name else {name}
                self.module(name.partition(":")[0])
        keys = set[str]()
        pending = [target for entry in entries for target in self._entry(entry)]
        while pending:
            key = pending.pop()
            if key not in keys:
                keys.add(key)
                pending += [k for k in self.reaches(key) if not {k, k.partition(":")[0]} & left_out]
        return keys

    def _entry(self, entry: str) -> Targets:
        module, _, name = entry.partition(":")
        self.module(module)
        return self.member(module, name)


def _merged(parts: Parts) -> Parts:
    """The parts with adjacent text joined."""
    merged: Parts = []
    text: list[str] = []
    for part in [*parts, ()]:
        if isinstance(part, str):
            text.append(part)
        else:
            merged += ["".join(text), part]
            text.clear()
    return [part for part in merged if part]
