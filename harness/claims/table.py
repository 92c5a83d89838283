"""Reads a claim's cells from the tidy table: one value per replicate, or the reason why it is missing."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.claims.statistics import Floats
from harness.paper.claims import Cell

TEXT_COLUMNS = ("row", "experiment", "branch", "comparison", "run", "run_b", "status")
NUMBER_COLUMNS = ("replicate", "k", "level", "density", "data_order")


class TestSet(NamedTuple):
    """The size of a data set's test set, and its number of classes."""

    examples: int
    classes: int


@dataclass(frozen=True)
class CellValues:
    """``values``, ``rows``: mean and row count of each usable replicate; ``missing``: why the others are unusable.

    ``diverged``: those of the others that have a row, but whose network, or one that it starts from, diverged.
    """

    values: dict[int, float]
    rows: dict[int, int]
    runs: dict[int, list[str]]
    missing: dict[int, str] = field(default_factory=dict)
    diverged: set[int] = field(default_factory=set)
    known_experiment: bool = True


def check_columns(table: pd.DataFrame, measures: Iterable[str]) -> None:
    """Raise ValueError, naming the column, if a column is missing or has values of the wrong type."""
    measures = sorted(set(measures))
    for column in (*TEXT_COLUMNS, *NUMBER_COLUMNS, *measures):
        if column not in table.columns:
            raise ValueError(
                f"the table has no column {column!r}: it has {', '.join(map(str, table.columns)) or 'none'}; "
                "collect the results again"
            )
    for column in (*NUMBER_COLUMNS, *measures):
        if len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(
                f"the table's column {column!r} holds {table[column].dtype}, not numbers: collect the results again"
            )
    if table["replicate"].isna().any():
        raise ValueError("the table's column 'replicate' has missing values: collect the results again")


Columns = dict[str, NDArray[Any]]


class Table:
    """The tidy table as arrays by experiment; it caches cells. `test_sets`: by experiment, where known."""

    def __init__(
        self, table: pd.DataFrame, measures: Iterable[str], test_sets: Mapping[str, TestSet] = MappingProxyType({})
    ) -> None:
        measures = sorted(set(measures))
        check_columns(table, measures)
        columns: Columns = {c: table[c].astype(object).to_numpy() for c in TEXT_COLUMNS}
        columns |= {c: table[c].to_numpy(dtype=np.float64, na_value=np.nan) for c in (*NUMBER_COLUMNS, *measures)}
        names, where = np.unique(columns["experiment"].astype(str), return_inverse=True)
        order = np.argsort(where, kind="stable")
        groups = np.split(order, np.searchsorted(where[order], np.arange(1, len(names))))
        self._parts = {
            str(name): {c: v[rows] for c, v in columns.items()} for name, rows in zip(names, groups, strict=False)
        }
        self._empty: Columns = {c: v[:0] for c, v in columns.items()}
        self._cells: dict[tuple[Cell, str], CellValues] = {}
        self._thinned: dict[int, Table] = {}
        self._test_sets = test_sets

    def cell(self, cell: Cell, measure: str) -> CellValues:
        """The cell's mean of its own measure, else of `measure`, in each replicate of its experiment."""
        measure = cell.measure or measure
        key = (cell, measure)
        if key not in self._cells:
            self._cells[key] = _read_cell(self._columns(cell.experiment), cell, measure)
        return self._cells[key]

    def step(self, experiment: str, measure: str) -> float:
        """Distance in points between neighbouring possible test accuracies; 0.0 if unknown, and for other measures."""
        known = self._test_sets.get(experiment)
        return 100 / known.examples if known and measure == "test_accuracy" else 0.0

    def chance(self, experiment: str, measure: str) -> float:
        """The accuracy of a network that guesses, for one that diverged; NaN for other measures, and if unknown."""
        known = self._test_sets.get(experiment)
        return 100 / known.classes if known and measure.endswith("accuracy") else math.nan

    def replicates(self, experiments: Iterable[str]) -> list[int]:
        """The numbers of the experiments' replicates."""
        return sorted({int(r) for name in experiments for r in self._columns(name)["replicate"]})

    def without(self, replicate: int) -> Table:
        """The table as if no experiment had this replicate."""
        if replicate not in self._thinned:
            other = self._thinned[replicate] = copy.copy(self)
            other._cells, other._thinned = {}, {}
            other._parts = {
                name: {c: values[columns["replicate"] != replicate] for c, values in columns.items()}
                for name, columns in self._parts.items()
            }
        return self._thinned[replicate]

    def _columns(self, experiment: str) -> Columns:
        return self._parts.get(experiment, self._empty)


