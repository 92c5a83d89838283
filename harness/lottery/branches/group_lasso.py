"""group_lasso: whole units fade under a group lasso while the network trains, and go (PruneTrain, arXiv 1901.09290).

A unit's group is its incoming and outgoing weights; the sum of the groups' L2 norms is added to the loss. The price is
set once, so that this sum makes up SHARE of the whole loss at the start. Every EPOCHS epochs units are removed whose
weights are all below GONE.

What is a choice here: one group for each unit, where the paper has one for its filter and one for each channel; at
three quarters of the training the units of the largest norms stay, as many as the level's number of weights allows, and
the rest of the training has no lasso. Batches do not grow.
"""

import torch
from torch import Tensor

from harness.base.seeds import CRITERION
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.gradual import start
from harness.lottery.masks import Masks
from harness.lottery.units import keep_units, of_units, surviving
from harness.networks.layers import connections
from harness.training.changes import Change, Changes, Moment
from harness.training.objective import Objective, Pass
from harness.training.state import write_network
from harness.training.step import mean_cross_entropy

SHARE, EPOCHS, GONE, UNTIL = 0.2, 10, 1e-4, 0.75


def norms(into: Tensor, out: Tensor) -> Tensor:
    """The L2 norm of each unit's incoming and outgoing weights of one network, [units]."""
    squares = connections(into).square().sum((0, 1)) + connections(out).square().sum((1, 2))
    return (squares + 1e-12).sqrt()  # whose slope is finite at 0


def objective(origin: Origin, span: Span) -> Objective:
    """Cross-entropy + price * sum of norms, each replicate's price by one minibatch at the start."""
    network, units = origin.network, origin.network.units()

    def penalty(batch: Pass) -> Tensor:
        pairs = units.items()
        return torch.cat([norms(batch.tensors[into], batch.tensors[out]) for into, out in pairs]).sum()

    write_network(network, origin.snapshots())
    network.eval()
    x, y = origin.minibatches(CRITERION)[0]
    with torch.no_grad():
        parts = enumerate(zip(network.replicates(), x, y, strict=True))
        firsts = [Pass(network, *own, span.first, place) for place, own in parts]
        prices = [SHARE / (1 - SHARE) * float(mean_cross_entropy(first) / penalty(first)) for first in firsts]
    return Objective(lambda batch: mean_cross_entropy(batch) + prices[batch.place] * penalty(batch), span.at(UNTIL))


def changes(origin: Origin, span: Span) -> Changes:
    """Every EPOCHS epochs those that have faded, and at last all but the level's number."""
    units, end = origin.network.units(), span.at(UNTIL)

    def prune(moment: Moment) -> Change:
        sizes = {
            into: torch.stack([norms(*pair) for pair in zip(moment.weights[into], moment.weights[out], strict=True)])
            for into, out in units.items()
        }
        kept = keep_units(sizes, moment.masks, units, origin.keep())
        if moment.step == end:
            return Change(kept)
        largest = {name: weight.abs() for name, weight in moment.weights.items()}
        level = surviving(kept, units)
        stays = {into: torch.maximum(level[into], _alive(largest, into, out)) for into, out in units.items()}
        return Change(of_units(moment.masks, units, stays))

    return Changes(frozenset({*[step for step in span.after_epochs()[EPOCHS - 1 :: EPOCHS] if step < end], end}), prune)


def _alive(largest: Masks, into: str, out: str) -> Tensor:
    """1 for each unit with a weight of at least GONE, [R, units]."""
    pairs = zip(largest[into], largest[out], strict=True)
    rows = [torch.maximum(connections(a).amax((0, 1)), connections(b).amax((1, 2))) for a, b in pairs]
    return (torch.stack(rows) >= GONE).float()


BRANCH = Branch(
    "group lasso", start, source="dense", weights="snapshot", changes=changes, objective=objective, units=True
)
