"""Figures of compared pairs: distances of IMP against random pruning at k = 0, and the error between two networks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.base import words
from harness.report import estimates, formats, style
from harness.report.figures import WIDTH, Data, columns_for, panels, shown_grid

COMPARISONS = {"data_order": "Data-order", "pruning": "Pruning"}
PAIR_BRANCHES = ("imp", "random_prune")


def paired(data: Data, measure: str, comparison: str, experiment: str, level: int) -> pd.DataFrame:
    """Replicate values at k = 0: columns imp and random_prune, one row per replicate."""
    rows = estimates.select(data.table, row="pair", experiment=experiment, level=level, k=0, comparison=comparison)
    rows = rows[rows["branch"].isin(PAIR_BRANCHES)]
    return estimates.replicate_values(rows, ["branch"], measure).pivot(
        index="replicate", columns="branch", values="value"
    )


def ratio(values: pd.DataFrame) -> tuple[float, float, float]:
    """Random pruning over IMP within replicates: estimate and t interval on the logarithm."""
    if not set(PAIR_BRANCHES) <= set(values.columns):
        return float("nan"), float("nan"), float("nan")
    both = values.dropna()
    both = both[(both > 0).all(axis=1)]
    logs = np.log(both["random_prune"].to_numpy()) - np.log(both["imp"].to_numpy())
    mean, low, high = (float(np.exp(v)) for v in estimates.mean_interval(logs))
    return mean, low, high


def distance_experiments(data: Data, measure: str = "distance") -> Figure | None:
    """IMP against random pruning at k = 0 for every experiment, as in the paper's Figures 3 and 10.

    Left: measured. Right: published. Each row carries its ratio, random over IMP: the comparable number.
    """
    cells = [(e, level) for e in data.names() for level in estimates.focus_levels(data.table, e)]
    cells = [(e, level) for e, level in cells if any(len(paired(data, measure, c, e, level)) for c in COMPARISONS)]
    if not cells:
        return None
    names = [e for e, _ in cells]
    printed = data.published
    printed = printed[
        (printed["measure"] == measure) & printed["experiment"].isin(names) & (printed["k"].fillna(0) == 0)
    ]
    printed = printed[printed["branch"].isin(PAIR_BRANCHES) & np.isfinite(printed["value"])]
    width = 4 if len(printed) else 2
    figure = Figure(figsize=(WIDTH, 1.15 + 0.42 * len(cells)), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, width, sharey=True, width_ratios=[1.35, 1.35, 1, 1][:width])).flat)
    for ax, comparison in zip(axes, COMPARISONS, strict=False):
        for y, (experiment, level) in enumerate(cells):
            _draw_pair(ax, paired(data, measure, comparison, experiment, level), y, measure)
        ax.set_title(f"{COMPARISONS[comparison]} {measure},\nmeasured")
    for ax, comparison in zip(axes[2:], COMPARISONS, strict=False):
        for y, experiment in enumerate(names):
            _draw_printed_pair(
                ax, printed[(printed["comparison"] == comparison) & (printed["experiment"] == experiment)], y, measure
            )
        ax.set_title(f"{COMPARISONS[comparison]} {measure},\npublished")
        ax.set_facecolor(style.PUBLISHED_FACE)
        ax.set_xlabel("published (paper's setting)", color="#7a5a10", style="italic")
    for ax in axes:
        _pair_axis(ax, measure, room=1.1 if ax in axes[:2] else 0.45)
        ax.set_ylim(len(cells) - 0.45, -0.6)
    densities = [estimates.select(data.table, experiment=e, level=level)["density"].mean() for e, level in cells]
    labels = [f"{data.title(e, 34)}\n{words.percent(d)} remaining" for e, d in zip(names, densities, strict=True)]
    axes[0].set_yticks(range(len(cells)), labels)
    extra = [] if measure == "angle" else [Line2D([], [], ls="", label="×: random over IMP, with 95% interval")]
    style.branch_legend(figure, PAIR_BRANCHES, extra)
    return figure


def _pair_axis(ax: Axes, measure: str, room: float) -> None:
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    if measure == "angle":
        ax.set_xlim(0, 95)
        style.plain_ticks(ax.xaxis, (0, 30, 60, 90))
        unit = "degrees"
    else:
        low, high = ax.dataLim.minposx, ax.dataLim.x1
        if not (np.isfinite(low) and high > 0):
            low, high = 0.1, 10.0
        ax.set_xscale("log")
        ax.set_xlim(low / 1.4, high * 1.4 * (high / low) ** room)  # room at the right for the ratio's text
        ticks = [t for e in range(-3, 5) for t in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if low / 1.3 <= t <= high * 1.3]
        style.plain_ticks(ax.xaxis, ticks if len(ticks) < 8 else [t for t in ticks if f"{t:e}"[0] == "1"])
        unit = "L2, log scale"
    ax.set_xlabel(f"{unit}\n{ax.get_xlabel()}".strip())


def _draw_pair(ax: Axes, values: pd.DataFrame, y: int, measure: str) -> None:
    for branch, shift in zip(PAIR_BRANCHES, (-0.13, 0.13), strict=True):
        if branch not in values:
            continue
        mean, low, high = estimates.mean_interval(values[branch].to_numpy())
        colour = style.branch_colour(branch)
        ax.scatter(values[branch], [y + shift] * len(values), s=7, color=colour, alpha=0.4, linewidths=0, zorder=2)
        if np.isfinite(low):
            ax.hlines(y + shift, max(low, mean / 10), high, color=colour, lw=1.1, zorder=3)
        ax.plot(mean, y + shift, marker="o", color=colour, mec=style.PAPER, mew=0.5, label=branch, zorder=4)
    mean, low, high = ratio(values) if len(values) else (np.nan,) * 3
    if measure == "distance" and np.isfinite(mean):
        span = f" {formats.interval((low, high))}" if np.isfinite(low) else ""
        _annotate(ax, y, f"×{words.number(mean, False)}{span}")


def _draw_printed_pair(ax: Axes, rows: pd.DataFrame, y: int, measure: str) -> None:
    value = rows.groupby("branch")[["value", "error"]].mean()
    printed = {
        str(branch): (float(v), float(e))
        for branch, v, e in zip(value.index, value["value"], value["error"], strict=True)
    }
    for branch, shift in zip(PAIR_BRANCHES, (-0.13, 0.13), strict=True):
        if branch in printed:
            mean, error = printed[branch]
            ax.errorbar(
                mean,
                y + shift,
                xerr=abs(error) if np.isfinite(error) else None,
                color=style.branch_colour(branch),
                marker="o",
                mec=style.PAPER,
                mew=0.5,
                elinewidth=1.1,
            )
    if measure == "distance" and set(PAIR_BRANCHES) <= set(printed):
        _annotate(ax, y, f"×{words.number(printed['random_prune'][0] / printed['imp'][0], False)}")


def _annotate(ax: Axes, y: int, text: str) -> None:
    ax.text(0.99, y, text, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7.5, fontweight="bold")


def interpolation_cells(data: Data, limit: int = 4) -> list[tuple[str, int, int]]:
    """(experiment, level, k) of each panel: at most `limit` rewind iterations of an experiment."""
    cells = []
    curves = set(zip(data.curves["run"], data.curves["run_b"], strict=True))
    for experiment in data.names():
        for level in estimates.focus_levels(data.table, experiment):
            rows = estimates.select(
                data.table, row="pair", experiment=experiment, comparison="data_order", level=[0, level]
            )
            pairs = zip(rows["k"], rows["run"], rows["run_b"], strict=True)
            grid = sorted({int(k) for k, run, other in pairs if (run, other) in curves})
            cells += [(experiment, level, k) for k in shown_grid(grid, limit)]
    return cells


def interpolation(data: Data, split: str = "test") -> Figure | None:
    """Error along the straight line between two data orders, a panel per experiment and rewind iteration."""
    cells = interpolation_cells(data)
    if not cells:
        return None
    wanted = ["run", "run_b", "experiment", "level", "branch", "k", "replicate"]
    rows = estimates.select(data.table, row="pair", comparison="data_order")[wanted]
    joined = data.curves[data.curves["split"] == split].merge(rows, on=["run", "run_b"], how="inner")
    columns = columns_for(len(cells), (4, 5, 6))
    figure, axes = panels(len(cells), columns, 1.85, sharey=True, sharex=True)
    for i, (ax, (experiment, level, k)) in enumerate(zip(axes, cells, strict=True)):
        panel = joined[(joined["experiment"] == experiment) & (joined["k"] == k) & joined["level"].isin([0, level])]
        for branch in ("dense", "random_prune", "imp"):
            _draw_line(
                ax, panel[(panel["branch"] == branch) & (panel["level"] == (0 if branch == "dense" else level))], branch
            )
        ax.set_title(f"{data.title(experiment, 22)}\nk = {k:,}", fontsize=7.6)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 100)
        ax.set_xticks([0, 0.5, 1], ["one", "", "other"])
        ax.tick_params(labelbottom=i + columns >= len(cells))
        ax.set_yticks([0, 25, 50, 75, 100])
        if i % columns == 0:
            ax.set_ylabel(f"{split} error (%)")
    extra = [
        Line2D([], [], color=style.MUTED, lw=1.6, label="BN statistics averaged"),
        Line2D([], [], color=style.MUTED, lw=1.2, ls=(0, (1.5, 1.5)), label="BN statistics re-estimated"),
    ]
    style.branch_legend(figure, ("dense", *PAIR_BRANCHES), extra)
    return figure


def _draw_line(ax: Axes, rows: pd.DataFrame, branch: str) -> None:
    """Thin lines: replicates. Thick: their mean. Dotted: the mean with re-estimated BatchNorm, where it differs."""
    if rows.empty:
        return
    colour = style.branch_colour(branch)
    # alphas are rounded for joining: they come from a division
    rows = rows.assign(alpha=rows["alpha"].round(6))
    kinds = {
        kind: group.pivot_table(index="alpha", columns="replicate", values="error", aggfunc="mean")
        for kind, group in rows.groupby("batch_norm")
    }
    averaged, again = kinds.get("averaged"), kinds.get("re-estimated")
    if averaged is not None:
        ax.plot(averaged.index, averaged.to_numpy(), color=colour, lw=0.5, alpha=0.45)
        ax.plot(averaged.index, averaged.mean(axis=1), color=colour, lw=1.7, label=branch)
    if again is not None:
        mean = again.mean(axis=1)
        if averaged is None or not np.allclose(mean.reindex(averaged.index), averaged.mean(axis=1), atol=0.05):
            ax.plot(mean.index, mean, color=colour, lw=1.3, ls=(0, (1.5, 1.5)), label=f"{branch} re-estimated")
