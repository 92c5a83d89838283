"""Networks by name, each built as a stack of R replicates."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.base.errors import HarnessError
from harness.base.seeds import torch_generator
from harness.networks.architectures import NETWORKS
from harness.networks.layers import BatchNorm, Conv, Linear, Stack


def build(name: str, replicates: int, input_shape: tuple[int, ...], classes: int) -> Stack:
    """A stack of `replicates` uninitialised networks.

    Raises HarnessError for an unknown name, ValueError for an input shape that the network can't take.
    """
    make, options = _definition(name)
    return make(replicates, input_shape, classes, **options)


def check(name: str, input_shape: tuple[int, ...]) -> None:
    """Raise the errors of `build` without importing torchvision, which takes seconds."""
    make, options = _definition(name)
    if hasattr(make, "check_shape"):
        make.check_shape(input_shape, **options)
    else:
        make(1, input_shape, 10, **options)


def _definition(name: str) -> tuple[Callable[..., Stack], dict[str, Any]]:
    if name not in NETWORKS:
        raise HarnessError(f"network {name!r} is unknown: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def initialise(network: nn.Module, names: list[tuple[str | int, ...]]) -> None:
    """Draw each replicate's weights from its named seed; set biases to 0, BatchNorm to weight 1, bias 0.

    Glorot normal is the initialisation that LTH states (reference section 2.1). Each tensor has a seed of its
    own, so adding a layer to a network changes no other layer's draw.
    """
    with torch.no_grad():
        for layer, module in network.named_modules():
            if isinstance(module, Linear | Conv | nn.Linear | nn.Conv2d):
                deviation = (2.0 / sum(_fans(module))) ** 0.5
                for replicate, name in enumerate(names):
                    generator = torch_generator(*name, f"{layer}.weight")
                    draw = torch.empty(module.weight.shape[1:]).normal_(0.0, deviation, generator=generator)
                    module.weight[replicate].copy_(draw)
                bias = getattr(module, "bias", None)
                if isinstance(bias, Tensor):
                    bias.zero_()
            elif isinstance(module, BatchNorm):
                module.reset()


def _fans(layer: Linear | Conv | nn.Linear | nn.Conv2d) -> tuple[int, int]:
    """Glorot's n_in and n_out of a layer."""
    if isinstance(layer, Linear | Conv):
        return layer.fan_in, layer.fan_out
    _, outputs, inputs, *kernel = layer.weight.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def prunable_names(network: Stack) -> list[str]:
    """Names of the parameters that pruning may touch, in a fixed order."""
    return network.prunable()


@lru_cache(maxsize=32)
def operations(name: str, input_shape: tuple[int, ...], classes: int) -> dict[str, int]:
    """The multiply-adds of one sample's forward pass by weight: as many for each of its numbers as there are positions.

    Of convolutions and fully connected layers; biases, normalisation and pooling are not counted.
    """
    counts: dict[str, int] = {}
    with torch.device("meta"):
        network = build(name, 1, input_shape, classes).train()  # a second head is computed in training only

        def count(layer: str) -> Callable[..., None]:
            def after(module: Any, _: Any, out: Tensor) -> None:
                weight = module.weight  # the network's own, without the stack's dimension
                outputs = weight.shape[1] if isinstance(module, Linear) else weight.shape[0]
                # two samples, of which a BatchNorm over a single position takes the mean
                counts[f"{layer}.weight"] = weight.numel() * (out.numel() // (2 * outputs))

            return after

        for layer, module in network.named_modules():
            if isinstance(module, Linear | Conv | nn.Linear | nn.Conv2d):
                module.register_forward_hook(count(layer))
        network.heads(network.replicates()[0], torch.empty(2, *input_shape))
    return counts


def parameter_count(network: nn.Module) -> int:
    """Trainable parameters of one replicate."""
    return sum(value[0].numel() for value in network.parameters())
