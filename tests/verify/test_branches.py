"""Networks that go on from trained weights, train longer or have the masks of SNIP: checked and trained as others."""

import shutil

import pytest
import yaml

from harness.paper import load_spec
from harness.plan.runs import Run, stages
from harness.results.folders import Folders
from harness.verify.retrain import retrain
from harness.verify.shared_run import open_run
from harness.workflow.run_stage import run_stage
from tests.end_to_end.conftest import TINY, make_checkout
from tests.verify.alter import lines_of

BRANCHES = ("scratch_b", "keep_signs", "snip", "snip_shuffled", "snip_reinit", "rigl", "distilled", "ramp", "l0")
AT = {2: {"fine_tune": 2} | dict.fromkeys(BRANCHES, 1)}


@pytest.mark.slow
def test_what_others_can_read_of_a_run_is_enough(tmp_path, monkeypatch):
    """Without the networks themselves: from the tickets, or where these have no trained weights, from the beginning."""
    made = make_checkout(tmp_path / "checkout")
    setting = {
        **TINY["experiments"]["lenet"],
        "change": {"steps": 60, "drops": [40]},
        "dense_orders": [],
        "sweeps": [{"k": [5], "levels": 2, "at": AT}],
    }
    scale = made.root / "papers" / "stabilizing-lth" / "scales" / "tiny.yaml"
    scale.write_text(yaml.safe_dump({**TINY, "experiments": {"lenet": setting}}))
    monkeypatch.setenv("HARNESS_ROOT", str(made.root))
    spec, folders = load_spec(made.root, "stabilizing-lth", "tiny"), Folders(made.results)
    for name in ["prepare/digits", *(stage.name for stage in stages(spec)), "collect", "claims", "report", "card"]:
        run_stage(spec, folders, name, 1)
    for private in ("runs", "data", "state", "progress", "logs"):
        shutil.rmtree(made.results / private, ignore_errors=True)
    shared = open_run(Folders(made.results), "stabilizing-lth", "tiny")
    assert lines_of(shared) == []
    (tmp_path / "scratch").mkdir()
    for branch in AT[2]:
        outcome = retrain(shared, Run("lenet", 1, 5, 2, branch, 0), tmp_path / "scratch")
        assert (outcome.differences, outcome.bits) == ([], True), branch
