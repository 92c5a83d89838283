"""Typed models of ``papers/<paper>/claims.yaml``: the checkable statements of a paper, and their predictions.

The models check everything that a claim file can get wrong on its own; what needs other files (does the experiment
exist, does a level reach that density) is checked by the loader. Every message names field, value and fix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.paper.claim_checks import check_complete, check_fields, check_grid, check_measure, check_region
from harness.paper.columns import PAIR_MEASURES, same_density
from harness.paper.models import Branch

Comparison = Literal["data_order", "pruning"]
Obtained = Literal["printed", "digitised", "derived", "text", "remembered"]
Statistic = Literal[
    "mean",
    "median",
    "difference",
    "midpoint",
    "ratio",
    "trend",
    "contrast",
    "onset",
    "onset_difference",
    "auc",
    "exact",
]
#: what each statistic is; a mean and an interval over replicates unless it says otherwise
STATISTICS: dict[Statistic, str] = {
    "mean": "The value of `a`. It has no region: a level is a size, not a direction.",
    "median": "The median of `a` over replicates, with the sign test's interval. For instability.",
    "difference": "`a` minus `b`.",
    "midpoint": "`a` minus the middle between `b` and `c`: which of the two it is nearer to.",
    "ratio": "`a` over `b`. The logarithm is analysed.",
    "trend": "The fitted change of `a` from the first to the last point of `over` or `over_density`.",
    "contrast": "The weighted sum of `terms`.",
    "onset": "The first k of `over` from which `a` stays below `threshold`. The median over replicates, with the sign "
    "test's interval.",
    "onset_difference": "The onset of `a` minus that of `b`, in positions of `over`. The median over replicates, with "
    "the sign test's interval.",
    "auc": "How well the measure tells the terms of positive weight from those of negative: the share of pairs in "
    "which the former is higher. 0.5 is no order, 1 a perfect one. The median over replicates, with the sign test's "
    "interval.",
    "exact": "A share in percent that is counted, not estimated. Each replicate's value must lie in the region.",
}
Figure = Literal["accuracy", "accuracy_density", "accuracy_k", "instability_k", "distance", "angle", "none"]

#: the fewest replicates for a t interval, and for the sign test behind medians (four cannot reach even 90%)
FEWEST_REPLICATES = 3
FEWEST_REPLICATES_MEDIAN = 5
#: a planned design judges with these numbers of replicates, and stops once a claim is decided
LOOKS = (5, 10, 20)
#: two-sided confidence of a reported interval
LEVEL = 0.95
#: the confidence of each look of a planned design: equal at all looks (Pocock 1977), so that together they err no more
#: often than one look at LEVEL (``benchmarks/looks.py``)
LEVEL_OF_LOOK = 0.9804

#: a claim's name, and its anchor on the page: no other id there begins with a capital letter
ClaimId = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9-]*$", max_length=40)]
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Step = Annotated[int, Field(ge=0)]
Density = Annotated[float, Field(gt=0, le=1)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


def _as_pair(value: Any) -> Any:
    """YAML has lists only; strict tuples take none."""
    if isinstance(value, list | tuple) and len(value) != 2:
        raise ValueError(f"region has {len(value)} numbers, needs two: [lowest, highest], null for no bound")
    return tuple(value) if isinstance(value, list) else value


Region = Annotated[tuple[Number | None, Number | None], BeforeValidator(_as_pair)]


class Strict(BaseModel):
    """Base of all models: unknown fields and loose types (``"3"`` for 3) are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


#: `not_tested` of the claims that a selection of claims leaves out
LEFT_OUT = "not selected: its runs were not asked for"


class Source(Strict):
    """Where in the paper the claim stands."""

    where: Text
    """Figure, table or section of the paper."""
    obtained: Obtained
    """How its numbers were obtained."""
    quotation: Text | None = None
    """The abstract's own words."""


