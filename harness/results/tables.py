"""Reads the tables of a run, which may be untrusted, and checks their form."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.base.errors import HarnessError
from harness.base.untrusted import read_checked_table
from harness.paper.columns import COLUMN_TYPES, CURVE_COLUMNS, LATER_COLUMNS, ROW_KEYS, TABLE_COLUMNS, WHOLE


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a Parquet table with these columns. Raises HarnessError if it is missing or broken."""
    return read_checked_table(path, {column: COLUMN_TYPES[column] for column in columns}, LATER_COLUMNS)


def read_table(path: Path) -> pd.DataFrame:
    """The tidy table. Raises HarnessError if it is missing or broken, has gaps or has duplicate rows."""
    table = read_columns(path, TABLE_COLUMNS)
    with_gaps = [column for column in WHOLE if table[column].isna().any()]
    if with_gaps:
        raise HarnessError(
            f"{path}: column {with_gaps[0]}: has missing values. Pull it again, or collect the results again."
        )
    repeated = table.duplicated(ROW_KEYS)
    if repeated.any():
        run = table.loc[repeated, "run"].iloc[0]
        raise HarnessError(f"{path}: run {run!r:.200}: is duplicated. Pull it again, or collect the results again.")
    return table


def read_curves(path: Path) -> pd.DataFrame:
    """The error curves of all compared pairs. Raises HarnessError for a missing or broken table."""
    return read_columns(path, CURVE_COLUMNS)
