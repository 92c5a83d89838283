"""Figures that draw two runs over each other, in the style of the report: a panel per experiment and k.

The first run lies below, with dashed lines and hollow marks. The second one lies on top, with solid lines, filled marks
and a dot for each replicate. A ring marks a difference that exceeds replicate noise.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.base import words
from harness.compare.noise import Cell
from harness.report import estimates, style
from harness.report.figures import (
    BRANCHES,
    Data,
    columns_for,
    dense_band,
    density_axis,
    draw_series,
    panels,
    select_branch,
    told_apart,
)
from harness.report.rewinding import ACCURACY, DISTANCE, INSTABILITY, Row, instability_axis, k_axis, row_values

TITLE = {3: 34, 4: 26}  # characters that fit above a panel, by the number of columns
_UNDER: dict[str, Any] = {"ls": (0, (3, 2)), "lw": 1.1, "marker": "o", "ms": 5.2, "mfc": "none", "mew": 0.9}
_RING: dict[str, Any] = {"marker": "o", "ms": 11, "mfc": "none", "mec": "#b3420a", "mew": 1.4, "ls": "", "zorder": 6}


@dataclass(frozen=True)
class Both:
    """The data that figures draw of two runs, and the cells whose difference exceeds replicate noise."""

    a: Data
    b: Data
    marked: Collection[Cell]
    stable_below: float | None = None  # the paper's threshold of instability, in points

    @classmethod
    def of(
        cls,
        a: pd.DataFrame,
        b: pd.DataFrame,
        experiments: Mapping[str, Mapping[str, Any]],
        marked: Collection[Cell],
        stable_below: float | None = None,
    ) -> "Both":
        return cls(Data.of(a, experiments=experiments), Data.of(b, experiments=experiments), marked, stable_below)

    def names(self) -> list[str]:
        """The experiments that both runs have."""
        return [name for name in self.b.names() if name in self.a.names()]

    def networks(self, experiment: str) -> list[pd.DataFrame]:
        """The rows of an experiment's pruned networks, in each run."""
        tables = [estimates.select(data.table, experiment=experiment, row="network") for data in (self.a, self.b)]
        return [table[table["level"] > 0] for table in tables]


def _draw(
    ax: Axes, values: Sequence[pd.DataFrame], xs: Sequence[np.ndarray], key: str, at: Sequence[Any], branch: str
) -> None:
    """Draw one branch of both runs: at `xs`, the `values` (see `replicate_values`) whose column `key` is in `at`."""
    colour = style.branch_colour(branch)
    below, above = values
    summary = estimates.summarise(below, [key]).set_index(key)
    present = [i for i, value in enumerate(at) if value in summary.index]
    if present:
        rows, x = summary.loc[[at[i] for i in present]], np.asarray(xs[0], dtype=float)[present]
        ax.vlines(x, rows["low"], rows["high"], color=colour, lw=0.9, alpha=0.55, ls=(0, (2, 1)), zorder=1.8)
        ax.plot(x, rows["mean"], color=colour, alpha=0.85, zorder=1.9, **_UNDER)
    draw_series(ax, above, xs[1], key, at, colour=colour, label=branch)


def _ring(ax: Axes, both: Both, values: pd.DataFrame, x: float, key: str, at: Any, cell: Cell) -> None:
    """Mark the second run's mean if the cell's difference exceeds noise."""
    if cell in both.marked:
        ax.plot([x], [values[values[key] == at]["value"].mean()], label="beyond noise", **_RING)


def _finish(figure: Figure) -> None:
    drawn = {line.get_label() for ax in figure.axes for line in ax.lines}
    extra = [
        Line2D([], [], color=style.MUTED, label="A", **_UNDER),
        Line2D([], [], color=style.MUTED, marker="o", ms=4.2, label="B"),
    ]
    if "beyond noise" in drawn:
        extra.append(Line2D([], [], **{**_RING, "ms": 8}, label="beyond noise"))
    style.branch_legend(figure, [b for b in ("dense", *BRANCHES) if b in drawn], extra)


def _dense(ax: Axes, both: Both, experiment: str) -> None:
    dense_band(ax, both.b, experiment)
    rows = estimates.select(both.a.table, experiment=experiment, row="network", level=0)
    mean, *_ = estimates.overall(rows[rows["k"] == 0], "test_accuracy")
    if np.isfinite(mean):
        ax.axhline(mean, color=style.COLOURS["dense"], lw=1.0, ls=(0, (1, 2)), zorder=1)


def _drawn(both: Both, experiment: str, rows: pd.DataFrame) -> list[int]:
    """The one or two rewind iterations to draw against density: those with most differences, else the report's."""
    marks = Counter(c.k for c in both.marked if c.experiment == experiment and c.measure == "test_accuracy" and c.level)
    selected = [k for k, _ in sorted(marks.items(), key=lambda item: (-item[1], item[0]))][:2]
    others = told_apart(rows, 2) if len(rows) else []
    return sorted(selected + [k for k in others if k not in selected][: 2 - len(selected)])


