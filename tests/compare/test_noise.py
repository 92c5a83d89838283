"""The statistics of a comparison: against SciPy, against the definition, and in simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from harness.compare.noise import MEASURES, compare_tables, holm, p_value, rounding_variance
from tests.report.synthetic import run as synthetic


def table(seed=0, replicates=4, **changes):
    rows, _ = synthetic.make(seed, replicates, diverged=False)
    rows["steps"] = rows["steps"].fillna(0)
    return rows.assign(**changes)


def test_the_paired_test_is_students_and_the_other_one_welchs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 5)), rng.normal(0.8, 2.0, size=(6, 5))
    more = rng.normal(0.5, 3.0, size=(6, 8))
    np.testing.assert_allclose(p_value([b - a], [0.0]), stats.ttest_rel(b, a, axis=-1).pvalue)
    np.testing.assert_allclose(
        p_value([more, -a], [0.0, 0.0]), stats.ttest_ind(more, a, axis=-1, equal_var=False).pvalue
    )


def test_holm_is_the_closure_of_bonferroni():
    """By definition: a hypothesis falls when every intersection that holds it does, at the level over its size."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = rng.uniform(0, 0.2, 5)
        subsets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        expected = [max(min(1.0, len(s) * p[list(s)].min()) for s in subsets if i in s) for i in range(5)]
        np.testing.assert_allclose(holm(p), expected)
    assert holm([]).shape == (0,)


def test_counting_on_a_grid_adds_the_variance_of_a_uniform_error():
    values = np.random.default_rng(2).normal(0, 3, 200_000)
    added = np.var(np.round(values / 0.5) * 0.5 - values)
    assert added == pytest.approx(rounding_variance(0.5), rel=0.02)


def test_ties_are_no_certainty():
    """Three replicates that agree to the example: the claims' floor for ties would take that for certain."""
    up = np.full(3, 0.25)
    p = p_value([up], [2 * rounding_variance(0.25)])
    assert p == pytest.approx(2 * stats.t.sf(0.25 / np.sqrt(0.25**2 / 6 / 3), 2))
    assert p > 0.05
    assert p_value([np.zeros(3)], [0.0]) == 1.0
    assert np.isnan(p_value([up], [0.0]))
    assert p_value([np.full(3, 1e-14)], [0.0], size=10.0) == 1.0


@pytest.mark.parametrize("replicates", [3, 5, 8])
@pytest.mark.parametrize("spread", [None, 0.2, 0.5, 1.0, 3.0])
def test_the_chance_of_any_false_alarm_keeps_its_level(replicates, spread):
    """60 cells without any difference, 1,500 times: continuous values, and values on a grid of 1 with this spread."""
    rng = np.random.default_rng(replicates)
    size, cells = (1500, 60, replicates), 60
    shared = rng.normal(size=size)
    a, b = (shared + rng.normal(size=size) for _ in range(2))
    rounding = 0.0
    if spread is not None:
        a, b, rounding = np.round(a * spread), np.round(b * spread), rounding_variance(1.0)
    paired = p_value([b - a], [2 * rounding])
    welch = p_value([b, rng.permuted(-a, axis=0)], [rounding] * 2)
    for p in (paired, welch):
        alarms = (p.min(axis=1) * cells <= 0.05).mean()  # Holm rejects something exactly if it rejects the smallest
        assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / size[0])


def test_the_same_shift_in_every_replicate_is_no_noise():
    a = table(0, 3)
    hit = (a["experiment"] == "lenet") & (a["row"] == "pair") & (a["branch"] == "imp") & (a["level"] == 5)
    b = a.assign(distance=a["distance"].where(~hit, a["distance"] + 0.25))
    exceeding = compare_tables(a, b).exceeding
    assert {
        (difference.cell.measure, difference.cell.branch, round(difference.change, 9)) for difference in exceeding
    } == {("distance", "imp", 0.25)}
    flat = a.assign(distance=a["distance"].where(~hit, 1.0))
    comparison = compare_tables(flat, flat.assign(distance=flat["distance"].where(~hit, 2.0)))
    assert not comparison.exceeding  # all alike in both runs: nothing tells how far replicates differ
    assert comparison.untested == {"no spread to judge by": len(exceeding)}


def test_equal_tables_are_equal_whatever_the_order_of_rows_and_the_time_they_took():
    a = table()
    comparison = compare_tables(a, a.sample(frac=1, random_state=0).assign(seconds=1.0))
    assert comparison.rows.bit_equal
    assert comparison.rows.both == len(a)
    assert not comparison.differences
    assert comparison.same > 100


def test_noise_alone_exceeds_nothing():
    comparisons = [compare_tables(table(seed), table(seed + 100)) for seed in range(3)]
    assert not any(comparison.exceeding for comparison in comparisons)
    assert all(difference.paired for difference in comparisons[0].differences)
    assert {difference.cell.measure for difference in comparisons[0].differences} <= set(MEASURES)


def test_a_planted_difference_is_found_and_nothing_else():
    a, b = table(3, 8), table(4, 8)
    hit = (b["experiment"] == "lenet") & (b["branch"] == "imp") & (b["k"] == 20) & (b["level"] == 5)
    planted = hit & (b["row"] == "network")
    assert planted.sum() > 8
    b.loc[planted, "test_accuracy"] -= 4.0
    (difference,) = compare_tables(a, b).exceeding
    assert (difference.cell.experiment, difference.cell.branch, difference.cell.k, difference.cell.level) == (
        "lenet",
        "imp",
        20,
        5,
    )
    assert difference.cell.measure == "test_accuracy"
    assert difference.low < -4.0 < difference.high < 0
    assert difference.change == pytest.approx(difference.b - difference.a)


def test_the_same_networks_are_left_out_so_that_one_changed_branch_stands_out():
    """The change reaches random pruning alone: all else has the same bits, and costs the others no power."""
    a = table(0, 4)
    b = a.copy()
    hit = (b["branch"] == "random_prune") & (b["row"] == "network")
    b.loc[hit, "test_accuracy"] += np.random.default_rng(0).normal(-3, 0.1, hit.sum())
    comparison = compare_tables(a, b)
    assert {difference.cell.branch for difference in comparison.differences} == {"random_prune"}
    assert {difference.cell.branch for difference in comparison.exceeding} == {"random_prune"}
    assert comparison.rows.equal == len(a) - hit.sum()
    whole = compare_tables(a, b.assign(train_loss=1.0))
    assert whole.same == 0
    assert len(whole.exceeding) <= len(comparison.exceeding)


def test_other_replicates_are_compared_by_welch_and_rows_of_one_run_are_counted():
    a, b = table(0, 3), table(1, 5)
    comparison = compare_tables(a, b)
    assert not any(difference.paired for difference in comparison.differences)
    assert {difference.replicates for difference in comparison.differences} == {(3, 5)}
    assert comparison.rows.only_a == 0
    assert comparison.rows.only_b == len(b) - len(a)
    alone = compare_tables(a[a["replicate"] == 0], b)
    assert not alone.differences
    assert alone.untested == {"fewer than 2 replicates": len(comparison.differences)}


def test_what_ended_otherwise_or_was_set_otherwise_is_counted():
    a = table(0, 3)
    b = a.copy()
    networks = b.index[b["row"] == "network"]
    b.loc[networks[0], ["status", "test_accuracy"]] = ["diverged", np.nan]
    b.loc[networks[1:4], "steps"] += 1
    rows = compare_tables(a, b).rows
    assert (rows.statuses, rows.settings) == (1, 3)
    assert not rows.bit_equal
