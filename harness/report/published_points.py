"""The paper's published numbers beside the run's own: one point for each that the run measured too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.claims.statistics import sign_interval
from harness.lottery import branches
from harness.report import estimates
from harness.report.figures import Data
from harness.report.pairs import PAIR_BRANCHES, paired, ratio

RATIO = "_ratio"  # ends a measure's name where the paper prints random pruning over IMP
MEASURES = {
    "test_accuracy": "test accuracy, %",
    "train_accuracy": "training accuracy, %",
    "distance": "distance, L2",
    f"distance{RATIO}": "ratio of distances",
    "angle": "angle, °",
    f"angle{RATIO}": "ratio of angles",
    "instability_test": "instability, points",
}
NEAR = 0.08  # relative: how far a density may be from the published one


@dataclass(frozen=True)
class Point:
    """A published number and the run's: the mean over replicates and its 95% t interval, of an instability the median
    and the sign test's. `low` and `high` are NaN without an interval.

    `published` has the row of published/*.csv by column, k in steps where the recipe is the paper's.
    """

    published: Mapping[str, Any]
    estimate: float
    low: float
    high: float
    replicates: int

    @property
    def branch(self) -> str:
        """The branch, or two in a ratio, as the page calls them."""
        return " / ".join(map(branches.label, str(self.published["branch"]).split("/")))

    @property
    def measure(self) -> str:
        """The measure in words, such as "distance, L2 (data order)"."""
        comparison = str(self.published["comparison"]).replace("_", " ")
        return MEASURES[self.published["measure"]] + (f" ({comparison})" if comparison else "")


def points(data: Data) -> list[Point]:
    """The published numbers whose experiment, branch, k, comparison and density (within NEAR) the run also has."""
    rows = ({str(k): v for k, v in record.items()} for record in data.published.to_dict("records"))
    return [point for row in rows if (point := _point(data, row)) is not None]


def _point(data: Data, row: Mapping[str, Any]) -> Point | None:
    if row["measure"] not in MEASURES or not np.isfinite(row["value"]):
        return None
    measured = _ratio(data, row) if row["measure"].endswith(RATIO) else _measured(data, row)
    return Point(row, *measured) if measured is not None and np.isfinite(measured[0]) else None


def _measured(data: Data, row: Mapping[str, Any]) -> tuple[float, float, float, int] | None:
    if not (np.isfinite(row["k"]) or row["branch"] == "dense"):
        return None
    cell = {"experiment": row["experiment"], "branch": row["branch"], "row": "pair" if row["comparison"] else "network"}
    if row["comparison"]:
        cell["comparison"] = row["comparison"]
    if row["comparison"] or row["branch"] != "dense":
        cell["k"] = int(row["k"])
    rows, measure = estimates.select(data.table, **cell), row["measure"]
    level = _level(rows, row["density"])
    if level is None:
        return None
    rows, grid = rows[rows["level"] == level], data.grid_of(row["experiment"], measure)
    if not measure.startswith("instability"):
        return estimates.overall(rows, measure, grid)
    # it has two values, near 0 and near chance: a mean says nothing of them
    values = estimates.replicate_values(rows.assign(cell=0), ["cell"], measure)["value"].to_numpy()
    if not len(values):
        return None
    median, low, high = (float(bound) for bound in sign_interval(values))
    return median, *((low, high) if np.isfinite(high - low) else (np.nan, np.nan)), len(values)


def _ratio(data: Data, row: Mapping[str, Any]) -> tuple[float, float, float, int] | None:
    """Random pruning over IMP within replicates, as the paper prints it at k = 0."""
    if row["branch"] != "/".join(reversed(PAIR_BRANCHES)) or row["k"] != 0:
        return None
    cell = {"experiment": row["experiment"], "row": "pair", "comparison": row["comparison"], "k": 0}
    level = _level(estimates.select(data.table, branch=PAIR_BRANCHES, **cell), row["density"])
    if level is None:
        return None
    values = paired(data, row["measure"].removesuffix(RATIO), row["comparison"], row["experiment"], level)
    return *ratio(values), len(values.dropna())


def _level(rows: pd.DataFrame, density: float) -> int | None:
    """The level of the rows whose density is nearest to a published one; None if that is further than NEAR."""
    levels = rows.groupby("level")["density"].mean()
    near = (levels / density - 1).abs() if np.isfinite(density) else levels * np.nan
    return int(str(near.idxmin())) if not near.empty and near.min() <= NEAR else None
