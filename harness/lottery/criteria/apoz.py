"""Network Trimming: units by APoZ, the share of their outputs that is 0 after ReLU (Hu et al., arXiv 1607.03250).

The paper removes, of one layer at a time, the units whose APoZ is over a standard deviation above the layer's mean.
Here every layer keeps one share of its units, those of the lowest APoZ: one multiple of the deviations of all layers
would leave single units in layers where APoZ varies little.
"""

import torch
from torch import Tensor

from harness.lottery.activations import activations, batches_of, in_double
from harness.lottery.branch import Criterion, Minibatches, Subject
from harness.lottery.masks import by_layer
from harness.lottery.units import surviving
from harness.networks.layers import Stack


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
    """The rank of each unit by how often it is above 0 within its layer, [R, units] by incoming weight."""
    network = subject.network()
    shares = zeros(network, subject.minibatches())
    above = {into: 1 - share.cpu() for into, share in shares.items()}
    return by_layer(above, surviving(subject.masks, network.units()))


CRITERION = Criterion(score, units=True)
