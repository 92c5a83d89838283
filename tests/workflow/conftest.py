"""A scale small enough to train in a second: two replicates of LeNet on the digits."""

from pathlib import Path

import pytest

from harness.paths import checkout
from harness.spec import Spec, load_spec
from harness.spec.models import Scale
from harness.workflow.context import Context, Folders
from harness.workflow.progress import Heartbeat
from harness.workflow.stages import run_stage

SETTING = {
    "network": "lenet-300-100",
    "data": "digits",
    "change": {"steps": 30},
    "pruning": {"fraction": 0.36},
    "replicates": 2,
    "replicates_per_job": 2,
    "levels_per_job": 2,
    "dense_orders": [0, 5],
    "sweeps": [{"k": [0, 5], "levels": 2, "at": {2: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}],
    "line": {"points": 5, "train_samples": 100, "test_samples": 100},
}


def tiny_spec(**changes) -> Spec:
    """The paper at a scale made here."""
    shipped = load_spec(checkout(), "stabilizing-lth", "smoke")
    scale = Scale.model_validate(
        {
            "description": "tests",
            "judges_claims": False,
            "hardware": "any",
            "experiments": {"lenet": {**SETTING, **changes}},
        }
    )
    return Spec(shipped.folder, shipped.paper, shipped.experiments, shipped.claims, "tiny", scale)


def tiny_context(folder: Path, **changes) -> Context:
    """A context in a fresh folder with its data set prepared."""
    context = Context(tiny_spec(**changes), Folders(folder), "lenet")
    if not context.folders.data("digits").exists():
        run_stage(context.spec, context.folders, "prepare/digits", 1)
    return context


def heartbeat(folder: Path) -> Heartbeat:
    return Heartbeat(folder / "beat.json", "test", 1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Context:
    """A whole tiny run, read by tests that don't change it."""
    from harness.plan import stages

    context = tiny_context(tmp_path_factory.mktemp("finished"))
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    run_stage(context.spec, context.folders, "collect", 1)
    return context
