"""One training step of a stack: by the CPU kernels, or by torch on any device, one replicate after another."""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.networks import fused
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.updates import KINDS, Updater


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[N, classes], [N] -> [N]."""
    return F.cross_entropy(logits, y, reduction="none")


def by_kernels(network: Stack, x: fused.Samples, recipe: Recipe) -> bool:
    """Whether the kernels compute a step of a recipe on a batch x [R, N, *sample]; if not, torch does."""
    return recipe.optimizer in KINDS and recipe.precision != "bfloat16" and fused.usable(network, x)


def one_loss(network: Stack, replicate: dict[str, Tensor], x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Mean cross-entropy of one replicate's batch x [N, *sample], y [N]; leaves gradients in `.grad` of its tensors.

    The loss of a network with several heads is the weighted sum of their cross-entropies.
    """
    for value in replicate.values():
        value.grad = None
    with torch.autocast(x.device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext():
        heads = network.heads(replicate, x)
    # Inception-v3 has two heads only while it trains
    losses = [
        weight * cross_entropy(logits.float(), y).mean() for weight, logits in zip(network.HEADS, heads, strict=False)
    ]
    loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
    loss.backward()
    return loss.detach()


def in_training(network: Stack, updater: Updater) -> list[dict[str, Tensor]]:
    """Each replicate's tensors by name, its parameters with gradients of their own."""
    return [whole | own for whole, own in zip(network.replicates(), updater.replicates, strict=True)]


def take_step(network: Stack, x: fused.Samples, y: Tensor, updater: Updater, rate: float) -> Tensor:
    """One step on a batch x [R, N, *sample], y [R, N] at a learning rate; mean cross-entropy [R] before it."""
    updater.begin(rate)
    if by_kernels(network, x, updater.recipe):
        return fused.step(network, x, y, updater)
    if isinstance(x, fused.Selected):
        x = x.tensor()
    losses = [one_loss(network, *own, updater.recipe) for own in zip(in_training(network, updater), x, y, strict=True)]
    updater.step_by_torch()
    return torch.stack(losses)
