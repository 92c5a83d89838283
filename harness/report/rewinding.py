"""Figures over the rewind iteration k: accuracy, instability, distance, angle (STAB's Figures 4, 7, 11 and 12)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase

from harness.base import words
from harness.report import estimates, style
from harness.report.figures import BRANCHES, WIDTH, Data, dense_band, draw_series, spread

LINEAR = 2.0  # points of instability up to which its axis is linear


@dataclass(frozen=True)
class Row:
    """One row of panels: a measure, its comparison ("" for networks), the label of its y axis, the branches drawn."""

    measure: str
    comparison: str
    label: str
    branches: tuple[str, ...]


ACCURACY = (Row("test_accuracy", "", "test accuracy (%)", BRANCHES),)
TRAIN_ACCURACY = (Row("train_accuracy", "", "training accuracy (%)", BRANCHES),)
INSTABILITY = (
    Row(
        "instability_test",
        "data_order",
        "instability, BN averaged\n(points of test error)",
        ("dense", "imp", "random_prune", "random_reinit"),
    ),
    Row(
        "instability_test_reestimated",
        "data_order",
        "instability, BN re-estimated\n(points of test error)",
        ("dense", "imp", "random_prune", "random_reinit"),
    ),
)
DISTANCE = (
    Row("distance", "data_order", "data-order distance (L2)", ("imp", "random_prune", "random_reinit")),
    Row("distance", "pruning", "pruning distance (L2)", ("imp", "random_prune", "random_reinit")),
)
ANGLE = (
    Row("angle", "data_order", "data-order angle (°)", ("imp", "random_prune", "random_reinit")),
    Row("angle", "pruning", "pruning angle (°)", ("imp", "random_prune", "random_reinit")),
)


def row_values(data: Data, row: Row, experiment: str, level: int, branch: str) -> pd.DataFrame:
    """Replicate values of one branch by k; the dense network's rows have level 0."""
    kind = "pair" if row.comparison else "network"
    cell = {"row": kind, "experiment": experiment, "branch": branch, "level": 0 if branch == "dense" else level}
    rows = estimates.select(data.table, **cell)
    if row.comparison:
        rows = rows[rows["comparison"] == row.comparison]
    return estimates.replicate_values(rows, ["k"], row.measure, data.grid_of(experiment, row.measure))


@dataclass(frozen=True)
class Cell:
    """One column of panels: an experiment at its focus level, its rewind iterations, its values by (row, branch)."""

    experiment: str
    level: int
    ks: list[int]
    values: dict[tuple[Row, str], pd.DataFrame]


def _cells(data: Data, rows: Sequence[Row], fewest: int) -> list[Cell]:
    cells = []
    for experiment in data.names():
        for level in estimates.focus_levels(data.table, experiment):
            values = {(row, b): row_values(data, row, experiment, level, b) for row in rows for b in row.branches}
            ks = sorted({int(k) for frame in values.values() for k in frame["k"]})
            if len(ks) >= fewest:
                cells.append(Cell(experiment, level, ks, values))
    return cells


