"""The results of a finished run: verdicts, calibration values, digests of its tables.

The present code collects and judges the table again from the stored networks and pairs, so that a table or verdict of
an earlier version of the code is never mistaken for one of this version.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from harness.base.files import digest, read_json
from harness.check.baseline import Baseline, Calibration, ClaimResult, Rows
from harness.claims.calibration import COLUMNS, MEASURES, calibrated
from harness.claims.table import Table
from harness.paper import Spec
from harness.paper.columns import CURVE_KEYS, LATER_COLUMNS, ROW_ORDER, TABLE_COLUMNS
from harness.paper.load import dump
from harness.plan.runs import all_runs, stages
from harness.results.environment import COMPUTING
from harness.results.folders import Folders
from harness.results.keys import part_code
from harness.results.store import PULLED, Store
from harness.results.tables import read_curves, read_table
from harness.stages import collect
from harness.stages.judging import judged

#: which rows there are, and how many weights remain in each network: the same on every machine
ROW_COLUMNS = (*ROW_ORDER, "run", "run_b", "status", "steps", "density")
PARTS = ("data", "training", "stability", "collect", "claims")  # the code that numbers and verdicts depend on


def measure(spec: Spec, folders: Folders) -> Baseline:
    """The results of a finished run of a scale or of a selection. Raises HarnessError for a missing record."""
    table, curves = tables(spec, folders)
    return Baseline(
        paper=spec.paper.id,
        scale=spec.scale_name,
        judges_claims=spec.scale.judges_claims,
        code={part: part_code(part) for part in PARTS},
        machines=machines(read_json(folders.stage(stage.name)) for stage in stages(spec)),
        claims=claims(spec, table),
        calibration=calibration(spec, table),
        tables={name: rows(name, table, curves) for name in spec.scale.experiments},
    )


def tables(spec: Spec, folders: Folders) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tidy table and all curves, collected from the records of networks and pairs.

    The records of a pulled run are incomplete, so its own tables are read instead.
    """
    store = Store(folders.runs)
    records = [store.read(run.id) for run in all_runs(spec)]
    if any(record.get(PULLED) for record in records):
        return read_table(folders.table), read_curves(folders.all_curves)
    return collect.tables(spec, folders, records)


def machines(records: Iterable[dict[str, Any]]) -> list[str]:
    """The distinct kinds of machine in stages' records: equal code gives equal bits on machines of one kind."""
    kinds = set()
    for record in records:
        hardware, packages = record["hardware"], record["packages"]
        parts = [hardware["cpu"], *([hardware["gpu"]] if hardware["gpu"] else []), f"{hardware['kernels']} kernels"]
        kinds.add(", ".join([*parts, *(f"{name} {packages[name]}" for name in COMPUTING)]))
    return sorted(kinds)


def claims(spec: Spec, table: pd.DataFrame) -> dict[str, ClaimResult]:
    """The claims that the scale judges, with their verdicts on a table."""
    results = {}
    for claim, verdict in zip(spec.claims, judged(spec, table), strict=True):
        entry = claim.scales.get(spec.scale_name)
        if entry is None:
            continue
        fields = ("name", "verdict", "estimate", "interval", "values")
        results[claim.id] = ClaimResult(
            verdict=verdict.verdict,
            estimate=verdict.estimate,
            interval=verdict.interval,
            replicates=verdict.replicates,
            prediction=digest(dump(entry)),
            numbers=digest([[getattr(part, field) for field in fields] for part in verdict.parts]),
        )
    return results


def calibration(spec: Spec, table: pd.DataFrame) -> dict[str, Calibration]:
    """Each measure of an experiment's dense networks, the value that the judge compares with the band.

    A measure whose networks a selection of claims leaves out is not there.
    """
    reader = Table(table, COLUMNS)
    results = {}
    for name, setting in spec.scale.experiments.items():
        for measure in MEASURES:
            if (band := setting.bands.get(measure)) == setting.calibration.get(measure):
                value = calibrated(reader, name, measure, band).value
                results[f"{name}.{measure}"] = Calibration(value=value, band=band)
    return results


def rows(experiment: str, table: pd.DataFrame, curves: pd.DataFrame) -> Rows:
    """Digests of an experiment's part of the table, without `seconds`, and of its curves."""
    part = table[table["experiment"] == experiment]
    part_curves = curves[curves["run"].str.partition("/")[0] == experiment] if len(curves) else curves
    count = part["row"].value_counts()
    return Rows(
        networks=int(count.get("network", 0)),
        pairs=int(count.get("pair", 0)),
        rows=bits(part[list(ROW_COLUMNS)]),
        values=bits(part[[name for name in TABLE_COLUMNS if name not in ("seconds", *LATER_COLUMNS)]]),
        curves=bits(part_curves.sort_values(CURVE_KEYS)),
    )


def bits(table: pd.DataFrame) -> str:
    """SHA-256 of a table's content to the last bit, column by column. All NaNs count as equal."""
    checksum = hashlib.sha256()
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_float_dtype(column):
            values = column.to_numpy(dtype="<f8")
            content = np.where(np.isnan(values), np.nan, values).tobytes()
        elif pd.api.types.is_integer_dtype(column):
            content = column.to_numpy(dtype="<i8").tobytes()
        else:
            content = digest([str(value) for value in column]).encode()
        checksum.update(f"{name} {len(column)}\n".encode() + content)
    return checksum.hexdigest()
