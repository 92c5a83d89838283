"""What stands beside a verdict: test images drawn too, effects in standard deviations, one replicate left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from harness.claims.document import ClaimVerdict
from harness.claims.judge import judge
from harness.claims.statistics import image_variance, share_above, standardised, t_interval, with_images
from harness.claims.table import TestSet
from tests.claims.tables import (
    DIFFERENCE,
    MEDIAN,
    ONSET,
    RATIO,
    accuracies,
    claim,
    curves,
    distances,
    judged,
    pair,
    table,
)

ABOVE = DIFFERENCE | {"region": [0, None]}


def largest_variance(weights: list[float], wrong: list[float]) -> float:
    """The largest variance of a weighted sum of 0s and 1s with these means, over all joint distributions."""
    cases = np.array(list(itertools.product((0, 1), repeat=len(weights))), dtype=float)
    sums = cases @ np.asarray(weights)
    marginals = np.vstack([cases.T, np.ones(len(cases))])
    best = optimize.linprog(-(sums**2), A_eq=marginals, b_eq=[*wrong, 1.0], bounds=(0, 1))
    return -best.fun - float(np.dot(weights, wrong)) ** 2


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        ([1, -1], [0.015, 0.02]),
        ([1, -1], [0.1, 0.3]),
        ([1, -0.5, -0.5], [0.02, 0.015, 0.05]),
        ([1, -1, -1, 1], [0.1, 0.12, 0.2, 0.05]),
        ([1], [0.2]),
    ],
)
def test_the_images_variance_is_the_largest_that_any_errors_have(weights: list[float], wrong: list[float]) -> None:
    assert image_variance(weights, wrong, 540) == pytest.approx(largest_variance(weights, wrong) / 540)


def test_where_both_err_on_most_images_the_variance_is_a_bound() -> None:
    assert image_variance([1, -1], [0.8, 0.7], 100) >= largest_variance([1, -1], [0.8, 0.7]) / 100


def test_two_networks_alike_on_one_test_set_differ_by_a_binomials_spread_at_most() -> None:
    """Errors on disjoint images: each image counts +1, -1 or 0."""
    q = 0.02
    drawn = np.random.default_rng(0).multinomial(500, [q, q, 1 - 2 * q], 20_000)
    assert image_variance([1, -1], [q, q], 500) == pytest.approx(np.var((drawn[:, 0] - drawn[:, 1]) / 500), rel=0.03)


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_the_wider_interval_holds_the_difference_on_all_images(shared: float) -> None:
    """Five replicates and 300 images are drawn 2,000 times. ``shared``: how far two networks err on the same images."""
    rng, n, images, runs = np.random.default_rng(1), 5, 300, 2000
    covered, narrow = 0, 0
    ease = np.array([1.3, 1.5])  # of an image, in standard deviations, for each of the two branches
    truth = float(np.diff(stats.norm.cdf(ease)).item())
    for _ in range(runs):
        common, own = rng.standard_normal((1, images)), rng.standard_normal((2, images))
        hardness = shared**0.5 * common + (1 - shared) ** 0.5 * own
        chance = stats.norm.cdf((ease[:, None] - 0.9**0.5 * hardness) / 0.1**0.5)
        right = rng.random((n, 2, images)) < chance
        a, b = right.mean(-1).T
        found = t_interval([b - a])
        wide = with_images(found, image_variance([1, -1], [1 - b.mean(), 1 - a.mean()], images))
        narrow += bool(found.low <= truth <= found.high)
        covered += bool(wide.low <= truth <= wide.high)
    assert covered / runs >= 0.945
    if not shared:
        assert narrow / runs < 0.8  # replicates alone do not tell of other images


def test_an_accuracy_part_shows_the_interval_with_other_images() -> None:
    rows = accuracies([98.0, 98.5, 98.25, 98.75], [97.0, 98.0, 97.25, 98.0])
    [found] = judge([claim(DIFFERENCE)], "mini", rows, {}, test_sets={"lenet": TestSet(400, 10)})
    [part] = found.parts
    gains = np.array([1.0, 0.5, 1.0, 0.75])
    a, b = 0.01625, 0.024375  # mean shares of errors
    half = np.hypot(stats.t.isf(0.025, 3) * stats.sem(gains), 1.959964 * 100 * ((a + b - (b - a) ** 2) / 400) ** 0.5)
    assert part.with_images == pytest.approx((gains.mean() - half, gains.mean() + half), rel=1e-6)
    assert judged(rows, DIFFERENCE).parts[0].with_images is None  # without a test set of known size
    assert judged(distances([0.5, 0.6, 0.7], [8.0, 7.1, 8.4]), RATIO).parts[0].with_images is None


def test_an_effect_is_told_in_standard_deviations_and_as_a_share() -> None:
    [part] = judged(accuracies([98.0, 98.5, 98.0, 97.5], [97.0, 98.0, 98.0, 98.0]), ABOVE).parts
    gains = np.array([1.0, 0.5, 0.0, -0.5])
    assert part.standardised == pytest.approx(gains.mean() / gains.std(ddof=1))
    assert part.above == (2 + 0.5) / 4
    [ratio] = judged(distances([0.5, 0.6, 0.7], [8.0, 7.1, 8.4]), RATIO).parts
    logs = np.log([8.0, 7.1, 8.4]) - np.log([0.5, 0.6, 0.7])
    assert ratio.standardised == pytest.approx(logs.mean() / logs.std(ddof=1))
    assert ratio.above == 1.0


def test_independent_replicates_are_compared_by_mann_whitneys_share() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 7).astype(float), rng.integers(0, 5, 9).astype(float)
    assert share_above([a, -b]) == pytest.approx(stats.mannwhitneyu(a, b).statistic / (7 * 9))
    assert standardised([a, -b]) == pytest.approx((a.mean() - b.mean()) / (a.var(ddof=1) + b.var(ddof=1)) ** 0.5)
    assert standardised([np.full(4, 0.3)]) is None


def verdict(imp: list[float], replicates: int = 3) -> ClaimVerdict:
    return judged(accuracies(imp, [97.0] * len(imp)), ABOVE, replicates=replicates)


def test_a_verdict_that_hangs_on_one_replicate_is_fragile() -> None:
    gains = [0.2, 0.9, 1.0, 1.1, 1.0, -0.1]
    whole = verdict([97.0 + gain for gain in gains])
    rest = [verdict([97.0 + g for i, g in enumerate(gains) if i != out]).verdict for out in range(6)]
    assert whole.left_out == 6
    assert whole.fragile == [r for r, other in enumerate(rest) if other != whole.verdict]
    assert len(whole.fragile) in range(1, 6)


def test_a_verdict_that_any_replicates_give_is_not_fragile() -> None:
    steady = verdict([98.0, 98.1, 98.2, 98.1])
    assert (steady.verdict, steady.left_out, steady.fragile) == ("supported", 4, [])


def test_at_its_fewest_replicates_none_can_be_left_out() -> None:
    least = verdict([98.0, 98.1, 98.2, 98.1], replicates=4)
    assert (least.verdict, least.left_out, least.fragile) == ("supported", 0, [])


def test_one_unstable_replicate_of_six_makes_a_median_fragile() -> None:
    """All six below the bound are needed at 95%; five may all be below it at 93.75%."""
    rows = [pair("dense", r, level=0, instability_test=value) for r, value in enumerate([0, 0, 9, 0, 0, 0])]
    found = judged(table(*rows), MEDIAN, replicates=5)
    assert (found.verdict, found.left_out, found.fragile) == ("inconclusive", 6, [2])


def test_an_onset_tells_what_reestimated_statistics_make_of_it() -> None:
    rows = [row | {"instability_test_reestimated": 0.1} for row in curves(*[[9, 1, 1]] * 4, [9, 9, 1])]
    found = judged(table(*rows), ONSET, replicates=5)
    assert found.estimate == 20
    assert "; with re-estimated BatchNorm statistics k = 0; " in found.parts[0].reason
    assert "BatchNorm" not in judged(table(*curves(*[[9, 1, 1]] * 5)), ONSET, replicates=5).parts[0].reason


def test_an_onset_difference_tells_both_onsets_and_their_ratio() -> None:
    rows = [row | {"instability_train": row["instability_test"] * 2.5} for row in curves(*[[9, 1, 0.1]] * 5)]
    both = {"a": ONSET["a"] | {"measure": "instability_train"}, "b": ONSET["a"]}
    part = ONSET | {"statistic": "onset_difference", "region": [-1, 1]} | both
    found = judged(table(*rows), part, replicates=5)
    assert found.estimate == 1
    assert f"; median onsets k = 100 and k = 20 (5 times, {np.log(5):.2g} in ln k)" in found.parts[0].reason
    never = [row | {"instability_train": 9.0} for row in rows]
    assert "; median onsets never and k = 20" in judged(table(*never), part, replicates=5).parts[0].reason
