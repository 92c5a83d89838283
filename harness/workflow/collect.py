"""The collect stage: the tidy table, all curves, the networks' checksums, and what was run, on what, for how long."""

import datetime
from collections.abc import Iterable
from typing import Any

import pandas as pd

from harness.analysis.table import CURVE_KEYS, tidy
from harness.files import read_json, write_atomically, write_json
from harness.plan import all_runs, stages
from harness.spec import Spec
from harness.training.store import SNAPSHOTS, Store
from harness.workflow.clock import energy_joules, wall_clock_seconds
from harness.workflow.context import Folders
from harness.workflow.environment import environment
from harness.workflow.reuse import PULLED


def collect_stage(spec: Spec, folders: Folders) -> None:
    """Write table.parquet, curves.parquet, networks.json and provenance.json."""
    store = Store(folders.runs)
    records = {run.id: store.read(run.id) for run in all_runs(spec)}
    table, curves = tables(spec, folders, records.values())
    write_atomically(folders.table, lambda path: table.to_parquet(path, index=False))
    write_atomically(folders.all_curves, lambda path: curves.to_parquet(path, index=False))
    write_json(folders.networks, networks(store, records))
    write_json(folders.provenance, provenance(spec, folders))


def tables(spec: Spec, folders: Folders, records: Iterable[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tidy table and all curves, from the records of networks and what the comparing stages wrote."""
    compared = [stage.name for stage in stages(spec) if stage.kind == "stability"]
    parts = [pd.read_parquet(folders.curves(name)) for name in compared]
    table = tidy(records, [pd.read_parquet(folders.pairs(name)) for name in compared])
    curves = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return table, curves.sort_values(CURVE_KEYS, ignore_index=True)  # however the run was cut into jobs


def networks(store: Store, records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every run's record, and the checksums of its snapshots: what was made from what, for who lacks the networks."""
    found = {}
    for run, record in records.items():
        found[run] = {name: value for name, value in record.items() if name != PULLED}
        if "snapshots" in record:
            snapshots = store.read(f"{run}{SNAPSHOTS}")
            found[f"{run}{SNAPSHOTS}"] = {name: snapshots[name] for name in ("key", "sha256", "parts")}
    return found


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
        "energy_joules": energy_joules(folders),
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
