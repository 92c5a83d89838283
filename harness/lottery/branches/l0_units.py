"""l0_units: a random gate on each unit, and a price on the weights of open ones (Louizos et al., arXiv 1712.01312).

Hard-concrete gates, as in `l0`, which has one for each weight. Here, as in the paper, a gate is an input of a layer: it
multiplies a unit's outgoing weights. Inputs of the network have no gates, since no unit feeds them.

What is a choice here is as in `l0`. The price is paid for the weights that are expected to be left, while these are
more than the level's.
"""

import math

import torch
from torch import Tensor

from harness.base.seeds import NOISE, torch_generator
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.gradual import start
from harness.lottery.branches.l0 import OPEN_AT_FIRST, PRICE, SPEED, UNTIL, gate, open_chance
from harness.lottery.units import keep_units
from harness.networks.layers import connections
from harness.training.changes import Change, Changes, Moment
from harness.training.objective import Objective, Pass
from harness.training.step import mean_cross_entropy


def gated(weight: Tensor, gates: Tensor) -> Tensor:
    """One network's weight with each input multiplied by its gate [inputs]."""
    return weight * (gates[:, None] if weight.dim() == 2 else gates.view(1, -1, *[1] * (weight.dim() - 2)))


def objective(origin: Origin, span: Span) -> Objective:
    """Gated units, and a price on what is expected to be left while it is more than the level's number."""
    seeds, keep, units = origin.seeds(NOISE), origin.keep(), origin.network.units()
    fed_by = {out: into for into, out in units.items()}

    def loss(batch: Pass) -> Tensor:
        log_a = {into: SPEED * batch.further(into) for into in units}
        instead = {}
        for into, value in log_a.items():
            drawn = torch.rand(value.shape, generator=torch_generator(*seeds[batch.place], batch.step, into))
            instead[units[into]] = gated(batch.tensors[units[into]], gate(value, drawn.to(value.device)))
        opened = {into: open_chance(value).sum() for into, value in log_a.items()}
        expected = torch.zeros((), device=batch.y.device)
        for name in origin.prunable:
            inputs, taps, outputs = connections(batch.tensors[name]).shape
            expected = expected + taps * opened.get(fed_by.get(name, ""), inputs) * opened.get(name, outputs)
        price = PRICE / (span.epoch * len(batch.x)) if expected.detach() > keep else 0.0
        return mean_cross_entropy(batch, instead) + price * expected

    first = math.log(OPEN_AT_FIRST / (1 - OPEN_AT_FIRST)) / SPEED
    weights = {into: origin.network.get_parameter(into) for into in units}
    further = {
        into: torch.full((len(weight), connections(weight[0]).shape[2]), first) for into, weight in weights.items()
    }
    return Objective(loss, span.at(UNTIL), further)


def changes(origin: Origin, span: Span) -> Changes:
    """The units of the largest log a, as many as the level's number of weights allows, once."""
    units = origin.network.units()

    def prune(moment: Moment) -> Change:
        stayed = {
            units[into]: torch.stack(
                [gated(*pair) for pair in zip(moment.weights[units[into]], gate(SPEED * value), strict=True)]
            )
            for into, value in moment.further.items()
        }
        return Change(keep_units(moment.further, moment.masks, units, origin.keep()), stayed=stayed)

    return Changes({span.at(UNTIL)}, prune)


BRANCH = Branch(
    "L0 gates on units", start, source="dense", weights="snapshot", changes=changes, objective=objective, units=True
)
