"""The power of claims in the world as published, against closed forms, and that no shipped claim lacks it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.base.paths import checkout
from harness.claims.power import power
from harness.paper import load_spec
from harness.paper.published import Published
from harness.stages.judging import judged
from tests.claims.tables import DENSE, DIFFERENCE, IMP, MEDIAN, ONSET, claim, table
from tests.claims.test_sizes import SPREAD, row

PAPERS = ("stabilizing-lth", "linear-mode-connectivity")
DECIDABLE = 0.8


def entry(*parts: dict, **more):
    return claim(*parts, **more).scales["mini"]


@pytest.mark.parametrize("n", [3, 5, 9])
def test_power_is_the_noncentral_t_distributions(n: int) -> None:
    error = 0.846 * 0.5
    papers = Published((row("imp", 91.0, error), row("dense", 90.0, error)), SPREAD)
    found = power(entry(DIFFERENCE | {"region": [0, None]}), {"lenet": n}, papers, tables=4000)
    expected = stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, 1.0 / np.hypot(0.5, 0.5) * n**0.5)
    assert found.share == pytest.approx(expected, abs=0.03)
    assert (found.known, found.parts) == (1, 1)


def test_a_median_needs_every_one_of_five_replicates() -> None:
    pairs = {"measure": "instability_test", "comparison": "data_order"}
    papers = Published((row("dense", 1.5, 1.82 * 0.6, **pairs),), SPREAD)
    found = power(entry(MEDIAN, replicates=5), {"lenet": 5}, papers, tables=4000)
    below = stats.gamma.cdf(2.0, (1.5 / 0.6) ** 2, scale=0.6**2 / 1.5)
    assert found.share == pytest.approx(below**5, abs=0.03)


def test_an_onset_lies_where_the_published_curve_falls_below_the_bound() -> None:
    pairs = {"measure": "instability_test", "comparison": "data_order"}
    curve = ((0, 60.0, 5.0), (20, 1.0, 0.1), (100, 0.2, 0.1))
    papers = Published(tuple(row("dense", value, error, k=float(k), **pairs) for k, value, error in curve), SPREAD)
    assert power(entry(ONSET, replicates=5), {"lenet": 5}, papers).share == 1.0
    assert power(entry(ONSET | {"region": [100, None]}, replicates=5), {"lenet": 5}, papers).share == 0.0


def test_what_is_not_published_is_not_known() -> None:
    papers = Published((row("imp", 91.0, 0.1), row("dense", 90.0, 0.1)), SPREAD)
    other = DIFFERENCE | {"a": IMP | {"k": 20}, "b": DENSE}
    some = power(entry(DIFFERENCE, other), {"lenet": 5}, papers)
    assert (some.share, some.known, some.parts) == (1.0, 1, 2)
    none = power(entry(other), {"lenet": 5}, papers)
    assert (none.share, none.known, none.parts) == (None, 0, 1)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_correct_paper_can_be_supported(paper: str) -> None:
    """Each claim whose numbers are published, with the fewest replicates that may judge it."""
    spec = load_spec(checkout(), paper, "paper")
    entries = {claim.id: claim.scales["paper"] for claim in spec.claims if "paper" in claim.scales}
    shares = {
        name: power(entry, dict.fromkeys(spec.scale.experiments, entry.replicates), spec.published)
        for name, entry in entries.items()
    }
    assert {name: share for name, share in shares.items() if share.known and share.share < DECIDABLE} == {}
    assert sum(share.known > 0 for share in shares.values()) >= 15


def test_every_claim_of_a_scale_is_written_with_its_power() -> None:
    spec = load_spec(checkout(), PAPERS[0], "mini")
    replicates = {name: setting.replicates for name, setting in spec.scale.experiments.items()}
    for one, entry in zip(judged(spec, table()), (c.scales.get("mini") for c in spec.claims), strict=True):
        assert one.power == (power(entry, replicates, spec.published) if entry else None)