def against_k(data: Data, rows: Sequence[Row], fewest: int = 2, columns: int = 4) -> Figure | None:
    """Panels of `rows` for every experiment that has at least `fewest` rewind iterations, at its focus level.

    With few experiments the rows are drawn side by side; published panels join them if there is room.
    """
    rows = [row for row in rows if np.isfinite(data.table[row.measure]).any()]
    cells = _cells(data, rows, fewest)
    if not rows or not cells:
        return None
    side_by_side = len(rows) * len(cells) <= columns
    deep = 1 if side_by_side else len(rows)
    printed = [(c.experiment, _published(data, rows[0], c.experiment, c.level)) for c in cells]
    printed = [(e, frame) for e, frame in printed if frame["k"].nunique() >= 2 and e not in data.own]
    beside = len(cells) * (len(rows) if side_by_side else 1) + len(printed) <= columns
    bands = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [deep * 2.2 + 0.4] * len(bands) + [2.4] * (bool(printed) and not beside)
    ratios = [[_room(c.ks) for c in band] * (len(rows) if side_by_side else 1) for band in bands]
    ratios[0] += [_room(range(3)) for _ in printed if beside]
    widest = max(sum(r) for r in ratios)
    figure = Figure(figsize=(WIDTH if widest > 9 else WIDTH * 0.66, sum(heights) + 0.35), layout="constrained")
    whole = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    for b, band in enumerate(bands):
        spare = widest - sum(ratios[b])
        wide = ratios[b] + [spare] * (spare > 0)
        inner = whole[b].subgridspec(deep, len(wide), width_ratios=wide)
        _draw_band(figure, inner, data, rows, band, side_by_side)
        for i, (experiment, frame) in enumerate(printed if beside else []):
            _draw_published(
                figure.add_subplot(inner[0, len(ratios[b]) - len(printed) + i]), data, rows[0], experiment, frame
            )
    if printed and not beside:
        inner = whole[len(bands)].subgridspec(1, max(len(printed), 3))
        for i, (experiment, frame) in enumerate(printed):
            _draw_published(figure.add_subplot(inner[0, i]), data, rows[0], experiment, frame)
    drawn = {line.get_label() for ax in figure.axes for line in ax.lines}
    style.branch_legend(
        figure, [b for b in ("dense", *BRANCHES) if b in drawn], [style.under_handle()] * ("under" in drawn)
    )
    return figure


def _room(ks: Sequence[int]) -> float:
    """Relative width of a panel: in proportion to its grid, plus room for axis and title."""
    return 2.0 + min(len(ks), 8) * 0.8


def _draw_band(
    figure: Figure, inner: GridSpecBase, data: Data, rows: Sequence[Row], band: Sequence[Cell], side_by_side: bool
) -> None:
    for r, row in enumerate(rows):
        first: Axes | None = None
        for c, cell in enumerate(band):
            share = first if row.measure.startswith("instability") else None
            ax = figure.add_subplot(inner[0, r * len(band) + c] if side_by_side else inner[r, c], sharey=share)
            first = first or ax
            _draw_panel(ax, data, row, cell)
            if r == 0 or side_by_side:
                density = estimates.select(data.table, experiment=cell.experiment, level=cell.level)["density"].mean()
                title = data.title(
                    cell.experiment, 20 if len(cell.ks) < 3 else 26 if side_by_side and len(rows) > 1 else 36
                )
                ax.set_title(f"{title}\n{words.percent(density)} remaining")
            if c == 0:
                ax.set_ylabel(row.label)
            ax.set_xlabel("rewind iteration k" if r == len(rows) - 1 or side_by_side else "")


def _draw_panel(ax: Axes, data: Data, row: Row, cell: Cell) -> None:
    ks = cell.ks
    if not row.comparison:
        dense_band(ax, data, cell.experiment, row.measure)
        ax.ticklabel_format(axis="y", useOffset=False)
    x = np.arange(len(ks), dtype=float)
    for i, branch in enumerate(row.branches):
        shift = (i - (len(row.branches) - 1) / 2) * 0.07
        draw_series(ax, cell.values[row, branch], x + shift, "k", ks, colour=style.branch_colour(branch), label=branch)
    if cell.experiment in data.own:
        frame = _published(data, row, cell.experiment, cell.level)
        for _, group in frame[frame["k"].isin(ks)].groupby(["figure", "branch"]):
            group = group.sort_values("k")
            colour = style.branch_colour(str(group["branch"].iloc[0]))
            ax.plot([ks.index(int(k)) for k in group["k"]], group["value"], color=colour, label="under", **style.UNDER)
    if row.measure.startswith("instability"):
        instability_axis(ax, named=len(ks) > 2, stable=data.bound("stable_below"))
    elif row.comparison:
        ax.set_ylim(0, 90 if row.measure == "angle" and ax.get_ylim()[1] > 60 else None)
    k_axis(ax, ks, estimates.total_steps(data.table, cell.experiment))


