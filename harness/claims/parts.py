"""Reads the replicates' values of a claim's part from the table, and computes their interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.claims.statistics import (
    Floats,
    Interval,
    auc,
    contrast,
    image_variance,
    onset_difference_bounds,
    onset_positions,
    sign_interval,
    spare_variance,
    t_interval,
)
from harness.claims.table import Group, Table, gather
from harness.paper.claims import Cell, Part
from harness.paper.columns import REESTIMATED

#: significant digits of a contrast relative to its terms, so that equal replicates are bit-identical
_DIGITS = 12


@dataclass(frozen=True)
class PartData:
    """The input of a part's interval.

    ``groups``: per experiment the replicates' contrasts (n_e,) on the analysed scale (logarithms if ``log``); where the
    median is judged, each value's lowest and highest possible number. ``values``: for the page's figure, one number per
    replicate on the reported scale. ``problem``: why no interval can be computed, else empty.
    ``image``: points that one test image makes of an accuracy, 0.0 for other measures and where it is not known;
    ``image_variance``: the most, in points squared, that drawing other images can add to the contrast's variance.
    """

    median: bool
    log: bool
    region: tuple[float, float]
    groups: list[Floats] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    spare: list[tuple[float, int]] = field(default_factory=list)
    estimate: float | None = None
    replicates: int = 0
    values: list[float] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    problem: str = ""
    diverged: int = 0
    exact: bool = False
    image: float = 0.0
    image_variance: float = 0.0

    def shown(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """Convert bounds from the analysed to the reported scale."""
        if not self.log:
            return bounds
        # a bound beyond the largest float becomes infinite
        low, high = (math.exp(b) if b < 700 else math.inf for b in bounds)
        return (-math.inf if bounds[0] == -math.inf else low, high)


def interval_of(data: PartData, level: float) -> Interval:
    """The part's interval on the analysed scale; of counts the value that is farthest from the region's middle."""
    if data.exact:
        worst = max(data.groups[0], key=lambda value: abs(value - sum(data.region) / 2))
        return Interval(worst, worst, worst)
    if not data.median:
        return t_interval(data.groups, level, data.steps, data.spare)
    interval = sign_interval(data.groups[0], data.groups[1], level)
    return interval if data.estimate is None else interval._replace(estimate=np.asarray(data.estimate))


def read_part(part: Part, table: Table, claim: Sequence[Part] = (), at_chance: bool = False) -> PartData:
    """Read a part's replicates; drop those that lack one of its cells, and record why.

    Diverged networks are dropped, which is their best case, or with `at_chance` guess, which is their worst.

    `claim`: all parts of the claim at the scale, whose cells tell more of the spread over replicates. Those of other
    claims tell nothing, so that a claim's verdict is the same whichever others are run.
    """
    if part.statistic == "exact":
        return _read_exact(part, table)
    return _read_median(part, table, at_chance) if part.of_median else _read_contrast(part, table, claim, at_chance)


def _read_exact(part: Part, table: Table) -> PartData:
    group = gather(table, part.cells[0].experiment, part.cells, part.measure)
    shares = 100 * group.cells[0]
    return PartData(
        median=False,
        log=False,
        region=part.bounds,
        groups=[shares],
        exact=True,
        replicates=len(group.replicates),
        values=shares.tolist(),
        runs=group.runs,
        dropped=group.dropped,
    )


def _read_contrast(part: Part, table: Table, claim: Sequence[Part], at_chance: bool) -> PartData:
    by_experiment: dict[str, list[tuple[float, Cell]]] = {}
    for weight, cell in part.weighted_cells():
        by_experiment.setdefault(cell.experiment, []).append((weight, cell))
    gathered = [
        (
            [weight for weight, _ in cells],
            gather(table, experiment, [cell for _, cell in cells], part.measure, at_chance),
        )
        for experiment, cells in by_experiment.items()
    ]
    low, high = part.bounds
    region = (_log(low), _log(high)) if part.logarithmic else (low, high)
    replicates = min(len(group.replicates) for _, group in gathered)
    runs = sorted({run for _, group in gathered for run in group.runs})
    dropped = [reason for _, group in gathered for reason in group.dropped]
    if any(np.isnan(group.cells).any() for _, group in gathered):
        unknown = f"the {part.measure} of what diverged is unknown, and may be any"
        return PartData(False, part.logarithmic, region, replicates=replicates, runs=runs, problem=unknown)
    if part.logarithmic and (bad := _not_positive(part, [group for _, group in gathered])):
        return PartData(False, True, region, replicates=replicates, runs=runs, dropped=dropped, problem=bad)
    groups = [_contrast(weights, group.cells, part.logarithmic) for weights, group in gathered]
    steps = [
        _step(weights, group, table.step(group.experiment, part.measure), part.logarithmic)
        for weights, group in gathered
    ]
    return PartData(
        median=False,
        log=part.logarithmic,
        region=region,
        groups=groups,
        steps=steps,
        spare=[_spare(part, weights, group, table, claim) for weights, group in gathered],
        replicates=replicates,
        values=_shown_values(groups, part.logarithmic) if replicates else [],
        runs=runs,
        dropped=dropped,
        diverged=sum(group.diverged for _, group in gathered),
        image=max(table.step(group.experiment, part.measure) for _, group in gathered),
        image_variance=_image_variance(part, gathered, table) if replicates else 0.0,
    )


def _image_variance(part: Part, gathered: Sequence[tuple[list[float], Group]], table: Table) -> float:
    """Of a contrast of test accuracies. Experiments may share their images, so standard deviations add up."""
    deviations = 0.0
    for weights, group in gathered:
        if step := table.step(group.experiment, part.measure):
            wrong = 1 - group.cells.mean(-1) / 100
            deviations += 100 * image_variance(weights, wrong.tolist(), round(100 / step)) ** 0.5
    return deviations**2


def _spare(part: Part, weights: list[float], group: Group, table: Table, claim: Sequence[Part]) -> tuple[float, int]:
    """What the claim's other cells of the experiment tell of the variance of a paired contrast."""
    if len(group.replicates) < 2 or abs(sum(weights)) > 1e-9:
        return 0.0, 0
    read = [table.cell(cell, part.measure).values for cell in spare_cells(part, group.experiment, claim)]
    rows = [[values[r] for r in group.replicates] for values in read if set(group.replicates) <= set(values)]
    numbers = np.array(rows, dtype=np.float64).reshape(len(rows), len(group.replicates))
    if part.logarithmic:
        numbers = np.log(numbers[(numbers > 0).all(-1)])
    variance, freedom = spare_variance(weights, np.log(group.cells) if part.logarithmic else group.cells, numbers)
    return float(variance), freedom


