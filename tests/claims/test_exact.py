"""Counts: every replicate's share lies in the region, or the part is contradicted; nothing is estimated."""

from __future__ import annotations

import pytest

from harness.claims.document import ClaimVerdict
from harness.claims.judge import chance_flips
from harness.claims.power import power
from harness.paper.published import Published
from tests.claims.tables import IMP, claim, judged, network, table

TOTAL = 50_200
KEPT = round(TOTAL * 0.64**5)
SHARE = {
    "statistic": "exact",
    "measure": "density",
    "a": IMP,
    "region": [100 * (KEPT - 0.5) / TOTAL, 100 * (KEPT + 0.5) / TOTAL],
}


def counted(*kept: int, **statuses: str) -> ClaimVerdict:
    """The verdict on replicates that keep so many weights."""
    rows = [network("imp", r, density=n / TOTAL, test_accuracy=97.0, **statuses) for r, n in enumerate(kept)]
    return judged(table(*rows), SHARE)


def test_equal_counts_are_supported_although_they_do_not_spread() -> None:
    found = counted(KEPT, KEPT, KEPT)
    assert found.verdict == "supported"
    assert found.estimate == pytest.approx(100 * KEPT / TOTAL)
    assert found.interval == (found.estimate, found.estimate)
    assert (found.level, found.left_out, found.fragile) == (None, 0, [])
    assert f"{100 * KEPT / TOTAL:.7g} is counted" in found.reason
    assert "3 of 3 replicates are in it" in found.reason
    assert chance_flips([found]) == 0.0  # chance supports no count
    assert power(claim(SHARE).scales["mini"], {"lenet": 3}, Published()).parts == 0  # nor does power speak of it


@pytest.mark.parametrize("other", [KEPT - 1, KEPT + 1])
def test_one_weight_more_or_less_in_one_replicate_contradicts(other: int) -> None:
    found = counted(KEPT, other, KEPT)
    assert found.verdict == "contradicted"
    assert found.estimate == pytest.approx(100 * other / TOTAL)
    assert "2 of 3 replicates are in it" in found.reason


def test_too_few_networks_are_not_tested() -> None:
    assert counted(KEPT, KEPT).verdict == "not tested"
    assert counted(KEPT, KEPT, KEPT, status="diverged").verdict == "not tested"