def accuracy_density(both: Both) -> Figure | None:
    """Accuracy against density, with a panel for each experiment and at most two of its rewind iterations."""
    cells = []
    for experiment in both.names():
        a, b = both.networks(experiment)
        shared = b[b["k"].isin(set(a["k"]))]
        cells += [(experiment, k) for k in _drawn(both, experiment, shared)]
    if not cells:
        return None
    figure, axes = panels(len(cells), columns_for(len(cells)), 2.65)
    for ax, (experiment, k) in zip(axes, cells, strict=True):
        _dense(ax, both, experiment)
        tables = both.networks(experiment)
        levels = sorted({int(level) for table in tables for level in table["level"]})
        densities = [table.groupby("level")["density"].mean().reindex(levels) * 100 for table in tables]
        grids = [data.grid_of(experiment, "test_accuracy") for data in (both.a, both.b)]
        for branch in reversed(BRANCHES):
            values = [
                estimates.replicate_values(select_branch(table, branch, k), ["level"], "test_accuracy", grid)
                for table, grid in zip(tables, grids, strict=True)
            ]
            _draw(ax, values, [densities[0].to_numpy() * 1.02, densities[1].to_numpy()], "level", levels, branch)
            for level, x in densities[1].items():
                cell = Cell(experiment, branch, k, int(str(level)), "", "test_accuracy")
                _ring(ax, both, values[1], float(x), "level", level, cell)
        density_axis(ax, [density / 100 for column in densities for density in column.dropna()])
        ax.set_ylabel("test accuracy (%)")
        ax.set_title(f"{both.b.title(experiment, TITLE[columns_for(len(cells))])}\nk = {k:,}")
    _finish(figure)
    return figure


def against_k(both: Both, row: Row, fewest: int = 1) -> Figure | None:
    """One measure against the rewind iteration, a panel per experiment at the level where branches are compared."""
    cells = []
    for experiment in both.names():
        for level in estimates.focus_levels(both.b.table, experiment) or [0]:
            values = {
                branch: [row_values(data, row, experiment, level, branch) for data in (both.a, both.b)]
                for branch in row.branches
            }
            ks = sorted({int(k) for pair in values.values() for frame in pair for k in frame["k"]})
            if len(ks) >= fewest:
                cells.append((experiment, level, ks, values))
    if not cells:
        return None
    figure, axes = panels(len(cells), columns_for(len(cells)), 2.5)
    for ax, (experiment, level, ks, values) in zip(axes, cells, strict=True):
        if not row.comparison:
            _dense(ax, both, experiment)
        x = np.arange(len(ks), dtype=float)
        for i, (branch, pair) in enumerate(values.items()):
            centre = x + (i - (len(values) - 1) / 2) * 0.08
            _draw(ax, pair, [centre - 0.025, centre + 0.025], "k", ks, branch)
            for k, ring_x in zip(ks, centre + 0.025, strict=True):
                cell = Cell(experiment, branch, k, 0 if branch == "dense" else level, row.comparison, row.measure)
                _ring(ax, both, pair[1], ring_x, "k", k, cell)
        if row.measure.startswith("instability"):
            instability_axis(ax, named=len(ks) > 2, stable=both.stable_below)
        elif row.comparison:
            ax.set_ylim(0)
        k_axis(ax, ks, estimates.total_steps(both.b.table, experiment))
        ax.set_xlabel("rewind iteration k")
        ax.set_ylabel(row.label.replace(", BN averaged", ""))
        density = estimates.select(both.b.table, experiment=experiment, level=level)["density"].mean()
        title = both.b.title(experiment, TITLE[columns_for(len(cells))])
        ax.set_title(f"{title}\n{words.percent(density)} remaining")
    _finish(figure)
    return figure


Builder = Callable[[Both], Figure | None]
# name, title, caption, function that draws it
FIGURES: tuple[tuple[str, str, str, Builder], ...] = (
    (
        "accuracy-density",
        "Accuracy against density",
        "At most two rewind iterations of each experiment. Grey: the dense network; B's dashed in a band, A's dotted.",
        accuracy_density,
    ),
    (
        "accuracy-k",
        "Accuracy against k",
        "At the density where most branches were trained; experiments with one rewind iteration are left out.",
        lambda both: against_k(both, ACCURACY[0], fewest=2),
    ),
    (
        "instability-k",
        "Instability against k",
        "Highest error on the straight line between two data orders minus the mean of its ends, BatchNorm averaged.",
        lambda both: against_k(both, INSTABILITY[0]),
    ),
    (
        "distance-order-k",
        "Data-order distance against k",
        "L2 distance between two data orders of one subnetwork.",
        lambda both: against_k(both, DISTANCE[0]),
    ),
    (
        "distance-pruning-k",
        "Pruning distance against k",
        "L2 distance between the dense network and the subnetwork, same data order.",
        lambda both: against_k(both, DISTANCE[1]),
    ),
)


def draw_all(both: Both) -> list[dict[str, Any]]:
    """Every figure that the two runs have data for: name, title, caption, svg."""
    figures = []
    with style.look():
        for name, title, caption, build in FIGURES:
            figure = build(both)
            if figure is not None:
                svg = Markup(style.to_svg(figure, name, title, caption))
                figures.append({"name": name, "title": title, "caption": caption, "svg": svg})
    return figures
