"""The two sides of a comparison: what is read of a run, from a folder or from a git revision through DVC."""

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.table import REAL, TEXT, WHOLE
from harness.claims.judge import read_claims
from harness.errors import HarnessError
from harness.paths import results_folder
from harness.share.noise import ROW
from harness.share.untrusted import read_checked_json, read_checked_table
from harness.workflow.context import Folders

TABLE = {**dict.fromkeys(TEXT, "text"), **dict.fromkeys(WHOLE, "whole"), **dict.fromkeys(REAL, "real")}
CURVES = {**dict.fromkeys(("run", "run_b", "batch_norm", "split"), "text"), "alpha": "real", "error": "real"}
#: files of a run that a comparison reads, and the most bytes that each may have
READ = {"claims.json": 2**26, "provenance.json": 2**28, "table.parquet": 2**30, "curves.parquet": 2**30}


@dataclass(frozen=True)
class Side:
    """One of the two runs: `name` as it was given, what it is of, its verdicts and tables."""

    name: str
    paper: str
    scale: str
    facts: dict[str, Any]  # provenance.json
    claims: list[dict[str, Any]]
    table: pd.DataFrame
    curves: pd.DataFrame

    @property
    def code(self) -> str:
        """The code revision that made it, as far as it is recorded."""
        revision = str(self.facts.get("code_revision") or "")[:10]
        if not revision:
            return "code unknown"
        return f"code {revision}" + ("" if self.facts.get("tree_clean") else ", with uncommitted changes")

    def __str__(self) -> str:
        when = str(self.facts.get("finished") or "")[:10]
        return ", ".join(filter(None, [f"{self.paper} at scale {self.scale}", self.code, when]))


def read_side(place: str, root: Path, results: Path, paper: str, scale: str, name: str = "") -> Side:
    """Read a run: a folder of its own, a results folder (then `paper` and `scale` say which), or a git revision.

    `name` is how it is shown, if not as its place. Raises HarnessError where there is neither, and where a file is
    missing, broken or no plain file, or can't be fetched.
    """
    name, folder = name or place, Path(place)
    if folder.is_dir():
        inner = results_folder(folder, paper, scale)
        base = folder if any((folder / file).exists() for file in READ) else inner
        if not base.is_dir():
            raise HarnessError(f"{name}: neither a run's folder nor one that holds {inner.relative_to(folder)}/")
        for file in READ:
            _check_plain(base / file, READ[file])
        return _read(name, base)
    with fetched(place, root, results_folder(results, paper, scale)) as base:
        return _read(name, base)


def _check_plain(path: Path, most: int) -> None:
    """Refuse a link, a device or an oversized file before it is opened."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Give the folder of a finished run, such as results/mini.") from None
    if not stat.S_ISREG(facts.st_mode):
        raise HarnessError(f"{path}: is no plain file, and so no result of a run. Remove it and pull again.")
    if facts.st_size > most:
        raise HarnessError(f"{path}: {facts.st_size} bytes are more than such a file can have ({most}). Pull again.")


@contextmanager
def fetched(revision: str, root: Path, base: Path) -> Iterator[Path]:
    """The files of a revision's run in a temporary folder. Raises HarnessError when they can't be had."""
    if base.is_absolute():
        raise HarnessError(f"--results {base}: lies outside the checkout, so no revision of it is kept")
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
                raise HarnessError(f"{revision}: {path}: {size} bytes are more than such a file can have ({most})")
            (folder / file).write_bytes(files.read_bytes(path))
    except RevError:
        raise HarnessError(
            f"{revision}: neither a folder nor a revision of {root}. Give a run's folder, a commit, a branch or a tag."
        ) from None
    except FileNotFoundError:
        raise HarnessError(
            f"{revision}: has no {path}, or it is neither in DVC's cache nor in a remote. "
            "Give --paper and --scale of a run of that revision, or fetch it with `dvc fetch`."
        ) from None
    except NotDvcRepoError:
        raise HarnessError(f"{root}: is no DVC repository, so no revision's results are kept; give folders") from None
    except (DvcException, SCMError, OSError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise HarnessError(f"{revision}: {path}: can't be fetched ({reason[0] if reason else error!r})") from None


def _read(name: str, base: Path) -> Side:
    folders = Folders(base)
    facts = read_checked_json(folders.provenance)
    for field in ("paper", "scale"):
        if not isinstance(facts, dict) or not isinstance(facts.get(field), str):
            raise HarnessError(f"{folders.provenance}: field {field} is missing. Pull or run it again.")
    read_checked_json(folders.claims)
    curves = read_checked_table(folders.all_curves, CURVES)
    return Side(
        name, facts["paper"], facts["scale"], facts, read_claims(folders.claims), read_rows(folders.table), curves
    )


def read_rows(path: Path) -> pd.DataFrame:
    """The tidy table of a run, whoever made it. Raises HarnessError unless each row stands in it once."""
    table = read_checked_table(path, TABLE)
    whole = [column for column in WHOLE if table[column].isna().any()]
    if whole:
        raise HarnessError(f"{path}: column {whole[0]}: has gaps. Pull it again, or collect the results again.")
    twice = table.duplicated(ROW)
    if twice.any():
        run = table.loc[twice, "run"].iloc[0]
        raise HarnessError(f"{path}: run {run!r:.200}: has two rows. Pull it again, or collect the results again.")
    return table
