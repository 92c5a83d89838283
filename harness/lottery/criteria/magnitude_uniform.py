"""Magnitude within each layer, all layers at one density, as in gradual pruning (Zhu and Gupta, arXiv 1710.01878)."""

from torch import Tensor

from harness.lottery.branch import Criterion, Subject
from harness.lottery.masks import by_layer


def score(subject: Subject) -> dict[str, Tensor]:
    """The rank of |w| within its layer, [R, ...] by name."""
    return by_layer({name: weight.abs() for name, weight in subject.weights.items()}, subject.masks)


CRITERION = Criterion(score)
