"""The paper scale's calibration bands: a dense network trained wrongly leaves the claims on it untested."""

import pytest

from harness.base.paths import checkout
from harness.claims.judge import judge
from harness.paper import load_spec
from harness.paper.claims import expand_parts
from harness.plan.needs import judged, selected
from tests.estimate.test_budget import fake_table

EXPERIMENT = "resnet20-standard"
# accuracy and stability at k = 0 and from which k on; of LMC, instability and its onset
CLAIMS = {
    "stabilizing-lth": ["C6", "C7", "C16", "C17", "C20"],
    "linear-mode-connectivity": ["C37", "C38", "C42", "C45"],
}


@pytest.mark.parametrize("paper", CLAIMS)
def test_a_dense_accuracy_as_from_the_softmax_mistake_leaves_stability_untested(paper):
    """ResNet-20 with its softmax fed into the cross-entropy: it trains, to about 80%, and looks stable."""
    spec = load_spec(checkout(), paper, "paper")
    assert set(CLAIMS[paper]) <= set(judged(spec))
    small = selected(spec, CLAIMS[paper])
    bands = {name: setting.bands for name, setting in small.scale.experiments.items()}
    low, high = bands[EXPERIMENT]["test_accuracy"]
    table = fake_table(small)
    dense = (table["row"] == "network") & (table["branch"] == "dense") & (table["experiment"] == EXPERIMENT)

    def verdicts(accuracy: float) -> dict[str, tuple[str, str]]:
        table.loc[dense, "test_accuracy"] = accuracy
        found = judge(small.claims, "paper", table, bands)
        return {one.id: (one.verdict, one.reason) for one in found if one.id in CLAIMS[paper]}

    right, wrong = verdicts((low + high) / 2), verdicts(80.0)
    assert list(wrong) == CLAIMS[paper]
    for name, (verdict, reason) in wrong.items():
        assert verdict == "not tested", name
        assert f"{EXPERIMENT}'s dense networks have a test accuracy of 80% on average, outside" in reason
        assert f"its calibration band {low:g} to {high:g}%" in reason
        assert right[name][0] != "not tested", right[name]


@pytest.mark.parametrize("paper", CLAIMS)
def test_no_claim_on_the_experiment_escapes_its_band(paper):
    """Every claim of the paper scale that reads ResNet-20, but for those that are about its dense accuracy."""
    spec = load_spec(checkout(), paper, "paper")
    reading = {
        claim.id
        for claim in spec.claims
        if "paper" in claim.scales
        and any(cell.experiment == EXPERIMENT for part in expand_parts(claim.scales["paper"]) for cell in part.cells)
    }
    exempt = {claim.id for claim in spec.claims if claim.calibrates}
    small = selected(spec, ["C6" if paper == "stabilizing-lth" else "C37"])
    table = fake_table(small)
    table.loc[table["branch"] == "dense", "test_accuracy"] = 80.0
    band = {EXPERIMENT: spec.scale.experiments[EXPERIMENT].calibration}
    found = {one.id: one for one in judge(spec.claims, "paper", table, band)}
    assert len(reading - exempt) > 10
    for name in reading - exempt:
        assert found[name].verdict == "not tested"
        assert "outside its calibration band" in found[name].reason, name
