"""Trains the scale of docs/guides/extending.md in a copy of the project, and prints what the test asks of it.

`PYTHONPATH=<copy> python tests/extending_run.py <copy>`; the functions serve the test too.
"""

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from harness.base.errors import HarnessError
from harness.networks import build
from harness.paper import load_spec
from harness.plan.kinds import prepares
from harness.plan.runs import Run, all_runs, data_sets, stages
from harness.results.code import PACKAGE
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.open import load_scale
from harness.stages.train import starting_point
from harness.workflow.run_stage import run_stage

PAPER = "stabilizing-lth"
BRANCHES = ("imp", "random_prune", "random_reinit", "snip")  # the shipped ones


def shipped_digests(root: Path) -> dict[str, str]:
    """The keys of the smoke scale's networks and of one of each branch, and the digests of its stages."""
    spec, folders = load_spec(root, PAPER, "smoke"), Folders(root / "results")
    runs = [*all_runs(spec), *(Run("lenet", 0, 20, 2, branch, 0) for branch in BRANCHES)]
    keys = {run.id: Context(spec, folders, run.experiment).key(run) for run in runs}
    names = [*map(prepares, data_sets(spec)), *(stage.name for stage in stages(spec))]
    return keys | {name: stage_digest(spec, folders, name) for name in names}


def train(root: Path, scale: str) -> None:
    """Prepare the data of a scale, train its networks and pack its tickets."""
    spec, folders = load_scale(root, PAPER, scale), Folders(root / "results")
    names = [prepares(name) for name in data_sets(spec)]
    for name in [*names, *(stage.name for stage in stages(spec) if stage.kind != "stability")]:
        run_stage(spec, folders, name, 1)


def write_start(root: Path, scale: str, branch: str) -> None:
    """Write the weights from which both replicates of a branch train at k = 40 and level 2, to start.safetensors."""
    context = Context(load_scale(root, PAPER, scale), Folders(root / "results"), "lenet")
    stack = [Run("lenet", replicate, 40, 2, branch, 0) for replicate in (0, 1)]
    network = build(context.setting.network, len(stack), context.data.input_shape, context.data.classes)
    save_file(starting_point(context, stack, network)[0].weights, root / "start.safetensors")


def refusal(root: Path, scale: str) -> str:
    """Why a scale is refused; nothing if it isn't."""
    try:
        load_scale(root, PAPER, scale)
    except HarnessError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    copy = Path(sys.argv[1])
    train(copy, "extended")
    write_start(copy, "extended", "signs")
    answers = {"package": str(PACKAGE), "digests": shipped_digests(copy), "refusal": refusal(copy, "misspelt")}
    print(json.dumps(answers))