def k_axis(ax: Axes, ks: Sequence[float], total: float | None) -> None:
    """Evenly spaced rewind iterations, each with its share of training."""
    step = -(-len(ks) // 8)
    names = [f"{k:,.0f}" + (f"\n{k / total * 100:.2g}%" if total else "") for k in ks]
    ax.set_xticks(range(len(ks))[::step], names[::step])
    ax.set_xlim(-0.5, len(ks) - 0.5)


def instability_axis(ax: Axes, named: bool = True, stable: float | None = None) -> None:
    """Linear up to LINEAR points, logarithmic above; the range below the threshold `stable`, if any, shaded."""
    ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.6)
    style.plain_ticks(ax.yaxis, (0, 2, 5, 10, 20, 50, 100))
    ax.set_ylim(-0.7, 110)
    if stable is None:
        return
    ax.axhspan(-1, stable, color="#0072B2", alpha=0.07, lw=0, zorder=0)
    ax.axhline(stable, color=style.MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
    if named:
        where, label = ax.get_yaxis_transform(), f"stable below {words.number(stable)}"
        ax.text(0.98, stable, label, ha="right", va="top", fontsize=6.8, color=style.MUTED, transform=where)


def _published(data: Data, row: Row, experiment: str, level: int) -> pd.DataFrame:
    """Published values of the row's measure over k, at the density nearest to the level's (within 10%)."""
    rows = data.published
    rows = rows[(rows["experiment"] == experiment) & (rows["measure"] == row.measure) & np.isfinite(rows["value"])]
    rows = rows[(rows["branch"] != "dense") | (row.comparison == "data_order")]
    if row.comparison:
        rows = rows[rows["comparison"] == row.comparison]
    rows = rows[np.isfinite(rows["k"])]
    target = estimates.select(data.table, experiment=experiment, level=level)["density"].mean()
    near = (rows["density"] / target - 1).abs() if len(rows) else pd.Series(dtype=float)
    return rows[(near <= max(near.min(), 0) + 1e-9) & (near <= 0.1) | (rows["branch"] == "dense")]


def _draw_published(ax: Axes, data: Data, row: Row, experiment: str, frame: pd.DataFrame) -> None:
    ks = sorted(set(frame["k"]))
    for _, group in frame.groupby(["figure", "branch"]):
        group = group.sort_values("k")
        x = [ks.index(k) for k in group["k"]]
        ax.errorbar(
            x,
            group["value"],
            yerr=spread(group["error"]),
            color=style.branch_colour(str(group["branch"].iloc[0])),
            marker="o",
            ms=4,
            elinewidth=0.8,
        )
    k_axis(ax, ks, None)
    if row.measure.startswith("instability"):
        instability_axis(ax, stable=data.bound("stable_below"))
    density = frame.loc[frame["branch"] != "dense", "density"].mean()
    remaining = f"{words.percent(density)} remaining" if np.isfinite(density) else "dense"
    ax.set_title(f"{data.title(experiment, 26)}\n{remaining}")
    steps = {words.clean(u) for u in frame["k_unit"]} - {""}
    ax.set_xlabel(f"rewind {'/'.join(sorted(steps)) or 'iteration'} k")
    ax.set_ylabel(row.label)
    ax.margins(y=0.2)
    style.mark_published(ax)


def accuracy_k(data: Data) -> Figure | None:
    """Accuracy against k at the focus density (Figure 4, bottom row)."""
    return against_k(data, ACCURACY, columns=3)


def train_accuracy_k(data: Data) -> Figure | None:
    """Training accuracy against k at the focus density."""
    return against_k(data, TRAIN_ACCURACY, columns=3)


def instability_k(data: Data) -> Figure | None:
    """Instability against k, BatchNorm statistics averaged above, re-estimated below."""
    return against_k(data, INSTABILITY, fewest=1)


def distance_k(data: Data) -> Figure | None:
    """Distances against k (Figure 4, upper rows)."""
    return against_k(data, DISTANCE)


def angle_k(data: Data) -> Figure | None:
    """Angles against k (Figure 11)."""
    return against_k(data, ANGLE)
