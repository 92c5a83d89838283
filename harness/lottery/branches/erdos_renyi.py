"""erdos_renyi: random weights that stay, of each layer the share of an Erdos-Renyi graph: SET without its evolution.

The mask is that of the criterion random_erdos_renyi, which SET and RigL start from too.
"""

from harness.base.seeds import CRITERION
from harness.lottery.branch import Branch, Origin
from harness.lottery.criteria import random_erdos_renyi
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights under the random mask, which all data orders share."""
    return origin.pruned_snapshot(random_erdos_renyi.CRITERION, CRITERION)


BRANCH = Branch("random, Erdos-Renyi", start, source="dense", weights="snapshot")
