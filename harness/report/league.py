"""A study's methods side by side: what each reaches at each density and what it costs, the most accurate first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.base import words
from harness.lottery.branches import BRANCHES
from harness.report import estimates, formats, style
from harness.report.figures import Data, panels

Cell = dict[str, Any]
Key = tuple[str, int, str, int, int]  # experiment, replicate, branch, k, level

#: column of the table, or `cost` -> the title of its table on the page, its decimals, whether it compares data orders
MEASURES = {
    "test_accuracy": ("Test accuracy of every method, %", 1, False),
    "start_test_accuracy": ("Test accuracy of the pruned network before it is trained on, %", 1, False),
    "cost": (
        "Operations on kept weights in all training that a network needs, × those of the dense network's",
        2,
        False,
    ),
    "distance": ("Distance between the networks of two data orders, L2", 2, True),
    "instability_test": ("Instability to the data order on test error, percentage points", 2, True),
}


def cells(data: Data, measure: str = "test_accuracy") -> pd.DataFrame:
    """Columns experiment, branch, k, method, level, density, n, mean, low, high of all subnetworks' measure.

    The order is that of mean test accuracies at the highest level, methods that are not there last. A paper that makes
    claims has none: its claims say what is compared.
    """
    table = _cells(data, measure)
    ranked = table if measure == "test_accuracy" else _cells(data, "test_accuracy")
    last = ranked[ranked["level"] == ranked["level"].max()].set_index("method")["mean"]
    order = {method: place for place, method in enumerate(last.sort_values(ascending=False, kind="stable").index)}
    ranks = table["method"].map(order).fillna(len(order))
    return table.assign(rank=ranks).sort_values(["rank", "method", "level"], kind="stable", ignore_index=True)


def _cells(data: Data, measure: str) -> pd.DataFrame:
    by = ["experiment", "branch", "k", "level"]
    *_, of_pairs = MEASURES[measure]
    among = {"row": "pair", "comparison": "data_order"} if of_pairs else {"row": "network", "data_order": 0}
    rows = estimates.select(data.table, **among) if data.study else data.table[:0]
    if measure == "cost":
        rows = rows.assign(cost=_costs(data, rows))
    rows = rows[rows["branch"].isin(BRANCHES) & (rows["level"] > 0)]
    parts = [
        estimates.replicate_values(own, by, measure, data.grid_of(str(experiment), measure))
        for experiment, own in rows.groupby("experiment")
    ]
    if not parts:
        return pd.DataFrame(columns=[*by, "method", "density", "n", "mean", "low", "high"])
    table = estimates.summarise(pd.concat(parts, ignore_index=True), by)
    return table.assign(method=[_method(data, row, table["k"].nunique() > 1) for row in table.to_dict("records")])


def _costs(data: Data, rows: pd.DataFrame) -> list[float]:
    """Operations of each network's training and of those that it was made from, over those of its dense network."""
    names = ["experiment", "replicate", "branch", "k", "level"]
    operations = dict(zip(rows[names].itertuples(index=False, name=None), rows["operations"], strict=True))
    steps = dict(zip(rows[names].itertuples(index=False, name=None), rows["steps"], strict=True))

    def of(key: Key) -> float:
        experiment, replicate, name, k, level = key
        branch, dense = BRANCHES[name], (experiment, replicate, "dense", 0, 0)
        own, whole = operations.get(key, np.nan), operations.get(dense, np.nan)
        if branch.source == "mask":
            return own + of((experiment, replicate, branch.of, k, level))
        if branch.source == "level":
            iterative = (data.experiments.get(experiment, {}).get("pruning") or {}).get("fraction") is not None
            return own + (of((experiment, replicate, name, k, level - 1)) if iterative and level > 1 else whole)
        return own + whole * (1 if branch.reads_dense else k / steps.get(dense, np.nan))

    costs = []
    for key in rows[names].itertuples(index=False, name=None):
        known = key[2] in BRANCHES and key[2] != "dense"
        costs.append(of(key) / operations.get((*key[:2], "dense", 0, 0), np.nan) if known else np.nan)
    return costs


def _method(data: Data, row: Mapping[Any, Any], several: bool) -> str:
    """What prunes and what is trained after it; a branch that prunes the dense network itself says both."""
    branch = BRANCHES[row["branch"]]
    name = words.clean(data.title(row["experiment"], 200))
    label = branch.label if branch.source == "dense" else f"{name}, {branch.label}"
    return f"{label}, k = {row['k']:,}" if several else label


def content(data: Data) -> list[Cell]:
    """A table of the page for each measure that was taken: a row for each method, with an entry for each density."""
    tables = {name: cells(data, name) for name in MEASURES}
    return [_content(*MEASURES[name][:2], table) for name, table in tables.items() if len(table)]


def _content(title: str, decimals: int, table: pd.DataFrame) -> Cell:
    levels = sorted({int(level) for level in table["level"]})
    densities = [words.percent(table.loc[table["level"] == level, "density"].max()) for level in levels]
    rows = []
    for method, own in table.groupby("method", sort=False):
        by_level = {int(row["level"]): row for row in own.to_dict("records")}
        rows.append({"method": method, "cells": [_cell(by_level.get(level), decimals) for level in levels]})
    replicates = " or ".join(str(n) for n in sorted({int(n) for n in table["n"]}))
    return {"title": title, "densities": densities, "rows": rows, "replicates": replicates}


def _cell(row: Mapping[Any, Any] | None, decimals: int) -> str:
    """A mean and its interval; without one if they are the same to these decimals."""
    if row is None:
        return formats.NOTHING
    mean, low, high = (f"{row[name]:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if np.isfinite(row["low"]) and low != high else mean


def league(data: Data) -> Figure | None:
    """Test accuracy by method, a panel for each density, the dense network's mean dashed."""
    table = cells(data)
    if table.empty:
        return None
    levels, methods = sorted(set(table["level"])), list(dict.fromkeys(table["method"]))
    figure, axes = panels(len(levels), len(levels), 0.7 + 0.2 * len(methods), sharey=True)
    dense = estimates.select(data.table, row="network", branch="dense", k=0)["test_accuracy"].mean()
    for ax, level in zip(axes, levels, strict=True):
        own = table[table["level"] == level]
        for row in own.to_dict("records"):
            y, colour = methods.index(row["method"]), style.branch_colour(row["branch"])
            if np.isfinite(row["low"]):
                ax.hlines(y, row["low"], row["high"], color=colour, lw=1.1, zorder=3)
            ax.plot(row["mean"], y, "o", color=colour, mec=style.PAPER, mew=0.5, label=row["method"], zorder=4)
        ax.axvline(dense, color=style.branch_colour("dense"), lw=1, ls="--", zorder=1)
        ax.set_title(f"{words.percent(own['density'].max())} of the weights")
        ax.set_xlabel("test accuracy (%)")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(methods) - 0.4, -0.6)
    axes[0].set_yticks(range(len(methods)), methods)
    return figure
