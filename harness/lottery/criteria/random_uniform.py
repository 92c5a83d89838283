"""Random weights, as large a share of each layer."""

import torch
from torch import Tensor

from harness.base.seeds import RANDOM_SCORE, numpy_generator
from harness.lottery.branch import Criterion, Subject
from harness.lottery.masks import by_layer


def drawn(subject: Subject) -> dict[str, Tensor]:
    """A uniform number for each prunable weight, [R, ...] by name; each replicate and weight has its own seed."""
    seeds = subject.seeds(RANDOM_SCORE)
    return {
        name: torch.stack([torch.from_numpy(numpy_generator(*seed, name).random(weight.shape[1:])) for seed in seeds])
        for name, weight in subject.weights.items()
    }


def score(subject: Subject) -> dict[str, Tensor]:
    """The rank of the drawn number within its layer, [R, ...] by name."""
    return by_layer(drawn(subject), subject.masks)


CRITERION = Criterion(score)
