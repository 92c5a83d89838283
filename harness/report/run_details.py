"""The run's details, as the templates read them: settings, published values, stages, machine, checksums."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.base import words
from harness.claims import calibration
from harness.claims.table import Table
from harness.lottery import branches
from harness.report import estimates, formats
from harness.report.figures import Data
from harness.report.published_points import Point, points

Content = dict[str, Any]
KINDS = ("prepare", "dense", "orders", "levels", "branches", "stability", "tickets")
INVARIANTS = "Invariants that held in every training that they are about"
SHOWN = 12  # digits of a checksum; card.json has all of them


def experiment_names(data: Data, scale: Mapping[str, Any]) -> list[str]:
    """The scale's experiments, then any others in the table."""
    planned = list(scale.get("experiments") or {})
    return planned + [name for name in data.names() if name not in planned]


def setting(data: Data, name: str, scale: Mapping[str, Any]) -> Content:
    """One experiment: the scale's settings, and the results in the table."""
    plan = (scale.get("experiments") or {}).get(name) or {}
    table = data.table[data.table["experiment"] == name]
    networks, pairs = table[table["row"] == "network"], table[table["row"] == "pair"]
    bands = plan.get("calibration") or {}
    reader = Table(table, calibration.COLUMNS)
    # as for the judge's calibration: every dense network, including copies trained from a snapshot
    dense = estimates.select(table, row="network", level=0)
    mean, low, high, _ = estimates.overall(dense, "test_accuracy", data.grid_of(name, "test_accuracy"))
    counts = [(branches.label(str(b)), int(n)) for b, n in networks["branch"].value_counts().sort_index().items()]
    return {
        "name": words.clean(name),
        "title": data.title(name, 200),
        "data": words.clean(plan.get("data")),
        "network": words.clean(plan.get("network")),
        "recipe": ", ".join(
            f"{words.clean(k).replace('_', ' ')} {words.clean(v)}"
            for k, v in (plan.get("recipe") or {}).items()
            if v is not None
        ),
        "rewind": ", ".join(f"{k:,}" for k in (plan.get("rewind") or sorted(set(networks["k"])))),
        "densities": ", ".join(words.percent(d) for d in plan.get("densities") or []),
        "replicates": int(networks["replicate"].nunique()),
        "asked_replicates": plan.get("replicates"),
        "networks": len(networks),
        "branches": ", ".join(f"{n} {b}" for b, n in counts),
        "pairs": len(pairs),
        "steps": float(networks["steps"].sum()),
        "dense": words.number(mean)
        + ("%" if np.isfinite(mean) else "")
        + (f" {formats.interval((low, high))}" if np.isfinite(low) else ""),
        "bands": [
            _band(calibration.calibrated(reader, name, measure, tuple(bands[measure])))
            for measure in calibration.MEASURES
            if measure in bands
        ],
    }


def _band(found: calibration.Calibrated) -> Content:
    """A calibration band, and whether the run is in it."""
    measure, value, band = found
    assert band is not None
    return {
        "name": measure.name,
        "value": words.NOTHING if value is None else f"{value:.4g}{measure.unit}",
        "band": calibration.told_band(band, measure.unit),
        "fits": found.fits,
    }


def lost_networks(data: Data) -> list[Content]:
    """The networks that did not finish, each with its status."""
    rows = data.table[(data.table["row"] == "network") & ~data.table["status"].isin(["ok", ""])]
    return [
        {"run": words.clean(r), "status": words.clean(s).replace("_", " ")}
        for r, s in zip(rows["run"], rows["status"], strict=True)
    ]


def published_and_measured(data: Data) -> list[Content]:
    """Published values and the run's own, as text."""
    return [_point(data, point) for point in points(data)]


def _point(data: Data, point: Point) -> Content:
    row = point.published
    span = formats.interval((point.low, point.high)) if np.isfinite(point.low) else ""
    error = f" ± {words.number(row['error'])}" if np.isfinite(row["error"]) else ""
    return {
        "experiment": data.title(row["experiment"], 200),
        "branch": point.branch,
        "k": words.number(row["k"]),
        "density": words.percent(row["density"]),
        "measure": point.measure,
        "figure": words.clean(row["figure"]),
        "measured": f"{words.number(point.estimate, False)} {span}".strip(),
        "replicates": point.replicates,
        "published": f"{words.number(row['value'])}{error}",
        "obtained": words.clean(row["obtained"]),
    }


