"""The files that a run shares: those on its card, as they are there, and no others than the plan asks for."""

import re
from collections.abc import Iterator

from harness.base.files import file_sha256
from harness.plan.kinds import files_of, prepares
from harness.plan.runs import data_sets, stages
from harness.report.card import NOT_LISTED, shared_files
from harness.report.crate import WORKFLOW
from harness.results.folders import NAME
from harness.results.keys import JUDGED
from harness.verify.shared_run import SharedRun

#: files whose names the plan does not tell: held against the page made again, and against the card's code
_OPEN = re.compile(rf"report/figures/{NAME}\.svg|{WORKFLOW}/harness/workflow/{NAME}\.smk")


def files(shared: SharedRun) -> Iterator[str]:
    """Every shared file against the card, and the card's names against those that the plan asks for."""
    base, card = shared.folders.base, shared.card["files"]
    there = {path.relative_to(base).as_posix(): path for path in shared_files(base)}
    planned = set(_planned(shared))
    for name in sorted({*card, *there, *planned}.difference(NOT_LISTED)):
        if name not in card:
            yield f"{name}: is not on the card" + (", and this run has to have it" if name in planned else "")
        elif name not in there:
            yield f"{name}: is on the card and missing here"
        elif there[name].stat().st_size != card[name]["bytes"]:
            yield f"{name}: {there[name].stat().st_size:,} bytes, the card says {card[name]['bytes']:,}"
        elif file_sha256(there[name]) != card[name]["sha256"]:
            yield f"{name}: its checksum is not the card's"
        if name in card and name not in planned and not _OPEN.fullmatch(name):
            yield f"{name}: is on the card, and no file of this run"


def _planned(shared: SharedRun) -> Iterator[str]:
    """The names of the shared files that a run of this plan has, but for _OPEN and NOT_LISTED."""
    folders, spec = shared.folders, shared.spec
    yield from (f"{WORKFLOW}/papers/{spec.paper.id}/{name}" for name in shared.card["spec"])
    yield f"{WORKFLOW}/Snakefile"
    for name in (*map(prepares, data_sets(spec)), *(stage.name for stage in stages(spec)), *JUDGED):
        yield from files_of(name)
    for path in (folders.selection, folders.looks, *(path for _, _, path in shared.packs())):
        if path != folders.selection or path.is_file():
            yield path.relative_to(folders.base).as_posix()
