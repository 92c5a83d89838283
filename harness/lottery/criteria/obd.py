"""Optimal Brain Damage: h w^2 / 2, with h the diagonal of the Hessian of the loss (LeCun, Denker and Solla, 1989).

The Hessian is Gauss-Newton's, of the mean cross-entropy over the minibatches. Its diagonal is exact here: the original
recursion drops off-diagonal terms between layers. In a network whose outputs are piecewise linear in each single weight
(ReLU, and BatchNorm by its running statistics), it is the diagonal of the Hessian itself. Squared gradients, which
implementations often take instead, are another quantity. All is computed in float64: on data that the network has
learned, the probabilities of the other classes are below what float32 tells from 0.
"""

import torch
from torch import Tensor

from harness.lottery.activations import activations, batches_of, in_double
from harness.lottery.branch import Criterion, Minibatches, Subject
from harness.networks.layers import Stack, connections


def roots(logits: Tensor) -> Tensor:
    """S [N, classes, classes] with S^T S = diag(p) - p p^T, the Hessian of the cross-entropy of each sample's logits.

    Row c is sqrt(p_c) (e_c - p).
    """
    p = logits.softmax(1)
    return p.sqrt()[:, :, None] * (torch.eye(p.shape[1], dtype=p.dtype, device=p.device) - p[:, None, :])


def curvature(network: Stack, minibatches: Minibatches, names: list[str]) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton Hessian of the mean cross-entropy, [R, ...] by name, in float64."""
    result = {name: torch.zeros_like(network.get_parameter(name), dtype=torch.float64) for name in names}
    for place, own in enumerate(network.replicates()):
        tensors = in_double(own)
        for name in names:
            tensors[name].requires_grad_()
        samples = sum(len(y) for _, y in batches_of(minibatches, place))
        for x, _ in batches_of(minibatches, place):
            logits, seen = activations(network, tensors, x, names)
            inputs = {name: seen[name].columns().flatten(2).detach() for name in names}
            for row in roots(logits.detach()).unbind(1):
                slopes = torch.autograd.grad((row * logits).sum(), [seen[name].y for name in names], retain_graph=True)
                for name, slope in zip(names, slopes, strict=True):
                    total = _squares(inputs[name], seen[name].outputs(slope)) / samples
                    view = connections(result[name][place])
                    view += total.view(view.shape)
    return result


def _squares(x: Tensor, slope: Tensor) -> Tensor:
    """The sum over samples of the squared gradients: x [N, P, K], slope [N, P, outputs] -> [K, outputs]."""
    if x.shape[1] == 1:
        return (x[:, 0] ** 2).T @ slope[:, 0] ** 2
    total = torch.zeros(())
    for own, own_slope in zip(x, slope, strict=True):
        total = total + (own.T @ own_slope) ** 2
    return total


def score(subject: Subject) -> dict[str, Tensor]:
    """The saliency of each prunable weight, [R, ...] by name."""
    curved = curvature(subject.network(), subject.minibatches(), list(subject.weights))
    return {name: h * subject.weights[name].to(h) ** 2 / 2 for name, h in curved.items()}


CRITERION = Criterion(score)
