"""Read runs that somebody else may have made: the two of a comparison, and those of a board.

The two runs of a comparison come from folders or, through DVC, from git revisions; a board reads folders.
"""

import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from harness.base.errors import HarnessError
from harness.base.paths import REFERENCE, references, results_folder
from harness.base.untrusted import read_checked_json
from harness.claims.document import ClaimVerdict, read_claims
from harness.report.card import read_card
from harness.results.folders import Folders
from harness.results.tables import read_curves, read_table

#: the files of a run that a comparison reads, and the largest size in bytes that each may have
READ = {"claims.json": 2**26, "provenance.json": 2**28, "table.parquet": 2**30, "curves.parquet": 2**30}
#: the same of a board
READ_BY_BOARD = {"card.json": 2**26, "claims.json": 2**26}


@dataclass(frozen=True)
class ComparedRun:
    """One of the two runs of a comparison. `name` is what the user called it."""

    name: str
    paper: str
    scale: str
    provenance: dict[str, Any]
    claims: list[ClaimVerdict]
    table: pd.DataFrame
    curves: pd.DataFrame

    @property
    def code(self) -> str:
        """The code revision that computed the run, if it is recorded."""
        revision = str(self.provenance.get("code_revision") or "")[:10]
        if not revision:
            return "code unknown"
        return f"code {revision}" + ("" if self.provenance.get("tree_clean") else ", with uncommitted changes")

    def __str__(self) -> str:
        finished = str(self.provenance.get("finished") or "")[:10]
        return ", ".join(filter(None, [f"{self.paper} at scale {self.scale}", self.code, finished]))


def read_runs(
    sources: Sequence[str], names: Sequence[str], root: Path, results: Path, paper: str, scale: str
) -> list[ComparedRun]:
    """Read both runs of a comparison. The source `reference` is the published run of the other run's paper and scale.

    Raises HarnessError as `read_run`, and where there is no such reference.
    """
    runs = [
        None if source == str(REFERENCE) else read_run(source, root, results, paper, scale, name)
        for source, name in zip(sources, names, strict=True)
    ]
    other = next((run for run in runs if run is not None), None)
    if other is None:
        raise HarnessError(f"{REFERENCE}, {REFERENCE}: one of the two is a run of yours. Give its folder.")
    return [run or _reference_of(other, root) for run in runs]


def _reference_of(run: ComparedRun, root: Path) -> ComparedRun:
    """The published run of another run's paper and scale, whose names a stranger may have written."""
    known = references(root)
    if (run.paper, run.scale) not in known:
        there = ", ".join(f"{paper} at {scale}" for paper, scale in known) or "none"
        raise HarnessError(
            f"{REFERENCE}: there is none of {run.paper:.60} at scale {run.scale:.60}; there is {there}. "
            "`harness publish` makes one of a finished run"
        )
    return read_run(str(root / REFERENCE), root, REFERENCE, run.paper, run.scale, str(REFERENCE))


def read_run(source: str, root: Path, results: Path, paper: str, scale: str, name: str = "") -> ComparedRun:
    """Read a run from its own folder, from a results folder that holds `paper` at `scale`, or from a git revision.

    `name` is what the user called it, `source` by default. Raises HarnessError for a source that is none of these, and
    for a file that is missing, broken, not a regular file, or can't be fetched.
    """
    name, folder = name or source, Path(source)
    if folder.is_dir():
        inner = results_folder(folder, paper, scale)
        base = folder if any((folder / file).exists() for file in READ) else inner
        if not base.is_dir():
            raise HarnessError(f"{name}: neither a run's folder nor one that contains {inner.relative_to(folder)}/")
        for file, most in READ.items():
            _check_file(base / file, most)
        return _read(name, base)
    with revision_folder(source, root, results_folder(results, paper, scale)) as base:
        return _read(name, base)


@dataclass(frozen=True)
class JudgedRun:
    """A finished run by its card and its verdicts. `name` is what the user called it; `finished` has a time zone."""

    name: str
    folder: Path
    card: dict[str, Any]
    claims: dict[str, ClaimVerdict]
    finished: datetime


