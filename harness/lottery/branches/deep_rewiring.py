"""deep_rewiring: connections of fixed signs walk at random until they cross zero (Bellec et al., arXiv 1711.05136).

An Erdos-Renyi mask. Each connection has a sign for good. The loss has the L1 norm added, and each active connection
noise in its gradient. One that crosses zero becomes dormant, and a random dormant one of its layer takes its place,
just off zero. The settings are those of the authors' LeNet-300-100 on MNIST; signs are those of the snapshot.

Training is that of the recipe, whose optimizer takes the place of the authors' gradient descent. Masks change before
every step, which costs more time than the step does.
"""

import torch
from torch import Tensor

from harness.base.seeds import NOISE, REWIRING, torch_generator
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.erdos_renyi import start
from harness.lottery.rewiring import at_random, each_layer, smallest
from harness.training.changes import Change, Changes, Moment
from harness.training.objective import Objective, Pass
from harness.training.step import mean_cross_entropy

L1, DEVIATION, JUST_OFF_ZERO = 1e-5, 1e-5, 1e-12


def objective(origin: Origin, span: Span) -> Objective:
    """Cross-entropy + L1 * sum |w| + noise * w: the noise's gradient is the noise."""
    seeds, names = origin.seeds(NOISE), origin.prunable

    def loss(batch: Pass) -> Tensor:
        terms = [mean_cross_entropy(batch)]
        for name in names:
            weight = batch.tensors[name]
            generator = torch_generator(*seeds[batch.place], batch.step, name)
            noise = DEVIATION * torch.randn(weight.shape, generator=generator).to(weight.device)
            terms.append(L1 * weight.abs().sum() + (noise * weight).sum())
        return torch.stack(terms).sum()

    return Objective(loss, span.steps)


def changes(origin: Origin, span: Span) -> Changes:
    """Before every step but the first."""
    seeds, signs = origin.seeds(REWIRING), {name: origin.snapshots().weights[name].sign() for name in origin.prunable}

    def rewire(moment: Moment) -> Change:
        def layer(name: str, replicate: int, weight: Tensor, on: Tensor) -> Tensor:
            crossed = on & (weight * signs[name][replicate].flatten() <= 0)
            count = min(int(crossed.sum()), int((~on).sum()))  # in a layer that is nearly full some have to stay
            grown = at_random(~on, count, (*seeds[replicate], moment.step, name))
            return on & ~smallest(weight, crossed, count) | grown

        masks = each_layer(moment.weights, moment.masks, layer)
        return Change(masks, {name: JUST_OFF_ZERO * sign for name, sign in signs.items()})

    return Changes(range(span.first + 1, span.steps), rewire)


BRANCH = Branch("Deep Rewiring", start, source="dense", weights="snapshot", changes=changes, objective=objective)
