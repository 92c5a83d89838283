"""The pages of the documentation, and the blocks of code in them.

A block of commands or Python is run, unless a comment before it says why not: `<!-- not run: a cluster -->`. A block
whose first line is a comment with a path is that whole file; `# in PATH` and `# at the end of PATH` add to a file.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.base.paths import checkout

DOCS = checkout() / "docs"
REPRODUCTION = DOCS / "reproduction.md"  # a command writes it
EXTENDING = DOCS / "guides" / "extending.md"
PICTURES = DOCS / "guides" / "own-pictures.md"
_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SKIPPED = re.compile(r"<!-- not run: ([^>]+) -->\n\Z")
_FILE = re.compile(r"# (in |at the end of )?([\w.-]*/[\w./-]+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page below the checkout and line there, its language, and why it is not run, if it isn't."""

    page: str
    line: int
    language: str
    text: str
    skipped: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> tuple[str, str] | None:
        """The file that it is, and how: "", "in " or "at the end of "."""
        first = _FILE.match(self.text)
        return (first[2], first[1] or "") if first else None


def pages() -> list[Path]:
    """README, then the pages in the order in which the site lists them, then those that it does not list by name."""
    listed = re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    known = [path for name in listed if (path := DOCS / f"{name}.md").exists()]
    return [
        checkout() / "README.md",
        DOCS / "index.md",
        *known,
        *sorted({*DOCS.rglob("*.md")} - {*known, DOCS / "index.md"}),
    ]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(checkout()).as_posix()
    for fence in _FENCE.finditer(text):
        skipped = _SKIPPED.search(text[: fence.start()])
        body = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        yield Block(name, text.count("\n", 0, fence.start()) + 1, fence[2], body, skipped[1] if skipped else "")


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages."""
    return [block for page in pages() for block in blocks_of(page) if block.language in languages]


def without_blocks(page: Path) -> str:
    """A page's prose."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def write(block: Block, root: Path) -> Path:
    """Write a block that is a file, or a part of one, into a copy of the project."""
    assert block.file
    path, how = root / block.file[0], block.file[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    body = block.text.partition("\n")[2]
    path.write_text(_joined(path.read_text(encoding="utf-8"), body) if how else body, encoding="utf-8")
    return path


def _joined(text: str, more: str) -> str:
    """A YAML file with a part of it replaced, or with entries of its list added or extended."""
    whole, part = yaml.safe_load(text), yaml.safe_load(more)
    if isinstance(whole, dict):
        return yaml.safe_dump(whole | part, sort_keys=False)
    entries: dict[str, dict[str, Any]] = {entry["id"]: entry for entry in whole}
    for entry in part:
        entries[entry["id"]] = entries.get(entry["id"], {}) | entry
    return yaml.safe_dump([*entries.values()], sort_keys=False)


def files_of_guide() -> dict[str, str]:
    """The files of the guides on extending, by their paths in a checkout, as they stand there."""
    guide = [block for page in (EXTENDING, PICTURES) for block in blocks_of(page)]
    return {block.file[0]: block.text.partition("\n")[2] for block in guide if block.file}


def extended_copy(folder: Path) -> None:
    """Copy what a run needs of the checkout, with the compiled kernels, and write the guides' files into the copy."""
    source = checkout()
    shutil.copytree(source / "harness", folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "papers", folder / "papers")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(source / name, folder / name)
    for path, text in files_of_guide().items():
        (folder / path).write_text(text, encoding="utf-8")
