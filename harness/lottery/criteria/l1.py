"""Filters by L1: the sum of |w| over what feeds a unit, every layer at one share of its units.

"Pruning Filters for Efficient ConvNets" (Li, Kadav, Durdanovic, Samet and Graf, arXiv 1608.08710); neurons likewise.
"""

import torch
from torch import Tensor

from harness.lottery.branch import Criterion, Subject
from harness.lottery.masks import by_layer
from harness.lottery.units import surviving
from harness.networks.layers import connections


def norms(weight: Tensor) -> Tensor:
    """Each unit's sum of |w|, [R, units], of the weight [R, ...] that feeds them, in double precision."""
    return torch.stack([connections(own.double()).abs().sum((0, 1)) for own in weight])


def score(subject: Subject) -> dict[str, Tensor]:
    """The rank of each unit's sum within its layer, [R, units] by incoming weight."""
    units = subject.network().units()
    return by_layer({into: norms(subject.weights[into]) for into in units}, surviving(subject.masks, units))


CRITERION = Criterion(score, units=True)
