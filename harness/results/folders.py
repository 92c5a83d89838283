"""The layout of a run's folder: where each file is, which files are shared, and whether a folder has this layout."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.untrusted import LEFTOVERS, check_safetensors, open_parquet, read_checked_json, walk
from harness.plan.kinds import KINDS, files_of

SLACK = 2**20  # bytes; a file may exceed its size in the card by about this much and still be read
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# the files that a run shares, and those that it keeps private, below results/<paper>/<scale>/
SHARED = re.compile(
    "|".join(re.escape(file) for kind in KINDS.values() if kind.whole for file in kind.files)
    + rf"|report/(?:{NAME}/)*{NAME}"
    rf"|tickets/{NAME}/r\d+\.safetensors"
    r"|stages/selection\.json|looks\.json"
    rf"|prepare/{NAME}\.json"
    rf"|stages/{NAME}/c\d+/{NAME}\.(?:json|parquet)"
)
PRIVATE = re.compile(r"(?:runs|data|state|progress|logs)/.*|clock\.json|\.harness\.lock", re.DOTALL)
PART = re.compile(r"\..*\.part", re.DOTALL)  # half-written by a killed run; the next run removes it


def check_folder(base: Path) -> list[str]:
    """Check that a folder has only a run's files. Returns the names of files there that other programs leave.

    Raises HarnessError for a symbolic link, a special file, and anything that `check_files` refuses.
    """
    files, left = {}, []
    for name, path in walk(base):
        if LEFTOVERS.fullmatch(path.name):
            left.append(name)
        elif not PRIVATE.fullmatch(name) and not PART.fullmatch(path.name):
            files[name] = path
    check_files(base, files)
    return left


def check_files(base: Path, files: Mapping[str, Path]) -> None:
    """Check a run's files: paths by their names in its folder `base`, which error messages use.

    Raises HarnessError for a name that is not in the layout of a run, a file far larger than the card says, and
    malformed JSON, safetensors or Parquet. `harness verify` checks the content.
    """
    for name in files:
        if not SHARED.fullmatch(name):
            raise HarnessError(f"{base}: {name!r:.200}: no file of a run is called that. Don't use these results")
    sizes: dict[str, int] = {}
    if "card.json" in files:
        with named_as(files["card.json"], base / "card.json"):
            sizes = _sizes(read_checked_json(files["card.json"]))
    for name, path in files.items():
        with named_as(path, base / name):
            size = path.stat().st_size
            if name in sizes and size > 2 * sizes[name] + SLACK:
                raise HarnessError(f"{path}: {size:,} bytes, but card.json says {sizes[name]:,}. Pull it again")
            if name.endswith(".json"):
                read_checked_json(path)
            elif name.endswith(".safetensors"):
                check_safetensors(path)
            elif name.endswith(".parquet"):
                open_parquet(path)


@contextmanager
def named_as(path: Path, name: Path) -> Iterator[None]:
    """In errors about the file at `path`, replace its path by `name`, its path in the results."""
    try:
        yield
    except HarnessError as error:
        raise HarnessError(str(error).replace(str(path), str(name))) from None


def _sizes(card: Any) -> dict[str, int]:
    """Bytes of each file by a card; {} for a malformed card, which its reader refuses."""
    files = card.get("files") if isinstance(card, dict) else None
    parts = files.items() if isinstance(files, dict) else ()
    return {name: file["bytes"] for name, file in parts if isinstance(file, dict) and type(file.get("bytes")) is int}


@dataclass(frozen=True)
class Folders:
    """The layout of results/<paper>/<scale>/.

    `others` are the folders of other scales and papers: an identical run is reused from there.
    """

    base: Path
    others: tuple[Path, ...] = ()

    @property
    def runs(self) -> Path:
        return self.base / "runs"

    @property
    def state(self) -> Path:
        """Checkpoints of interrupted runs; not workflow outputs, so the workflow engine does not delete them."""
        return self.base / "state"

    @property
    def progress(self) -> Path:
        return self.base / "progress"

    @property
    def selection(self) -> Path:
        return self.base / "stages" / "selection.json"

    @property
    def looks(self) -> Path:
        """Every look at the claims; no workflow output, so the workflow engine does not delete it."""
        return self.base / "looks.json"

    @property
    def clock(self) -> Path:
        return self.base / "clock.json"

    @property
    def logs(self) -> Path:
        return self.base / "logs"

    @property
    def report(self) -> Path:
        return self.base / "report"

    def data(self, name: str) -> Path:
        return self.base / "data" / f"{name}.json"

    def stage(self, name: str) -> Path:
        """A stage's record. Raises HarnessError for a name that no stage can have."""
        return self.base / files_of(name)[0]

    def pairs(self, name: str) -> Path:
        """The pairs table that a stability stage writes, beside its record."""
        return self.base / files_of(name)[1]

    def curves(self, name: str) -> Path:
        """The curves table that a stability stage writes, beside its record."""
        return self.base / files_of(name)[2]

    @property
    def table(self) -> Path:
        return self.base / KINDS["collect"].files[0]

    @property
    def all_curves(self) -> Path:
        return self.base / KINDS["collect"].files[1]

    @property
    def provenance(self) -> Path:
        return self.base / KINDS["collect"].files[3]

    @property
    def claims(self) -> Path:
        return self.base / KINDS["claims"].files[0]

    @property
    def metrics(self) -> Path:
        return self.base / KINDS["claims"].files[1]

    @property
    def networks(self) -> Path:
        return self.base / KINDS["collect"].files[2]

    @property
    def tickets(self) -> Path:
        return self.base / "tickets"

    @property
    def card(self) -> Path:
        return self.base / KINDS["card"].files[0]

    @property
    def crate(self) -> Path:
        return self.base / KINDS["card"].files[1]
