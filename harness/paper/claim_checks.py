"""What a part must satisfy beyond its fields' types. Each check raises ValueError with field, value and fix."""

from __future__ import annotations

import difflib
import itertools
import math
from typing import TYPE_CHECKING

from harness.paper.columns import NETWORK_MEASURES, PAIR_MEASURES, PERCENT_MEASURES, STRUCTURE

if TYPE_CHECKING:
    from harness.paper.claims import Cell, Part

#: which optional fields each statistic needs and which it may have besides
_NEEDS: dict[str, tuple[set[str], set[str]]] = {
    "mean": ({"a"}, set()),
    "median": ({"a"}, set()),
    "difference": ({"a", "b"}, set()),
    "midpoint": ({"a", "b", "c"}, set()),
    "ratio": ({"a", "b"}, set()),
    "trend": ({"a"}, {"over", "over_density", "log"}),
    "contrast": ({"terms"}, {"log"}),
    "auc": ({"terms"}, set()),
    "exact": ({"a"}, set()),
    "onset": ({"a", "over", "threshold"}, set()),
    "onset_difference": ({"a", "b", "over", "threshold"}, set()),
}


def check_fields(part: Part) -> None:
    """The statistic has the fields that it needs and no other."""
    needed, allowed = _NEEDS[part.statistic]
    optional = ("a", "b", "c", "terms", "over", "over_density", "threshold", "log")
    present = {f for f in optional if getattr(part, f) is not None}
    for field in sorted(needed - present):
        raise ValueError(f"{part.statistic} without {field}: add {field}, or use another statistic")
    for field in sorted(present - needed - allowed):
        takes = ", ".join(sorted(needed | allowed))
        raise ValueError(f"{part.statistic} with {field}: remove {field} ({part.statistic} takes {takes})")


def check_grid(part: Part) -> None:
    """The grid of a trend or onset is ordered, and an onset difference stays in one experiment."""
    if part.statistic == "trend" and (part.over is None) == (part.over_density is None):
        raise ValueError("trend needs exactly one of over (values of k) and over_density")
    if part.over is not None and (len(part.over) < 2 or _not_rising(part.over)):
        raise ValueError(f"over {part.over}: needs at least two values of k, each larger than the one before")
    grid = part.over_density
    if grid is not None and (len(grid) < 2 or (_not_rising(grid) and _not_rising(grid[::-1]))):
        raise ValueError(f"over_density {grid}: needs at least two densities, all rising or all falling")
    if part.statistic == "onset_difference" and part.a and part.b and part.a.experiment != part.b.experiment:
        raise ValueError(
            f"onset_difference between experiments {part.a.experiment!r} and {part.b.experiment!r}: "
            "replicates pair only inside one experiment, name one in both cells"
        )


def _not_rising(values: list[int] | list[float]) -> bool:
    return any(later <= earlier for earlier, later in itertools.pairwise(values))


def check_measure(part: Part) -> None:
    """Each cell's measure is known, and the cell says what is compared where it compares."""
    if part.statistic == "mean" and "instability" in part.measure:
        raise ValueError(
            f"mean of {part.measure}: it has two values, near 0 and near chance, of which a mean with an interval says "
            "little; use median"
        )
    if (part.statistic == "exact") != (part.measure in STRUCTURE):
        raise ValueError(f"{part.statistic} of {part.measure}: exact is the statistic of {', '.join(STRUCTURE)}, alone")
    for measure in () if part.statistic == "exact" else (part.measure, *part.measures):
        _check_known(measure)
    for cell in part.cells:
        if cell.measure and part.statistic != "onset_difference":
            raise ValueError(
                f"{part.statistic} with a measure of its own in the cell {cell.describe()}: only the cells of an "
                "onset_difference may measure different things, remove it"
            )
        _check_comparison(cell, cell.measure or part.measure)


def _check_known(measure: str) -> None:
    if measure not in NETWORK_MEASURES + PAIR_MEASURES:
        near = difflib.get_close_matches(measure, NETWORK_MEASURES + PAIR_MEASURES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"unknown measure {measure!r}{hint}: of networks {', '.join(NETWORK_MEASURES)}; "
            f"of pairs {', '.join(PAIR_MEASURES)}"
        )


