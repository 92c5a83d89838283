"""Onsets against density: the k from which networks are stable, and from which they match the dense network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.base import words
from harness.claims.statistics import onset_positions
from harness.report import estimates, style
from harness.report.figures import WIDTH, Data, density_axis

BRANCHES = ("dense", "imp", "random_prune", "random_reinit")
FEWEST = 3  # rewind iterations at a density; an onset on fewer means nothing
COLUMNS = 4
NEVER = "never"


@dataclass(frozen=True)
class Kind:
    """A row of panels: its threshold, the published measure under it, the label of its y axis."""

    threshold: str
    measure: str
    label: str


KINDS = (
    Kind("stable_below", "stable_k", "stable from k"),
    Kind("matching_within", "matching_k", "matching from k"),
)


def onsets(data: Data, kind: Kind, experiment: str) -> pd.DataFrame:
    """Columns branch, density, replicate, k: the onset of every replicate, infinite if never reached on its grid.

    A replicate counts at a density if it has all rewind iterations of that density.
    """
    bound = data.bound(kind.threshold)
    columns = ["branch", "density", "replicate", "k"]
    if bound is None:
        return pd.DataFrame(columns=columns)
    values = _misses(data, kind, experiment)
    records = []
    for branch, level in sorted(set(zip(values["branch"], values["level"], strict=True))):
        cell = values[(values["branch"] == branch) & (values["level"] == level)]
        table = cell.pivot(index="replicate", columns="k", values="value").dropna()
        if table.shape[1] < FEWEST or table.empty:
            continue
        # stable: from that k on; matching: the first such k, since late k leave too few steps to match
        if kind.measure == "stable_k":
            positions = onset_positions(table.to_numpy(), bound)
        else:
            below = table.to_numpy() < bound
            positions = np.where(below.any(axis=1), below.argmax(axis=1), table.shape[1])
        ks = np.array([*table.columns, np.inf], dtype=float)[positions]
        density = float(cell["density"].mean())
        records += [(branch, density, replicate, k) for replicate, k in zip(table.index, ks, strict=True)]
    return pd.DataFrame(records, columns=columns)


def _misses(data: Data, kind: Kind, experiment: str) -> pd.DataFrame:
    """Columns branch, level, k, replicate, density, value: points of instability, or of accuracy below dense."""
    by = ["branch", "level", "k"]
    if kind.measure == "stable_k":
        rows = estimates.select(data.table, experiment=experiment, row="pair", comparison="data_order")
        return estimates.replicate_values(rows[rows["branch"].isin(BRANCHES)], by, "instability_test")
    rows = estimates.select(data.table, experiment=experiment, row="network")
    dense = estimates.replicate_values(rows[(rows["level"] == 0) & (rows["k"] == 0)], ["level"], "test_accuracy")
    rows = rows[(rows["level"] > 0) & rows["branch"].isin(BRANCHES)]
    values = estimates.replicate_values(rows, by, "test_accuracy")
    full = values["replicate"].map(dense.set_index("replicate")["value"])
    return values.assign(value=full - values["value"])


def published(data: Data, kind: Kind, experiment: str) -> pd.DataFrame:
    """The published onsets in steps, from figures that have two densities or more."""
    rows = data.published
    rows = rows[(rows["experiment"] == experiment) & (rows["measure"] == kind.measure) & (rows["k_unit"] == "step")]
    rows = rows[np.isfinite(rows["value"]) & np.isfinite(rows["density"]) & rows["branch"].isin(BRANCHES)]
    several = rows.groupby("figure")["density"].transform("nunique") >= 2
    return rows[several.astype(bool)].assign(k=lambda kept: kept["value"])


def onset_density(data: Data) -> Figure | None:
    """Onset against density: a panel of each kind per experiment that has onsets at two densities of subnetworks.

    Published onsets are drawn under the measured ones if the experiment has the paper's recipe, else in separate
    panels.
    """
    kinds = [kind for kind in KINDS if data.bound(kind.threshold) is not None]
    measured = {(kind, e): onsets(data, kind, e) for kind in kinds for e in data.names()}
    printed = {(kind, e): published(data, kind, e) for kind in kinds for e in data.names()}
    shown = [e for e in data.names() if any(_subnetworks(measured[kind, e]) > 1 for kind in kinds)]
    if not shown:
        return None
    apart = [e for e in shown if e not in data.own and any(len(printed[kind, e]) for kind in kinds)]
    cells = [(e, False) for e in shown] + [(e, True) for e in apart]
    bands = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    wide, deep = max(len(band) for band in bands), len(kinds)
    figure = Figure(figsize=(WIDTH * min(1.0, 0.34 * wide), 2.3 * deep * len(bands) + 0.4), layout="constrained")
    whole = figure.add_gridspec(deep * len(bands), wide)
    for b, band in enumerate(bands):
        for r, kind in enumerate(kinds):
            for c, (experiment, is_published) in enumerate(band):
                ax = figure.add_subplot(whole[b * deep + r, c])
                frames = [printed[kind, experiment] if is_published else measured[kind, experiment]]
                frames += [printed[kind, experiment]] * (experiment in data.own)
                grid: Iterable[float] = () if is_published else _misses(data, kind, experiment)["k"]
                _draw_panel(ax, frames, grid, is_published)
                ax.set_ylabel(kind.label if c == 0 else "")
                ax.set_title(data.title(experiment, 34 if wide < COLUMNS else 26) if r == 0 else "")
                ax.set_xlabel(ax.get_xlabel() if r == deep - 1 else "")
    drawn = {str(line.get_label()) for ax in figure.axes for line in ax.lines}
    style.branch_legend(figure, [b for b in BRANCHES if b in drawn], [style.under_handle()] * ("under" in drawn))
    return figure


def _subnetworks(measured: pd.DataFrame) -> int:
    """The number of densities, other than the dense network's, that have an onset."""
    return int(measured.loc[measured["branch"] != "dense", "density"].nunique())


