"""Digests of the code that an entry point can reach, found from imports and names: there is no list of files to keep.

A definition is a function, a class or an assignment at the top level of a module. What its text names is reached too,
and so on; of a module that is imported on the way, the statements that do something are reached (calls, loops,
registrations). A definition is digested as its syntax tree without comments, docstrings, layout and imports, in which
each name stands for what it refers to. So a moved file or another style of import changes nothing.

Not followed: attributes of objects other than modules (the class of an object is reached by its own name), attributes
looked up by a computed name, and what an assignment or a class body that nothing reached names does elsewhere.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from harness.kernels.build import c_code
from harness.results.reach import Package

PACKAGE = Path(__file__).parents[1]
SOURCES = {".c", ".h", ".j2", ".smk"}  # beside a module, or in `templates` there: digested with it


def code_digest(entries: Sequence[str], package: Path = PACKAGE, exempt: Iterable[str] = ()) -> str:
    """SHA-256 (64 hex digits) of the code that entries ("package.module:definition") can reach.

    What `exempt` names, "module" or "module:definition", is not followed; see `harness.results.exemptions`.
    Raises LookupError for an entry, an import or an exemption that names nothing in the package.
    """
    if package == PACKAGE:
        return _running_digest(tuple(entries), tuple(exempt))
    return _digest(Package(package), entries, exempt)


def reached(entries: Sequence[str], package: Path = PACKAGE, exempt: Iterable[str] = ()) -> frozenset[str]:
    """What entries can reach, as "module:definition", and "module:" for the statements that run on import."""
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
    """SHA-256 of all that entries can reach, each with the digests of what it refers to."""
    keys = [key for key in package.reached(entries, exempt) if package.parts(key)]
    hashes: dict[str, str] = {}
    finer = {key: _sha256(_filled(package, key, hashes)) for key in keys}
    while len({*finer.values()}) > len({*hashes.values()}):  # until another round tells no more of them apart
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
    """What counts of the files beside a module that are not Python: C without comments and layout.

    Of the others also the name, by which code and templates load them.
    """
    for path in (*folder.glob("*.*"), *folder.glob("templates/*.*")):
        if path.suffix in SOURCES:
            text = path.read_text(encoding="utf-8")
            yield c_code(text) if path.suffix in (".c", ".h") else f"{path.name}\n{text}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