class PublishedValue(Strict):
    """One number of the paper."""

    quantity: Text
    """What the number is."""
    value: Number
    """The number."""
    error: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Its error as the paper gives it: standard deviation or half range."""
    unit: str = ""
    """Its unit."""
    obtained: Obtained
    """How it was obtained."""


def trend_weights(points: int) -> NDArray[np.float64]:
    """Weights (points,) whose sum with the values is the fitted change from the first to the last grid rank.

    The least-squares slope over the ranks 0..m-1, times m-1: ranks, because grids of k rise geometrically.
    """
    if points < 2:
        raise ValueError(f"a trend over {points} point(s): needs at least 2")
    centred = np.arange(points) - (points - 1) / 2
    return np.asarray(centred / np.sum(centred**2) * (points - 1), dtype=np.float64)


class Cell(Strict):
    """The rows of the table that a part reads: its value for a replicate is their mean."""

    experiment: Text
    """An experiment of the scale."""
    branch: Branch
    """How the networks were made. `dense` selects level 0."""
    k: Step | None = None
    """Rewind iteration. A dense cell without it takes every dense network of the replicate."""
    density: Density | None = None
    """Share of prunable weights remaining. It matches a level within 2%. None on a dense cell."""
    comparison: Comparison | None = None
    """For measures of pairs: two data orders of one network, or a subnetwork and the dense network."""
    data_order: Step | None = None
    """Only the network of this data order."""
    measure: Text | None = None
    """In place of the part's measure. Only the cells of an `onset_difference` take it."""

    @model_validator(mode="after")
    def _dense(self) -> Cell:
        if self.branch == "dense" and self.density not in (None, 1.0):
            raise ValueError(f"density {self.density} on a dense cell: a dense network has density 1, remove it")
        if self.branch == "dense" and self.comparison == "pruning":
            raise ValueError("comparison 'pruning' on a dense cell: such a pair is a row of the subnetwork's branch")
        return self

    def rows(self, measure: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Which of its experiment's rows the cell reads for a measure. ``columns``: arrays, as in the tidy table."""
        rows = columns["row"] == ("pair" if measure in PAIR_MEASURES else "network")
        rows = rows & (columns["branch"] == self.branch)
        if self.branch == "dense":
            rows = rows & (columns["level"] == 0)
        elif self.density is not None:
            rows = rows & same_density(columns["density"], self.density)
        for name in ("k", "comparison", "data_order"):
            if (value := getattr(self, name)) is not None:
                rows = rows & (columns[name] == value)
        return rows

    def describe(self) -> str:
        """Plain words for messages, such as ``lenet imp at k = 0, density 0.107``."""
        place = [f"k = {self.k}"] if self.k is not None else []
        place += [f"density {self.density:g}"] if self.density is not None and self.branch != "dense" else []
        place += [f"data order {self.data_order}"] if self.data_order is not None else []
        pair = f" ({self.comparison} pairs)" if self.comparison else ""
        measure = f", {self.measure}" if self.measure else ""
        return f"{self.experiment} {self.branch}" + (f" at {', '.join(place)}" if place else "") + pair + measure


class Term(Cell):
    """A cell with its weight in a contrast."""

    weight: Number
    """The cell's weight in the contrast."""

    @model_validator(mode="after")
    def _weight(self) -> Term:
        if self.weight == 0:
            raise ValueError("weight 0 leaves the term out: give a weight other than 0 or remove the term")
        return self

    def unweighted(self) -> Cell:
        """The cell without its weight, equal to the same cell in another part."""
        return Cell(**{name: getattr(self, name) for name in Cell.model_fields})


class ForEach(Strict):
    """Copies a part once for each value of one key."""

    density: Annotated[list[Density], Field(min_length=1)] | None = None
    """Densities to copy the part for."""
    k: Annotated[list[Step], Field(min_length=1)] | None = None
    """Rewind iterations to copy the part for."""

    @model_validator(mode="after")
    def _one_key(self) -> ForEach:
        if (self.density is None) == (self.k is None):
            raise ValueError("for_each takes exactly one of density and k")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"for_each.{self.key} {list(self.values)} repeats a value: list each once")
        return self

    @property
    def key(self) -> Literal["density", "k"]:
        return "k" if self.density is None else "density"

    @property
    def values(self) -> list[int] | list[float]:
        return (self.k or []) if self.density is None else self.density


