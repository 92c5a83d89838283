"""The tidy table: one row per trained network, one per compared pair. Its columns and their types are fixed here."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

TEXT = ("row", "experiment", "branch", "comparison", "run", "run_b", "status")
WHOLE = ("replicate", "k", "level", "data_order", "data_order_b", "steps")
REAL = (
    "density",
    "train_accuracy",
    "test_accuracy",
    "validation_accuracy",
    "train_loss",
    "test_loss",
    "seconds",
    "distance",
    "angle",
    "instability_test",
    "instability_train",
    "instability_test_reestimated",
    "instability_train_reestimated",
)
TABLE_COLUMNS = (*TEXT, *WHOLE, *REAL)
CURVE_KEYS = ["run", "run_b", "batch_norm", "split", "alpha"]
CURVE_COLUMNS = (*CURVE_KEYS, "error")


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
    table.loc[is_pair, "density"] = table.loc[is_pair, "run_b"].map(densities)
    table["steps"] = table["steps"].fillna(0)
    table = table.astype(
        {**dict.fromkeys(TEXT, "object"), **dict.fromkeys(WHOLE, "int64"), **dict.fromkeys(REAL, "float64")}
    )
    keys = ["row", "experiment", "replicate", "k", "level", "branch", "data_order", "data_order_b", "comparison"]
    return table.sort_values(keys, ignore_index=True)
