"""Magnitude: |w|, the paper's criterion (STAB Algorithm 1, step 4)."""

from torch import Tensor

from harness.lottery.branch import Criterion, Subject


def score(subject: Subject) -> dict[str, Tensor]:
    """|w| of each prunable weight, [R, ...] by name."""
    return {name: weight.abs() for name, weight in subject.weights.items()}


CRITERION = Criterion(score)
