"""The files that a run shares: those on its card, as they are there, and no others than the plan asks for."""

import re
from collections.abc import Iterator

from harness.base.files import file_sha256
from harness.plan.kinds import files_of, prepares
from harness.plan.runs import stages
from harness.report.card import NOT_LISTED, shared_files
from harness.results.folders import NAME
from harness.results.keys import JUDGED
from harness.verify import revision
from harness.verify.shared_run import SharedRun

WORKFLOW = "report/workflow"
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


def copies(shared: SharedRun) -> Iterator[str]:
    """The copies of spec and workflow beside the page: those that the card names."""
    card = {name: entry["sha256"] for name, entry in shared.card["files"].items()}
    for name, checksum in shared.card["spec"].items():
        place = f"{WORKFLOW}/papers/{shared.spec.paper.id}/{name}"
        if card.get(place) != checksum:
            yield f"{place}: is not the spec that the card names"
    known = {f"{WORKFLOW}/{name}": file_sha256(path) for name, path in revision.workflow(shared).items()}
    own = {name for name in card if name.startswith((f"{WORKFLOW}/harness/", f"{WORKFLOW}/Snakefile"))}
    for name in sorted(known.keys() | own if known else ()):
        if name not in known:
            yield f"{name}: is no file of the workflow"
        elif card.get(name) != known[name]:
            yield f"{name}: is not the one of the code that the card names"


def _planned(shared: SharedRun) -> Iterator[str]:
    """The names of the shared files that a run of this plan has, but for _OPEN and NOT_LISTED."""
    folders, spec = shared.folders, shared.spec
    paths = [folders.base / name for kind in JUDGED for name in files_of(kind)]
    paths += [folders.report / "workflow" / "papers" / spec.paper.id / name for name in shared.card["spec"]]
    paths += [folders.report / "workflow" / "Snakefile"]
    paths += [folders.stage(prepares(setting.data)) for setting in spec.scale.experiments.values()]
    paths += [folders.selection] if folders.selection.is_file() else []
    for stage in stages(spec):
        paths += [folders.stage(stage.name), *shared.written(stage)]
    return (path.relative_to(folders.base).as_posix() for path in paths)
