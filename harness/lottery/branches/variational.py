"""variational: variational dropout, which learns each weight's noise (Molchanov et al., arXiv 1701.05369).

A weight is normal with mean w and variance a w^2. A layer's outputs are drawn, not its weights (local
reparametrisation), and the loss is the cross-entropy and the divergence from a log-uniform prior over N, the training
samples. Weights of log a above THRESHOLD are noise.

What is a choice here: the divergence is weighed in over the first quarter of the training, and counts while more than
the level's weights have log a below the threshold; at three quarters the level's number of weights with the smallest
log a stay, and the rest of the training has no noise. The parameter is the log of the variance, as in the authors'
code, but scaled by SPEED, since it is to move in thousands of steps and not in 100,000.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.base.errors import HarnessError
from harness.base.seeds import NOISE, torch_generator
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.gradual import start
from harness.lottery.masks import keep_largest
from harness.networks.layers import Conv, Linear
from harness.training.changes import Change, Changes, Moment
from harness.training.objective import Objective, Pass
from harness.training.step import mean_cross_entropy

LOG_VARIANCE, THRESHOLD, CLIP = -10.0, 3.0, 8.0
SPEED, WARM, UNTIL = 20.0, 0.25, 0.75
TINY = 1e-8


def log_ratio(weight: Tensor, log_variance: Tensor) -> Tensor:
    """log a = log(variance / w^2), within +-CLIP."""
    return (log_variance - (weight**2 + TINY).log()).clamp(-CLIP, CLIP)


def divergence(log_a: Tensor) -> Tensor:
    """The divergence of a weight from the log-uniform prior, by the paper's approximation (its eq. 14)."""
    scale = 0.63576
    return scale - scale * torch.sigmoid(1.87320 + 1.48695 * log_a) + 0.5 * F.softplus(-log_a)


def _with_noise(batch: Pass, log_a: dict[str, Tensor], seed: tuple[str | int, ...]) -> Tensor:
    """The mean cross-entropy of a forward pass in which each layer's outputs have their weights' noise."""
    layers = {f"{name}.weight": layer for name, layer in batch.network.named_modules()}
    hooks = []
    for name, ratio in log_a.items():
        layer = layers[name]
        if not isinstance(layer, Linear | Conv):
            raise HarnessError(f"branch variational: {name} is not of a layer with a product: train another network")

        def draw(layer: Any, inputs: tuple[Tensor], mean: Tensor, name: str = name, ratio: Tensor = ratio) -> Tensor:
            variance = layer.product(inputs[0] ** 2, ratio.exp() * batch.tensors[name] ** 2)
            noise = torch.randn(mean.shape, generator=torch_generator(*seed, name)).to(mean.device)
            return mean + (variance + TINY).sqrt() * noise

        hooks.append(layer.register_forward_hook(draw))
    try:
        return mean_cross_entropy(batch)
    finally:
        for hook in hooks:
            hook.remove()


def objective(origin: Origin, span: Span) -> Objective:
    """Noisy layers, and the divergence while more weights than the level's are not noise."""
    seeds, keep, names = origin.seeds(NOISE), origin.keep(), origin.prunable

    def loss(batch: Pass) -> Tensor:
        log_a = {name: log_ratio(batch.tensors[name], SPEED * batch.further(name)) for name in names}
        weight = min(1.0, (batch.step - span.first) / (span.at(WARM) - span.first)) / (span.epoch * len(batch.x))
        certain = sum(int((ratio < THRESHOLD).sum()) for ratio in log_a.values())
        from_prior = torch.stack([divergence(ratio).sum() for ratio in log_a.values()]).sum()
        price = weight if certain > keep else 0.0
        return _with_noise(batch, log_a, (*seeds[batch.place], batch.step)) + price * from_prior

    first = LOG_VARIANCE / SPEED
    further = {name: torch.full_like(origin.network.get_parameter(name), first).cpu() for name in names}
    return Objective(loss, span.at(UNTIL), further)


def changes(origin: Origin, span: Span) -> Changes:
    """The level's number of weights with the smallest log a, once."""

    def prune(moment: Moment) -> Change:
        certain = {
            name: (weight**2 + TINY).log() - SPEED * moment.further[name] for name, weight in moment.weights.items()
        }
        return Change(keep_largest(certain, moment.masks, origin.keep()))

    return Changes({span.at(UNTIL)}, prune)


BRANCH = Branch("variational dropout", start, source="dense", weights="snapshot", changes=changes, objective=objective)
