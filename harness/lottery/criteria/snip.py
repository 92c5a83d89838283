"""SNIP: the sensitivity of minibatches' loss to each weight, before any training (STAB Appendix A)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.lottery.branch import Criterion, Subject
from harness.networks.layers import Stack
from harness.training.step import cross_entropy


def sensitivity(
    network: Stack, minibatches: Sequence[tuple[Tensor, Tensor]], prunable: Sequence[str]
) -> dict[str, Tensor]:
    """Connection sensitivity |g w| of each prunable weight, [R, ...] by name.

    w are the weights that `network` holds and g is the gradient of the mean cross-entropy of minibatches (x [R, N, C,
    *S], y [R, N]), summed over them. SNIP divides by the sum over all weights, which changes no ranking. BatchNorm
    normalises with each minibatch's statistics, as in training; its running statistics are restored afterwards.
    """
    named = dict(network.named_parameters())
    stored = [buffer.clone() for buffer in network.buffers()]
    network.train()
    total = {name: torch.zeros_like(named[name]) for name in prunable}
    for x, y in minibatches:
        for place, own in enumerate(network.replicates()):
            loss = cross_entropy(network.heads(own, x[place])[0], y[place]).mean()
            gradients = torch.autograd.grad(loss, [own[name] for name in prunable])
            for name, gradient in zip(prunable, gradients, strict=True):
                total[name][place] += gradient
    for buffer, value in zip(network.buffers(), stored, strict=True):
        buffer.copy_(value)
    return {name: (gradient * named[name].detach()).abs() for name, gradient in total.items()}


def score(subject: Subject) -> dict[str, Tensor]:
    """The sensitivity of each prunable weight, [R, ...] by name."""
    return sensitivity(subject.network(), subject.minibatches(), list(subject.weights))


CRITERION = Criterion(score)
