"""l0: a random gate on each weight, and a price on those that are open (Louizos et al., arXiv 1712.01312).

Gates are hard-concrete: s = sigmoid((log u - log(1 - u) + log a) / BETA), stretched to (GAMMA, ZETA), cut to [0, 1].
The loss is the cross-entropy and PRICE / N for each gate that is expected to be open, N the training samples. The paper
gates the input units of a layer for speed; this gates weights, as the comparison of Gale et al. (2019) does.

What is a choice here: the price is paid while more gates than the level keeps are expected to be open; at three
quarters of the training the level's number of gates with the largest log a stay, at the value of their mean gate, and
the rest of the training has no gates. SPEED scales log a, which is to move in thousands of steps and not in 100,000.
"""

import math

import torch
from torch import Tensor

from harness.base.seeds import NOISE, torch_generator
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.gradual import start
from harness.lottery.masks import keep_largest
from harness.training.changes import Change, Changes, Moment
from harness.training.objective import Objective, Pass
from harness.training.step import mean_cross_entropy

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
PRICE, SPEED, UNTIL = 0.1, 20.0, 0.75
OPEN_AT_FIRST = 0.5  # the droprate with which the authors' code begins


def gate(log_a: Tensor, uniform: Tensor | None = None) -> Tensor:
    """A hard-concrete gate for each log a, drawn by numbers from (0, 1), or without them its value in a test."""
    concrete = torch.sigmoid(log_a if uniform is None else (torch.logit(uniform, eps=1e-6) + log_a) / BETA)
    return (concrete * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_chance(log_a: Tensor) -> Tensor:
    """The chance that a gate is not 0."""
    return torch.sigmoid(log_a - BETA * math.log(-GAMMA / ZETA))


def objective(origin: Origin, span: Span) -> Objective:
    """Gated weights, and a price on open gates while there are more than the level's."""
    seeds, keep, names = origin.seeds(NOISE), origin.keep(), origin.prunable

    def loss(batch: Pass) -> Tensor:
        log_a = {name: SPEED * batch.further(name) for name in names}
        gated = {}
        for name, value in log_a.items():
            drawn = torch.rand(value.shape, generator=torch_generator(*seeds[batch.place], batch.step, name))
            gated[name] = batch.tensors[name] * gate(value, drawn.to(value.device))
        expected = torch.stack([open_chance(value).sum() for value in log_a.values()]).sum()
        price = PRICE / (span.epoch * len(batch.x)) if expected.detach() > keep else 0.0
        return mean_cross_entropy(batch, gated) + price * expected

    first = math.log(OPEN_AT_FIRST / (1 - OPEN_AT_FIRST)) / SPEED
    further = {name: torch.full_like(origin.network.get_parameter(name), first).cpu() for name in names}
    return Objective(loss, span.at(UNTIL), further)


def changes(origin: Origin, span: Span) -> Changes:
    """The level's number of gates with the largest log a, once."""

    def prune(moment: Moment) -> Change:
        gates = {name: gate(SPEED * value) for name, value in moment.further.items()}
        stayed = {name: weight * gates[name] for name, weight in moment.weights.items()}
        return Change(keep_largest(moment.further, moment.masks, origin.keep()), stayed=stayed)

    return Changes({span.at(UNTIL)}, prune)


BRANCH = Branch("L0 gates", start, source="dense", weights="snapshot", changes=changes, objective=objective)
