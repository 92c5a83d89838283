"""What more replicates would tell: against simulated runs with as many, and closed forms."""

import numpy as np
import pytest
from scipy import stats

from harness.claims.outlook import POWER, chance, outlook
from harness.claims.parts import PartData
from harness.claims.statistics import inside, sign_interval, t_interval
from harness.paper.claims import LEVEL
from tests.claims.tables import DIFFERENCE, MEDIAN, accuracies, curves, judged, table

RNG = np.random.default_rng(5)
LEVELS = (LEVEL, LEVEL)


def drawn(mean: float, replicates: int = 9) -> PartData:
    """Replicates of exactly this mean and standard deviation 1; the region begins at 0."""
    values = RNG.normal(size=replicates)
    values = (values - values.mean()) / values.std(ddof=1) + mean
    return PartData(False, False, (0.0, np.inf), [values], [0.0], [(0.0, 0)], replicates=replicates)


@pytest.mark.parametrize("mean", [0.2, 0.5])
def test_so_many_replicates_are_supported_in_four_runs_of_five(mean: float) -> None:
    needed = outlook(drawn(mean), LEVELS).needed
    assert needed is not None
    runs = RNG.normal(mean, 1, size=(4000, needed))
    share = inside(t_interval([runs]), (0.0, np.inf)).mean()
    assert POWER - 0.03 < share < POWER + 0.05  # the number is rounded up to two digits


def test_the_smallest_effect_seen_is_that_of_the_noncentral_t() -> None:
    seen = float(outlook(drawn(0.1), LEVELS).seen.removeprefix("an effect of "))
    power = stats.nct.sf(stats.t.isf(0.025, 8), 8, seen * 3)
    assert power == pytest.approx(POWER, abs=0.03)


def test_a_wrong_side_is_never_supported_and_may_be_refuted() -> None:
    found = outlook(drawn(-0.2), LEVELS)
    assert found.needed is None
    assert found.against == outlook(drawn(0.2), LEVELS).needed
    assert "no number of replicates would put it inside at this estimate, about 200 would" in found.sentence(9)
    assert outlook(drawn(0.0), LEVELS)[:2] == (None, None)


def test_an_equality_needs_its_nearest_edge() -> None:
    data = drawn(0.2)
    band = PartData(False, False, (-5.0, 0.4), data.groups, [0.0], [(0.0, 0)], replicates=9)
    assert outlook(band, LEVELS).needed == outlook(data, LEVELS).needed


@pytest.mark.parametrize("share", [0.6, 0.8])
def test_a_median_needs_the_sign_tests_replicates(share: float) -> None:
    values = np.where(np.arange(10) < 10 * share, 0.5, 40.0)
    data = PartData(True, False, (-np.inf, 2.0), [values, values], replicates=10)
    needed = outlook(data, LEVELS).needed
    assert needed is not None
    runs = np.where(RNG.random((4000, needed)) < share, 0.5, 40.0)
    assert POWER - 0.05 < inside(sign_interval(runs), (-np.inf, 2.0)).mean() < POWER + 0.08
    assert chance(data, needed, LEVEL, outside=True) < 0.05


def test_half_of_the_replicates_is_never_a_median() -> None:
    values = np.array([0.5, 0.5, 0.5, 40.0, 40.0, 40.0])
    data = PartData(True, False, (-np.inf, 2.0), [values, values], replicates=6)
    assert outlook(data, LEVELS)[:2] == (None, None)


def test_replicates_that_agree_say_nothing_of_more() -> None:
    data = PartData(False, False, (0.0, np.inf), [np.full(5, -1.0)], [0.0], [(0.0, 0)], replicates=5)
    assert outlook(data, LEVELS) == (None, None, "")


def test_an_undecided_claim_needs_its_most_demanding_part_and_never_if_one_never_gets_there() -> None:
    imp = [98.0, 98.6, 97.7, 98.3, 98.2]
    rows = accuracies(imp, [98.0] * 5)
    near = {**DIFFERENCE, "region": [0.0, None]}
    far = {**DIFFERENCE, "region": [-0.3, 0.3]}  # an equality whose upper edge is nearer
    alone = [judged(rows, part).needed for part in (near, far)]
    assert None not in alone
    assert judged(rows, near, far).needed == max(alone)
    assert judged(rows, near, far, combine="any").needed <= min(judged(rows, near, far).needed, 2 * min(alone))
    wrong = {**DIFFERENCE, "region": [None, 0.0]}
    found = judged(rows, near, wrong)
    assert (found.verdict, found.needed) == ("inconclusive", None)
    assert found.parts[0].needed == alone[0]
    assert 0 < found.chance < 1
    assert judged(rows, {**DIFFERENCE, "region": [-9.0, None]}).needed is None  # supported


def test_a_median_in_a_claim_says_what_it_needs() -> None:
    rows = curves(*[[0.5] * 3] * 4, [40.0] * 3)
    found = judged(table(*rows), MEDIAN, replicates=5)
    assert found.verdict == "inconclusive"
    assert "; 5 see a share of 96% of replicates in the region in 80% of runs" in found.reason
