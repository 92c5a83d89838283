"""The measures that a claim may be about: columns of the tidy table."""

NETWORK_MEASURES = (
    "test_accuracy",
    "train_accuracy",
    "validation_accuracy",
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
#: measures in percent or percentage points
PERCENT_MEASURES = tuple(m for m in NETWORK_MEASURES + PAIR_MEASURES if "accuracy" in m or "instability" in m)
