"""Which differences between two runs exceed replicate noise: a test for each cell, one error level over all of them.

A cell is (experiment, branch, k, level, comparison, measure). Its value in a replicate is the mean over the matching
rows, as for the claims. Two runs with the same replicates started from the same seeds, so their replicates are paired.
Otherwise Welch's test compares them. Holm's correction keeps the chance of any false alarm, over all cells, at 5%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from harness.claims.statistics import Floats, grid_step, t_interval
from harness.paper.claims import LEVEL
from harness.paper.columns import NETWORK_MEASURES, PERCENT_MEASURES, ROW_KEYS

#: the measures that claims judge and figures draw. Losses would only test the accuracies a second time
MEASURES = (
    "test_accuracy",
    "train_accuracy",
    "distance",
    "angle",
    "instability_test",
    "instability_train",
    "instability_test_reestimated",
)
_CELL = ["experiment", "branch", "k", "level", "comparison"]
_TIMES = ("seconds",)  # columns that differ between equal runs
#: a spread below this share of the values' size is rounding noise, as in harness.claims.statistics
_NOISE = 1e-12


@dataclass(frozen=True, order=True)
class Cell:
    """Networks or pairs that differ only in replicate and data order, and one measure of them."""

    experiment: str
    branch: str
    k: int
    level: int
    comparison: str  # "" for networks
    measure: str


@dataclass(frozen=True)
class _Values:
    """A cell of one run by replicate (n): its mean value, over how many rows, and whether these are in both runs."""

    replicates: np.ndarray
    value: Floats
    rows: np.ndarray
    density: Floats
    same: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A cell's means in two runs, the 95% interval of b minus a, and its p value, alone and adjusted (Holm)."""

    cell: Cell
    density: float
    a: float
    b: float
    replicates: tuple[int, int]
    paired: bool
    low: float
    high: float
    p: float
    adjusted: float = 1.0

    @property
    def change(self) -> float:
        return self.b - self.a

    @property
    def exceeds(self) -> bool:
        """Whether noise alone gives such a difference, in any cell, in at most 5% of comparisons."""
        return self.adjusted <= 1 - LEVEL


@dataclass(frozen=True)
class Rows:
    """How the rows of two tables match. Rows are matched by run, whatever their values."""

    both: int
    equal: int  # in every bit, except for the times
    only_a: int
    only_b: int
    statuses: int  # rows of both runs whose status differs
    settings: int  # rows of both runs whose number of steps or density differs

    @property
    def bit_equal(self) -> bool:
        return self.equal == self.both and not self.only_a and not self.only_b


@dataclass(frozen=True)
class Comparison:
    """Differences by increasing p value. `same` counts the cells whose networks are bit-identical."""

    rows: Rows
    differences: list[Difference]
    same: int
    untested: dict[str, int] = field(default_factory=dict)  # how many cells can't be tested, by reason

    @property
    def exceeding(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.exceeds]


def compare_tables(a: pd.DataFrame, b: pd.DataFrame) -> Comparison:
    """Compare two tidy tables, row by row and cell by cell."""
    rows, same = match_rows(a, b)
    left, right = (_cells(table, same) for table in (a, b))
    together = _grids(pd.concat([a, b], ignore_index=True))
    # a run whose values are all equal shows its grid only beside the other run's
    steps = [{key: step or together[key] for key, step in _grids(table).items()} for table in (a, b)]
    differences, untested, equal = [], {"fewer than 2 replicates": 0, "no spread to judge by": 0}, 0
    for cell in [cell for cell in left if cell in right]:
        if left[cell].same.all() and right[cell].same.all():
            equal += 1
            continue
        values = left[cell], right[cell]
        if min(len(run.value) for run in values) < 2:
            untested["fewer than 2 replicates"] += 1
            continue
        difference = _test(cell, values, [step.get((cell.experiment, cell.measure), 0.0) for step in steps])
        if np.isnan(difference.p):
            untested["no spread to judge by"] += 1
        else:
            differences.append(difference)
    adjusted = holm([difference.p for difference in differences])
    differences = [replace(difference, adjusted=float(p)) for difference, p in zip(differences, adjusted, strict=True)]
    differences.sort(key=lambda difference: (difference.p, difference.cell))
    return Comparison(rows, differences, equal, {reason: count for reason, count in untested.items() if count})


def match_rows(a: pd.DataFrame, b: pd.DataFrame) -> tuple[Rows, set[tuple[str, ...]]]:
    """Count matching rows, and name (by ROW_KEYS) those that are bit-identical except for the times."""
    columns = [c for c in dict.fromkeys([*a.columns, *b.columns]) if c not in _TIMES]
    left, right = (table.reindex(columns=columns).set_index(ROW_KEYS) for table in (a, b))
    common = left.index[left.index.isin(right.index)]
    left_rows, right_rows = left.loc[common], right.loc[common]
    alike = pd.DataFrame(
        {c: (left_rows[c] == right_rows[c]) | (left_rows[c].isna() & right_rows[c].isna()) for c in left_rows},
        index=common,
    )
    equal = alike.all(axis=1)
    rows = Rows(
        both=len(common),
        equal=int(equal.sum()),
        only_a=len(left) - len(common),
        only_b=len(right) - len(common),
        statuses=int((~alike["status"]).sum()),
        settings=int((~(alike["steps"] & alike["density"]) & alike["status"]).sum()),
    )
    return rows, set(equal.index[equal])


