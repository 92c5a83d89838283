"""One training step of a stack: by the CPU kernels, or by torch on any device, one replicate after another."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.networks import fused
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.objective import Objective, Pass
from harness.training.updates import KINDS, Updater


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[N, classes], [N] -> [N]."""
    return F.cross_entropy(logits, y, reduction="none")


def by_kernels(network: Stack, x: fused.Samples, recipe: Recipe) -> bool:
    """Whether the kernels compute a step of a recipe on a batch x [R, N, *sample]; if not, torch does."""
    return recipe.optimizer in KINDS and recipe.precision != "bfloat16" and fused.usable(network, x)


def mean_cross_entropy(batch: Pass, instead: Mapping[str, Tensor] | None = None) -> Tensor:
    """A batch's mean cross-entropy [], with other tensors `instead` of the network's own of these names.

    That of a network with several heads is the weighted sum of theirs.
    """
    # Inception-v3 has two heads only while it trains
    losses = [
        weight * cross_entropy(logits.float(), batch.y).mean()
        for weight, logits in zip(batch.network.HEADS, batch.heads(instead), strict=False)
    ]
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def one_loss(batch: Pass, recipe: Recipe, minimised: Callable[[Pass], Tensor] = mean_cross_entropy) -> Tensor:
    """What a step of one replicate minimises, []; leaves gradients in `.grad` of its tensors."""
    for value in batch.tensors.values():
        value.grad = None
    with torch.autocast(batch.x.device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext():
        loss = minimised(batch)
    loss.backward()
    return loss.detach()


def in_training(network: Stack, updater: Updater) -> list[dict[str, Tensor]]:
    """Each replicate's tensors by name, its parameters with gradients of their own."""
    return [whole | own for whole, own in zip(network.replicates(), updater.replicates, strict=True)]


def take_step(
    network: Stack,
    x: fused.Samples,
    y: Tensor,
    updater: Updater,
    rate: float,
    *,
    step: int = 0,
    objective: Objective | None = None,
) -> Tensor:
    """One step on a batch x [R, N, *sample], y [R, N] at a learning rate; the loss [R] before it.

    The loss is the mean cross-entropy, or that of an `objective`, which torch computes after `step` steps.
    """
    updater.begin(rate)
    if objective is None and by_kernels(network, x, updater.recipe):
        return fused.step(network, x, y, updater)
    if isinstance(x, fused.Selected):
        x = x.tensor()
    minimised = objective.loss if objective else mean_cross_entropy
    losses = [
        one_loss(Pass(network, tensors, own_x, own_y, step, place), updater.recipe, minimised)
        for place, (tensors, own_x, own_y) in enumerate(zip(in_training(network, updater), x, y, strict=True))
    ]
    updater.step_by_torch()
    return torch.stack(losses)
