"""Reads papers/<paper>/published/*.csv: the paper's own numbers, one a row."""

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.yaml_text import Written, scalar
from harness.paper.models import Spread
from harness.paper.published import Published, Row

REQUIRED = ("figure", "experiment", "branch", "k", "density", "measure", "value", "error", "obtained", "note")
OBTAINED = ("printed", "digitised", "derived", "text", "remembered")
NUMBERS = ("k", "density", "value", "error")  # may be empty, else a number


def read_published(
    folder: Path, experiments: Collection[str], spread: Spread | None, steps_per_epoch: Mapping[str, float]
) -> Published:
    """The numbers of a paper's folder.

    Refuses a table that lacks a column, names an unknown experiment, or holds text where a number belongs.
    """
    rows = []
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                for column in REQUIRED:
                    if column not in (reader.fieldnames or ()):
                        raise HarnessError(f"{path}: column {column!r} is missing; add it")
                for row in reader:
                    _check_row(f"{path}: line {reader.line_num}", row, experiments)
                    rows.append(_row(row, steps_per_epoch))
        except OSError as error:
            raise HarnessError(f"{path}: can't be read ({error.strerror}); give a readable file") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise HarnessError(f"{path}: is not a CSV table in UTF-8 ({error}); correct it") from None
    return Published(tuple(rows), spread)


def _row(row: Mapping[str, str | None], steps_per_epoch: Mapping[str, float]) -> Row:
    k, density, value, error = (float(row[column] or "nan") for column in NUMBERS)
    experiment = row["experiment"] or ""
    if row.get("k_unit") == "epoch":
        k = round(k * steps_per_epoch.get(experiment, math.nan)) if k and math.isfinite(k) else k
    return Row(
        experiment,
        tuple((row["branch"] or "").split("|")),
        k,
        density,
        row["measure"] or "",
        row.get("comparison") or "",
        value,
        error,
        (OBTAINED.index(row["obtained"] or "text"), not math.isfinite(error)),
    )


def _check_row(where: str, row: dict[str, str | None], experiments: Collection[str]) -> None:
    if row["experiment"] and row["experiment"] not in experiments:  # empty: said of all networks
        raise HarnessError(
            f"{where}, experiment: {row['experiment']!r:.80} is not in experiments.yaml; correct the name"
        )
    if row["obtained"] not in OBTAINED:
        raise HarnessError(f"{where}, obtained: {row['obtained']!r:.80}; choose one of {', '.join(OBTAINED)}")
    for column in NUMBERS:
        text = row[column] or ""
        if text and type(scalar(text)) not in (int, Written):
            raise HarnessError(f"{where}, {column}: {text!r:.80} is not a number; correct it or leave it empty")
