"""Replicate values, means and t intervals from the tidy table: what the figures draw.

A replicate's value is the mean over its matching rows with status ok (the same rule as the claims'), so the pairs of
one replicate never count as independent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("row", "experiment", "branch", "comparison", "run", "run_b", "status"), ""),
    **dict.fromkeys(("replicate", "k", "level", "data_order", "data_order_b"), 0),
    **dict.fromkeys(("density", "train_accuracy", "test_accuracy", "validation_accuracy"), np.nan),
    **dict.fromkeys(("train_loss", "test_loss", "steps", "seconds", "distance", "angle"), np.nan),
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


def t_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high) of the two-sided 95% t interval; low and high are NaN for fewer than two values."""
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    if data.size == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(data.mean())
    if data.size == 1:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size))
    return mean, mean - half, mean + half


def select(table: pd.DataFrame, **cell: Any) -> pd.DataFrame:
    """Rows with status ok whose columns equal the given values; a list matches any of its members."""
    keep = table["status"] == "ok"
    for name, value in cell.items():
        keep &= table[name].isin(value) if isinstance(value, (list, tuple, set)) else table[name] == value
    return table[keep]


def replicate_values(rows: pd.DataFrame, by: Sequence[str], measure: str) -> pd.DataFrame:
    """Columns `by`, replicate, density, value: one row per replicate and cell."""
    keys = [*by, "replicate"]
    rows = rows[np.isfinite(rows[measure])]
    means = rows.groupby(keys, sort=True)[["density", measure]].mean().reset_index()
    return means.rename(columns={measure: "value"})


def summarise(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Columns `by`, density, n, mean, low, high from `replicate_values`."""
    records = []
    for key, group in values.groupby(list(by), sort=True):
        mean, low, high = t_interval(group["value"].to_numpy())
        named = dict(zip(by, key, strict=True))
        records.append(
            {**named, "density": group["density"].mean(), "n": len(group), "mean": mean, "low": low, "high": high}
        )
    return pd.DataFrame(records, columns=[*by, "density", "n", "mean", "low", "high"])


def experiments(table: pd.DataFrame, listed: Sequence[str] = ()) -> list[str]:
    """Experiments with rows in the table: the scale's order first, then any it does not list, by name."""
    present = set(table["experiment"]) - {""}
    return [name for name in listed if name in present] + sorted(present - set(listed))


def total_steps(table: pd.DataFrame, experiment: str) -> float | None:
    """T of an experiment: a network rewound to k trains T - k steps."""
    rows = table[(table["experiment"] == experiment) & (table["row"] == "network") & (table["status"] == "ok")]
    total = (rows["steps"] + rows["k"]).max() if len(rows) else np.nan
    return float(total) if np.isfinite(total) and total > 0 else None


def focus_levels(table: pd.DataFrame, experiment: str, limit: int = 1) -> list[int]:
    """The levels where an experiment compares branches: most rewind iterations first, then the lowest density."""
    rows = select(table, experiment=experiment, row="network")
    rows = rows[rows["level"] > 0]
    if rows.empty:
        return []
    found = [
        (int(group["branch"].nunique()), int(group["k"].nunique()), level) for level, group in rows.groupby("level")
    ]
    ranked = sorted(((min(branches, 2), ks, int(str(level))) for branches, ks, level in found), reverse=True)
    return [level for branches, _, level in ranked[:limit] if branches > 1 or level == ranked[0][2]]
