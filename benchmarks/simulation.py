"""How often an interval calls a part supported whose true value lies exactly at the edge of its region.

Many tables are drawn at once, so the rates of ``benchmarks/interval_level.py`` and of the tests take seconds. Since the
true value of every setting is at the edge, each ``supported`` is wrong. A sound interval gives at most 2.5% of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from harness.claims.statistics import (
    Floats,
    Interval,
    bonferroni,
    contrast,
    inside,
    onset_difference_bounds,
    onset_positions,
    sign_interval,
    spare_variance,
    t_interval,
)
from harness.paper.claims import LEVEL, trend_weights

INFINITY = float("inf")
ONSET_GRID = (0, 20, 100, 400, 1000)


@dataclass(frozen=True)
class Sample:
    """One part of many tables: groups (tables, n_e) of replicates' contrasts, or the bounds of values whose
    median is judged."""

    groups: list[Floats]
    region: tuple[float, float]
    steps: tuple[float, ...] | None = None
    median: bool = False
    spare: list[tuple[Floats, int]] | None = None


Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
Method = Callable[[Sample, float], Interval]
Draw = Callable[[np.random.Generator, int, int, Noise], list[Sample]]

#: noise of mean 0 and standard deviation 1; a gamma of shape s has skewness 2 / sqrt(s), t(3) has no fourth moment
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed up": lambda rng, shape: (rng.standard_gamma(9, shape) - 9) / 3,
    "skewed down": lambda rng, shape: (9 - rng.standard_gamma(9, shape)) / 3,
    "heavy tails": lambda rng, shape: np.asarray(rng.standard_t(3, shape)) / np.sqrt(3),
}
#: skewness 1.4: here a t interval loses its level towards the long tail, whatever the number of replicates
STRONG_NOISES: dict[str, Noise] = {
    "strong skew up": lambda rng, shape: (rng.standard_gamma(2, shape) - 2) / np.sqrt(2),
    "strong skew down": lambda rng, shape: (2 - rng.standard_gamma(2, shape)) / np.sqrt(2),
}


def harness_interval(sample: Sample, level: float) -> Interval:
    """The interval by which the harness judges."""
    if sample.median:
        return sign_interval(sample.groups[0], sample.groups[1], level)
    return t_interval(sample.groups, level, sample.steps, sample.spare)


def plain_t_interval(sample: Sample, level: float) -> Interval:
    """Without what other cells tell of the spread; for a median too, as if it were a mean."""
    return t_interval(sample.groups[:1] if sample.median else sample.groups, level, sample.steps)


def pooled_interval(sample: Sample, level: float) -> Interval:
    """All cells' variance as one, without the harness's limits: too narrow where cells spread unequally."""
    groups, spare = [], []
    for group, (variance, freedom) in zip(sample.groups, sample.spare or [], strict=False):
        own = group.shape[-1] - 1
        pooled = (own * group.var(-1, ddof=1) + freedom * variance) / (own + freedom)
        groups.append(group.mean(-1))
        spare.append(stats.t.isf((1 - level) / 2, own + freedom) * np.sqrt(pooled / group.shape[-1]))
    return Interval(groups[0], groups[0] - spare[0], groups[0] + spare[0])


def bootstrap_interval(sample: Sample, level: float, draws: int = 400, seed: int = 0) -> Interval:
    """A plain percentile bootstrap over replicates, for comparison: with few replicates it is far too narrow."""
    rng = np.random.default_rng(seed)
    estimate, resampled = np.float64(0), np.float64(0)
    for group in sample.groups:
        replicates = group.shape[-1]
        shares = rng.multinomial(replicates, np.full(replicates, 1 / replicates), size=draws) / replicates
        estimate = estimate + group.mean(-1)
        resampled = resampled + group @ shares.T
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return Interval(np.asarray(estimate), np.asarray(low), np.asarray(high))


def wrong_support(
    draw: Draw, replicates: int, noise: Noise, tables: int = 4000, seed: int = 0, method: Method = harness_interval
) -> float:
    """The share of tables that support the claim. Several parts are combined with ``any`` (Bonferroni)."""
    samples = draw(np.random.default_rng([seed, replicates]), tables, replicates, noise)
    level = bonferroni(LEVEL, len(samples))
    return float(np.mean(np.any([inside(method(sample, level), sample.region) for sample in samples], axis=0)))


def _cells(rng: np.random.Generator, tables: int, cells: int, n: int, noise: Noise, spread: float = 1.0) -> Floats:
    """Cells (tables, cells, n): an effect that a replicate's networks share, three times as wide, and their own noise.

    The first cell's own noise is twice as wide, so that skewed noise gives skewed contrasts.
    """
    independent = spread * noise(rng, (tables, cells, n))
    independent[:, 0] *= 2
    return 3 * noise(rng, (tables, 1, n)) + independent


def mean(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """A mean of exactly 70, the region's lower edge."""
    return [Sample([70 + 5 * noise(rng, (tables, n))], (70, INFINITY))]


