"""Random weights, of each layer the share of an Erdos-Renyi graph: SET's start (Mocanu et al., 2018).

A layer of n inputs and m outputs keeps the share epsilon (n + m) / (n m), or all of it if that is more than 1, with the
epsilon of the level's exact count. SET draws each connection independently, so its count varies.
"""

from torch import Tensor

from harness.lottery.branch import Criterion, Subject
from harness.lottery.criteria.random_uniform import drawn
from harness.lottery.masks import by_layer, erdos_renyi


def score(subject: Subject) -> dict[str, Tensor]:
    """The rank of the drawn number within its layer, over the layer's share, [R, ...] by name."""
    return by_layer(drawn(subject), subject.masks, erdos_renyi(subject.weights))


CRITERION = Criterion(score)
