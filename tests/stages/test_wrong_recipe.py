"""A mistake in the recipe that trains all the same: what the dense accuracy's band makes of the claims."""

import pytest

from harness import kernels
from harness.base.files import read_json
from harness.base.paths import checkout
from harness.paper import Spec, load_spec
from harness.paper.models import Scale
from harness.plan.runs import stages
from harness.results.folders import Folders
from harness.training import step
from harness.workflow.run_stage import run_stage

# the mini scale's claims on accuracy (C6) and stability (C7) at k = 0, with a ResNet of eight layers
SETTING = {
    "network": "resnet8-1d",
    "data": "mnist1d",
    "change": {"batch_size": 64, "steps": 300, "drops": [200, 250], "augmentation": "none"},
    "pruning": {"style": "one_shot", "densities": [0.168]},
    "replicates": 3,
    "replicates_per_job": 3,
    "levels_per_job": 1,
    "sweeps": [{"k": [0], "levels": 1, "at": {1: {"imp": 2, "random_prune": 2}}}],
    "line": {"points": 3, "train_samples": 100, "test_samples": 100},
    "calibration": [72, 95],
}


def verdicts(folders: Folders) -> dict[str, tuple[str, str]]:
    """Train, compare and judge; verdict and reason of C6 and C7."""
    full = load_spec(checkout(), "stabilizing-lth", "mini")
    claims = [claim for claim in full.claims if claim.id in ("C6", "C7")]
    experiments = {"resnet20-standard": SETTING}
    facts = {"description": "tests", "judges_claims": True, "hardware": "any", "experiments": experiments}
    spec = Spec(full.folder, full.paper, full.experiments, claims, "mini", Scale.model_validate(facts))
    with kernels.without():
        for name in ("prepare/mnist1d", *(stage.name for stage in stages(spec)), "collect", "claims"):
            run_stage(spec, folders, name, 1)
    return {claim["id"]: (claim["verdict"], claim["reason"]) for claim in read_json(folders.claims)}


@pytest.mark.slow
def test_softmax_fed_into_the_cross_entropy_leaves_the_claims_untested(tmp_path, monkeypatch):
    right = verdicts(Folders(tmp_path / "right"))
    assert "not tested" not in {verdict for verdict, _ in right.values()}

    loss = step.cross_entropy
    monkeypatch.setattr(step, "cross_entropy", lambda logits, y: loss(logits.softmax(-1), y))
    for claim, (verdict, reason) in verdicts(Folders(tmp_path / "wrong")).items():
        assert verdict == "not tested", claim
        assert "resnet20-standard's dense networks reach" in reason
        assert "outside its calibration band 72 to 95%" in reason