def spare_cells(part: Part, experiment: str, claim: Sequence[Part]) -> list[Cell]:
    """The cells of an experiment that a claim's other parts read, and that are measured and compared like a part's."""
    own = [cell for _, cell in part.weighted_cells() if cell.experiment == experiment]
    alike = [other for other in claim if not other.of_median and other.measure == part.measure]
    cells = dict.fromkeys(cell for other in alike for _, cell in other.weighted_cells())
    kind = (experiment, own[0].comparison)
    return [cell for cell in cells if (cell.experiment, cell.comparison) == kind and cell not in own]


def _contrast(weights: list[float], cells: Floats, log: bool) -> Floats:
    values = contrast(weights, cells, log)
    size = np.max(np.abs(np.log(cells) if log else cells), initial=0.0, where=np.isfinite(cells)) * max(
        abs(w) for w in weights
    )
    if size == 0:
        return values
    decimals = _DIGITS - 1 - math.floor(math.log10(size))
    return np.asarray(np.round(values, decimals))


def _step(weights: list[float], group: Group, step: float, log: bool) -> float:
    """Distance between neighbouring possible contrasts: one example more or fewer in the cell of largest weight."""
    if step == 0 or not group.replicates:
        return 0.0
    sizes = group.cells.mean(-1) if log else np.ones(len(weights))
    return float(np.max(np.abs(weights) * step / group.rows.min(-1) / sizes))


def _shown_values(groups: list[Floats], log: bool) -> list[float]:
    """One group: the replicates' contrasts. Several: the estimate plus each replicate's deviation in its experiment,
    since replicates of different experiments are not paired."""
    estimate = sum(float(g.mean()) for g in groups)
    values = groups[0] if len(groups) == 1 else np.concatenate([estimate + g - g.mean() for g in groups])
    return [float(v) for v in (np.exp(values) if log else values)]