def _read_cell(table: Columns, cell: Cell, measure: str) -> CellValues:
    matching = np.flatnonzero(cell.rows(measure, table))
    values = table[measure]
    result = CellValues({}, {}, {}, {}, known_experiment=len(values) > 0)
    for replicate in np.unique(table["replicate"]):
        own = matching[table["replicate"][matching] == replicate]
        ok = own[table["status"][own] == "ok"]
        good = ok[np.isfinite(values[ok])]
        if len(good):
            # fsum: the result must not depend on the order of the rows
            result.values[int(replicate)] = math.fsum(values[good]) / len(good)
            result.rows[int(replicate)] = len(good)
            result.runs[int(replicate)] = _runs(table, good)
        else:
            result.missing[int(replicate)] = _why(table["status"][own], len(ok), measure)
            if len(own) and not len(ok):
                result.diverged.add(int(replicate))
    return result


def _why(statuses: NDArray[Any], usable: int, measure: str) -> str:
    if not len(statuses):
        return "no row"
    if usable:
        return f"no {measure} recorded"
    words = {"diverged": "diverged", "ancestor_diverged": "a run it starts from diverged"}
    return ", ".join(sorted({words.get(str(s), f"status {s}") for s in statuses}))


def _runs(table: Columns, rows: NDArray[Any]) -> list[str]:
    ids = {run for column in ("run", "run_b") for run in table[column][rows] if isinstance(run, str) and run}
    return sorted(ids)


@dataclass(frozen=True)
class Group:
    """The cells of one experiment over the replicates that have all of them: ``cells`` is (m cells, n replicates).

    ``diverged``: how many replicates a diverged network left out, or put at chance.
    """

    experiment: str
    replicates: list[int]
    cells: Floats
    rows: Floats
    runs: list[str]
    dropped: list[str]
    diverged: int = 0


def gather(table: Table, experiment: str, cells: list[Cell], measure: str, at_chance: bool = False) -> Group:
    """Collect cells of one experiment; drop each replicate that lacks one of them, with the reason.

    With `at_chance`, a replicate whose network diverged stays: that network guesses, and its other measures are NaN.
    """
    read = [table.cell(cell, measure) for cell in cells]
    if not all(r.known_experiment for r in read):
        return Group(experiment, [], *_no_values(len(cells)), [], [f"the table has no experiment {experiment}"])
    everyone = sorted({r for values in read for r in (*values.values, *values.missing)})
    usable = [values.values.keys() | (values.diverged if at_chance else set()) for values in read]
    complete = [r for r in everyone if all(r in replicates for replicates in usable)]
    diverged = {r for values in read for r in values.diverged}
    dropped: dict[str, list[int]] = {}
    for replicate in sorted(set(everyone) - set(complete)):
        for cell, values in zip(cells, read, strict=True):
            if replicate in values.missing:
                dropped.setdefault(f"{values.missing[replicate]} for {cell.describe()}", []).append(replicate)
                break
    reasons = [f"{_replicates(who)} dropped ({why})" for why, who in dropped.items()]
    runs = sorted({run for values in read for r in complete for run in values.runs.get(r, ())})
    shape = (len(cells), len(complete))
    guesses = [table.chance(experiment, cell.measure or measure) for cell in cells]
    chosen = [[v.values.get(r, guess) for r in complete] for v, guess in zip(read, guesses, strict=True)]
    numbers = np.array(chosen, dtype=np.float64).reshape(shape)
    counts = np.array([[v.rows.get(r, 1) for r in complete] for v in read], dtype=np.float64).reshape(shape)
    return Group(experiment, complete, numbers, counts, runs, reasons, len(diverged))


def _no_values(cells: int) -> tuple[Floats, Floats]:
    return np.empty((cells, 0)), np.empty((cells, 0))


def _replicates(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"replicate {numbers[0]}"
    return f"{len(numbers)} replicates ({', '.join(map(str, numbers))})"