def _check_comparison(cell: Cell, measure: str) -> None:
    pair = measure in PAIR_MEASURES
    if pair and cell.comparison is None:
        raise ValueError(
            f"measure {measure} compares two networks: add comparison (data_order or pruning) "
            f"to the cell {cell.describe()}"
        )
    if not pair and cell.comparison is not None:
        raise ValueError(
            f"measure {measure} belongs to one network: remove comparison {cell.comparison!r} "
            f"from the cell {cell.describe()}"
        )


def check_region(part: Part) -> None:
    """The region is bounded, not empty, can be missed, and states a direction."""
    if part.region is None:
        if part.of_median or part.statistic == "exact":
            raise ValueError(f"{part.statistic} without region: add the values that support the claim")
        return
    low, high = part.region
    if part.statistic == "exact" and None in (low, high):
        raise ValueError(f"exact with region [{low}, {high}]: bound a count at both sides")
    if low is None and high is None:
        raise ValueError("region [null, null] is met by anything: bound at least one side")
    if low is not None and high is not None and low > high:
        raise ValueError(f"region [{low:g}, {high:g}]: the lower bound is above the upper, swap them")
    if part.logarithmic and ((low is not None and low < 0) or (high is not None and high <= 0)):
        raise ValueError(f"region [{low}, {high}]: a ratio is above 0, give bounds above 0")
    if _covers_everything(part):
        raise ValueError(f"region [{low}, {high}] holds every possible {part.statistic} of {part.measure}: narrow it")
    _check_direction(part)


def _check_direction(part: Part) -> None:
    """A contrast's region is a sign, or a margin around no effect; what misses a margin is a size, not a direction."""
    if part.statistic == "mean":
        raise ValueError("mean with region: a level is a size, not a direction, and held against published/; remove it")
    if part.no_effect is None:
        return
    low, high = part.bounds
    sign = (low, high) in ((part.no_effect, math.inf), (-math.inf, part.no_effect))
    margin = low < part.no_effect < high and part.statistic != "midpoint"
    if not sign and not margin:
        raise ValueError(
            f"region {list(part.region or ())}: a direction is a sign, so bound it by {part.no_effect:g}, or a margin "
            f"around {part.no_effect:g} for equality"
        )


def _covers_everything(part: Part) -> bool:
    """A claim that no data could miss would be supported by construction."""
    low, high = part.bounds
    if part.statistic == "auc":
        return low <= 0 and high >= 1
    if part.logarithmic or part.statistic == "onset":
        return low <= 0 and high == math.inf
    if part.statistic in ("mean", "median"):
        return low <= 0 and high >= (100 if part.measure in PERCENT_MEASURES else math.inf)
    if part.statistic == "difference" and part.measure in PERCENT_MEASURES:
        return low <= -100 and high >= 100
    return False


def check_complete(part: Part) -> None:
    """Every cell names one place of the table; leaving k out would average over rewind iterations."""
    for cell in part.cells:
        pair = (cell.measure or part.measure) in PAIR_MEASURES
        if cell.k is None and part.over is None and (cell.branch != "dense" or pair):
            raise ValueError(f"the cell {cell.describe()} has no k: add k, the rewind iteration (0 for none)")
        if cell.density is None and part.over_density is None and cell.branch != "dense":
            raise ValueError(f"the cell {cell.describe()} has no density: add the share of weights remaining")
        if cell.branch == "dense" and part.over_density is not None:
            raise ValueError("over_density with a dense cell: a dense network has one density, use another branch")
    if part.a is not None and part.b is not None and len(part.measures) == 1 and _same_place(part.a, part.b):
        raise ValueError(f"a and b are the same cell ({part.a.describe()}): the answer is known without data")


def _same_place(a: Cell, b: Cell) -> bool:
    return a.model_copy(update={"measure": None}) == b.model_copy(update={"measure": None})
