"""Replicate values, means and t intervals from the tidy table, for the figures.

A replicate's value is the mean over its matching rows with status ok (the same rule as the claims'), so the pairs of
one replicate never count as independent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.claims.statistics import grid_step, t_interval
from harness.paper.columns import PERCENT_MEASURES

COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("row", "experiment", "branch", "comparison", "run", "run_b", "status"), ""),
    **dict.fromkeys(("replicate", "k", "level", "data_order", "data_order_b"), 0),
    **dict.fromkeys(("density", "train_accuracy", "test_accuracy"), np.nan),
    **dict.fromkeys(("train_loss", "test_loss", "steps", "seconds", "distance", "angle"), np.nan),
    **dict.fromkeys(("start_test_accuracy", "operations"), np.nan),
    **dict.fromkeys(("instability_test", "instability_train"), np.nan),
    **dict.fromkeys(("instability_test_reestimated", "instability_train_reestimated"), np.nan),
}
CURVE_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("run", "run_b", "batch_norm", "split"), ""),
    **dict.fromkeys(("alpha", "error"), np.nan),
}
PUBLISHED_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("figure", "experiment", "branch", "k_unit", "comparison", "measure", "obtained", "note"), ""),
    **dict.fromkeys(("k", "density", "value", "error"), np.nan),
}


def complete(frame: pd.DataFrame | None, columns: dict[str, Any]) -> pd.DataFrame:
    """The frame with every expected column present and text columns free of NaN; an absent frame becomes empty."""
    frame = pd.DataFrame() if frame is None else frame.copy()
    for name, default in columns.items():
        if name not in frame:
            kind = type(default) if default != "" else object
            frame[name] = pd.Series([default] * len(frame), index=frame.index, dtype=kind)
        elif default == "":
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str)
        elif isinstance(default, float):
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
        else:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").fillna(default).astype(int)
    return frame


def papers_own(experiments: Mapping[str, Mapping[str, Any]], paper: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The paper's network row of each experiment that has the row's network, data set and whole recipe.

    Only these experiments' values can be drawn over the published ones.
    """
    rows = (paper.get("networks") or {}).values()
    keys = ("network", "data", "recipe")
    equal = {name: [r for r in rows if all(r.get(k) == e.get(k) for k in keys)] for name, e in experiments.items()}
    return {name: dict(same[0]) for name, same in equal.items() if same}


def in_steps(published: pd.DataFrame, own: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Published rows with k converted from epochs to steps, for experiments in `own` (see `papers_own`)."""
    published = published.copy()
    for name, row in own.items():
        if row.get("epochs"):
            in_epochs = (
                (published["experiment"] == name) & (published["k_unit"] == "epoch") & np.isfinite(published["k"])
            )
            published.loc[in_epochs, "k"] *= row["recipe"]["steps"] / row["epochs"]
            published.loc[in_epochs, "k_unit"] = "step"
    return published


def mean_interval(values: Sequence[float] | np.ndarray, step: float = 0.0) -> tuple[float, float, float]:
    """(mean, low, high) of the claims' 95% t interval; low and high are NaN if there is none to draw.

    There is none for fewer than two values, nor for equal values without a known grid `step` (it is then unbounded).
    """
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    if data.size < 2:
        return float(data[0]) if data.size else float("nan"), float("nan"), float("nan")
    mean, low, high = (float(bound) for bound in t_interval([data], steps=[step]))
    return (mean, low, high) if np.isfinite(high - low) else (mean, float("nan"), float("nan"))


def grid_of(table: pd.DataFrame, experiment: str, measure: str) -> float:
    """The grid step of an experiment's values of a measure, as for the claims; 0.0 for continuous measures."""
    return grid_step(table.loc[table["experiment"] == experiment, measure]) if measure in PERCENT_MEASURES else 0.0


def select(table: pd.DataFrame, **cell: Any) -> pd.DataFrame:
    """Rows with status ok whose columns equal the given values; a list matches any of its members."""
    keep = table["status"] == "ok"
    for name, value in cell.items():
        keep &= table[name].isin(value) if isinstance(value, (list, tuple, set)) else table[name] == value
    return table[keep]


def replicate_values(rows: pd.DataFrame, by: Sequence[str], measure: str, grid: float = 0.0) -> pd.DataFrame:
    """Columns `by`, replicate, density, value, step: one row per replicate and cell.

    `grid` is the step of single values; a mean of several rows has the finer `step`.
    """
    keys = [*by, "replicate"]
    grouped = rows[np.isfinite(rows[measure])].groupby(keys, sort=True)
    means = grouped[["density", measure]].mean().assign(step=grid / grouped.size()).reset_index()
    return means.rename(columns={measure: "value"})


def summarise(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Columns `by`, density, n, mean, low, high from `replicate_values`."""
    records = []
    for key, group in values.groupby(list(by), sort=True):
        mean, low, high = mean_interval(group["value"].to_numpy(), group["step"].max())
        named = dict(zip(by, key, strict=True))
        records.append(
            {**named, "density": group["density"].mean(), "n": len(group), "mean": mean, "low": low, "high": high}
        )
    return pd.DataFrame(records, columns=[*by, "density", "n", "mean", "low", "high"])


def overall(rows: pd.DataFrame, measure: str, grid: float = 0.0) -> tuple[float, float, float, int]:
    """(mean, low, high, replicates) of all the rows as one cell; NaN without a value."""
    cell = summarise(replicate_values(rows.assign(cell=0), ["cell"], measure, grid), ["cell"])
    if cell.empty:
        return float("nan"), float("nan"), float("nan"), 0
    mean, low, high = (float(cell[name].iloc[0]) for name in ("mean", "low", "high"))
    return mean, low, high, int(cell["n"].iloc[0])


def experiments(table: pd.DataFrame, order: Sequence[str] = ()) -> list[str]:
    """Experiments with rows in the table: in the scale's order, then any others by name."""
    present = set(table["experiment"]) - {""}
    return [name for name in order if name in present] + sorted(present - set(order))


def total_steps(table: pd.DataFrame, experiment: str) -> float | None:
    """The steps of an experiment's dense run (the paper's T), not of copies from a snapshot; None without one."""
    rows = select(table, experiment=experiment, row="network", level=0, k=0, data_order=0)
    total = rows["steps"].max()
    return float(total) if np.isfinite(total) and total > 0 else None


def focus_levels(table: pd.DataFrame, experiment: str, limit: int = 1) -> list[int]:
    """The levels at which an experiment compares branches: most rewind iterations first, then lowest density."""
    rows = select(table, experiment=experiment, row="network")
    rows = rows[rows["level"] > 0]
    if rows.empty:
        return []
    candidates = [
        (int(group["branch"].nunique()), int(group["k"].nunique()), level) for level, group in rows.groupby("level")
    ]
    ranked = sorted(((min(branches, 2), ks, int(str(level))) for branches, ks, level in candidates), reverse=True)
    return [level for branches, _, level in ranked[:limit] if branches > 1 or level == ranked[0][2]]
