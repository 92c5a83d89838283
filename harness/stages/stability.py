"""The stability stage: distance and angle of every pair, and the linear interpolation of the pairs that need it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.base import processes
from harness.base.files import file_sha256, write_atomically
from harness.data.images import Images
from harness.lottery.distance import distance_and_angle
from harness.lottery.interpolation import BATCH_NORM, line
from harness.networks import build, prunable_names
from harness.networks.layers import Stack
from harness.paper.columns import CURVE_COLUMNS
from harness.plan.cut import cut
from harness.plan.runs import Pair, Run, pairs
from harness.results.context import Context, Work
from harness.results.store import state_of
from harness.training.loop import use_threads
from harness.training.state import State, stacked


def stability_stage(work: Work) -> dict[str, Any]:
    """Compare the stage's pairs and write its two tables. Returns fields of the stage's record."""
    context, stage = work.context, work.stage
    compared = _compare_all(work)
    rows, curves = [row for rows, _ in compared for row in rows], [curve for _, own in compared for curve in own]
    table, lines = pd.DataFrame(rows), pd.concat(curves, ignore_index=True) if curves else _no_curves()
    write_atomically(context.folders.pairs(stage.name), lambda path: table.to_parquet(path, index=False))
    write_atomically(context.folders.curves(stage.name), lambda path: lines.to_parquet(path, index=False))
    written = (context.folders.pairs(stage.name), context.folders.curves(stage.name))
    outputs = {path.name: file_sha256(path) for path in written}
    return {"training_seconds": 0.0, "steps": 0, "pairs": len(rows), "outputs": outputs}


def _compare_all(work: Work) -> list[tuple[list[dict[str, Any]], list[pd.DataFrame]]]:
    """Rows and curves of all pairs; on a CPU the job's threads are processes that compare parts of the groups."""
    shares = cut(work.spec, work.stage, work.threads if work.context.device.type == "cpu" else 1)
    tasks = [(index, part) for index in range(len(pairs(work.spec, work.stage))) for part in shares.parts]
    if shares.workers == 1:
        use_threads(work.threads, work.context.recipe.precision)
        return [_compare_part(work, *task) for task in tasks]
    with processes.crew(shares.workers, _comparer, replace(work, threads=work.threads // shares.workers)) as crew:
        return [future.result() for future in [crew.start(_compare_part, *task) for task in tasks]]


def _comparer(work: Work) -> Work:
    use_threads(work.threads, work.context.recipe.precision)
    return work


def _compare_part(
    work: Work, index: int, replicates: tuple[int, ...]
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Rows and curves of some replicates' pairs in the group of this index, in the replicates' order."""
    context = work.context
    group = pairs(context.spec, replace(work.stage, replicates=replicates))[index]
    healthy = [pair for pair in group if _status(context, pair) == "ok"]
    compared, curves = _compare(context, healthy) if healthy else ([], [])
    left = iter(compared)
    rows = [next(left) if pair in healthy else pair_row(pair, _status(context, pair)) for pair in group]
    return rows, curves


def _no_curves() -> pd.DataFrame:
    return pd.DataFrame(columns=CURVE_COLUMNS)


def _compare(context: Context, group: list[Pair]) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """Rows and curves of one pair per replicate, computed together."""
    network = build(context.setting.network, len(group), context.data.input_shape, context.data.classes).to(
        context.device
    )
    a, masks_a = _finals(context, [pair.run for pair in group])
    b, masks_b = _finals(context, [pair.run_b for pair in group])
    # dense and subnetwork: apply the subnetwork's mask to both; two dense networks: use every prunable weight; two
    # subnetworks whose masks changed while they trained: use what either keeps
    masks = masks_b or masks_a or {name: torch.ones_like(a.weights[name]) for name in prunable_names(network)}
    masks = {name: torch.maximum(mask, masks_a.get(name, mask)) for name, mask in masks.items()}
    distance, angle = distance_and_angle(a.weights, b.weights, masks)
    rows = [pair_row(pair, "ok") for pair in group]
    for position, row in enumerate(rows):
        row["distance"], row["angle"] = float(distance[position]), float(angle[position])
    if not group[0].interpolated:
        return rows, []
    return rows, _interpolate(context, group, network, (a, b), rows)


def _interpolate(
    context: Context, group: list[Pair], network: Stack, ends: tuple[State, State], rows: list[dict[str, Any]]
) -> list[pd.DataFrame]:
    """Error curves between each pair's two networks (`ends`). Adds each pair's instability to its row."""
    options, data = context.setting.line, context.data
    samples: dict[str, tuple[Tensor | Images, Tensor]] = {
        "train": (data.x["train"][: options.train_samples], data.y["train"][: options.train_samples]),
        "test": (data.x["test"][: options.test_samples], data.y["test"][: options.test_samples]),
    }
    interpolation = line(network, *ends, samples, points=options.points)
    for position, row in enumerate(rows):
        for way, suffix in zip(BATCH_NORM, ("", "_reestimated"), strict=True):
            for split in samples:
                row[f"instability_{split}{suffix}"] = float(interpolation.instability(way, split)[position])
    return [
        pd.DataFrame(
            {
                "run": pair.run.id,
                "run_b": pair.run_b.id,
                "batch_norm": way,
                "split": split,
                "alpha": interpolation.alphas,
                "error": np.asarray(interpolation.error[way][split][:, position], dtype=float),
            }
        )
        for position, pair in enumerate(group)
        for way in BATCH_NORM
        for split in samples
    ]


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


def pair_row(pair: Pair, status: str) -> dict[str, Any]:
    """The identifying columns of a pair. Most are its second run's: the subnetwork or the later copy."""
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
