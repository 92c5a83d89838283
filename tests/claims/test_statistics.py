"""Intervals against independent sources: scipy's tests, closed forms, the binomial distribution."""

from __future__ import annotations

from math import comb, inf, log

import numpy as np
import pytest
from scipy import stats

from harness.claims.statistics import Interval as Bounds
from harness.claims.statistics import (
    bonferroni,
    contrast,
    disjoint,
    grid_step,
    inside,
    onset_difference_bounds,
    onset_positions,
    sign_interval,
    sign_rank,
    spare_variance,
    t_interval,
)
from harness.paper.claims import trend_weights

RNG = np.random.default_rng(20190301)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_one_experiment_is_scipys_one_sample_interval(n: int, level: float) -> None:
    values = RNG.normal(70, 3, n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert t_interval([values], level)[1:] == pytest.approx((expected.low, expected.high))


def test_a_paired_difference_is_scipys_paired_interval() -> None:
    a, b = RNG.normal(98, 0.2, 5), RNG.normal(97, 0.2, 5)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = t_interval([contrast([1, -1], np.stack([a, b]))])
    assert found[1:] == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 9), (5, 4)])
def test_two_experiments_are_scipys_welch_interval(n: int, m: int) -> None:
    a, b = RNG.normal(90, 0.3, n), RNG.normal(89, 1.5, m)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert t_interval([a, -b])[1:] == pytest.approx((expected.low, expected.high))


def test_a_closed_form() -> None:
    # 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.3027
    found = t_interval([[1.0, 2.0, 3.0]])
    assert found == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


def test_many_tables_at_once_are_each_table_alone() -> None:
    a, b = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 4))
    together = np.stack(t_interval([a, b]), -1)
    alone = [np.stack(t_interval([x, y])) for x, y in zip(a, b, strict=True)]
    assert together == pytest.approx(np.array(alone))


def test_one_experiment_without_spread_does_not_disturb_the_other() -> None:
    alone = t_interval([[1.0, 2.0, 4.0]])
    both = t_interval([[1.0, 2.0, 4.0], [5.0, 5.0, 5.0]])
    assert np.array(both) == pytest.approx(np.array(alone) + 5)


def test_spare_variance_is_the_rest_of_a_two_way_analysis() -> None:
    cells, others = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))
    variance, freedom = spare_variance([1, -1], cells, others)
    # by least squares: cells, replicates, and the contrast's own direction in each replicate but one
    values = np.concatenate([cells, others]).ravel()
    rows, columns = np.divmod(np.arange(20), 5)
    design = [np.eye(4)[rows], np.eye(5)[columns], np.array([1, -1, 0, 0])[rows][:, None] * np.eye(5)[columns]]
    fitted = np.concatenate(design, axis=1) @ np.linalg.lstsq(np.concatenate(design, axis=1), values, rcond=None)[0]
    assert freedom == 8
    assert variance == pytest.approx(2 * np.sum((values - fitted) ** 2) / 8)
    assert spare_variance([1, -1], cells, np.empty((0, 5))) == (0, 0)


def test_a_spare_variance_widens_and_gives_freedom_up_to_the_contrasts_own() -> None:
    values = RNG.normal(1, 1, 4)
    own = values.var(ddof=1)
    for spare, freedom, used, total in [
        (0.1 * own, 30, own, 6),
        (3 * own, 30, 2 * own, 6),
        (4 * own, 1, 1.75 * own, 4),
    ]:
        half = stats.t.isf(0.025, total) * np.sqrt(used / 4)
        found = t_interval([values], spare=[(spare, freedom)])
        assert found[1:] == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("groups", [[], [[1.0]], [[1.0, 2.0], [3.0]], [1.0]])
def test_fewer_than_two_replicates_have_no_interval(groups: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="at least 2 replicates"):
        t_interval(groups)


def test_equal_values_of_a_continuous_measure_tell_no_spread() -> None:
    assert t_interval([[7.0, 7.0, 7.0]]) == (7, -inf, inf)
    assert t_interval([[0.0, 0.0, 0.0]]) == (0, -inf, inf)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_equal_values_on_a_grid_get_the_exact_binomial_bound(n: int) -> None:
    found = t_interval([np.zeros(n)], steps=[0.5])
    # if a share p of replicates lies a step away, n in a row do not with probability (1 - p) ** n
    share = float(found.high) / 0.5
    assert (1 - share) ** n == pytest.approx(0.025)
    clopper_pearson = stats.binomtest(0, n).proportion_ci(0.95).high
    assert share == pytest.approx(clopper_pearson)


