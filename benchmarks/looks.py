"""How often repeated looks call a part supported whose true value lies at the edge of its region.

Result (``benchmarks/results/looks.md``): the planned looks err in at most 4.8% of tables up to skewness 0.7, like one
look at 95%, and up to 1.4 where networks of one replicate are compared and spread alike. At skewness 1.4 the mean of
one network's values errs in 9.3% (one look: 7.7%), and a difference whose networks spread 2:1 in 5.5% (5.0%), towards
the long tail. A look after each replicate from 5 to 20 errs in 9.5% under normal noise, up to 15% at skewness 0.7 and
22% at 1.4.

Run: ``python -m benchmarks.looks [--tables 20000] [--write]`` from the root of the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.simulation import NOISES, STRONG_NOISES, Noise, Sample, harness_interval, percent, print_or_write
from harness.claims.statistics import contrast, disjoint, inside, spare_variance
from harness.paper.claims import LEVEL, LEVEL_OF_LOOK, LOOKS

RESULT = Path(__file__).parent / "results" / "looks.md"
ONE_BY_ONE = tuple(range(LOOKS[0], LOOKS[-1] + 1))
MORE = tuple(range(3, LOOKS[-1] + 1))
INFINITY = float("inf")
TABLES = 2000  # at once

#: tables' replicates up to the largest look -> the sample of the first n of them
Drawn = Callable[[int], Sample]
Draw = Callable[[np.random.Generator, int, Noise, float], Drawn]


def cells(weights: Sequence[float], others: int = 0, widest: float = 1.0) -> Draw:
    """A contrast of networks of one replicate whose setting has `others` more; the truth is `effect` sd above 0."""

    def draw(rng: np.random.Generator, tables: int, noise: Noise, effect: float) -> Drawn:
        spread = np.array([widest, *[1.0] * (len(weights) - 1 + others)])
        values = spread[:, None] * noise(rng, (tables, len(spread), LOOKS[-1])) + 3 * noise(rng, (tables, 1, LOOKS[-1]))
        shift = effect * float(np.linalg.norm(spread[: len(weights)] * np.asarray(weights)))
        own, rest = values[:, : len(weights)], values[:, len(weights) :]

        def first(n: int) -> Sample:
            spare = spare_variance(weights, own[..., :n], rest[..., :n])
            return Sample([contrast(weights, own[..., :n]) + shift], (0, INFINITY), spare=[spare])

        return first

    return draw


def mean(rng: np.random.Generator, tables: int, noise: Noise, effect: float) -> Drawn:
    """The mean of one network's values."""
    values = noise(rng, (tables, LOOKS[-1])) + effect
    return lambda n: Sample([values[:, :n]], (0, INFINITY))


def two_valued(rng: np.random.Generator, tables: int, noise: Noise, effect: float) -> Drawn:
    """Instability near 0, and 40 points in half of the replicates; in fewer, with an effect."""
    unstable = rng.random((tables, LOOKS[-1])) < 0.5 / (1 + effect)
    values = np.where(unstable, 40.0, 0.5) * np.exp(0.2 * noise(rng, unstable.shape))
    return lambda n: Sample([values[:, :n], values[:, :n]], (-INFINITY, 2.0), median=True)


SETTINGS: dict[str, Draw] = {
    "mean of one network": mean,
    "difference": cells([1, -1]),
    "difference among 6 cells": cells([1, -1], 4),
    "the same, spread 2:1": cells([1, -1], 4, 2.0),
    "midpoint": cells([1, -0.5, -0.5]),
}


def supported(
    draw: Draw, noise: Noise, looks: Sequence[int], level: float, tables: int, seed: int = 0, effect: float = 0.0
) -> tuple[float, float]:
    """The share of tables that are called supported at any look, unless contradicted before; and the mean number of
    replicates at which they stop."""
    count, replicates = 0.0, 0.0
    for part in range(0, tables, TABLES):
        size = min(TABLES, tables - part)
        first = draw(np.random.default_rng([seed, part]), size, noise, effect)
        open_, held, used = np.ones(size, bool), np.zeros(size, bool), np.full(size, looks[-1])
        for n in looks:
            sample = first(n)
            interval = harness_interval(sample, level)
            support, refute = inside(interval, sample.region), disjoint(interval, sample.region)
            held |= open_ & support
            used = np.where(open_ & (support | refute), n, used)
            open_ &= ~(support | refute)
        count, replicates = count + held.sum(), replicates + used.sum()
    return count / tables, replicates / tables


def normal_error(level: float, looks: Sequence[int] = LOOKS) -> float:
    """The one-sided error of looks at a known spread: from the joint normal distribution of the looks' estimates."""
    n = np.asarray(looks, dtype=np.float64)
    correlation = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    bound = np.full(len(n), stats.norm.isf((1 - level) / 2))
    return 1 - float(stats.multivariate_normal.cdf(bound, cov=correlation, abseps=1e-6, releps=1e-6))


def rows(tables: int, seed: int) -> Iterator[str]:
    """The Markdown page."""
    yield "# Wrong `supported` verdicts over all looks, in percent"
    yield ""
    yield f"The true value lies at the region's edge; {tables} simulated tables a cell. Bold: over 5%."
    yield f"Planned: looks at {', '.join(map(str, LOOKS))} replicates, each at {100 * LEVEL_OF_LOOK:g}%. One by one:"
    yield f"a look after every replicate up to {LOOKS[-1]}, each at {100 * LEVEL:g}%, until there is a verdict."
    yield f"With a known spread the planned looks err in {100 * normal_error(LEVEL_OF_LOOK):.2f}%, by integration."
    yield "Written by `python -m benchmarks.looks --write`."
    yield ""
    yield "| statistic | noise | one look, n = 5 | planned | from 5, one by one | from 3, one by one |"
    yield "|---|---|---:|---:|---:|---:|"
    ways = (((5,), LEVEL), (LOOKS, LEVEL_OF_LOOK), (ONE_BY_ONE, LEVEL), (MORE, LEVEL))
    for name, draw in (SETTINGS | {"two-valued, half unstable": two_valued}).items():
        for noise, function in (
            (NOISES | STRONG_NOISES).items() if draw is not two_valued else [("normal", NOISES["normal"])]
        ):
            rates = [supported(draw, function, looks, level, tables, seed)[0] for looks, level in ways]
            yield f"| {name} | {noise} | {' | '.join(percent(rate) for rate in rates)} |"
    yield ""
    yield "# What the planned looks see, in percent, and the mean number of replicates"
    yield ""
    yield "Normal noise; the effect in standard deviations of the contrast, for two values the odds against unstable."
    yield ""
    yield "| statistic | effect | one look, n = 5 | n = 10 | n = 20 | planned | replicates |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, draw in {"difference": SETTINGS["difference"], "two-valued": two_valued}.items():
        for effect in (0.5, 1.0, 2.0, 4.0):
            single = [supported(draw, NOISES["normal"], (n,), LEVEL, tables, seed, effect)[0] for n in LOOKS]
            share, used = supported(draw, NOISES["normal"], LOOKS, LEVEL_OF_LOOK, tables, seed, effect)
            cells_ = [f"{100 * rate:.0f}" for rate in (*single, share)]
            yield f"| {name} | {effect:g} | {' | '.join(cells_)} | {used:.1f} |"


if __name__ == "__main__":
    print_or_write(rows, RESULT, __doc__)
