"""A study's methods side by side: each one's accuracy at each density, the best at the lowest density first."""

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


def cells(data: Data) -> pd.DataFrame:
    """Columns experiment, branch, k, method, level, density, n, mean, low, high of all subnetworks' test accuracy.

    The order is that of the means at the highest level, methods that are not there last. A paper that makes claims
    has none: its claims say what is compared.
    """
    by = ["experiment", "branch", "k", "level"]
    rows = estimates.select(data.table, row="network") if data.study else data.table[:0]
    rows = rows[rows["branch"].isin(BRANCHES) & (rows["level"] > 0)]
    parts = [
        estimates.replicate_values(own, by, "test_accuracy", data.grid_of(str(experiment), "test_accuracy"))
        for experiment, own in rows.groupby("experiment")
    ]
    if not parts:
        return pd.DataFrame(columns=[*by, "method", "density", "n", "mean", "low", "high"])
    table = estimates.summarise(pd.concat(parts, ignore_index=True), by)
    table["method"] = [_method(data, row, table["k"].nunique() > 1) for row in table.to_dict("records")]
    last = table[table["level"] == table["level"].max()].set_index("method")["mean"]
    order = {method: place for place, method in enumerate(last.sort_values(ascending=False, kind="stable").index)}
    ranks = table["method"].map(order).fillna(len(order))
    return table.assign(rank=ranks).sort_values(["rank", "method", "level"], kind="stable", ignore_index=True)


def _method(data: Data, row: Mapping[Any, Any], several: bool) -> str:
    """What prunes and what is trained after it; a branch that prunes the dense network itself says both."""
    branch = BRANCHES[row["branch"]]
    name = words.clean(data.title(row["experiment"], 200))
    label = branch.label if branch.source == "dense" else f"{name}, {branch.label}"
    return f"{label}, k = {row['k']:,}" if several else label


def content(data: Data) -> Cell:
    """The table of the page: the densities of the columns, and a row for each method with an entry for each of them."""
    table = cells(data)
    levels = sorted({int(level) for level in table["level"]})
    densities = [words.percent(table.loc[table["level"] == level, "density"].max()) for level in levels]
    rows = []
    for method, own in table.groupby("method", sort=False):
        by_level = {int(row["level"]): row for row in own.to_dict("records")}
        rows.append({"method": method, "cells": [_cell(by_level.get(level)) for level in levels]})
    replicates = sorted({int(n) for n in table["n"]})
    return {"densities": densities, "rows": rows, "replicates": " or ".join(map(str, replicates))}


def _cell(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return formats.NOTHING
    span = (row["low"], row["high"]) if np.isfinite(row["low"]) else None
    return formats.estimate(row["mean"], span, "")


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
