"""The stability stage: distances and angles of every pair, and the straight line between those that ask for it."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.analysis.distance import distance_and_angle
from harness.analysis.interpolation import BATCH_NORM, line
from harness.analysis.table import CURVE_COLUMNS
from harness.files import write_atomically
from harness.networks import build, prunable_names
from harness.plan import Pair, Run, Stage, pairs
from harness.training.loop import use_threads
from harness.training.state import State, stacked
from harness.training.store import state_of
from harness.workflow.context import Context


def compare_stage(context: Context, stage: Stage, threads: int) -> dict[str, Any]:
    """Compare the stage's pairs and write its two tables. Returns how many pairs there are."""
    use_threads(threads)
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    for group in pairs(context.spec, stage):
        healthy = [pair for pair in group if _status(context, pair) == "ok"]
        rows += [_row(pair, _status(context, pair)) for pair in group if pair not in healthy]
        if healthy:
            more, drawn = _compare(context, healthy)
            rows += more
            curves += drawn
    table, lines = pd.DataFrame(rows), pd.concat(curves, ignore_index=True) if curves else _no_curves()
    write_atomically(context.folders.pairs(stage.name), lambda path: table.to_parquet(path, index=False))
    write_atomically(context.folders.curves(stage.name), lambda path: lines.to_parquet(path, index=False))
    return {"pairs": len(rows)}


def _no_curves() -> pd.DataFrame:
    return pd.DataFrame(columns=CURVE_COLUMNS)


def _compare(context: Context, group: list[Pair]) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Rows and curves of one pair per replicate, computed side by side."""
    network = build(context.setting.network, len(group), context.data.input_shape, context.data.classes).to(
        context.device
    )
    a, masks_a = _finals(context, [pair.run for pair in group])
    b, masks_b = _finals(context, [pair.run_b for pair in group])
    # dense against subnetwork: the subnetwork's mask on both; two dense networks: everything that could be pruned
    masks = masks_b or masks_a or {name: torch.ones_like(a.weights[name]) for name in prunable_names(network)}
    distance, angle = distance_and_angle(a.weights, b.weights, masks)
    rows = [_row(pair, "ok") for pair in group]
    for position, row in enumerate(rows):
        row["distance"], row["angle"] = float(distance[position]), float(angle[position])
    if not group[0].interpolated:
        return rows, []
    options, data = context.setting.line, context.data
    samples = {
        "train": (data.x["train"][: options.train_samples], data.y["train"][: options.train_samples]),
        "test": (data.x["test"][: options.test_samples], data.y["test"][: options.test_samples]),
    }
    found = line(network, a, b, samples, points=options.points)
    for position, row in enumerate(rows):
        for way, suffix in zip(BATCH_NORM, ("", "_reestimated"), strict=True):
            for split in samples:
                row[f"instability_{split}{suffix}"] = float(found.instability(way, split)[position])
    curves = [
        pd.DataFrame(
            {
                "run": pair.run.id,
                "run_b": pair.run_b.id,
                "batch_norm": way,
                "split": split,
                "alpha": found.alphas,
                "error": np.asarray(found.error[way][split][:, position], dtype=float),
            }
        )
        for position, pair in enumerate(group)
        for way in BATCH_NORM
        for split in samples
    ]
    return rows, curves


def _finals(context: Context, runs: list[Run]) -> tuple[State, dict[str, torch.Tensor]]:
    """Final states and masks (none for dense networks) of one run per replicate, stacked."""
    loaded = [context.store.load(run.id) for run in runs]
    states = []
    for tensors in loaded:
        final = {name.removeprefix("final/"): value for name, value in tensors.items() if name.startswith("final/")}
        states.append(state_of(final, context.recipe.steps))
    names = [name.removeprefix("mask/") for name in loaded[0] if name.startswith("mask/")]
    return stacked(states), {
        name: torch.stack([tensors[f"mask/{name}"].float() for tensors in loaded]) for name in names
    }


def _status(context: Context, pair: Pair) -> str:
    statuses = [context.store.read(run.id)["status"] for run in (pair.run, pair.run_b)]
    return next((status for status in statuses if status != "ok"), "ok")


def _row(pair: Pair, status: str) -> dict[str, Any]:
    """The describing columns of a pair: those of its second run, which is the subnetwork or the later copy."""
    run = pair.run_b
    return {
        "row": "pair",
        "experiment": run.experiment,
        "replicate": run.replicate,
        "branch": run.branch,
        "k": run.k,
        "level": run.level,
        "data_order": pair.run.data_order,
        "data_order_b": run.data_order,
        "comparison": pair.comparison,
        "run": pair.run.id,
        "run_b": run.id,
        "status": status,
    }
