"""What a finished run shows: verdicts, calibration values, digests of its tables.

The table is put together and judged here again, from the stored networks and pairs with the present code, so that a
table or verdict that an earlier version of the code left behind is never taken for this one's.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.table import CURVE_COLUMNS, CURVE_KEYS, TABLE_COLUMNS
from harness.check.baseline import Baseline, Calibration, ClaimResult, Rows
from harness.claims import judge
from harness.claims.table import Table
from harness.digest import cached_code_digest
from harness.files import digest, read_json
from harness.plan import all_runs, stages
from harness.spec import Spec
from harness.spec.claims import Cell
from harness.spec.load import dump
from harness.training.store import Store
from harness.workflow import collect
from harness.workflow.context import Folders
from harness.workflow.judging import read_table
from harness.workflow.reuse import PULLED

#: which rows there are, and of each network how many weights remain: settled by the scale, whatever the machine
ROW_COLUMNS = (
    *("row", "experiment", "replicate", "k", "level", "branch", "data_order", "data_order_b", "comparison"),
    *("run", "run_b", "status", "steps", "density"),
)
PARTS = ("data", "training", "analysis", "collect", "claims")  # of the code, on which numbers and verdicts depend
PACKAGES = ("torch", "numpy")  # that compute what the kernels here do not


def measure(spec: Spec, folders: Folders) -> Baseline:
    """The results of a finished run of the scale, or of what was selected of it. Raises HarnessError where it lacks a
    record."""
    table, curves = tables(spec, folders)
    return Baseline(
        paper=spec.paper.id,
        scale=spec.scale_name,
        judges_claims=spec.scale.judges_claims,
        code={part: cached_code_digest(part) for part in PARTS},
        machines=machines(read_json(folders.stage(stage.name)) for stage in stages(spec)),
        claims=claims(spec, table),
        calibration=calibration(spec, table),
        tables={name: rows(name, table, curves) for name in spec.scale.experiments},
    )


def tables(spec: Spec, folders: Folders) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tidy table and all curves, from the records of networks and pairs.

    Of a run that was pulled, whose records are not whole, the tables that came with it.
    """
    store = Store(folders.runs)
    records = [store.read(run.id) for run in all_runs(spec)]
    if any(record.get(PULLED) for record in records):
        return read_table(folders.table, TABLE_COLUMNS), read_table(folders.all_curves, CURVE_COLUMNS)
    return collect.tables(spec, folders, records)


def machines(records: Iterable[dict[str, Any]]) -> list[str]:
    """The distinct kinds of machine in stages' records: equal code gives equal bits on machines of one kind."""
    kinds = set()
    for record in records:
        hardware, packages = record["hardware"], record["packages"]
        parts = [hardware["cpu"], *([hardware["gpu"]] if hardware["gpu"] else []), f"{hardware['kernels']} kernels"]
        kinds.add(", ".join([*parts, *(f"{name} {packages[name]}" for name in PACKAGES)]))
    return sorted(kinds)


def claims(spec: Spec, table: pd.DataFrame) -> dict[str, ClaimResult]:
    """The claims that the scale judges, with their verdicts on a table."""
    bands = {name: setting.calibration for name, setting in spec.scale.experiments.items() if setting.calibration}
    found = {}
    for claim, verdict in zip(spec.claims, judge(spec.claims, spec.scale_name, table, bands), strict=True):
        entry = claim.scales.get(spec.scale_name)
        if entry is None:
            continue
        kept = ("name", "verdict", "estimate", "interval", "values")
        found[claim.id] = ClaimResult(
            **{key: verdict[key] for key in ("verdict", "estimate", "interval", "replicates")},
            prediction=digest(dump(entry)),
            numbers=digest([[part[key] for key in kept] for part in verdict["parts"]]),
        )
    return found


def calibration(spec: Spec, table: pd.DataFrame) -> dict[str, Calibration]:
    """Each experiment's mean dense accuracy over replicates, as the judge holds it against the band."""
    reader = Table(table, {"test_accuracy"})
    found = {}
    for name, setting in spec.scale.experiments.items():
        values = list(reader.cell(Cell(experiment=name, branch="dense"), "test_accuracy").values.values())
        found[name] = Calibration(value=float(np.mean(values)) if values else None, band=setting.calibration)
    return found


def rows(experiment: str, table: pd.DataFrame, curves: pd.DataFrame) -> Rows:
    """Digests of an experiment's part of the table, `seconds` left out, and of its curves."""
    own = table[table["experiment"] == experiment]
    drawn = curves[curves["run"].str.partition("/")[0] == experiment] if len(curves) else curves
    count = own["row"].value_counts()
    return Rows(
        networks=int(count.get("network", 0)),
        pairs=int(count.get("pair", 0)),
        rows=bits(own[list(ROW_COLUMNS)]),
        values=bits(own[[name for name in TABLE_COLUMNS if name != "seconds"]]),
        curves=bits(drawn.sort_values(CURVE_KEYS)),
    )


def bits(table: pd.DataFrame) -> str:
    """SHA-256 of a table's content to the last bit, column by column; one NaN is as good as another."""
    found = hashlib.sha256()
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_float_dtype(column):
            values = column.to_numpy(dtype="<f8")
            content = np.where(np.isnan(values), np.nan, values).tobytes()
        elif pd.api.types.is_integer_dtype(column):
            content = column.to_numpy(dtype="<i8").tobytes()
        else:
            content = digest([str(value) for value in column]).encode()
        found.update(f"{name} {len(column)}\n".encode() + content)
    return found.hexdigest()
