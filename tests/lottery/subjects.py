"""Stacks of small networks as criteria see them, for tests."""

from itertools import pairwise

import torch

from harness.lottery.branch import Subject
from harness.lottery.masks import dense_masks, keep_count
from harness.networks import build, initialise
from harness.networks.architectures.convnet import ConvNet
from harness.networks.layers import Linear, Stack
from harness.training.state import read_network, write_network

#: networks by name -> the shape of a sample; "plain-2d" is a small plain network in two dimensions
SHAPES = {"lenet-300-100": (1, 8, 8), "resnet8-1d": (1, 20), "plain-1d": (1, 20), "plain-2d": (2, 6, 6)}
WIDTHS = (4, 6, 8)  # of the plain ones


class Layers(Stack):
    """Fully connected layers with ReLU between them; every weight can be pruned, and every hidden unit."""

    def __init__(self, replicates, *widths):
        super().__init__()
        self.layers = torch.nn.ModuleList(Linear(replicates, *pair) for pair in pairwise(widths))

    def alone(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def prunable(self):
        return [f"layers.{place}.weight" for place in range(len(self.layers))]

    def units(self):
        return dict(pairwise(self.prunable()))


def stack(kind, replicates, seed=0):
    """A network by its name, or `Layers` of a tuple of widths: all parameters drawn, BatchNorm's statistics too."""
    if not isinstance(kind, str):
        network = Layers(replicates, *kind)
    elif kind.startswith("plain"):
        network = ConvNet(replicates, SHAPES[kind], 10, dims=len(SHAPES[kind]) - 1, widths=WIDTHS)
    else:
        network = build(kind, replicates, SHAPES[kind], 10)
    initialise(network, [("criteria", seed, place) for place in range(replicates)])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if not name.endswith("weight") or value.dim() == 2:
                draw = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + draw if name.endswith(("variance", "weight")) else (draw - 0.5) / 2)
    return network


def only(kind, network, place):
    """A stack of one, with the tensors of one of a stack's networks."""
    alone = stack(kind, 1)
    write_network(alone, read_network(network, 0).select([place]))
    return alone


def minibatches(kind, replicates, count=2, samples=16, seed=0):
    """Random samples x [R, N, ...] and labels y [R, N]."""
    shape, classes = (SHAPES[kind], 10) if isinstance(kind, str) else (kind[:1], kind[-1])
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, replicates, samples, *shape, generator=generator)
    y = torch.randint(classes, (count, replicates, samples), generator=generator)
    return list(zip(x, y, strict=True))


def subject(network, batches=(), density=0.3, masks=None, places=None):
    """What a criterion gets; `places` are the replicates in the names of random draws."""
    state = read_network(network, 0)
    weights = {name: state.weights[name] for name in network.prunable()}
    total = sum(value[0].numel() for value in weights.values())
    places = range(len(next(iter(weights.values())))) if places is None else places
    return Subject(
        weights,
        masks or dense_masks(weights, list(weights)),
        keep_count(total, density),
        lambda: network,
        lambda: list(batches),
        lambda purpose: [("criteria", place, purpose) for place in places],
    )