def _cells(table: pd.DataFrame, same: set[tuple[str, ...]]) -> dict[Cell, _Values]:
    """The values of each cell."""
    table = table[table["status"] == "ok"]
    table = table.assign(same=[key in same for key in table[ROW_KEYS].itertuples(index=False, name=None)])
    cells: dict[Cell, _Values] = {}
    for measure in MEASURES:
        kind = "network" if measure in NETWORK_MEASURES else "pair"
        rows = table[(table["row"] == kind) & np.isfinite(table[measure])]
        grouped = rows.groupby([*_CELL, "replicate"], sort=True)
        frame = grouped.agg(
            value=(measure, "mean"), rows=(measure, "size"), density=("density", "mean"), same=("same", "all")
        ).reset_index()
        columns = [frame[name].to_numpy() for name in ("replicate", "value", "rows", "density", "same")]
        cells |= {
            Cell(str(experiment), str(branch), int(k), int(level), str(comparison), measure): _Values(
                *(column[indices] for column in columns)
            )
            for (experiment, branch, k, level, comparison), indices in frame.groupby(_CELL, sort=True).indices.items()
        }
    return cells


def _grids(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The step between neighbouring values of each experiment's measures in percent, which count examples."""
    return {
        (str(experiment), measure): grid_step(rows[measure])
        for experiment, rows in table.groupby("experiment")
        for measure in MEASURES
        if measure in PERCENT_MEASURES
    }


def _test(cell: Cell, values: tuple[_Values, _Values], grids: Sequence[float]) -> Difference:
    a, b = values
    paired = np.array_equal(a.replicates, b.replicates)
    first, second = a.value, b.value
    # a mean of several rows lies on a finer grid
    fine = [grid / run.rows.min() for grid, run in zip(grids, values, strict=True)]
    if paired:
        groups, steps = [second - first], [max(fine)]
        rounding = [rounding_variance(fine[0]) + rounding_variance(fine[1])]
    else:
        groups, steps = [second, -first], [fine[1], fine[0]]
        rounding = [rounding_variance(step) for step in steps]
    size = max(np.abs(first).max(), np.abs(second).max())
    interval, p = t_interval(groups, steps=steps), float(p_value(groups, rounding, size=size))
    low, high = float(interval.low), float(interval.high)
    if paired and np.isnan(p) and min(np.ptp(first), np.ptp(second)) > _NOISE * size:
        # replicates differ, and all of them changed by the same amount: noise does not do that
        p, low, high = 0.0, float(interval.estimate), float(interval.estimate)
    return Difference(
        cell=cell,
        density=float(b.density.mean()),
        a=float(first.mean()),
        b=float(second.mean()),
        replicates=(len(first), len(second)),
        paired=paired,
        low=low,
        high=high,
        p=p,
    )


def rounding_variance(step: float) -> float:
    """The variance that a grid of this step adds to a value: that of a uniform error over one step."""
    return step**2 / 12


def p_value(groups: Sequence[ArrayLike], rounding: Sequence[float], size: ArrayLike = 0.0) -> Floats:
    """Two-sided p value of the hypothesis that the groups' means sum to 0.

    One group (..., n) of paired differences gives Student's test. Two groups (..., n_e), the second one negated, give
    Welch's. `size` is the size of the subtracted values: a result below 1e-12 of it is rounding noise.

    The interval that judges claims has a floor for ties (`t_interval`), meant for one interval at 95%. Hundreds of
    cells reach the tails, where that floor vanishes and three replicates that agree by chance would look certain. So
    each group's variance is at least `rounding`, which the grid of its values adds. The result is NaN where values
    without a grid agree exactly and are not 0: their spread is unknown.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    estimate = np.asarray(sum(array.mean(-1) for array in arrays))
    noise = _NOISE * reduce(np.maximum, [np.abs(array).max(-1) for array in arrays], np.asarray(size))
    parts = [
        np.maximum(array.var(-1, ddof=1), least) / array.shape[-1]
        for array, least in zip(arrays, rounding, strict=True)
    ]
    variance = np.asarray(sum(parts))
    flat = variance <= noise**2
    safe = np.where(flat, 1.0, variance)
    shares = np.asarray(sum((part / safe) ** 2 / (a.shape[-1] - 1) for part, a in zip(parts, arrays, strict=True)))
    freedom = 1 / np.where(flat, 1.0, shares)
    p = 2 * stats.t.sf(np.abs(estimate) / np.sqrt(safe), freedom)
    return np.asarray(np.where(np.abs(estimate) <= noise, 1.0, np.where(flat, np.nan, p)))


def holm(p: ArrayLike) -> Floats:
    """Holm's adjusted p values: at most alpha for exactly the hypotheses that his step-down procedure rejects there."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted
