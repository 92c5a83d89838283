"""What was run, as plain dicts of text: settings, lost networks, published beside measured, stages, machine, hashes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from harness.report import estimates, formats
from harness.report.figures import Data

Facts = dict[str, Any]
KINDS = ("prepare", "dense", "orders", "levels", "branches", "stability", "tickets")
SHOWN = 12  # digits of a checksum; card.json has all of them
MEASURES = {
    "test_accuracy": "test accuracy, %",
    "train_accuracy": "training accuracy, %",
    "distance": "distance, L2",
    "angle": "angle, °",
    "instability_test": "instability, points",
}


def listed(data: Data, scale: Mapping[str, Any]) -> list[str]:
    listed = list(scale.get("experiments") or {})
    return listed + [name for name in data.names() if name not in listed]


def setting(data: Data, name: str, scale: Mapping[str, Any]) -> Facts:
    """One experiment: what the scale asks for and what the table holds."""
    asked = (scale.get("experiments") or {}).get(name) or {}
    table = data.table[data.table["experiment"] == name]
    networks, pairs = table[table["row"] == "network"], table[table["row"] == "pair"]
    band = asked.get("calibration")
    # as the judge holds it against the band: every dense network, copies trained from a snapshot included
    dense = estimates.select(table, row="network", level=0)
    mean, low, high, _ = estimates.overall(dense, "test_accuracy", data.grid_of(name, "test_accuracy"))
    counts = [
        (formats.BRANCHES.get(str(b), formats.clean(b)), int(n))
        for b, n in networks["branch"].value_counts().sort_index().items()
    ]
    return {
        "name": formats.clean(name),
        "title": data.title(name, 200),
        "data": formats.clean(asked.get("data")),
        "network": formats.clean(asked.get("network")),
        "recipe": ", ".join(
            f"{formats.clean(k).replace('_', ' ')} {formats.clean(v)}"
            for k, v in (asked.get("recipe") or {}).items()
            if v is not None
        ),
        "rewind": ", ".join(f"{k:,}" for k in (asked.get("rewind") or sorted(set(networks["k"])))),
        "densities": ", ".join(formats.percent(d) for d in asked.get("densities") or []),
        "replicates": int(networks["replicate"].nunique()),
        "asked_replicates": asked.get("replicates"),
        "networks": len(networks),
        "branches": ", ".join(f"{n} {b}" for b, n in counts),
        "pairs": len(pairs),
        "steps": float(networks["steps"].sum()),
        "dense": formats.number(mean)
        + ("%" if np.isfinite(mean) else "")
        + (f" {formats.interval([low, high])}" if np.isfinite(low) else ""),
        "band": f"{formats.number(band[0])} to {formats.number(band[1])}%"
        if isinstance(band, Sequence) and len(band) == 2
        else "",
        "calibrated": None
        if not (isinstance(band, Sequence) and len(band) == 2 and np.isfinite(mean))
        else band[0] <= mean <= band[1],
    }


def lost(data: Data) -> list[Facts]:
    rows = data.table[(data.table["row"] == "network") & ~data.table["status"].isin(["ok", ""])]
    return [
        {"run": formats.clean(r), "status": formats.clean(s).replace("_", " ")}
        for r, s in zip(rows["run"], rows["status"], strict=True)
    ]


def beside(data: Data) -> list[Facts]:
    """Published values whose experiment, branch, k, comparison and density (within 8%) the run also has."""
    found = []
    for record in data.published.to_dict("records"):
        row = SimpleNamespace(**{str(key): value for key, value in record.items()})
        if (
            row.measure not in MEASURES
            or not np.isfinite(row.value)
            or (not np.isfinite(row.k) and row.branch != "dense")
        ):
            continue
        cell: dict[str, Any] = {
            "experiment": row.experiment,
            "branch": row.branch,
            "row": "pair" if row.comparison else "network",
        }
        if row.comparison:
            cell["comparison"] = row.comparison
        if row.comparison or row.branch != "dense":
            cell["k"] = int(row.k)
        rows = estimates.select(data.table, **cell)
        levels = rows.groupby("level")["density"].mean()
        near = (levels / row.density - 1).abs() if np.isfinite(row.density) else levels * np.nan
        if near.empty or not near.min() <= 0.08:
            continue
        rows, grid = rows[rows["level"] == near.idxmin()], data.grid_of(row.experiment, row.measure)
        mean, low, high, replicates = estimates.overall(rows, row.measure, grid)
        if not np.isfinite(mean):
            continue
        span = formats.interval([low, high]) if np.isfinite(low) else ""
        error = f" ± {formats.number(row.error)}" if np.isfinite(row.error) else ""
        what = MEASURES[row.measure] + (f" ({row.comparison.replace('_', ' ')})" if row.comparison else "")
        found.append(
            {
                "experiment": data.title(row.experiment, 200),
                "branch": formats.BRANCHES.get(row.branch, formats.clean(row.branch)),
                "k": formats.number(row.k),
                "density": formats.percent(row.density),
                "measure": what,
                "figure": formats.clean(row.figure),
                "measured": f"{formats.number(mean, False)} {span}".strip(),
                "replicates": replicates,
                "published": f"{formats.number(row.value)}{error}",
                "obtained": formats.clean(row.obtained),
            }
        )
    return found


def _records(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [record for record in provenance.get("stages") or [] if isinstance(record, Mapping)]


def has_network_time(provenance: Mapping[str, Any]) -> bool:
    """Whether the records tell the time in which the networks were trained from the stage's own training time."""
    return any(formats.finite(record.get("network_seconds")) is not None for record in _records(provenance))