def _not_positive(part: Part, groups: list[Group]) -> str:
    for group in groups:
        for replicate, column in zip(group.replicates, group.cells.T, strict=True):
            if np.any(column <= 0):
                return (
                    f"a ratio needs values above 0, and {part.measure} is {column.min():g} in replicate {replicate} "
                    f"of {group.experiment}"
                )
    return ""


def _log(bound: float) -> float:
    return bound if math.isinf(bound) else math.log(bound) if bound > 0 else -math.inf


def _read_median(part: Part, table: Table, at_chance: bool) -> PartData:
    """A diverged network's measure may be anything: it lies between the lowest and the highest value."""
    cells = [cell for _, cell in part.weighted_cells()] if part.statistic == "auc" else part.cells
    grid, threshold = part.over or [], part.threshold or 0.0
    wanted = (
        cells if part.statistic in ("median", "auc") else [point for cell in cells for point in part.grid_cells(cell)]
    )
    group = gather(table, cells[0].experiment, wanted, part.measure, at_chance)
    unknown = np.isnan(group.cells)
    estimate: float | None = None
    if part.statistic in ("median", "auc"):
        values = (
            group.cells[0] if part.statistic == "median" else auc([w for w, _ in part.weighted_cells()], group.cells)
        )
        low, high = (np.where(unknown.any(0), bound, values) for bound in (-math.inf, math.inf))
        return _median_data(part, group, low, high, values)

    def positions_at(unstable: bool) -> NDArray[np.int64]:
        numbers = np.where(unknown, math.inf if unstable else -math.inf, group.cells)
        shaped = np.moveaxis(numbers.reshape(len(cells), len(grid), len(group.replicates)), 1, -1)
        return onset_positions(shaped, threshold)

    positions, latest = positions_at(unstable=False), positions_at(unstable=True)
    if part.statistic == "onset":
        # if the measure never stays below the threshold on the grid, the onset is beyond every k
        steps = np.asarray([*map(float, grid), math.inf])
        low, high = steps[positions[0]], steps[latest[0]]
        values = high
    else:
        low = onset_difference_bounds(positions[0], latest[1], len(grid))[0]
        high = onset_difference_bounds(latest[0], positions[1], len(grid))[1]
        values = (positions[0] - positions[1]).astype(np.float64)
        estimate = float(np.median(values)) if values.size else None
    return _median_data(part, group, low, high, values, estimate)


def onsets(part: Part, table: Table) -> Iterator[str]:
    """An onset's numbers in words: the two k of a difference, and the k for BatchNorm's re-estimated statistics."""
    if not part.statistic.startswith("onset"):
        return
    averaged, reestimated = (_median_onsets(part, table, suffix) for suffix in ("", REESTIMATED))
    if part.statistic == "onset_difference" and averaged:
        yield f"median onsets {_told(averaged)}"
    if reestimated:
        yield f"with re-estimated BatchNorm statistics {_told(reestimated)}"


def _median_onsets(part: Part, table: Table, suffix: str) -> list[float]:
    """Each cell's median k over the replicates that have the whole grid, as the lower of two; none without one."""
    grid, medians = part.over or [], []
    for cell in part.cells:
        measure = (cell.measure or part.measure) + suffix
        points = [point.model_copy(update={"measure": measure}) for point in part.grid_cells(cell)]
        group = gather(table, cell.experiment, points, measure)
        if not group.replicates:
            return []
        positions = np.sort(onset_positions(group.cells.T, part.threshold or 0.0))
        medians.append([*map(float, grid), math.inf][positions[(len(positions) - 1) // 2]])
    return medians


def _told(medians: list[float]) -> str:
    """``k = 2000``, or ``k = 5000 and k = 2000 (2.5 times, 0.92 in ln k)``."""
    text = " and ".join("never" if math.isinf(k) else f"k = {k:.0f}" for k in medians)
    first, last = medians[0], medians[-1]
    if len(medians) == 1 or not (0 < first < math.inf and 0 < last < math.inf):
        return text
    return f"{text} ({first / last:.3g} times, {math.log(first / last):.2g} in ln k)"


def _median_data(
    part: Part, group: Group, low: Floats, high: Floats, values: Floats, estimate: float | None = None
) -> PartData:
    return PartData(
        median=True,
        log=False,
        region=part.bounds,
        groups=[low, high],
        estimate=estimate,
        replicates=len(group.replicates),
        values=[float(v) for v in values],
        runs=group.runs,
        dropped=group.dropped,
        diverged=group.diverged,
    )
