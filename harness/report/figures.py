"""The paper's figures from the tidy table. Each function takes `Data` and returns a Figure, or None without data.

Every measured point is a replicate (small dot), every line a mean over replicates, every bar its 95% t interval.
Published numbers are drawn dotted under the measured ones if the experiment has the paper's network, data set and
recipe. Other published numbers have separate panels, which are tinted and labelled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.base import words
from harness.lottery import branches
from harness.report import estimates, style

WIDTH = 10.4  # inches: the page's column
BRANCHES = tuple(name for name in branches.BRANCHES if name != "dense")


@dataclass(frozen=True)
class Data:
    """The data of every figure.

    `experiments` is the scale's dict of experiments (for titles and order), `own` names those whose measured values can
    be drawn over the paper's (see `estimates.papers_own`). `thresholds` maps a field of the paper's file to its bound:
    (points, source). A `study` makes no claim and compares methods.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    published: pd.DataFrame
    experiments: Mapping[str, Mapping[str, Any]]
    own: frozenset[str] = frozenset()
    thresholds: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    study: bool = False

    @classmethod
    def of(
        cls,
        table: pd.DataFrame | None,
        curves: pd.DataFrame | None = None,
        published: pd.DataFrame | None = None,
        experiments: Mapping[str, Mapping[str, Any]] | None = None,
        paper: Mapping[str, Any] | None = None,
    ) -> "Data":
        own = estimates.papers_own(experiments or {}, paper or {})
        return cls(
            estimates.complete(table, estimates.COLUMNS),
            estimates.complete(curves, estimates.CURVE_COLUMNS),
            estimates.in_steps(estimates.complete(published, estimates.PUBLISHED_COLUMNS), own),
            experiments or {},
            frozenset(own),
            thresholds_of(paper or {}),
            (paper or {}).get("claims") == 0,
        )

    def bound(self, name: str) -> float | None:
        """A threshold of the paper in points, or None where it has none."""
        return self.thresholds[name][0] if name in self.thresholds else None

    def names(self) -> list[str]:
        return estimates.experiments(self.table, list(self.experiments))

    def title(self, experiment: str, width: int = 30) -> str:
        """An experiment's title, wrapped into at most two lines of `width` characters."""
        text = words.clean(self.experiments.get(experiment, {}).get("title") or experiment)
        return "\n".join(wrap(text, width, max_lines=2, placeholder=" …"))

    def grid_of(self, experiment: str, measure: str) -> float:
        """The grid that an experiment's values of a measure lie on; 0.0 for a continuous measure."""
        return estimates.grid_of(self.table, experiment, measure)

    def grid(self, experiment: str | None = None) -> list[int]:
        """All rewind iterations in the table (of one experiment)."""
        rows = self.table if experiment is None else self.table[self.table["experiment"] == experiment]
        return sorted({int(k) for k in rows["k"]})


