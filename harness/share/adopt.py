"""Finished results that this checkout did not make: the workflow engine is told which of them fit, and redoes none.

The engine judges by times and by its own notes, neither of which travels. What fits is judged here by content: digests
of code and settings, checksums of files. What does not fit is left for the engine to make again.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.data import checksum
from harness.errors import HarnessError
from harness.files import file_sha256, read_json, write_json
from harness.plan import stages
from harness.share.card import read_card
from harness.spec import Spec
from harness.workflow.context import Folders
from harness.workflow.mend import graph, inputs_fit, restore_records
from harness.workflow.rules import WRITTEN, Rules, part_digest, stage_digest

MARKER = "harness-adopted.json"  # in the engine's own folder: which card each run had when it was last made or adopted
PREPARE = "prepare/"


def adopt(root: Path, spec: Spec, folders: Folders, rules: Rules) -> tuple[int, int]:
    """Have the engine take what fits of a run's folder as finished, and the rest as to be made again.

    Returns how many stages fit and how many there are. Raises HarnessError for a card that is none, and when the engine
    fails.
    """
    card = read_card(folders) if folders.card.exists() else {}
    fit = fitting(spec, folders, card)
    files = {name: _files(folders, name) for name in [*graph(spec, folders), *WRITTEN]}
    stale = [path for name in files if name not in fit for path in files[name] if path.exists()]
    if stale and any((root / ".snakemake" / "metadata").glob("*")):
        _engine(root, rules, "--cleanup-metadata", *map(str, stale))
    if fit:
        whole = len(fit) == len(files)
        targets = [] if whole else [str(files[name][0]) for name in files if name in fit]
        _engine(root, rules, *targets, "--touch", "--forceall", "--rerun-incomplete")
    restore_records(spec, folders)  # so that a plan counts what was trained elsewhere
    remember(root, folders)
    return len(fit), len(files)


def is_new(root: Path, folders: Folders) -> bool:
    """Whether a run's folder holds other finished results than this checkout last made or adopted there."""
    return folders.card.exists() and _marks(root).get(folders.base.as_posix()) != file_sha256(folders.card)


def remember(root: Path, folders: Folders) -> None:
    """Note that the results are those of this checkout: made or adopted here."""
    if folders.card.exists():
        marks = {**_marks(root), folders.base.as_posix(): file_sha256(folders.card)}
        write_json(root / ".snakemake" / MARKER, marks)


def fitting(spec: Spec, folders: Folders, card: Mapping[str, Any]) -> set[str]:
    """The stages, and parts of the whole run, that need not be made again: with them all that they were made from."""
    known = {stage.name: stage for stage in stages(spec)}
    fit: set[str] = set()
    reads = graph(spec, folders)
    for name, before in reads.items():  # parents first
        record = _record(folders.stage(name))
        if not record or not fit.issuperset(before):
            continue
        if name.startswith(PREPARE):
            good = _data_fits(name.removeprefix(PREPARE), card)
        else:
            good = record.get("digest") == stage_digest(spec, folders, known[name]) and inputs_fit(folders, record)
            good = good and _files_fit(folders, _files(folders, name)[1:], _checksums(record))
        if good:
            fit.add(name)
    if len(fit) < len(reads):
        return fit
    shared = {name: one["sha256"] for name, one in card.get("files", {}).items()}
    for part, names in WRITTEN.items():
        if part != "card":
            sums = {folders.base / name: shared.get(name, "") for name in names}
            if card.get("parts", {}).get(part) != part_digest(spec, part) or not _files_fit(folders, sums, sums):
                break
        elif not folders.crate.exists():
            break
        fit.add(part)
    return fit


def _record(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except HarnessError:
        return {}
    return found if isinstance(found, dict) else {}


def _data_fits(name: str, card: Mapping[str, Any]) -> bool:
    """Whether the set is the one that is pinned now; the arrays themselves don't travel."""
    return bool(card.get("data", {}).get(name) == checksum(name))


def _files(folders: Folders, name: str) -> list[Path]:
    """What a stage or part writes that the engine knows of; a stage's record first."""
    if name in WRITTEN:
        return [folders.base / file for file in WRITTEN[name]]
    more = [folders.pairs(name), folders.curves(name)] if name.endswith("-stability") else []
    return [folders.stage(name), *more]


def _checksums(record: Mapping[str, Any]) -> dict[str, str]:
    outputs = record.get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def _files_fit(folders: Folders, files: Iterable[Path], sums: Mapping[Any, str]) -> bool:
    """Whether files have their checksums, which are named by path or, of one stage, by name."""
    return all(path.is_file() and file_sha256(path) == sums.get(path, sums.get(path.name)) for path in files)


def _marks(root: Path) -> dict[str, Any]:
    return _record(root / ".snakemake" / MARKER)


def _engine(root: Path, rules: Rules, *arguments: str) -> None:
    """Run snakemake on this run to its end. Raises HarnessError with its last line when it fails."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(root / "Snakefile"), "--cores", "1"]
    command += ["--nocolor", "--config", f"paper={rules.paper}", f"scale={rules.scale}", f"results={rules.results}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:] or ["no message"]
        raise HarnessError(
            f"{rules.base}: the workflow engine did not take these results ({last[0].strip():.200}). "
            "Run `snakemake --unlock` if no other run is active, and try again"
        )
