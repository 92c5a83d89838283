"""How often a claim's direction would be supported in the world as published: the paper's values and spreads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.claims.document import Power
from harness.claims.parts import spare_cells
from harness.claims.statistics import (
    Floats,
    Interval,
    auc,
    bonferroni,
    contrast,
    inside,
    onset_difference_bounds,
    onset_positions,
    sign_interval,
    spare_variance,
    t_interval,
)
from harness.paper.claims import LEVEL, Cell, Part, ScaleClaim, expand_parts
from harness.paper.columns import PAIR_MEASURES, PERCENT_MEASURES
from harness.paper.published import Published, Quantity

TABLES = 400

#: the replicates (tables, n) of a cell's measure
Drawn = dict[tuple[Cell, str], Floats]


def power(
    entry: ScaleClaim,
    replicates: Mapping[str, int],
    published: Published,
    tables: int = TABLES,
    confidence: float = LEVEL,
) -> Power:
    """The power of a claim with an experiment's number of replicates, judged at a confidence.

    Every cell is drawn around its published value, once for all parts of the claim: accuracies from a normal
    distribution, distances and angles from a lognormal, instabilities from a gamma distribution. Replicates have
    nothing in common, which a real run's have, so a paired comparison is at least as powerful there.
    """
    parts = [part for part in expand_parts(entry) if part.region is not None and part.statistic != "exact"]
    rng, drawn = np.random.default_rng(0), Drawn()
    known = []
    for part in parts:
        cells = [(cell, cell.measure or part.measure) for cell in _cells(part)]
        for key in cells:
            quantity = published.cell(*key)
            if key not in drawn and quantity is not None:
                drawn[key] = _draw(rng, key[1], quantity, (tables, replicates.get(key[0].experiment, 0)))
        if all(key in drawn for key in cells):
            known.append(part)
    if not known:
        return Power(share=None, known=0, parts=len(parts))
    level = confidence if entry.combine == "all" else bonferroni(confidence, len(parts))
    support = [inside(_interval(part, drawn, parts, level), _region(part)) for part in known]
    together = np.all(support, axis=0) if entry.combine == "all" else np.any(support, axis=0)
    return Power(share=float(np.mean(together)), known=len(known), parts=len(parts))


def _cells(part: Part) -> list[Cell]:
    if part.statistic.startswith("onset"):
        return [point for cell in part.cells for point in part.grid_cells(cell)]
    return [cell for _, cell in part.weighted_cells()]


def _draw(rng: np.random.Generator, measure: str, quantity: Quantity, shape: tuple[int, int]) -> Floats:
    value, spread = quantity
    if measure not in PAIR_MEASURES:
        return np.asarray(value + spread * rng.standard_normal(shape))
    if measure not in PERCENT_MEASURES:
        return np.asarray(value * np.exp(spread / value * rng.standard_normal(shape)))
    value = max(value, 0.01)  # an instability published as 0.0
    return np.asarray(rng.gamma((value / spread) ** 2, spread**2 / value, shape))


def _region(part: Part) -> tuple[float, float]:
    low, high = part.bounds
    return (float(np.log(low)) if low > 0 else -np.inf, float(np.log(high))) if part.logarithmic else (low, high)


def _interval(part: Part, drawn: Drawn, claim: list[Part], level: float) -> Interval:
    """The interval of each table, by the statistics that judge a run."""

    def values(cells: list[Cell]) -> Floats:
        return np.stack([drawn[cell, cell.measure or part.measure] for cell in cells], axis=-2)

    if part.statistic.startswith("onset"):
        grid = part.over or []
        curves = [np.moveaxis(values(part.grid_cells(cell)), -2, -1) for cell in part.cells]
        positions = [onset_positions(curve, part.threshold or 0.0) for curve in curves]
        if part.statistic == "onset":
            return sign_interval(np.asarray([*map(float, grid), np.inf])[positions[0]], level=level)
        return sign_interval(*onset_difference_bounds(positions[0], positions[1], len(grid)), level)
    weighted = part.weighted_cells()
    if part.of_median:
        cells = values([cell for _, cell in weighted])
        return sign_interval(
            auc([w for w, _ in weighted], cells) if part.statistic == "auc" else cells[..., 0, :], level=level
        )
    groups, spare = [], []
    for experiment in dict.fromkeys(cell.experiment for _, cell in weighted):
        weights = [weight for weight, cell in weighted if cell.experiment == experiment]
        own = values([cell for _, cell in weighted if cell.experiment == experiment])
        others = [cell for cell in spare_cells(part, experiment, claim) if (cell, part.measure) in drawn]
        rest = values(others) if others else own[..., :0, :]
        if part.logarithmic:
            own, rest = np.log(own), np.log(rest)
        groups.append(contrast(weights, own))
        spare.append(spare_variance(weights, own, rest) if abs(sum(weights)) < 1e-9 else (np.zeros(len(own)), 0))
    return t_interval(groups, level, spare=spare)