def thresholds_of(paper: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """(points, source) of each threshold that the paper's file gives."""
    thresholds = {name: paper.get(name) or {} for name in ("stable_below", "matching_within")}
    values = {name: words.finite(threshold.get("value")) for name, threshold in thresholds.items()}
    return {name: (value, words.clean(thresholds[name].get("source"))) for name, value in values.items() if value}


def draw_series(
    ax: Axes,
    values: pd.DataFrame,
    x: np.ndarray,
    key: str,
    at: Sequence[Any],
    *,
    colour: str,
    mark: str = "o",
    label: str = "",
    dots: bool = True,
) -> None:
    """Replicate dots, interval bars and the mean's line. `at[i]` is the cell drawn at position `x[i]`."""
    summary = estimates.summarise(values, [key]).set_index(key)
    present = [i for i, cell in enumerate(at) if cell in summary.index]
    if not present:
        return
    where = np.asarray(x, dtype=float)[present]
    rows = summary.loc[[at[i] for i in present]]
    if dots:
        positions = dict(zip((at[i] for i in present), where, strict=True))
        shown = values[values[key].isin(positions)]
        ax.scatter(shown[key].map(positions), shown["value"], s=6, color=colour, alpha=0.4, linewidths=0, zorder=2)
    ax.vlines(where, rows["low"], rows["high"], color=colour, lw=1.0, alpha=0.8, zorder=3)
    ax.plot(where, rows["mean"], color=colour, marker=mark, mec=style.PAPER, mew=0.5, label=label, zorder=4)


def dense_band(ax: Axes, data: Data, experiment: str, measure: str = "test_accuracy") -> None:
    """The dense network's mean as a line, its interval as a band: all data orders, trained from the start.

    Copies trained from a snapshot k > 0 are used only if the table has no other.
    """
    rows = estimates.select(data.table, experiment=experiment, row="network", level=0)
    whole = rows[rows["k"] == 0]
    mean, low, high, _ = estimates.overall(rows if whole.empty else whole, measure, data.grid_of(experiment, measure))
    if np.isfinite(mean):
        if np.isfinite(low):
            ax.axhspan(low, high, color=style.COLOURS["dense"], alpha=0.12, lw=0, zorder=0)
        ax.axhline(mean, color=style.COLOURS["dense"], lw=1.2, ls=(0, (5, 2)), label="dense", zorder=1)


def panels(n: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with n panels in rows of `columns`."""
    columns = max(1, min(n, columns))
    rows = -(-n // columns)
    wide = WIDTH if n > 2 else WIDTH * (0.4 if n == 1 else 0.66)
    figure = Figure(figsize=(wide, rows * height + 0.35), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for ax in axes[n:]:
        ax.remove()
    return figure, axes[:n]


def columns_for(n: int, choices: Sequence[int] = (3, 4)) -> int:
    """The number of columns that leaves the fewest empty panels; of equal choices the larger."""
    return min(choices, key=lambda c: (-(-n // c) * c, -c))


def density_axis(ax: Axes, densities: Sequence[float]) -> None:
    """Weights remaining in percent on a log axis that falls from left to right, ticks at the levels."""
    shown = sorted({round(float(d), 6) for d in densities} | {1.0}, reverse=True)
    step = -(-len(shown) // 7)
    ax.set_xscale("log")
    style.plain_ticks(ax.xaxis, [])
    ax.set_xticks([d * 100 for d in shown[::step]], [f"{d * 100:.3g}" for d in shown[::step]])
    ax.set_xlim(100 * 1.12, min(shown) * 100 / 1.18)
    ax.set_xlabel("weights remaining (%, log scale)")


def shown_grid(grid: Sequence[int], limit: int = 3) -> list[int]:
    """At most `limit` of the rewind iterations, always with the first and the last."""
    if len(grid) <= limit:
        return list(grid)
    return sorted({grid[round(i)] for i in np.linspace(0, len(grid) - 1, limit)})


def told_apart(rows: pd.DataFrame, limit: int = 3) -> list[int]:
    """At most `limit` rewind iterations to draw over densities: those with baselines, then IMP, at most levels.

    A rewind iteration with a single level makes no curve and is drawn only if there is no other.
    """
    grid = sorted({int(k) for k in rows["k"]})
    rows = rows.assign(baseline=rows["level"].where(rows["branch"] != "imp"))
    counts = rows.groupby("k")[["baseline", "level"]].nunique()
    rank = {k: (int(counts["baseline"][k]), int(counts["level"][k])) for k in grid}
    chosen: list[int] = []
    for best in sorted({rank[k] for k in grid if rank[k][1] > 1} or set(rank.values()), reverse=True):
        room = limit - len(chosen)
        alike = [k for k in grid if rank[k] == best]
        # beside earlier choices the first of many adds least
        chosen += alike if len(alike) <= room else shown_grid(alike, room + bool(chosen))[-room:]
        if len(chosen) >= limit:
            break
    return sorted(chosen)


def accuracy_density(data: Data) -> Figure | None:
    """Accuracy against density, a panel per experiment (STAB Figures 1, 5, 8 and 9)."""
    measured = [e for e in data.names() if len(estimates.select(data.table, experiment=e, row="network"))]
    tables = {e: _published_densities(data, e) for e in measured}
    printed = [e for e in measured if len(tables[e]) and e not in data.own]
    if not measured:
        return None
    n = len(measured) + len(printed)
    figure, axes = panels(n, columns_for(n), 2.65)
    for ax, experiment in zip(axes, measured, strict=False):
        _measured_densities(ax, data, experiment)
        if experiment in data.own:
            _draw_under(ax, data, tables[experiment])
    for ax, experiment in zip(axes[len(measured) :], printed, strict=True):
        _draw_published_densities(ax, tables[experiment])
    for ax, experiment in zip(axes, measured + printed, strict=True):
        ax.set_title(data.title(experiment, 38 if columns_for(n) == 3 else 30))
    under = [style.under_handle()] * any(e in data.own and len(tables[e]) for e in measured)
    style.branch_legend(figure, ["dense", *(b for b in BRANCHES if b in set(data.table["branch"]))], under)
    return figure


def _measured_densities(ax: Axes, data: Data, experiment: str) -> None:
    rows = estimates.select(data.table, experiment=experiment, row="network")
    dense_band(ax, data, experiment)
    rows = rows[rows["level"] > 0]
    grid = sorted({int(k) for k in rows["k"]})
    densities = rows.groupby("level")["density"].mean()
    counted = data.grid_of(experiment, "test_accuracy")
    levels = [int(level) for level in densities.index]
    shown = told_apart(rows)
    for branch in reversed(BRANCHES):
        for i, k in enumerate(shown):
            values = estimates.replicate_values(select_branch(rows, branch, k), ["level"], "test_accuracy", counted)
            # rewind iterations are drawn side by side, so that intervals do not overlap
            x = densities.to_numpy() * 100 * 1.022 ** ((len(shown) - 1) / 2 - i)
            colour = style.shade(k, grid) if branch == "imp" else style.branch_colour(branch)
            draw_series(
                ax,
                values,
                x,
                "level",
                levels,
                colour=colour,
                mark=style.marker(k, data.grid()),
                label=f"{branch} k={k}",
            )
    density_axis(ax, list(densities))
    ax.set_ylabel("test accuracy (%)")
    marks = [
        Line2D([], [], color=style.shade(k, grid), marker=style.marker(k, data.grid()), ms=4, label=f"k = {k:,}")
        for k in shown
    ]
    ax.legend(handles=marks, loc="lower left", handlelength=1.6, labelspacing=0.25, borderaxespad=0.2)


def _draw_under(ax: Axes, data: Data, rows: pd.DataFrame) -> None:
    """The published curves beneath the measured ones, in the colours of the same branch and k."""
    measured = estimates.select(data.table, experiment=list(set(rows["experiment"])), row="network")
    grid = sorted({int(k) for k in measured[measured["level"] > 0]["k"]})
    for _, group in rows[rows["branch"] != "dense"].groupby(["figure", "branch", "k"]):
        branch, k = str(group["branch"].iloc[0]), int(group["k"].iloc[0])
        colour = style.shade(k, grid) if branch == "imp" and k in grid else style.branch_colour(branch)
        group = group.sort_values("density", ascending=False)
        ax.plot(group["density"] * 100, group["value"], color=colour, **style.UNDER)
    full = rows[rows["branch"] == "dense"]["value"]
    if len(full):
        ax.axhline(full.iloc[0], color=style.COLOURS["dense"], **{**style.UNDER, "marker": ""})


def select_branch(rows: pd.DataFrame, branch: str, k: int) -> pd.DataFrame:
    return rows[(rows["branch"] == branch) & (rows["k"] == k)]


def spread(error: pd.Series) -> np.ndarray:
    """Printed errors as lengths of error bars; 0 if the paper prints none."""
    return np.nan_to_num(error.abs().to_numpy(dtype=float))


def _published_densities(data: Data, experiment: str) -> pd.DataFrame:
    rows = data.published
    rows = rows[(rows["experiment"] == experiment) & (rows["measure"] == "test_accuracy") & np.isfinite(rows["value"])]
    return rows if rows.loc[np.isfinite(rows["density"]), "density"].nunique() > 2 else rows.iloc[:0]


def _draw_published_densities(ax: Axes, rows: pd.DataFrame) -> None:
    full = rows[rows["branch"] == "dense"]["value"]
    if len(full):
        ax.axhline(full.iloc[0], color=style.COLOURS["dense"], lw=1.2, ls=(0, (5, 2)))
    grid = sorted({k for k in rows["k"] if np.isfinite(k)})
    handles = {}
    for _, group in rows[rows["branch"] != "dense"].groupby(["figure", "branch", "k"], dropna=False):
        group = group.sort_values("density", ascending=False)
        branch, k, step = group["branch"].iloc[0], group["k"].iloc[0], words.clean(group["k_unit"].iloc[0])
        colour = style.shade(k, grid) if branch == "imp" and k in grid else style.branch_colour(branch)
        x, bars = group["density"] * 100, spread(group["error"])
        lines = ax.errorbar(x, group["value"], yerr=bars, color=colour, marker="o", ms=3, lw=1.2, elinewidth=0.8)
        if branch == "imp":
            handles[f"k = {words.number(k)}{' epochs' if step == 'epoch' else ''}"] = lines[0]
    density_axis(ax, [d for d in rows["density"] if 0 < d <= 1])
    ax.set_ylabel("test accuracy (%)")
    style.mark_published(ax)
    ax.legend(
        list(handles.values()), list(handles), loc="lower left", handlelength=1.6, labelspacing=0.25, borderaxespad=1.4
    )
