"""The collect stage: the tidy table, all curves, and the record of what was run, on what, for how long."""

import datetime
from typing import Any

import pandas as pd

from harness.analysis.table import tidy
from harness.files import read_json, write_atomically, write_json
from harness.plan import all_runs, stages
from harness.spec import Spec
from harness.training.store import Store
from harness.workflow.clock import wall_clock_seconds
from harness.workflow.context import Folders
from harness.workflow.environment import environment


def collect_stage(spec: Spec, folders: Folders) -> None:
    """Write table.parquet, curves.parquet and provenance.json."""
    store = Store(folders.runs)
    compared = [stage.name for stage in stages(spec) if stage.kind == "stability"]
    table = tidy(
        (store.read(run.id) for run in all_runs(spec)), [pd.read_parquet(folders.pairs(name)) for name in compared]
    )
    parts = [pd.read_parquet(folders.curves(name)) for name in compared]
    curves = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    write_atomically(folders.table, lambda path: table.to_parquet(path, index=False))
    write_atomically(folders.all_curves, lambda path: curves.to_parquet(path, index=False))
    write_json(folders.provenance, provenance(spec, folders))


def provenance(spec: Spec, folders: Folders) -> dict[str, Any]:
    """What produced a run: code, packages, hardware, and each stage's seconds, steps and memory."""
    names = [stage.name for stage in stages(spec)]
    names += [f"prepare/{name}" for name in sorted({setting.data for setting in spec.scale.experiments.values()})]
    records = [read_json(folders.stage(name)) for name in names]
    started = min(record["started"] for record in records)
    finished = max(record["finished"] for record in records)
    training = sum(record["training_seconds"] for record in records)
    seconds = sum(record["seconds"] for record in records)
    return {
        **environment(),
        "paper": spec.paper.id,
        "scale": spec.scale_name,
        "started": _iso(started),
        "finished": _iso(finished),
        # a plain run of the workflow engine keeps no clock: then the time in which any stage ran
        "wall_clock_seconds": wall_clock_seconds(folders) or _union([(r["started"], r["finished"]) for r in records]),
        "network_core_seconds": sum(record.get("network_seconds", record["training_seconds"]) for record in records),
        "training_share": training / seconds if seconds else 0.0,
        "stages": records,
    }


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of time spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