class Part(Strict):
    """One statistic over the table and the region of its values that supports the claim.

    The region is the direction that the paper states. Of a difference, ratio, trend or contrast it is a sign (bounded
    by no effect, 0 or 1), or a margin around no effect where the paper states equality. Of a ``midpoint`` it is a sign:
    which of the two networks ``a`` is nearer to. A median's is the paper's own threshold. The published value of all is
    that of the same statistic over published/*.csv; it lies in the region.

    The region is on the reported scale: the measure's unit, or a ratio where logarithms are analysed, or k for an
    onset, or positions in ``over`` for an onset difference.
    """

    name: Text
    """What the part says. Unique in its claim and scale."""
    statistic: Statistic
    """What is computed from the cells."""
    measure: str
    """The column that is read."""
    a: Cell | None = None
    """The first cell."""
    b: Cell | None = None
    """The cell that `a` is compared with."""
    c: Cell | None = None
    """The third cell of a `midpoint`."""
    terms: Annotated[list[Term], Field(min_length=1)] | None = None
    """The weighted cells of a `contrast` or an `auc`."""
    over: list[Step] | None = None
    """The values of k that a trend or an onset goes over."""
    over_density: list[Density] | None = None
    """The densities that a trend goes over."""
    threshold: Number | None = None
    """The value that an onset stays below."""
    log: bool | None = None
    """Analyse the logarithm, and report a ratio."""
    region: Region | None = None
    """Lowest and highest value that support the claim, both included. `null` leaves a side open. A part without a
    region is a size alone."""
    for_each: ForEach | None = None
    """Copy the part once for each of these values."""

    @property
    def logarithmic(self) -> bool:
        """Whether the logarithm of the measure is analysed, and a ratio reported."""
        return self.statistic == "ratio" or bool(self.log)

    @property
    def of_median(self) -> bool:
        """Whether the median over replicates is judged, by the sign test, and not the mean."""
        return self.statistic in ("median", "onset", "onset_difference", "auc")

    @property
    def cells(self) -> list[Cell]:
        """The cells as written, before ``over`` is applied."""
        return [c for c in (self.a, self.b, self.c, *(self.terms or [])) if c is not None]

    @property
    def measures(self) -> set[str]:
        """The measures of its cells."""
        return {cell.measure or self.measure for cell in self.cells}

    def cells_and_grids(self) -> list[tuple[Cell, list[int], list[float]]]:
        """Each cell with the values of k and the densities that it is read at; empty where it names none."""
        return [
            (
                cell,
                self.over if self.over is not None else [] if cell.k is None else [cell.k],
                self.over_density or ([] if cell.density is None else [cell.density]),
            )
            for cell in self.cells
        ]

    def grid_cells(self, cell: Cell) -> list[Cell]:
        """The cell at each point of ``over`` or ``over_density``."""
        if self.over is not None:
            return [cell.model_copy(update={"k": k}) for k in self.over]
        return [cell.model_copy(update={"density": d}) for d in self.over_density or []]

    def weighted_cells(self) -> list[tuple[float, Cell]]:
        """The cells and their weights: the common form of all statistics but onsets."""
        if self.terms is not None:
            return [(term.weight, term.unweighted()) for term in self.terms]
        if self.statistic == "trend" and self.a is not None:
            grid = self.grid_cells(self.a)
            return list(zip(trend_weights(len(grid)).tolist(), grid, strict=True))
        weights = (1.0, -0.5, -0.5) if self.statistic == "midpoint" else (1.0, -1.0, 0.0)
        cells = zip(weights, (self.a, self.b, self.c), strict=True)
        return [(weight, cell) for weight, cell in cells if cell is not None]

    @property
    def no_effect(self) -> float | None:
        """The value of the statistic, on the reported scale, that says of no effect; None for a level or an onset."""
        if self.statistic in ("difference", "midpoint", "ratio", "trend", "contrast"):
            return 1.0 if self.logarithmic else 0.0
        return None

    @property
    def bounds(self) -> tuple[float, float]:
        """The region with infinities for open sides; everything without a region."""
        low, high = self.region or (None, None)
        return (-math.inf if low is None else low, math.inf if high is None else high)

    @model_validator(mode="after")
    def _consistent(self) -> Part:
        check_fields(self)
        check_grid(self)
        check_measure(self)
        check_region(self)
        if self.for_each is None:
            check_complete(self)
        else:
            _check_for_each(self)
        return self


