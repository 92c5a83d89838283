"""set: sparse evolutionary training (Mocanu et al., 2018).

An Erdos-Renyi mask; after every epoch but the last, each layer drops the smallest 30% of its positive weights and the
30% of its negative ones that are closest to 0, and as many free connections are drawn at random, with new weights. SET
goes by sign, not by magnitude alone. A layer without free connections stays.
"""

from copy import deepcopy

from torch import Tensor

from harness.base.seeds import REINITIALISATION, REWIRING
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.erdos_renyi import start
from harness.lottery.rewiring import at_random, each_layer, smallest
from harness.networks import initialise
from harness.training.changes import Change, Changes, Moment
from harness.training.state import read_network

ZETA = 0.3  # public code of SET


def changes(origin: Origin, span: Span) -> Changes:
    """After every epoch but the last."""
    seeds = origin.seeds(REWIRING)
    network = deepcopy(origin.network)

    def rewire(moment: Moment) -> Change:
        def layer(name: str, replicate: int, weight: Tensor, on: Tensor) -> Tensor:
            kept, free = on, ~on
            for sign in (on & (weight > 0), on & (weight < 0)):
                count = min(int(ZETA * int(sign.sum())), int(free.sum()) - int((on & ~kept).sum()))
                kept = kept & ~smallest(weight, sign, count)
            grown = at_random(free, int((on & ~kept).sum()), (*seeds[replicate], moment.step, name))
            return kept | grown

        initialise(network, [(*seed, moment.step) for seed in origin.seeds(REINITIALISATION)])
        return Change(each_layer(moment.weights, moment.masks, layer), read_network(network, moment.step).weights)

    return Changes(span.after_epochs(), rewire)


BRANCH = Branch("SET", start, source="dense", weights="snapshot", changes=changes)
