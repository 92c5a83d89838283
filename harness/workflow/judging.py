"""The stages after training: the tables read and checked, the verdicts, the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.table import CURVE_COLUMNS, REAL, TABLE_COLUMNS, TEXT, WHOLE
from harness.claims.judge import judge, read_claims, write_claims
from harness.claims.metrics import metrics
from harness.files import read_json, write_json
from harness.share.untrusted import read_checked_table
from harness.spec import Spec
from harness.spec.load import dump
from harness.workflow.collect import collect_stage
from harness.workflow.context import Folders
from harness.workflow.identity import identity

COLUMN_TYPES = {
    **dict.fromkeys((*TEXT, "batch_norm", "split"), "text"),
    **dict.fromkeys(WHOLE, "whole"),
    **dict.fromkeys((*REAL, "alpha", "error"), "real"),
}
__all__ = ["claims_stage", "collect_stage", "published", "read_table", "report_stage", "scale_facts"]


def claims_stage(spec: Spec, folders: Folders) -> None:
    """Judge the claims on the table: claims.json, and metrics.json for those who compare numbers."""
    bands = {name: setting.calibration for name, setting in spec.scale.experiments.items() if setting.calibration}
    claims = judge(spec.claims, spec.scale_name, read_table(folders.table, TABLE_COLUMNS), bands)
    write_json(folders.metrics, metrics(claims))
    write_claims(folders.claims, claims)


def report_stage(spec: Spec, folders: Folders) -> None:
    """Build the page."""
    from harness.report import build_report

    build_report(
        dump(spec.paper),
        scale_facts(spec),
        read_claims(folders.claims),
        read_table(folders.table, TABLE_COLUMNS),
        read_table(folders.all_curves, CURVE_COLUMNS),
        published(spec),
        {**read_json(folders.provenance), "identity": identity(spec)},
        folders.report,
    )


def published(spec: Spec) -> pd.DataFrame:
    """The paper's published curves, of all figures; an empty table for a paper without any."""
    files = sorted((spec.folder / "published").glob("*.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True) if files else pd.DataFrame()


def scale_facts(spec: Spec) -> dict[str, Any]:
    """The scale as the page shows it."""
    experiments = {}
    for name, setting in spec.scale.experiments.items():
        levels = max((sweep.levels for sweep in setting.sweeps), default=0)
        experiments[name] = {
            "title": spec.experiments[name].title,
            "asks": spec.experiments[name].asks,
            "data": setting.data,
            "network": setting.network,
            "recipe": dump(spec.recipe(name)),
            "rewind": sorted(setting.rewind_grid()),
            "densities": [setting.pruning.density(level) for level in range(levels + 1)],
            "replicates": setting.replicates,
            "calibration": list(setting.calibration) if setting.calibration else None,
        }
    return {
        "name": spec.scale_name,
        "description": spec.scale.description,
        "judges_claims": spec.scale.judges_claims,
        "experiments": experiments,
    }


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a Parquet table with these columns, whoever made it. Raises HarnessError for a missing or broken one."""
    return read_checked_table(path, {column: COLUMN_TYPES[column] for column in columns})