def run_folders(folder: Path, name: str) -> list[tuple[Path, str]]:
    """A run's own folder, or each finished run's in a results folder, with its name. Raises HarnessError for neither.

    `name` is what the user called the folder.
    """
    if any((folder / file).exists() for file in (*READ_BY_BOARD, *READ)):
        return [(folder, name)]
    inner = [path.parent for path in sorted(folder.glob("*/*/card.json"))]
    if not inner:
        raise HarnessError(
            f"{name}: neither a finished run's folder nor one that contains any. Give results/<paper>/<scale>"
        )
    return [(base, f"{name.rstrip('/')}/{base.relative_to(folder).as_posix()}") for base in inner]


def read_judged(folder: Path, name: str) -> JudgedRun:
    """A finished run's card and verdicts.

    Raises HarnessError for a file that is missing, malformed or not a regular file, and for a card without a date.
    """
    for file, most in READ_BY_BOARD.items():
        _check_file(folder / file, most)
    folders = Folders(folder)
    card, claims = read_card(folders), read_claims(folders.claims)
    try:
        finished = datetime.fromisoformat(card["finished"])
        finished = (finished if finished.tzinfo else finished.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise HarnessError(
            f"{folders.card}: finished: {card['finished']!r:.80} is no date and time. Pull it again, or make it anew"
        ) from None
    return JudgedRun(name, folder, card, {claim.id: claim for claim in claims}, finished)


def _check_file(path: Path, most: int) -> None:
    """Refuse a link, a device or an oversized file before it is opened."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Give the folder of a finished run, results/<paper>/<scale>.") from None
    if not stat.S_ISREG(status.st_mode):
        raise HarnessError(f"{path}: not a regular file. Remove it and pull again.")
    if status.st_size > most:
        raise HarnessError(f"{path}: {status.st_size} bytes, more than such a file can have ({most}). Pull again.")


@contextmanager
def revision_folder(revision: str, root: Path, base: Path) -> Iterator[Path]:
    """A temporary folder with the run's files as of a git revision. Raises HarnessError if they can't be fetched."""
    if base.is_absolute():
        raise HarnessError(f"--results {base}: outside the checkout, so no git revision has it; give folders")
    folder = Path(tempfile.mkdtemp(prefix="harness-compare-"))
    try:
        _fetch(revision, root, base, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(revision: str, root: Path, base: Path, folder: Path) -> None:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    path = base.as_posix()
    try:
        files = DVCFileSystem(str(root), rev=revision)
        for file, most in READ.items():
            path = (base / file).as_posix()
            size = files.info(path)["size"] or 0
            if size > most:
                raise HarnessError(f"{revision}: {path}: {size} bytes, more than such a file can have ({most})")
            (folder / file).write_bytes(files.read_bytes(path))
    except RevError:
        raise HarnessError(
            f"{revision}: neither a folder nor a revision of {root}. Give a run's folder, a commit, a branch or a tag."
        ) from None
    except FileNotFoundError:
        raise HarnessError(
            f"{revision}: has no {path}, or neither DVC's cache nor a remote has it. "
            "Give --paper and --scale of a run of that revision, or run `dvc fetch`."
        ) from None
    except NotDvcRepoError:
        raise HarnessError(f"{root}: not a DVC repository, so it keeps no revision's results; give folders") from None
    except (DvcException, SCMError, OSError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise HarnessError(f"{revision}: {path}: can't be fetched ({reason[0] if reason else error!r})") from None


def _read(name: str, base: Path) -> ComparedRun:
    folders = Folders(base)
    provenance = read_checked_json(folders.provenance)
    for field in ("paper", "scale"):
        if not isinstance(provenance, dict) or not isinstance(provenance.get(field), str):
            raise HarnessError(f"{folders.provenance}: field {field} is missing. Pull or run it again.")
    return ComparedRun(
        name=name,
        paper=provenance["paper"],
        scale=provenance["scale"],
        provenance=provenance,
        curves=read_curves(folders.all_curves),
        claims=read_claims(folders.claims),
        table=read_table(folders.table),
    )
