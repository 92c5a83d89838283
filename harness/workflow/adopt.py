"""Adopts finished results from elsewhere: marks the stages that still fit as done, so that the engine keeps them.

The workflow engine compares file times and its own metadata, neither of which is shared. This module compares content:
digests of code and settings, and checksums of files. The engine runs the stages that do not fit again.
"""

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import file_sha256, write_json
from harness.claims.looks import read_looks
from harness.paper import Spec
from harness.plan.kinds import WHOLE
from harness.report.card import read_card
from harness.results.context import Work
from harness.results.fit import fitting, graph, paths_of, read_record, restore_records
from harness.results.folders import Folders, check_files
from harness.results.keys import part_code
from harness.results.open import open_run
from harness.stages.judging import card_stage, claims_stage, report_stage
from harness.workflow.engine import STATE, engine_command, engine_environment, engine_folder
from harness.workflow.rules import Rules

NO_NOTES = "the metadata was not present"  # snakemake's message for files without metadata, which is the desired state
MARKER = "harness-adopted.json"  # in .snakemake: checksum of each run's card when this checkout last made or adopted it
SHOWN = 4  # altered files that an error names


def adopt(root: Path, spec: Spec, folders: Folders, rules: Rules) -> tuple[int, int]:
    """Make the engine treat the stages of a run's folder that fit as finished, and all others as due.

    Returns the number of stages that fit and of all stages. Raises HarnessError for a broken card, and if the engine
    fails.
    """
    card = read_card(folders) if folders.card.exists() else {}
    fit = fitting(spec, folders, card)
    files = {name: paths_of(folders, name) for name in [*graph(spec, folders), *WHOLE]}
    stale = [path for name in files if name not in fit for path in files[name] if path.exists()]
    if stale and any((engine_folder(root, folders.base) / STATE / "metadata").glob("*")):
        _engine(root, rules, "--cleanup-metadata", *map(str, stale), tolerates=NO_NOTES)
    if fit:
        whole = len(fit) == len(files)
        targets = [] if whole else [str(files[name][0]) for name in files if name in fit]
        _engine(root, rules, *targets, "--touch", "--forceall", "--rerun-incomplete")
    restore_records(spec, folders)  # so that `harness plan` counts networks that were trained elsewhere
    remember(root, folders)
    return len(fit), len(files)


def adopt_run(root: Path, results: Path, paper: str, scale: str) -> str:
    """Adopt a run's results from elsewhere. Returns a line that says how many stages fit. Raises HarnessError."""
    spec, folders = open_run(root, results, paper, scale)
    if not folders.card.exists():
        raise HarnessError(f"{folders.base}: no finished run here. Get one with `harness pull` or `dvc checkout`")
    refuse_altered(folders)
    fit, total = adopt(root, spec, folders, Rules(paper, scale, str(results)))
    rest = "" if fit == total else "; `harness reproduce` runs the others again"
    return f"{folders.base}: {fit} of {total} stages fit this code and these settings{rest}"


def refuse_altered(folders: Folders) -> None:
    """Raise HarnessError if results from elsewhere are not what their card says: nothing of them is made again here.

    What this checkout made in their place would pass for theirs.
    """
    altered = _altered(folders)
    if altered:
        more = f" and {len(altered) - SHOWN} more" if len(altered) > SHOWN else ""
        raise HarnessError(
            f"{folders.base}: {', '.join(altered[:SHOWN])}{more}: not what card.json says, and this checkout did not "
            "make these results. Pull or copy them again; if they are your own, delete what is named here"
        )


def forget_altered(spec: Spec, folders: Folders) -> list[str]:
    """Delete tables, claims and page that are not what the card says, so that they are made again; and a broken card.

    With a broken card, those that can't be read go. What an altered networks.json still proves is kept in the store.
    Returns the names of the deleted files.
    """
    if not folders.card.is_file():
        return []
    try:
        faults = _altered(folders)
    except HarnessError:
        whole = _whole(folders)
        faults = ["card.json", "report/index.html", *(name for name in whole if _is_broken(folders, name))]
    if any(name.startswith("report/") for name in faults):
        faults.append("report/index.html")
    if folders.looks.name in faults or not folders.looks.is_file():
        faults.append(folders.claims.name)  # judged again, it takes the looks from the card
    if folders.networks.name in faults:
        with contextlib.suppress(HarnessError):
            restore_records(spec, folders)
    for name in faults:
        (folders.base / name).unlink(missing_ok=True)
    return list(dict.fromkeys(faults))


