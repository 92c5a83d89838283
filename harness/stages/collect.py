"""The collect stage: the tidy table, all curves, the networks' checksums, and the run's provenance."""

import datetime
from collections.abc import Iterable
from typing import Any

import pandas as pd

from harness.base.files import read_json, write_atomically, write_json
from harness.paper import Spec
from harness.paper.columns import CURVE_COLUMNS, CURVE_KEYS, REAL, ROW_ORDER, TABLE_COLUMNS, TEXT, WHOLE
from harness.plan.kinds import prepares
from harness.plan.runs import all_runs, data_sets, stages
from harness.results.clock import energy_joules, wall_clock_seconds
from harness.results.context import Work
from harness.results.environment import environment
from harness.results.folders import Folders
from harness.results.store import PULLED, SNAPSHOTS, Store


def collect_stage(work: Work) -> None:
    """Write table.parquet, curves.parquet, networks.json and provenance.json."""
    spec, folders = work.spec, work.folders
    store = Store(folders.runs)
    records = {run.id: store.read(run.id) for run in all_runs(spec)}
    table, curves = tables(spec, folders, records.values())
    write_atomically(folders.table, lambda path: table.to_parquet(path, index=False))
    write_atomically(folders.all_curves, lambda path: curves.to_parquet(path, index=False))
    write_json(folders.networks, networks(store, records))
    write_json(folders.provenance, provenance(spec, folders))


def tables(spec: Spec, folders: Folders, records: Iterable[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tidy table and all curves, from the networks' records and the stability stages' tables."""
    compared = [stage.name for stage in stages(spec) if stage.kind == "stability"]
    parts = [pd.read_parquet(folders.curves(name)) for name in compared]
    table = tidy(records, [pd.read_parquet(folders.pairs(name)) for name in compared])
    none = [pd.DataFrame(columns=CURVE_COLUMNS)]  # of a scale that compares no networks
    curves = pd.concat([part for part in parts if len(part)] or parts or none, ignore_index=True)
    return table, curves.sort_values(CURVE_KEYS, ignore_index=True)  # independent of the division into jobs


def networks(store: Store, records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every run's record, and its snapshots' checksums: the lineage, also for readers without the networks."""
    entries = {}
    for run, record in records.items():
        entries[run] = {name: value for name, value in record.items() if name != PULLED}
        if "snapshots" in record:
            snapshots = store.read(f"{run}{SNAPSHOTS}")
            entries[f"{run}{SNAPSHOTS}"] = {name: snapshots[name] for name in ("key", "sha256", "parts")}
    return entries


def provenance(spec: Spec, folders: Folders) -> dict[str, Any]:
    """How a run was produced: code, packages, hardware, and each stage's seconds, steps and memory."""
    names = [stage.name for stage in stages(spec)]
    names += [prepares(name) for name in data_sets(spec)]
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
        # Snakemake without `harness reproduce` keeps no clock: use the time during which any stage was running
        "wall_clock_seconds": wall_clock_seconds(folders) or _union([(r["started"], r["finished"]) for r in records]),
        "energy_joules": energy_joules(folders),
        "network_core_seconds": sum(record.get("network_seconds", record["training_seconds"]) for record in records),
        "cpu_seconds": _known_sum([record.get("cpu_seconds") for record in records]),
        "training_share": training / seconds if seconds else 0.0,
        "stages": records,
    }


def _known_sum(amounts: list[float | None]) -> float | None:
    """The sum; None if any is unknown, as in the records of older versions."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of time spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def tidy(records: Iterable[dict[str, Any]], pairs: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Build the table from the networks' records and the stability stages' tables, in a fixed order of rows."""
    networks = pd.DataFrame(
        [
            {**record, "row": "network", "comparison": "", "run": record["id"], "run_b": "", "data_order_b": -1}
            for record in records
        ]
    )
    frames = [frame for frame in (networks, *pairs) if len(frame)]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    table = table.reindex(columns=TABLE_COLUMNS)
    densities = dict(zip(networks["run"], networks["density"], strict=True)) if len(networks) else {}
    is_pair = table["row"] == "pair"
    table.loc[is_pair, "density"] = table.loc[is_pair, "run_b"].map(densities).astype("float64")
    table["steps"] = table["steps"].fillna(0)
    table = table.astype(
        {**dict.fromkeys(TEXT, "object"), **dict.fromkeys(WHOLE, "int64"), **dict.fromkeys(REAL, "float64")}
    )
    return table.sort_values(ROW_ORDER, ignore_index=True)
