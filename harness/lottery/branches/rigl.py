"""rigl: the weights of the largest gradients grow (Evci et al., arXiv 1911.11134).

An Erdos-Renyi mask; about 75 times in the first three quarters of training, each layer drops its smallest weights and
grows those of its others whose gradients on the next minibatch are the largest, at 0. Their share falls as a cosine
from 30% to 0. A weight that is dropped and grown at once keeps its value, as in the authors' code. That takes no step
at a change; this does.
"""

import math

from torch import Tensor

from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.erdos_renyi import start
from harness.lottery.rewiring import each_layer, highest, smallest
from harness.training.changes import Change, Changes, Moment

ALPHA, UNTIL, TIMES = 0.3, 0.75, 75  # ResNet-50's in the paper: 25,000 of 32,000 steps, every 100 to 300


def changes(origin: Origin, span: Span) -> Changes:
    """TIMES times until the share UNTIL of training is done, and not before the first step."""
    end = span.at(UNTIL)

    def rewire(moment: Moment) -> Change:
        gradients = moment.gradients()
        share = ALPHA / 2 * (1 + math.cos(math.pi * (moment.step - span.first) / (end - span.first)))

        def layer(name: str, replicate: int, weight: Tensor, on: Tensor) -> Tensor:
            count = int(share * int(on.sum()))
            kept = on & ~smallest(weight, on, count)
            return kept | highest(gradients[name][replicate].flatten().abs(), ~kept, count)

        return Change(each_layer(moment.weights, moment.masks, layer))

    interval = max(1, (end - span.first) // TIMES)
    return Changes(frozenset(range(span.first + interval, end, interval)), rewire)


BRANCH = Branch("RigL", start, source="dense", weights="snapshot", changes=changes)
