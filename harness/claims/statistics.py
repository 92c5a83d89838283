"""Intervals over replicates. All functions take the replicates on the last axis and any number of leading axes.

Why these: with three replicates a percentile bootstrap covers about 75%, not 95% (``benchmarks/interval_level.py``
measures it); the t interval keeps its level for values near normal at any number of replicates, and stays near it for
moderate skew. Instability has two values, near 0 and near chance, and onsets lie on a grid and can be infinite: they
get the sign test's exact interval for a median, which lies below a bound where Clopper and Pearson's interval for the
share of replicates below it lies above a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.paper.claims import LEVEL

Floats = NDArray[np.float64]
#: spread below this share of the values' size is rounding noise
_NOISE = 1e-12
#: percent values on a finer grid than this (percentage points) count as continuous
_FINEST_STEP = 0.004


class Interval(NamedTuple):
    """Estimate and bounds, each in the shape of the leading axes; a bound is infinite if the data give none."""

    estimate: Floats
    low: Floats
    high: Floats


def bonferroni(level: float, tests: int) -> float:
    """The confidence of each of ``tests`` intervals so that all hold together at ``level``."""
    return 1 - (1 - level) / max(1, tests)


def contrast(weights: Sequence[float], cells: Floats, log: bool = False) -> Floats:
    """Weighted sum over cells: weights (m,), cells (..., m, n replicates) -> (..., n); of logarithms if ``log``."""
    values = np.log(cells) if log else cells
    return np.asarray(np.einsum("m,...mn->...n", np.asarray(weights, dtype=np.float64), values))


def spare_variance(weights: Sequence[float], cells: Floats, others: Floats) -> tuple[Floats, int]:
    """What a setting's other cells tell of a contrast's variance over replicates, with degrees of freedom.

    Args:
        weights: of the contrast's cells (m,), with sum 0.
        cells: (..., m, n replicates) on the analysed scale.
        others: further cells (..., k, n) of the same setting and measure.

    The cells are taken to spread alike around what their replicate and their cell have in common. The contrast's own
    direction is left out, so that the result is independent of the contrast. Without further directions: 0.0 and 0.
    """
    values = np.concatenate([cells, others], axis=-2)
    rows, replicates = values.shape[-2:]
    freedom = (rows - 2) * (replicates - 1)
    if freedom <= 0:
        return np.zeros(values.shape[:-2]), 0
    size = float(np.sum(np.square(weights)))
    own = contrast(weights, cells)
    centred = values - values.mean(-1, keepdims=True)
    centred = centred - centred.mean(-2, keepdims=True)
    rest = (centred**2).sum((-2, -1)) - own.var(-1) * replicates / size
    return np.asarray(np.maximum(rest, 0.0) / freedom * size), freedom


def t_interval(
    groups: Sequence[ArrayLike],
    level: float = LEVEL,
    steps: Sequence[ArrayLike] | None = None,
    spare: Sequence[tuple[ArrayLike, int]] | None = None,
) -> Interval:
    """Interval for the sum of the groups' means: a t interval for one group, Welch-Satterthwaite for several.

    Args:
        groups: one array (..., n_e) per independent experiment: the replicates' contrasts.
        level: two-sided confidence.
        steps: per group, the distance between neighbouring possible values (``grid_step``), 0 for continuous ones.
        spare: per group, what other cells tell of its variance, with degrees of freedom (``spare_variance``).

    A group's variance is moderated by `spare`: pooled with as many of its degrees of freedom as the group has itself,
    and never below the group's own. So it gains power from freedom and keeps its level if cells spread up to twice as
    widely as others; pooling without these two limits does not (``benchmarks/interval_level.py`` measures both).

    Values counted on a finite test set lie on a grid, and n equal values do not prove zero spread: if a share p of
    replicates lies a step away, all n still agree with probability (1 - p)^n. So the half-width is at least
    step * (1 - tail^(1/n)), the exact bound for that case. If all are equal and no step is known, the spread between
    replicates is unknown, and the interval is unbounded.
    """
    arrays = [np.asarray(g, dtype=np.float64) for g in groups]
    tail = (1 - level) / 2
    steps = [0.0] * len(arrays) if steps is None else steps
    variance, freedom = variance_of_sum(arrays, spare)
    estimate = np.asarray(sum(a.mean(-1) for a in arrays))
    flat = variance == 0
    half = stats.t.isf(tail, freedom) * np.sqrt(variance)
    # exact for n equal values on a grid; experiments are independent, so their bounds add as squares
    bounds = [np.asarray(s) * (1 - tail ** (1 / a.shape[-1])) for s, a in zip(steps, arrays, strict=True)]
    floor = np.sqrt(sum(b**2 for b in bounds))
    half = np.where(flat & (floor <= 0), np.inf, np.maximum(half, floor))
    return Interval(estimate, np.asarray(estimate - half), np.asarray(estimate + half))


def variance_of_sum(
    groups: Sequence[ArrayLike], spare: Sequence[tuple[ArrayLike, int]] | None = None
) -> tuple[Floats, Floats]:
    """The variance of the sum of the groups' means and its degrees of freedom, as `t_interval` takes them.

    Where the groups spread by no more than rounding, the variance is 0.
    """
    arrays = [np.asarray(g, dtype=np.float64) for g in groups]
    if not arrays or any(a.ndim == 0 or a.shape[-1] < 2 for a in arrays):
        raise ValueError("a t interval needs at least 2 replicates of every experiment")
    spare = [(0.0, 0)] * len(arrays) if spare is None else spare
    freedoms = [a.shape[-1] - 1 + min(more, a.shape[-1] - 1) for a, (_, more) in zip(arrays, spare, strict=True)]
    variances = [
        np.maximum(own := a.var(-1, ddof=1), own + (np.asarray(v) - own) * (1 - (a.shape[-1] - 1) / freedom))
        / a.shape[-1]
        for a, (v, _), freedom in zip(arrays, spare, freedoms, strict=True)
    ]
    variance = np.asarray(sum(variances))
    size = np.max([np.abs(a).max(-1) for a in arrays], axis=0)
    flat = variance <= (_NOISE * size) ** 2
    safe = np.where(flat, 1.0, variance)
    if len(arrays) == 1:
        freedom = np.asarray(float(freedoms[0]))
    else:
        shares = sum((v / safe) ** 2 / f for v, f in zip(variances, freedoms, strict=True))
        freedom = 1 / np.where(flat, 1.0, shares)
    return np.where(flat, 0.0, variance), freedom


def image_variance(weights: Sequence[float], wrong: Sequence[float], images: int) -> float:
    """The most that drawing other test images can add to a contrast's variance, as shares squared.

    Args:
        weights: of the contrast's cells (m,).
        wrong: the mean share of images (m,) that each cell's networks get wrong.
        images: size of the test set.

    Which images a network gets wrong is not stored, so this takes the worst case: cells of one sign are wrong on the
    same images, cells of opposite signs on others. With d(i) the contrast on image i, averaged over networks, then
    E[d²] <= sum of w w' min(q, q') over all pairs of cells of one sign, and the variance over images is E[d²] - E[d]².
    """
    w, q = np.asarray(weights, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    products = np.outer(w, w) * np.minimum.outer(q, q)
    return max(0.0, float(products[products > 0].sum() - (w @ q) ** 2)) / images


def with_images(interval: Interval, variance: float, level: float = LEVEL) -> Interval:
    """A t interval over replicates widened by what test images add to its variance, each at its own quantile."""
    more = stats.norm.isf((1 - level) / 2) ** 2 * variance
    half = np.sqrt((interval.high - interval.estimate) ** 2 + more)
    return Interval(interval.estimate, interval.estimate - half, interval.estimate + half)


def standardised(groups: Sequence[Floats]) -> float | None:
    """The sum of the groups' means (n_e,) over the standard deviation of one replicate of each; None without spread."""
    estimate = sum(float(g.mean()) for g in groups)
    spread = sum(float(g.var(ddof=1)) for g in groups) ** 0.5
    size = max(float(np.abs(g).max()) for g in groups)
    return estimate / spread if spread > _NOISE * size else None


