"""Network Trimming: units by APoZ, the share of their outputs that is 0 after ReLU (Hu et al., arXiv 1607.03250).

The paper removes a layer's units whose APoZ is more than one standard deviation above the layer's mean. Here it is as
many deviations, in every layer, as the level's number of weights asks for.
"""

import torch
from torch import Tensor

from harness.lottery.activations import activations, batches_of, in_double
from harness.lottery.branch import Criterion, Minibatches, Subject
from harness.lottery.units import surviving
from harness.networks.layers import Stack

SMALLEST = 1e-30  # in place of no deviation


@torch.no_grad()
def zeros(network: Stack, minibatches: Minibatches) -> dict[str, Tensor]:
    """APoZ: the share of samples and positions at which a unit's output is 0, [R, units] by incoming weight."""
    units = network.units()
    shares: dict[str, list[Tensor]] = {into: [] for into in units}
    for place, own in enumerate(network.replicates()):
        tensors = in_double(own)
        parts = [activations(network, tensors, x, units.values())[1] for x, _ in batches_of(minibatches, place)]
        for into, out in units.items():
            shares[into].append(torch.cat([seen[out].channels() == 0 for seen in parts]).double().mean(0))
    return {into: torch.stack(share) for into, share in shares.items()}


def score(subject: Subject) -> dict[str, Tensor]:
    """How many deviations of its layer a unit's APoZ is below the layer's mean, [R, units] by incoming weight."""
    network = subject.network()
    shares, alive = zeros(network, subject.minibatches()), surviving(subject.masks, network.units())
    return {
        into: torch.stack([_below(*own) for own in zip(share.cpu(), alive[into], strict=True)])
        for into, share in shares.items()
    }


def _below(share: Tensor, alive: Tensor) -> Tensor:
    own = share[alive != 0]
    return (own.mean() - share) / own.std(correction=0).clamp_min(SMALLEST)


CRITERION = Criterion(score, units=True)