class ScaleClaim(Strict):
    """What the claim predicts at one scale."""

    replicates: int
    """The fewest replicates that may judge the claim."""
    combine: Literal["all", "any"] = "all"
    """Whether all parts have to hold, or any."""
    prediction: Text
    """What the claim predicts at this scale, in words."""
    parts: Annotated[list[Part], Field(min_length=1)]
    """What is measured, and the regions."""

    @model_validator(mode="after")
    def _replicates(self) -> ScaleClaim:
        median = any(p.of_median for p in self.parts)
        fewest = FEWEST_REPLICATES_MEDIAN if median else FEWEST_REPLICATES
        if self.replicates < fewest:
            what = "a median's sign test" if median else "an interval"
            raise ValueError(f"replicates {self.replicates}: {what} needs at least {fewest}")
        names = [p.name for p in expand_parts(self)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two parts are named {name!r}: give each its own name")
        return self


class Erratum(Strict):
    """Why a claim's entry at a scale moved after results existed."""

    date: Date
    """When it moved."""
    scale: Text
    """At which scale."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$")]
    """The first digits of the entry's digest as it stands. `harness check` prints them."""
    reason: Text
    """Why it moved."""


class Claim(Strict):
    """One checkable statement of the paper."""

    id: ClaimId
    """Its name, and its anchor on the page."""
    title: Text
    """A headline that stands alone."""
    statement: Text
    """What the paper says, as one checkable statement."""
    source: Source
    """Where the paper says it."""
    note: str | None = None
    """What to know about it."""
    published: list[PublishedValue] = []
    """The paper's numbers, for the page."""
    figure: Figure = "none"
    """The kind of figure that the page draws for it."""
    figure_experiments: list[Text] = []
    """The experiments in that figure."""
    scales: dict[str, ScaleClaim] = {}
    """What it predicts, by scale. A scale that isn't named can't judge it."""
    not_tested: Text | None = None
    """Why no scale can judge it."""
    errata: list[Erratum] = []
    """Why a frozen entry moved."""
    calibrates: bool = False
    """The claim is the calibration itself, so that calibration bands don't gate it."""


def expand_parts(scale_claim: ScaleClaim) -> list[Part]:
    """The parts with every ``for_each`` written out, in order; the results have ``for_each`` None.

    The value goes into each cell that does not set the key. A dense cell takes no density, and takes ``k`` only for
    measures of pairs: for a network it stands for the dense network itself.
    """
    return [copy for part in scale_claim.parts for copy in _expand(part)]


def _expand(part: Part) -> list[Part]:
    if part.for_each is None:
        return [part]
    key = part.for_each.key

    def fill(cell: Any, value: float) -> Any:
        return cell.model_copy(update={key: value}) if cell is not None and _takes(part, cell, key) else cell

    copies = []
    for value in part.for_each.values:
        cells: dict[str, Any] = {name: fill(getattr(part, name), value) for name in ("a", "b", "c")}
        cells["terms"] = None if part.terms is None else [fill(t, value) for t in part.terms]
        label = f"k = {value}" if key == "k" else f"density {value:g}"
        copies.append(part.model_copy(update=cells | {"name": f"{part.name} ({label})", "for_each": None}))
    return copies


def _takes(part: Part, cell: Cell, key: str) -> bool:
    if getattr(cell, key) is not None:
        return False
    return cell.branch != "dense" or (key == "k" and (cell.measure or part.measure) in PAIR_MEASURES)


def _check_for_each(part: Part) -> None:
    key = part.for_each.key if part.for_each else "k"
    grid = "over" if key == "k" else "over_density"
    if getattr(part, grid) is not None:
        raise ValueError(f"for_each.{key} and {grid} both set {key}: remove one")
    if not any(_takes(part, cell, key) for cell in part.cells):
        raise ValueError(f"for_each.{key} changes no cell: remove {key} from the cells that it should fill, or drop it")
    for copy in _expand(part):
        check_complete(copy)