def test_a_grid_does_not_widen_an_interval_that_is_wide_enough() -> None:
    values = [0.2, 0.5, -0.4]
    assert t_interval([values], steps=[0.01]) == t_interval([values])


def test_grid_steps_are_found_and_continuous_values_have_none() -> None:
    for examples in (540, 1000, 3000, 10000):
        right = RNG.integers(int(0.9 * examples), examples, 60)
        assert grid_step(100 * right / examples) == pytest.approx(100 / examples, rel=1e-3)
    assert grid_step(RNG.normal(90, 1, 60)) == 0
    assert grid_step([98.0]) == 0
    assert grid_step([98.0, 98.0, np.nan]) == 0
    assert grid_step([]) == 0
    # only every second value seen: a multiple of the step, so wider, never narrower
    assert grid_step([98.0, 98.4, 99.2]) == pytest.approx(0.4)


def test_a_grid_survives_single_precision() -> None:
    right = RNG.integers(480, 540, 40)
    assert grid_step((100 * right / 540).astype(np.float32)) == pytest.approx(100 / 540, rel=0.01)


@pytest.mark.parametrize("m", [2, 3, 4, 7])
def test_a_trend_is_polyfits_change_from_first_to_last(m: int) -> None:
    values = RNG.normal(size=(m, 6))
    slopes = np.polyfit(np.arange(m), values, 1)[0]
    assert contrast(trend_weights(m).tolist(), values) == pytest.approx(slopes * (m - 1))


def test_a_trend_needs_two_points() -> None:
    with pytest.raises(ValueError, match="1 point"):
        trend_weights(1)


def test_a_contrast_of_logarithms_is_the_log_ratio() -> None:
    cells = np.array([[6.0, 8.0], [3.0, 2.0]])
    assert contrast([1, -1], cells, log=True) == pytest.approx([log(2), log(4)])


def test_bonferroni_divides_the_error() -> None:
    assert bonferroni(0.95, 1) == pytest.approx(0.95)
    assert bonferroni(0.95, 5) == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("values", "position"),
    [([9, 9, 1, 1], 2), ([9, 1, 9, 1], 3), ([1, 1, 1, 1], 0), ([1, 1, 1, 9], 4), ([9, 2, 1, 1], 2)],
)
def test_an_onset_is_where_the_measure_stays_below(values: list[float], position: int) -> None:
    assert onset_positions(values, 2.0) == position


@pytest.mark.parametrize("n", range(1, 31))
def test_sign_ranks_are_the_largest_with_the_binomial_tail(n: int) -> None:
    def tail(rank: int) -> float:
        return sum(comb(n, i) for i in range(rank)) / 2**n

    rank = sign_rank(n)
    assert n == 5 or tail(rank) <= 0.025
    assert tail(rank + 1) > 0.025 or rank + 1 > (n + 1) // 2


def test_sign_ranks_of_few_replicates() -> None:
    assert [sign_rank(n) for n in (3, 4, 5, 6, 9)] == [0, 0, 1, 1, 2]
    # five replicates cannot give more than 93.75%
    assert sign_rank(5, 0.975) == 0


@pytest.mark.parametrize("n", [5, 6, 9, 12])
def test_sign_intervals_hold_the_median_as_often_as_the_binomial_says(n: int) -> None:
    found = sign_interval(RNG.exponential(size=(20000, n)))
    rate = np.mean((found.low <= log(2)) & (log(2) <= found.high))
    exact = 1 - 2 * stats.binom.cdf(sign_rank(n) - 1, n, 0.5)
    assert rate == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20000) ** 0.5)


def test_sign_intervals_take_infinite_values() -> None:
    assert sign_interval([20.0, inf, 20.0, 100.0, 20.0]) == (20, 20, inf)
    assert sign_interval([inf] * 5) == (inf, inf, inf)
    assert sign_interval([1.0, 2.0, 3.0])[1:] == (-inf, inf)


def test_never_settling_leaves_an_onset_difference_open_on_that_side() -> None:
    low, high = onset_difference_bounds([1, 5, 2, 5], [2, 3, 5, 5], 5)
    assert low.tolist() == [-1, 2, -inf, -inf]
    assert high.tolist() == [-1, inf, -3, inf]


def test_regions_are_closed() -> None:
    exact = Bounds(np.array(1.0), np.array(0.0), np.array(2.0))
    assert inside(exact, (0, 2))
    assert not inside(exact, (0, 1.9))
    assert not disjoint(exact, (2, 3))
    assert disjoint(exact, (2.1, 3))
    assert not disjoint(exact, (-inf, 0))