def _records(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [record for record in provenance.get("stages") or [] if isinstance(record, Mapping)]


def has_network_time(provenance: Mapping[str, Any]) -> bool:
    """Whether the records have the networks' training time besides the stage's own, which omits reused networks."""
    return any(words.finite(record.get("network_seconds")) is not None for record in _records(provenance))


def stage_totals(provenance: Mapping[str, Any]) -> list[Content]:
    """Stage records summed by experiment and kind; memory is the highest of them."""
    records = pd.DataFrame(_records(provenance))
    if records.empty:
        return []
    for name in ("seconds", "training_seconds", "network_seconds", "steps", "peak_memory_mib"):
        records[name] = pd.to_numeric(records.get(name, pd.Series(dtype=float)), errors="coerce")
    for name in ("kind", "experiment"):
        records[name] = [words.clean(v) for v in records.get(name, pd.Series([""] * len(records))).fillna("")]
    totals = records.groupby(["experiment", "kind"], sort=False, as_index=False).agg(
        jobs=("kind", "size"),
        seconds=("seconds", "sum"),
        training=("training_seconds", "sum"),
        networks=("network_seconds", "sum"),
        steps=("steps", "sum"),
        memory=("peak_memory_mib", "max"),
    )
    # first stages of no experiment (prepare), then the experiments in recorded order; kinds in order of execution
    order = list(dict.fromkeys(["", *records["experiment"]]))
    ordered = sorted(totals.to_dict("records"), key=lambda row: (order.index(row["experiment"]), _rank(row["kind"])))
    return [
        {
            "stage": row["kind"] or words.NOTHING,
            "experiment": row["experiment"] or words.NOTHING,
            "jobs": row["jobs"],
            "steps": f"{row['steps']:,.0f}" if row["steps"] else words.NOTHING,
            "memory": f"{row['memory']:,.0f} MiB" if np.isfinite(row["memory"]) else words.NOTHING,
            **{key: words.duration(row[key] or None) for key in ("seconds", "training", "networks")},
        }
        for row in ordered
    ]


def container_images(provenance: Mapping[str, Any]) -> list[str]:
    """The container images that stages ran in, each with the number of jobs; empty if none is recorded."""
    named = [words.clean(record["image"]) for record in _records(provenance) if "image" in record]
    jobs = Counter(name or "none" for name in named)
    if len(jobs) < 2:
        return list(jobs)
    return [f"{name} ({n} {'job' if n == 1 else 'jobs'})" for name, n in sorted(jobs.items())]


def checksums(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, "name checksum, ...") of the code's parts, the specification's files and the data sets, shortened."""
    identity = provenance.get("identity") or {}
    groups = (("Code", "code"), ("Specification", "spec"), ("Data sets", "data"))
    return [
        (title, ", ".join(f"{words.clean(name)} {words.clean(value)[:SHOWN]}" for name, value in sums.items()))
        for title, key in groups
        if (sums := identity.get(key))
    ]


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _invariants(provenance: Mapping[str, Any]) -> str:
    """The invariants that the training stages checked."""
    names = (words.clean(name) for record in _records(provenance) for name in record.get("invariants") or ())
    return ", ".join(dict.fromkeys(names))


def run_and_hardware(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The known times, hardware and code of the run as (name, value)."""
    hardware = provenance.get("hardware") or {}
    revision = words.clean(provenance.get("code_revision"))
    clean = provenance.get("tree_clean")
    tree = "" if clean is None else " (clean tree)" if clean else " (with uncommitted changes)"
    share = words.finite(provenance.get("training_share"))
    memory = words.finite(hardware.get("memory_gib"))
    details = [
        (
            "Wall clock of all passes of harness reproduce, stops excluded",
            words.duration(provenance.get("wall_clock_seconds")),
        ),
        ("Share of the stages' time spent in training", "" if share is None else f"{share * 100:.0f}%"),
        (
            "Time in which the networks were trained, added up over jobs",
            words.duration(provenance.get("network_core_seconds")),
        ),
        ("CPU time of all stages", words.duration(provenance.get("cpu_seconds"))),
        (
            "Processor",
            " · ".join(
                filter(
                    None,
                    (words.clean(hardware.get("cpu")), f"{hardware['cores']} cores" if hardware.get("cores") else ""),
                )
            ),
        ),
        ("Memory", "" if memory is None else f"{memory:g} GiB"),
        ("GPU", words.clean(hardware.get("gpu")) or "none"),
        (INVARIANTS, _invariants(provenance)),
        ("Energy of the whole machine in that time", words.energy(provenance.get("energy_joules"))),
        ("Container image", ", ".join(container_images(provenance))),
        ("Training kernels", words.clean(hardware.get("kernels"))),
        ("Platform", words.clean(hardware.get("platform"))),
        ("Started", words.clean(provenance.get("started"))),
        ("Finished", words.clean(provenance.get("finished"))),
        ("Harness", words.clean(provenance.get("harness_version"))),
        ("Code", f"{revision}{tree}" if revision else ""),
    ]
    return [(name, value) for name, value in details if value and value != words.NOTHING]
