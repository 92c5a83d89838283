"""The columns of the tidy tables and their types, and which of them a claim may be about: said here alone."""

from typing import Any

TEXT = ("row", "experiment", "branch", "comparison", "run", "run_b", "status")
WHOLE = ("replicate", "k", "level", "data_order", "data_order_b", "steps")
NETWORK_MEASURES = (
    "test_accuracy",
    "train_accuracy",
    "test_loss",
    "train_loss",
    "start_test_accuracy",
    "operations",
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
    "start_test_accuracy",
    "operations",
    "seconds",
    *PAIR_MEASURES,
)
TABLE_COLUMNS = (*TEXT, *WHOLE, *REAL)
#: columns that tables of earlier versions lack. No baseline has their values
LATER_COLUMNS = ("start_test_accuracy", "operations")
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
#: column of table.parquet or curves.parquet -> its unit, and what it holds
MEANING = {
    "row": ("", "`network`: one trained network. `pair`: two networks compared."),
    "experiment": ("", "The experiment."),
    "branch": ("", "How the network was made: `dense`, `imp`, `random_prune`, ... Of a pair, its second network's."),
    "comparison": (
        "",
        "Of a pair: `data_order` compares two data orders of one network, `pruning` the dense network and a subnetwork "
        "with one data order. Else empty.",
    ),
    "run": ("", "The network, by its folder below `runs/`. Of a pair, its first network."),
    "run_b": ("", "The second network of a pair. Else empty."),
    "status": ("", "`ok`, `diverged`, or `ancestor_diverged`: a network that it was to be made from diverged."),
    "replicate": ("", "The random initialisation, from 0."),
    "k": ("steps", "Rewind iteration. Of a dense network trained again, the step that it started from."),
    "level": ("", "Prune-and-retrain rounds done. 0 is the dense network."),
    "data_order": ("", "The seed of minibatches and augmentation, from 0. Of a pair, its first network's."),
    "data_order_b": ("", "The second network's data order. -1 where there is none."),
    "steps": ("steps", "How long the network was trained. 0 for a pair."),
    "density": ("share, 0 to 1", "Prunable weights remaining. Of a pair, its second network's."),
    "train_accuracy": ("%", "Accuracy on the training split at the end of training."),
    "test_accuracy": ("%", "Accuracy on the test split at the end of training."),
    "train_loss": ("nats", "Mean cross-entropy on the training split at the end of training."),
    "test_loss": ("nats", "Mean cross-entropy on the test split at the end of training."),
    "start_test_accuracy": (
        "%",
        "Accuracy on the test split before training, of trained weights that were pruned and are trained on.",
    ),
    "operations": ("multiply-adds", "Those of the training's forward passes, of the weights that were kept alone."),
    "seconds": ("s", "Training time: an equal share of that of the networks trained together."),
    "distance": ("L2", "Length of the difference of the two networks' final weights, on the weights that both keep."),
    "angle": ("degrees", "Angle between the two networks' final weights, on the weights that both keep."),
    "instability_test": (
        "percentage points",
        "Highest test error on the straight line between the two networks, minus the mean of the end points'. "
        "BatchNorm's statistics are averaged along the line.",
    ),
    "instability_train": ("percentage points", "The same of the error on the training split."),
    "instability_test_reestimated": (
        "percentage points",
        "As `instability_test`, with BatchNorm's statistics estimated again at each point of the line.",
    ),
    "instability_train_reestimated": ("percentage points", "The same of the error on the training split."),
    "batch_norm": ("", "`averaged` or `re-estimated`: BatchNorm's statistics at a point of the line."),
    "split": ("", "`train` or `test`."),
    "alpha": ("share, 0 to 1", "Place on the line: 0 is `run`, 1 is `run_b`."),
    "error": ("%", "Error there."),
}