def share_above(groups: Sequence[Floats]) -> float:
    """The share of replicates, or of choices of one from each independent group, with a sum above 0; a tie is a half.

    The probability of improvement of Agarwal et al. 2021, over paired replicates where there is one group.
    """
    sums = reduce(np.add.outer, groups)
    return float(((sums > 0) + 0.5 * (sums == 0)).mean())


class Prediction(NamedTuple):
    """The measured estimate, the interval in which the published value lets it be expected, and their distance."""

    estimate: float
    low: float
    high: float
    z: float


def prediction(groups: Sequence[Floats], value: float, spread: float, replicates: int, level: float) -> Prediction:
    """Where the sum of the groups' means (n_e,) is expected if ``value`` was published (Patil et al. 2016).

    ``value`` is the mean of ``replicates`` values with standard deviation ``spread``. The interval carries both errors:
    Welch and Satterthwaite's, with the published replicates as one more group.
    """
    variances = [*(g.var(ddof=1) / len(g) for g in groups), spread**2 / replicates]
    variance = float(sum(variances))
    freedoms = [*(len(g) - 1 for g in groups), replicates - 1]
    freedom = variance**2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    half = float(stats.t.isf((1 - level) / 2, freedom)) * variance**0.5
    estimate = float(sum(g.mean() for g in groups))
    return Prediction(estimate, value - half, value + half, (estimate - value) / variance**0.5)


