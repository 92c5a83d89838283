"""The columns of the tidy tables and their types, and which of them a claim may be about: said here alone."""

from typing import Any

TEXT = ("row", "experiment", "branch", "comparison", "run", "run_b", "status")
WHOLE = ("replicate", "k", "level", "data_order", "data_order_b", "steps")
NETWORK_MEASURES = (
    "test_accuracy",
    "train_accuracy",
    "test_loss",
    "train_loss",
    "steps",
    "seconds",
)
PAIR_MEASURES = (
    "distance",
    "angle",
    "instability_test",
    "instability_train",
    "instability_test_reestimated",
    "instability_train_reestimated",
)
#: what a network is, before it is trained: counted, not estimated
STRUCTURE = ("density",)
#: of an instability's name: with BatchNorm's statistics re-estimated at each point of the line
REESTIMATED = "_reestimated"
REAL = (
    "density",
    "train_accuracy",
    "test_accuracy",
    "train_loss",
    "test_loss",
    "seconds",
    *PAIR_MEASURES,
)
TABLE_COLUMNS = (*TEXT, *WHOLE, *REAL)
CURVE_KEYS = ["run", "run_b", "batch_norm", "split", "alpha"]
CURVE_COLUMNS = (*CURVE_KEYS, "error")
#: column -> "text", "whole" or "real"
COLUMN_TYPES = {
    **dict.fromkeys((*TEXT, "batch_norm", "split"), "text"),
    **dict.fromkeys(WHOLE, "whole"),
    **dict.fromkeys((*REAL, "alpha", "error"), "real"),
}
#: what names a row in any run of the same experiments
ROW_KEYS = ["row", "run", "run_b", "comparison"]
#: the order of the table's rows
ROW_ORDER = ["row", "experiment", "replicate", "k", "level", "branch", "data_order", "data_order_b", "comparison"]
DENSITY_TOLERANCE = 0.02  # relative: a claim may write 0.107 for 0.8 ** 10


def same_density(density: Any, wanted: float) -> Any:
    """Whether a density, or each of an array of them, is the level's that `wanted` names."""
    return abs(density / wanted - 1) <= DENSITY_TOLERANCE


#: measures in percent or percentage points
PERCENT_MEASURES = tuple(m for m in NETWORK_MEASURES + PAIR_MEASURES if "accuracy" in m or "instability" in m)
