"""Networks by name, each built as a stack of R replicates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness.errors import HarnessError
from harness.networks.layers import BatchNorm, Conv, Linear
from harness.networks.lenet import LeNet
from harness.networks.resnet import ResNet
from harness.networks.vgg import VGG
from harness.seeds import torch_generator

NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "lenet-300-100": (LeNet, {}),
    "resnet20": (ResNet, {"dims": 2, "widths": (16, 32, 64)}),
    "resnet20-1d": (ResNet, {"dims": 1, "widths": (8, 16, 32)}),
    "resnet8-1d": (ResNet, {"dims": 1, "widths": (4, 8, 16), "blocks": 1}),
    "vgg16": (VGG, {"layers": 16}),
    "vgg19": (VGG, {"layers": 19}),
}


def build(name: str, replicates: int, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A stack of `replicates` uninitialised networks.

    Raises HarnessError for an unknown name, ValueError for inputs of a shape that the network can't take.
    """
    if name not in NETWORKS:
        raise HarnessError(f"network {name!r} is unknown: choose one of {', '.join(NETWORKS)}")
    make, options = NETWORKS[name]
    return make(replicates, input_shape, classes, **options)


def initialise(network: nn.Module, names: list[tuple[str | int, ...]]) -> None:
    """Draw each replicate's weights anew from its own named seed; biases to 0, BatchNorm to weight 1, bias 0.

    Glorot normal is the initialisation that LTH states (reference section 2.1). Each tensor is drawn with its own
    seed, so a layer added to a network changes no other layer's draw.
    """
    with torch.no_grad():
        for layer, module in network.named_modules():
            if isinstance(module, Linear | Conv):
                deviation = (2.0 / (module.fan_in + module.fan_out)) ** 0.5
                for replicate, name in enumerate(names):
                    generator = torch_generator(*name, f"{layer}.weight")
                    draw = torch.empty(module.weight.shape[1:]).normal_(0.0, deviation, generator=generator)
                    module.weight[replicate].copy_(draw)
                if isinstance(module, Linear):
                    module.bias.zero_()
            elif isinstance(module, BatchNorm):
                module.reset()


def prunable_names(network: nn.Module) -> list[str]:
    """Names of the parameters that pruning may touch, in a fixed order."""
    return network.prunable()  # type: ignore[operator]


def parameter_count(network: nn.Module) -> int:
    """Trainable parameters of one replicate."""
    return sum(value[0].numel() for value in network.parameters())