def _whole(folders: Folders) -> list[str]:
    """The names of the files that the stages of the whole run write."""
    return [path.relative_to(folders.base).as_posix() for kind in WHOLE for path in paths_of(folders, kind)]


def _altered(folders: Folders) -> list[str]:
    """Names of a run's tables, claims and page that are not what its card says, and of a crate that can't be read.

    Raises HarnessError for a broken card.
    """
    card, whole = read_card(folders), _whole(folders)
    files = card["files"]
    names = {name: folders.base / name for name in files if name in whole or name.startswith("report/")}
    altered = [name for name, path in names.items() if path.is_file() and file_sha256(path) != files[name]["sha256"]]
    if folders.looks.is_file() and not _continues(folders, card["looks"]):
        altered.append(folders.looks.name)
    return altered + [name for name in whole if name not in files and _is_broken(folders, name)]


def _continues(folders: Folders, looks: list[dict[str, Any]]) -> bool:
    """Whether looks.json begins with the card's looks: a run that was stopped before its card may have one more."""
    try:
        return [look.model_dump() for look in read_looks(folders.looks)][: len(looks)] == looks
    except HarnessError:
        return False


def _is_broken(folders: Folders, name: str) -> bool:
    """Whether a file is there and can't be read."""
    path = folders.base / name
    try:
        if path.is_file():
            check_files(folders.base, {name: path})
    except HarnessError:
        return True
    return False


def is_new(root: Path, folders: Folders) -> bool:
    """Whether a run's folder has finished results that this checkout neither made nor adopted.

    A card that can't be read counts as the one that it made or adopted in this folder, if there was one.
    """
    if not folders.card.exists():
        return False
    mark = _marks(root, folders).get(folders.base.as_posix())
    return mark != file_sha256(folders.card) and not (mark and _is_broken(folders, "card.json"))


def remember(root: Path, folders: Folders) -> None:
    """Record that this checkout made or adopted the results."""
    if folders.card.exists():
        marks = {**_marks(root, folders), folders.base.as_posix(): file_sha256(folders.card)}
        write_json(engine_folder(root, folders.base) / STATE / MARKER, marks)


def report_again(root: Path, spec: Spec, folders: Folders) -> None:
    """From a run's tables, judge the claims, build the page and write the card again.

    Raises HarnessError for tables that other code collected: they may lack what this code reads.
    """
    if folders.card.exists() and read_card(folders)["code"]["digests"].get("collect") != part_code("collect"):
        raise HarnessError(
            f"{folders.table}: other code collected these tables. `harness reproduce` collects them again, and trains "
            "only what no longer fits"
        )
    for stage in (claims_stage, report_stage, card_stage):
        stage(Work(spec, folders, stage.__name__.removesuffix("_stage")))
    remember(root, folders)


def _marks(root: Path, folders: Folders) -> dict[str, Any]:
    return read_record(engine_folder(root, folders.base) / STATE / MARKER)


def _engine(root: Path, rules: Rules, *arguments: str, tolerates: str = "") -> None:
    """Run snakemake on this run. Raises HarnessError if it fails, unless its output contains `tolerates`."""
    folder = engine_folder(root, Path(rules.base))
    command = engine_command(root, rules, *arguments, "--cores", "1")
    environment = engine_environment(root, folder)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode and not (tolerates and tolerates in output):
        last = [line for line in output.splitlines() if line.strip()][-1:] or ["no message"]
        raise HarnessError(
            f"{rules.base}: the workflow engine can't adopt these results ({last[0].strip():.200}). "
            "Move the folder away and copy or pull the results again"
        )