def difference(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """A paired difference of exactly -0.5, the region's lower edge."""
    values = contrast([1, -1], _cells(rng, tables, 2, n, noise)) - 0.5
    return [Sample([values], (-0.5, INFINITY))]


def among(cells: int, widest: float, effect: float = 0.0) -> Draw:
    """A paired difference at the edge, of two cells of a setting with more; the first spreads `widest` times as widely.

    `effect`: standard deviations of the difference by which the truth lies inside the region instead.
    """

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        drawn = noise(rng, (tables, cells, n)) * np.array([widest, *[1.0] * (cells - 1)])[:, None]
        drawn = drawn + 3 * noise(rng, (tables, 1, n))
        values = contrast([1, -1], drawn[:, :2]) + effect * np.hypot(widest, 1)
        return [Sample([values], (0, INFINITY), spare=[spare_variance([1, -1], drawn[:, :2], drawn[:, 2:])])]

    return draw


def midpoint(widest: float) -> Draw:
    """A network exactly in the middle between two others, of which one spreads `widest` times as widely."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        drawn = noise(rng, (tables, 3, n)) * np.array([1.0, 1.0, widest])[:, None] + 3 * noise(rng, (tables, 1, n))
        values = contrast([1, -0.5, -0.5], drawn)
        rest = spare_variance([1, -0.5, -0.5], drawn, drawn[:, :0])
        return [Sample([values], (0, INFINITY), spare=[rest])]

    return draw


def two_valued(unstable: float) -> Draw:
    """Instability near 0, but 40 points in a share of replicates: half is the edge of a median of at most 2 points."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        values = np.where(rng.random((tables, n)) < unstable, 40.0, 0.5) * np.exp(0.2 * noise(rng, (tables, n)))
        return [Sample([values, values], (-INFINITY, 2.0), median=True)]

    return draw


def ratio(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """Lognormal distances with a ratio of exactly 2, the region's lower edge."""
    cells = np.exp(0.3 * _cells(rng, tables, 2, n, noise)) * np.array([[2.0], [1.0]])
    return [Sample([contrast([1, -1], cells, log=True)], (np.log(2), INFINITY))]


def equivalence(edge: int, spread: float) -> Draw:
    """A difference of exactly ``edge`` (-1 or 1), region -1 to 1; ``spread`` is the size of the noise."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        values = contrast([1, -1], _cells(rng, tables, 2, n, noise, spread)) + edge
        return [Sample([values], (-1, 1))]

    return draw


def trend(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """Four values of k without a trend, region: falls."""
    return [Sample([contrast(trend_weights(4).tolist(), _cells(rng, tables, 4, n, noise))], (-INFINITY, 0))]


def across(ratio_of_spreads: float, more: int = 0) -> Draw:
    """Two experiments of unequal spread (and ``more`` replicates in the noisier one) with equal means."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        noisier = -ratio_of_spreads * noise(rng, (tables, n + more))
        return [Sample([noise(rng, (tables, n)), noisier], (0, INFINITY))]

    return draw


def any_of(parts: int, shared: bool) -> Draw:
    """Any-combination of parts that are all at their edge: independent parts, or the same one repeated."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        first = difference(rng, tables, n, noise)
        return first * parts if shared else first + [difference(rng, tables, n, noise)[0] for _ in range(parts - 1)]

    return draw


def on_grid(spread: float) -> Draw:
    """Differences counted on a test set of 540 (steps of 0.185 points), ``spread`` steps wide, centred on the edge."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        step = 100 / 540
        # the truth lies between two possible values: half a step above and half a step below are equally frequent
        values = (np.round(spread * noise(rng, (tables, n)) + 0.5) - 0.5) * step
        return [Sample([values - values.mean()], (0, INFINITY), (step,))]

    return draw


def rare_step(share: float) -> Draw:
    """Equal replicates, except for a share that is a step lower: equal replicates do not mean no spread."""

    def draw(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
        values = np.where(rng.random((tables, n)) < share, -1.0, 0.0)
        return [Sample([values], (-share + 1e-9, INFINITY), (1.0,))]

    return draw


def _curves(rng: np.random.Generator, positions: Floats, noise: Noise) -> Floats:
    """Instability over the grid (tables, n, m) that stays below 2 points from the given position on."""
    settled = np.arange(len(ONSET_GRID)) >= positions[..., None]
    return np.where(settled, 0.3, 20.0) * np.exp(0.2 * noise(rng, settled.shape))


def onset(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """Half of all replicates settle by k = 100, the region's upper edge; one in ten never does."""
    positions = rng.choice([0, 1, 2, 3, 4, 5], p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1], size=(tables, n))
    onsets = onset_positions(_curves(rng, positions, noise), 2.0)
    values = np.asarray([*ONSET_GRID, INFINITY], dtype=np.float64)[onsets]
    return [Sample([values, values], (-INFINITY, 100), median=True)]


def onset_difference(rng: np.random.Generator, tables: int, n: int, noise: Noise) -> list[Sample]:
    """Half of all replicates settle no later than their dense network, the region's upper edge."""
    dense = rng.choice([1, 2, 3], size=(tables, n))
    later = dense + rng.choice([-1, 0, 1, 2], p=[0.25, 0.25, 0.25, 0.25], size=(tables, n))
    onsets = [onset_positions(_curves(rng, positions, noise), 2.0) for positions in (later, dense)]
    low, high = onset_difference_bounds(onsets[0], onsets[1], len(ONSET_GRID))
    return [Sample([low, high], (-INFINITY, 0), median=True)]


#: name -> (draw, fewest replicates)
SETTINGS: dict[str, tuple[Draw, int]] = {
    "mean": (mean, 3),
    "difference": (difference, 3),
    "ratio, lognormal": (ratio, 3),
    "equal, lower edge, narrow": (equivalence(-1, 0.1), 3),
    "equal, lower edge, wide": (equivalence(-1, 0.5), 3),
    "equal, upper edge, narrow": (equivalence(1, 0.1), 3),
    "equal, upper edge, wide": (equivalence(1, 0.5), 3),
    "trend over 4 k": (trend, 3),
    "experiments, spread 1:1": (across(1), 3),
    "experiments, spread 1:3": (across(3), 3),
    "experiments, 1:3, n + 2": (across(3, 2), 3),
    "any of 3, independent": (any_of(3, shared=False), 3),
    "any of 3, the same": (any_of(3, shared=True), 3),
    "540 tested, 0.5 steps": (on_grid(0.5), 3),
    "540 tested, 2 steps": (on_grid(2), 3),
    "a step lower in 10%": (rare_step(0.1), 3),
    "a step lower in 40%": (rare_step(0.4), 3),
    "among 3 cells, spread 1:1": (among(3, 1), 3),
    "among 3 cells, spread 2:1": (among(3, 2), 3),
    "among 6 cells, spread 2:1": (among(6, 2), 3),
    "midpoint, spread 1:1": (midpoint(1), 3),
    "midpoint, spread 2:1": (midpoint(2), 3),
    "two-valued, half unstable": (two_valued(0.5), 5),
    "onset": (onset, 5),
    "onset difference": (onset_difference, 5),
}


def percent(rate: float) -> str:
    """A share of wrong verdicts in percent, in bold above 5%."""
    return f"**{100 * rate:.1f}**" if rate > 0.05 else f"{100 * rate:.1f}"


def print_or_write(rows: Callable[[int, int], Iterator[str]], result: Path, about: str | None) -> None:
    """The program around `rows` (of a number of tables and a seed): prints the page, or writes it to `result`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--tables", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"to {result.name}, instead of printing")
    options = parser.parse_args()
    page = "\n".join(rows(options.tables, options.seed)) + "\n"
    if options.write:
        result.parent.mkdir(exist_ok=True)
        result.write_text(page, encoding="utf-8")
    else:
        print(page)
