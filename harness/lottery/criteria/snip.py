"""SNIP: the sensitivity of minibatches' loss to each weight, before any training (STAB Appendix A)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.lottery.branch import Criterion, Subject
from harness.training.loop import cross_entropy


def sensitivity(
    network: nn.Module, minibatches: Sequence[tuple[Tensor, Tensor]], prunable: Sequence[str]
) -> dict[str, Tensor]:
    """Connection sensitivity |g w| of each prunable weight, [R, ...] by name.

    w are the weights that `network` holds and g is the gradient of the mean cross-entropy of minibatches (x [R, N, C,
    *S], y [R, N]), summed over them. SNIP divides by the sum over all weights, which changes no ranking. BatchNorm
    normalises with each minibatch's statistics, as in training; its running statistics are restored afterwards.
    """
    named = dict(network.named_parameters())
    weights = [named[name] for name in prunable]
    stored = [buffer.clone() for buffer in network.buffers()]
    network.train()
    total = [torch.zeros_like(weight) for weight in weights]
    for x, y in minibatches:
        losses = cross_entropy(network(x), y).mean(1)
        # no operation mixes replicates, so the sum's gradient is each replicate's gradient
        for sum_, gradient in zip(total, torch.autograd.grad(losses.sum(), weights), strict=True):
            sum_ += gradient
    for buffer, value in zip(network.buffers(), stored, strict=True):
        buffer.copy_(value)
    return {
        name: (gradient * weight.detach()).abs()
        for name, gradient, weight in zip(prunable, total, weights, strict=True)
    }


def score(subject: Subject) -> dict[str, Tensor]:
    """The sensitivity of each prunable weight, [R, ...] by name."""
    return sensitivity(subject.network(), subject.minibatches(), list(subject.weights))


CRITERION = Criterion(score)
