"""Digests of the code that an entry point can reach, found from imports and names, so no list of files is kept.

A definition is a function, a class or an assignment at the top level of a module. It reaches every definition that its
text names, and so on. An imported module's statements with an effect are reached too (calls, loops, registrations). A
definition is digested as its syntax tree without comments, docstrings, layout and imports; each name is replaced by
what it refers to. So a moved file or another style of import changes nothing.

Not followed: attributes of objects other than modules (an object's class is reached by its name), attributes looked up
by a computed name, and effects in other modules of an assignment or class body that nothing reaches.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from harness.kernels.build import c_code
from harness.results.reach import Package

PACKAGE = Path(__file__).parents[1]
SOURCES = {".c", ".h", ".j2", ".smk"}  # files beside a module or in its `templates`: digested with it


def code_digest(entries: Sequence[str], package: Path = PACKAGE, exempt: Iterable[str] = ()) -> str:
    """SHA-256 (64 hex digits) of the code that entries ("package.module:definition") can reach.

    Modules and definitions in `exempt` ("module", "module:definition") are not followed, see
    `harness.results.exemptions`.
    Raises LookupError for an entry, an import or an exemption that names nothing in the package.
    """
    if package == PACKAGE:
        return _running_digest(tuple(entries), tuple(exempt))
    return _digest(Package(package), entries, exempt)


def reached(entries: Sequence[str], package: Path = PACKAGE, exempt: Iterable[str] = ()) -> frozenset[str]:
    """The definitions that entries can reach, "module:definition", and "module:" for statements that run on import."""
    tree = _running() if package == PACKAGE else Package(package)
    return frozenset(key for key in tree.reached(entries, exempt) if not key.endswith(":*") and tree.parts(key))


def modules(package: Path) -> list[str]:
    """Dotted names of a package's modules, sorted."""
    return sorted(Package(package).files)


@cache
def _running() -> Package:
    return Package(PACKAGE)


@cache
def _running_digest(entries: tuple[str, ...], exempt: tuple[str, ...]) -> str:
    return _digest(_running(), entries, exempt)


def _digest(package: Package, entries: Iterable[str], exempt: Iterable[str]) -> str:
    """SHA-256 of all definitions that entries can reach, each with the digests of those it refers to."""
    keys = [key for key in package.reached(entries, exempt) if package.parts(key)]
    hashes: dict[str, str] = {}
    finer = {key: _sha256(_filled(package, key, hashes)) for key in keys}
    while len({*finer.values()}) > len({*hashes.values()}):  # until another round distinguishes no more of them
        hashes = finer
        finer = {key: _sha256(_filled(package, key, hashes)) for key in keys}
    folders = {package.files[key.partition(":")[0]].parent for key in keys}
    contents = {text for folder in folders for text in _beside(folder)}
    return _sha256("\n".join(sorted({*finer.values(), *map(_sha256, contents)})))


def _filled(package: Package, key: str, hashes: Mapping[str, str]) -> str:
    return "".join(
        part if isinstance(part, str) else f"<{'|'.join(t.rpartition(':')[2] + hashes.get(t, '') for t in part)}>"
        for part in package.parts(key)
    )


def _beside(folder: Path) -> Iterator[str]:
    """The digested content of the non-Python files beside a module: C without comments and layout.

    Other files count with their names, by which code and templates load them.
    """
    for path in (*folder.glob("*.*"), *folder.glob("templates/*.*")):
        if path.suffix in SOURCES:
            text = path.read_text(encoding="utf-8")
            yield c_code(text) if path.suffix in (".c", ".h") else f"{path.name}\n{text}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
