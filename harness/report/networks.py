"""The networks and their accuracy at k = 0, measured and published (STAB Figures 2, 3 and 6)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.base import words
from harness.report import estimates, style
from harness.report.figures import WIDTH, Data, spread

SHOWN = {"dense": -0.22, "imp": 0.0, "random_prune": 0.22}  # branches and their vertical shift within a row


def accuracy_experiments(data: Data) -> Figure | None:
    """Test accuracy at k = 0 and the focus density, in points above the dense network's mean: IMP and random pruning.

    A row for each experiment, with the dense accuracy in its label. Published values, relative to the published dense
    accuracy, are drawn under the measured ones if the recipe is the paper's, else in a separate panel.
    """
    cells = [(e, (*estimates.focus_levels(data.table, e), 0)[0]) for e in data.names()]
    dense = {e: _accuracy(data, e, "dense", 0)[0] for e, _ in cells}
    cells = [(e, level) for e, level in cells if np.isfinite(dense[e])]
    if not cells:
        return None
    printed = {e: _published(data, e, level) for e, level in cells}
    apart = any(len(printed[e]) and e not in data.own for e, _ in cells)
    figure = Figure(figsize=(WIDTH, 1.05 + 0.46 * len(cells)), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, 1 + apart, sharey=True)).flat)
    for y, (experiment, level) in enumerate(cells):
        for branch, shift in SHOWN.items():
            cell = (experiment, branch, 0 if branch == "dense" else level)
            _draw_measured(axes[0], data, cell, dense[experiment], y + shift)
        under = experiment in data.own
        _draw_published(axes[0 if under else -1], printed[experiment], y, under)
    for ax, word in zip(axes, ("Measured", "Published"), strict=False):
        ax.set_title(word)
        ax.set_xlabel("test accuracy − that of the dense network (points)")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(cells) - 0.45, -0.6)
        ax.margins(x=0.06)
        style.plain_ticks(ax.xaxis)
    if apart:
        style.mark_published(axes[1])
    axes[0].set_yticks(range(len(cells)), [_label(data, e, level, dense[e], printed[e]) for e, level in cells])
    handle = [style.under_handle()] * any(len(printed[e]) for e, _ in cells if e in data.own)
    style.branch_legend(figure, list(SHOWN), handle)
    return figure


def _label(data: Data, experiment: str, level: int, dense: float, printed: pd.DataFrame) -> str:
    density = estimates.select(data.table, experiment=experiment, level=level)["density"].mean()
    value = printed.loc[printed["branch"] == "dense", "value"]
    shown = f"dense {words.number(dense, False)}%" + (
        f" (published {words.number(value.iloc[0])})" if len(value) else ""
    )
    return data.title(experiment, 44) + "\n" + (f"{words.percent(density)} remaining; " if level else "") + shown


def _accuracy(data: Data, experiment: str, branch: str, level: int) -> tuple[float, float, float, pd.DataFrame]:
    """Mean, interval and replicates' values of a branch at k = 0."""
    cell = {"experiment": experiment, "row": "network", "branch": branch, "k": 0, "level": level}
    rows, grid = estimates.select(data.table, **cell), data.grid_of(experiment, "test_accuracy")
    mean, low, high, _ = estimates.overall(rows, "test_accuracy", grid)
    return mean, low, high, estimates.replicate_values(rows.assign(cell=0), ["cell"], "test_accuracy", grid)


def _draw_measured(ax: Axes, data: Data, cell: tuple[str, str, int], dense: float, y: float) -> None:
    mean, low, high, values = _accuracy(data, *cell)
    if not np.isfinite(mean):
        return
    branch, colour = cell[1], style.branch_colour(cell[1])
    ax.scatter(values["value"] - dense, [y] * len(values), s=7, color=colour, alpha=0.4, linewidths=0, zorder=2)
    if np.isfinite(low):
        ax.hlines(y, low - dense, high - dense, color=colour, lw=1.1, zorder=3)
    ax.plot(mean - dense, y, marker="o", color=colour, mec=style.PAPER, mew=0.5, label=branch, zorder=4)


def _published(data: Data, experiment: str, level: int) -> pd.DataFrame:
    """One published accuracy of each branch: at k = 0, near the level's density; printed ones before digitised."""
    rows = data.published
    rows = rows[(rows["experiment"] == experiment) & (rows["measure"] == "test_accuracy") & np.isfinite(rows["value"])]
    rows = rows[(rows["k"] == 0) & rows["branch"].isin(SHOWN)]
    density = estimates.select(data.table, experiment=experiment, level=level)["density"].mean()
    rows = rows[(rows["branch"] == "dense") | ((rows["density"] / density - 1).abs() <= 0.1)]
    return rows.sort_values("obtained", key=lambda o: o != "printed", kind="stable").drop_duplicates("branch")


def _draw_published(ax: Axes, rows: pd.DataFrame, y: int, under: bool) -> None:
    dense = rows.loc[rows["branch"] == "dense", "value"]
    if dense.empty:
        return
    values = rows["value"] - dense.iloc[0]
    for branch, value, error in zip(rows["branch"], values, spread(rows["error"]), strict=True):
        colour, shifted = style.branch_colour(branch), y + SHOWN[branch]
        if under:
            ax.plot(value, shifted, color=colour, **style.UNDER)
        else:
            ax.errorbar(value, shifted, xerr=error, color=colour, marker="o", mec=style.PAPER, mew=0.5, elinewidth=1.1)