def grid_step(values: ArrayLike) -> float:
    """Distance of the grid that percent values lie on (100 / examples counted), 0.0 if they look continuous.

    The greatest common divisor of the gaps between distinct values, by Euclid with a tolerance of 0.001 points.
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    gaps = np.diff(np.unique(np.round(finite[np.isfinite(finite)], 6)))
    step = 0.0
    for gap in np.sort(gaps[gaps > 1e-3]):
        small, large = step, float(gap)
        while small > 1e-3:
            remainder = abs(large - round(large / small) * small)
            small, large = remainder, small
        step = large
        if step < _FINEST_STEP:
            return 0.0
    return step


def auc(weights: Sequence[float], cells: Floats) -> Floats:
    """The area under the ROC curve (...) by which cells (..., m, n) of positive weight stand above those of negative.

    The share of pairs, one cell of each kind, that are in this order; a tie counts a half. 0.5 tells nothing.
    """
    signs = np.sign(weights)
    above, below = cells[..., signs > 0, None, :], cells[..., None, signs < 0, :]
    return np.asarray(((above > below) + 0.5 * (above == below)).mean((-3, -2)))


def onset_positions(values: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """The first grid position, per replicate, from which the measure stays below the threshold.

    ``values`` is (..., m grid points); the result (...) is 0..m, where m means that it never stays below.
    """
    below = np.asarray(values, dtype=np.float64) < threshold
    kept = np.logical_and.accumulate(below[..., ::-1], axis=-1)
    return np.asarray(below.shape[-1] - kept.sum(-1), dtype=np.int64)


def sign_rank(replicates: int, level: float = LEVEL) -> int:
    """Rank r of the order statistics x_(r), x_(n+1-r) that hold the median at ``level``; 0 if none does.

    Five replicates reach 93.75% at best (smallest to largest: 1/32 on each side). This is accepted as the interval at
    the 95% level, since the one-sided error stays below 5%, but at no stricter level.
    """
    tail = (1 - level) / 2
    if replicates == 5 and np.isclose(level, LEVEL):
        return 1
    tail *= 1 + 1e-9
    below = int(stats.binom.ppf(tail, replicates, 0.5))  # the ranks up to it have less than the tail
    return min(below + int(stats.binom.cdf(below, replicates, 0.5) <= tail), (replicates + 1) // 2)


def sign_level(replicates: int, level: float = LEVEL) -> float:
    """The confidence that the interval of `sign_rank` really has, 0.0 without one."""
    return float(max(0.0, 1 - 2 * stats.binom.cdf(sign_rank(replicates, level) - 1, replicates, 0.5)))


def sign_interval(low: ArrayLike, high: ArrayLike | None = None, level: float = LEVEL) -> Interval:
    """Sign-test interval for the median over replicates; values may be infinite.

    ``low`` and ``high`` (..., n) bound each replicate's value if only its range is known; without ``high``
    the values are exact. The estimate is the median of ``low``.
    """
    lower = np.sort(np.asarray(low, dtype=np.float64), axis=-1)
    upper = lower if high is None else np.sort(np.asarray(high, dtype=np.float64), axis=-1)
    rank = sign_rank(lower.shape[-1], level)
    estimate = lower[..., (lower.shape[-1] - 1) // 2 : lower.shape[-1] // 2 + 1].mean(-1)
    if rank == 0:
        return Interval(estimate, np.full_like(estimate, -np.inf), np.full_like(estimate, np.inf))
    return Interval(estimate, lower[..., rank - 1], upper[..., -rank])


def onset_difference_bounds(a: ArrayLike, b: ArrayLike, points: int) -> tuple[Floats, Floats]:
    """Lowest and highest possible onset(a) - onset(b) in grid positions, where position ``points`` means never.

    A measure that never stays below on the grid may do so any number of positions later, or not at all.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference = first - second
    return (
        np.where(second >= points, -np.inf, difference),
        np.where(first >= points, np.inf, difference),
    )


def inside(interval: Interval, region: tuple[float, float]) -> NDArray[np.bool_]:
    """Whether the interval lies in the closed region."""
    return np.asarray((interval.low >= region[0]) & (interval.high <= region[1]))


def disjoint(interval: Interval, region: tuple[float, float]) -> NDArray[np.bool_]:
    """Whether the interval lies wholly outside the closed region."""
    return np.asarray((interval.high < region[0]) | (interval.low > region[1]))
