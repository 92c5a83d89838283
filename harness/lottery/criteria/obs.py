"""Layer-wise Optimal Brain Surgeon (Dong, Chen and Pan, arXiv 1705.07565), every layer at one density.

Of each layer, the weight goes whose removal, with the best change of the others, changes the layer's outputs least:
w_q^2 / (2 [H^-1]_qq), with H the mean product of the layer's inputs and a constant 1. The weights change by
-(w_q / [H^-1]_qq) H^-1 e_q, and H^-1 loses q, before the next one is chosen. (The official code scores once, and keeps
H^-1 as it was.) The constant's weight is the bias: it changes with the others, and is not pruned.

An output's removals change nothing of another output. So each is worked off alone, and then all are put in the order in
which the layer would lose them. Time grows with outputs times inputs cubed.
"""

import torch
from torch import Tensor

from harness.lottery.activations import Tensors, batches_of, in_double, products
from harness.lottery.branch import Criterion, Minibatches, Subject
from harness.lottery.masks import Masks, by_layer
from harness.networks.layers import Stack, connections

DAMPING = 1e-6  # added to the diagonal of H: the paper's inverse begins as 10^6 times the identity


def removals(weight: Tensor, hessian: Tensor, alive: Tensor, prunable: int) -> tuple[Tensor, Tensor]:
    """The order in which one output loses its first `prunable` weights, and what each removal costs.

    `weight` [K], `hessian` [K, K]; `alive` [K] says which weights there are.
    """
    places = alive.nonzero().flatten()
    inverse, own = torch.linalg.inv(hessian[places][:, places]), weight[places].clone()
    there = places < prunable
    order, costs = [], []
    for _ in range(int(there.sum())):
        cost = torch.where(there, own**2 / (2 * inverse.diagonal()), torch.inf)
        q = int(cost.argmin())
        order.append(int(places[q]))
        costs.append(float(cost[q]))
        row, pivot = inverse[q].clone(), float(inverse[q, q])
        own -= row * (float(own[q]) / pivot)
        inverse.addr_(row, row, alpha=-1 / pivot)
        there[q] = False
        inverse[q, q] = 1.0  # its row and column are 0 now
    return torch.tensor(order, dtype=torch.int64), torch.tensor(costs, dtype=torch.float64)


def ranks(weight: Tensor, hessian: Tensor, alive: Tensor, prunable: int) -> Tensor:
    """How late a layer [K, outputs] loses its `prunable` first inputs' weights, from 1 on; 0 for those not alive."""
    rank = torch.zeros(prunable, weight.shape[1], dtype=torch.float64)
    chains = [removals(weight[:, o], hessian, alive[:, o], prunable) for o in range(weight.shape[1])]
    # the layer always loses the cheapest of its outputs' next weights: by the dearest until then in its own output
    highest = torch.cat([costs.cummax(0).values if len(costs) else costs for _, costs in chains])
    output = torch.cat([torch.full_like(order, o) for o, (order, _) in enumerate(chains)])
    place = torch.cat([order for order, _ in chains])
    first = highest.argsort(stable=True)
    rank[place[first], output[first]] = torch.arange(1, len(first) + 1, dtype=torch.float64)
    return rank


def refitted(weight: Tensor, hessian: Tensor, kept: Tensor) -> Tensor:
    """The weights [K, outputs] whose outputs are the nearest to the layer's of all that are 0 outside of `kept`."""
    result = torch.zeros_like(weight)
    aim = hessian @ weight
    for o in range(weight.shape[1]):
        places = kept[:, o].nonzero().flatten()
        result[places, o] = torch.linalg.solve(hessian[places][:, places], aim[places, o])
    return result


def _layers(
    subject: Subject, minibatches: Minibatches, place: int, own: Tensors, network: Stack
) -> dict[str, tuple[Tensor, Tensor]]:
    """Each layer's weights, then its bias if it has one, [K, outputs], and its damped H [K, K], of one replicate."""
    tensors, result = in_double(own), {}
    for name in subject.weights:
        weight = connections(tensors[name]).flatten(0, 1)
        if _bias(name) in tensors:
            weight = torch.cat([weight, tensors[_bias(name)]])
        hessian, _ = products(network, tensors, tensors, batches_of(minibatches, place), name)
        hessian = hessian[: len(weight), : len(weight)].cpu()
        result[name] = weight.cpu(), hessian + DAMPING * torch.eye(len(hessian), dtype=hessian.dtype)
    return result


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _kept(mask: Tensor, rows: int) -> Tensor:
    """One replicate's mask of a layer with the row of its bias, if it has one, kept: [rows, outputs]."""
    flat = connections(mask).flatten(0, 1) != 0
    return torch.cat([flat, torch.ones_like(flat[: rows - len(flat)])])


def score(subject: Subject) -> dict[str, Tensor]:
    """The rank of each prunable weight in its layer, by how late it would go, [R, ...] by name."""
    result = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in subject.weights.items()}
    network, minibatches = subject.network(), subject.minibatches()
    for place, own in enumerate(network.replicates()):
        for name, (weight, hessian) in _layers(subject, minibatches, place, own, network).items():
            view = connections(result[name][place])
            alive = _kept(subject.masks[name][place], len(weight))
            view += ranks(weight, hessian, alive, view[..., 0].numel()).view(view.shape)
    return by_layer(result, subject.masks)


def refit(subject: Subject, masks: Masks) -> dict[str, Tensor]:
    """The kept weights after all removals, and the biases, [R, ...] by name."""
    network, minibatches = subject.network(), subject.minibatches()
    result: dict[str, list[Tensor]] = {}
    for place, own in enumerate(network.replicates()):
        for name, (weight, hessian) in _layers(subject, minibatches, place, own, network).items():
            new = refitted(weight, hessian, _kept(masks[name][place], len(weight)))
            value = torch.zeros_like(subject.weights[name][place], dtype=torch.float64)
            view = connections(value)
            view += new[: view[..., 0].numel()].view(view.shape)
            result.setdefault(name, []).append(value)
            if _bias(name) in own:
                result.setdefault(_bias(name), []).append(new[-1:])
    return {name: torch.stack(values) for name, values in result.items()}


CRITERION = Criterion(score, refit=refit)
