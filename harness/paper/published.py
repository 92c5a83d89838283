"""The paper's own numbers, and what they say of a claim's part."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from harness.paper.claims import Cell, Part
from harness.paper.columns import same_density
from harness.paper.models import Spread

#: printed numbers are rounded to a tenth, and networks spread more than by nothing
LEAST_SPREAD = 0.05


class Quantity(NamedTuple):
    """A published number and the standard deviation of one replicate around it."""

    value: float
    spread: float


class Row(NamedTuple):
    """A row that holds a number of one place of the table; k in steps."""

    experiment: str
    branches: tuple[str, ...]
    k: float
    density: float
    measure: str
    comparison: str
    value: float
    error: float
    rank: tuple[int, bool]


@dataclass(frozen=True)
class Published:
    """The published numbers of a paper; `spread` says what its errors mean, `steps` how many steps an epoch has."""

    rows: tuple[Row, ...] = ()
    spread: Spread | None = None

    def cell(self, cell: Cell, measure: str) -> Quantity | None:
        """The number published for a cell: printed before digitised, one with an error first; None without one."""
        if self.spread is None:
            return None
        measure, density = cell.measure or measure, 1.0 if cell.branch == "dense" else cell.density or math.nan
        rows = [
            row
            for row in self.rows
            if (row.experiment, row.measure, row.comparison) == (cell.experiment, measure, cell.comparison or "")
            and cell.branch in row.branches
            and (row.k == (cell.k or 0) or (cell.branch == "dense" and not cell.comparison))
            and same_density(row.density, density)
        ]
        if not rows:
            return None
        row = min(rows, key=lambda row: row.rank)
        if math.isfinite(row.error):
            spread = row.error / self.spread.errors[cell.comparison or "network"]
        else:
            unstated = self.spread.unstated
            spread = unstated.get(cell.experiment, unstated.get(measure, math.nan))
        spread = max(spread, LEAST_SPREAD)
        # an instability can't be below 0, so one near it spreads by no more than its size
        return Quantity(row.value, min(spread, max(row.value, LEAST_SPREAD)) if cell.comparison else spread)

    def part(self, part: Part) -> Quantity | None:
        """The part's published value and spread on the analysed scale; None if a cell has none, and for onsets."""
        if part.statistic.startswith("onset") or part.statistic == "auc":
            return None
        value, variance = 0.0, 0.0
        for weight, cell in part.weighted_cells():
            found = self.cell(cell, part.measure)
            if found is None or (part.logarithmic and found.value <= 0):
                return None
            number, spread = found
            if part.logarithmic:
                number, spread = math.log(number), spread / number
            value, variance = value + weight * number, variance + (weight * spread) ** 2
        return Quantity(value, math.sqrt(variance))