def _draw_panel(ax: Axes, frames: Sequence[pd.DataFrame], grid: Iterable[float], is_published: bool) -> None:
    """The first frame as lines through medians, with dots for replicates; a second frame dotted under it.

    The rewind iterations of `grid` and of the frames are evenly spaced.
    """
    rows = pd.concat(list(frames), ignore_index=True)
    ks = sorted({float(k) for k in (*grid, *rows["k"]) if np.isfinite(k)})
    position = {**{k: float(i) for i, k in enumerate(ks)}, np.inf: float(len(ks))}
    for branch in BRANCHES:
        for under, frame in enumerate(frames):
            # rounded: a level's density and the published table's may differ by rounding
            rows_of_branch = frame[frame["branch"] == branch].assign(density=lambda f: f["density"].round(4))
            if rows_of_branch.empty:
                continue
            points = rows_of_branch.assign(y=[position[k] for k in rows_of_branch["k"]])
            # the lower median, which is a value of the grid
            line = points.groupby("density")["y"].quantile(0.5, interpolation="lower").sort_index(ascending=False)
            x, colour = line.index.to_numpy(dtype=float) * 100, style.branch_colour(branch)
            if under:
                ax.plot(x, line, color=colour, label="under", **style.UNDER)
                continue
            if not is_published:
                ax.scatter(points["density"] * 100, points["y"], s=7, color=colour, alpha=0.4, linewidths=0, zorder=2)
            ax.plot(x, line, color=colour, marker="o", mec=style.PAPER, mew=0.5, label=branch, zorder=4)
    ax.set_yticks([*range(len(ks) + 1)], [*(f"{k:,.0f}" for k in ks), "" if is_published else NEVER])
    ax.set_ylim(-1.2 if is_published else -0.5, len(ks) + 0.5)
    density_axis(ax, [float(d) for d in rows["density"]])
    if rows.empty:
        ax.text(0.5, 0.5, words.NOTHING, ha="center", transform=ax.transAxes, color=style.MUTED)
    if is_published:
        style.mark_published(ax)