def stages(provenance: Mapping[str, Any]) -> list[Facts]:
    """Stage records summed by experiment and kind; memory is the highest of them."""
    records = pd.DataFrame(_records(provenance))
    if records.empty:
        return []
    for name in ("seconds", "training_seconds", "network_seconds", "steps", "peak_memory_mib"):
        records[name] = pd.to_numeric(records.get(name, pd.Series(dtype=float)), errors="coerce")
    for name in ("kind", "experiment"):
        records[name] = [formats.clean(v) for v in records.get(name, pd.Series([""] * len(records))).fillna("")]
    totals = records.groupby(["experiment", "kind"], sort=False, as_index=False).agg(
        jobs=("kind", "size"),
        seconds=("seconds", "sum"),
        training=("training_seconds", "sum"),
        networks=("network_seconds", "sum"),
        steps=("steps", "sum"),
        memory=("peak_memory_mib", "max"),
    )
    # what belongs to no experiment (prepare) first, then the experiments as they were recorded, kinds as they run
    order = list(dict.fromkeys(["", *records["experiment"]]))
    found = sorted(totals.to_dict("records"), key=lambda row: (order.index(row["experiment"]), _place(row["kind"])))
    return [
        {
            "stage": row["kind"] or formats.NOTHING,
            "experiment": row["experiment"] or formats.NOTHING,
            "jobs": row["jobs"],
            "steps": f"{row['steps']:,.0f}" if row["steps"] else formats.NOTHING,
            "memory": f"{row['memory']:,.0f} MiB" if np.isfinite(row["memory"]) else formats.NOTHING,
            **{key: formats.duration(row[key] or None) for key in ("seconds", "training", "networks")},
        }
        for row in found
    ]


def images(provenance: Mapping[str, Any]) -> list[str]:
    """The container images that stages ran in, each with how many did; empty where none is recorded."""
    named = [formats.clean(record["image"]) for record in _records(provenance) if "image" in record]
    jobs = Counter(name or "none" for name in named)
    if len(jobs) < 2:
        return list(jobs)
    return [f"{name} ({n} {'job' if n == 1 else 'jobs'})" for name, n in sorted(jobs.items())]


def checksums(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, "name checksum, ...") of the code's parts, the specification's files and the data sets, shortened."""
    identity = provenance.get("identity") or {}
    listed = (("Code", "code"), ("Specification", "spec"), ("Data sets", "data"))
    found = [(title, identity.get(key) or {}) for title, key in listed]
    return [
        (title, ", ".join(f"{formats.clean(name)} {formats.clean(value)[:SHOWN]}" for name, value in sums.items()))
        for title, sums in found
        if sums
    ]


def _place(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def run(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run's facts as (name, value), those that are known."""
    hardware = provenance.get("hardware") or {}
    revision = formats.clean(provenance.get("code_revision"))
    clean = provenance.get("tree_clean")
    tree = "" if clean is None else " (clean tree)" if clean else " (with uncommitted changes)"
    share = formats.finite(provenance.get("training_share"))
    memory = formats.finite(hardware.get("memory_gib"))
    listed = [
        (
            "Wall clock of all passes of harness reproduce, stops excluded",
            formats.duration(provenance.get("wall_clock_seconds")),
        ),
        ("Share of the stages' core time spent in training", "" if share is None else f"{share * 100:.0f}%"),
        (
            "Core time in which the networks were trained",
            formats.duration(provenance.get("network_core_seconds")),
        ),
        (
            "Processor",
            " · ".join(
                filter(
                    None,
                    (formats.clean(hardware.get("cpu")), f"{hardware['cores']} cores" if hardware.get("cores") else ""),
                )
            ),
        ),
        ("Memory", "" if memory is None else f"{memory:g} GiB"),
        ("GPU", formats.clean(hardware.get("gpu")) or "none"),
        ("Energy of the whole machine in that time", formats.energy(provenance.get("energy_joules"))),
        ("Container image", ", ".join(images(provenance))),
        ("Training kernels", formats.clean(hardware.get("kernels"))),
        ("Platform", formats.clean(hardware.get("platform"))),
        ("Started", formats.clean(provenance.get("started"))),
        ("Finished", formats.clean(provenance.get("finished"))),
        ("Harness", formats.clean(provenance.get("harness_version"))),
        ("Code", f"{revision}{tree}" if revision else ""),
    ]
    return [(name, value) for name, value in listed if value and value != formats.NOTHING]
