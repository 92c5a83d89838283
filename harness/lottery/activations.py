"""The inputs and outputs of one network's layers on a minibatch, in float64, for criteria that look at data.

A layer is named after its weight. The network computes as it does when it is evaluated: BatchNorm uses its running
statistics, so that a sample's outputs depend on no other sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.base.errors import HarnessError
from harness.networks.layers import Conv, Linear, Stack

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """A layer's input and output for one minibatch, in the layout that its kind has."""

    module: Linear | Conv
    x: Tensor
    y: Tensor

    def channels(self) -> Tensor:
        """Its inputs without padding, [N * positions, inputs]."""
        return _channels_last(self.module, self.x).flatten(0, 1)

    def columns(self) -> Tensor:
        """Its inputs under each position of the kernel, [N, positions, inputs, taps]."""
        layer, x = self.module, self.x
        if isinstance(layer, Linear):
            return x[:, None, :, None]
        if layer.dims == 1:
            return F.pad(x, (layer.width // 2,) * 2).unfold(-1, layer.width, layer.stride).permute(1, 2, 0, 3)
        columns = F.unfold(x, layer.width, padding=layer.width // 2, stride=layer.stride)
        return columns.unflatten(1, (x.shape[1], -1)).permute(0, 3, 1, 2)

    def outputs(self, y: Tensor | None = None) -> Tensor:
        """Its outputs, or a tensor of their layout, [N, positions, outputs]."""
        return _channels_last(self.module, self.y if y is None else y)


def _channels_last(layer: Linear | Conv, x: Tensor) -> Tensor:
    """A layer's feature maps as [N, positions, channels]."""
    if isinstance(layer, Linear):
        return x[:, None]
    return x.permute(1, 2, 0) if layer.dims == 1 else x.flatten(2).transpose(1, 2)


def in_double(replicate: Tensors) -> Tensors:
    """Copies of one network's tensors in float64, detached."""
    return {name: value.detach().double().clone() for name, value in replicate.items()}


def activations(network: Stack, tensors: Tensors, x: Tensor, names: Iterable[str]) -> tuple[Tensor, dict[str, Layer]]:
    """The logits [N, classes] of one network with `tensors`, for x [N, C, *S], and the named layers' activations.

    Raises HarnessError for a layer that is neither `Linear` nor `Conv`.
    """
    seen: dict[str, Layer] = {}
    hooks = []

    def watch(name: str) -> None:
        module = network.get_submodule(name.rpartition(".")[0])
        if not isinstance(module, Linear | Conv):
            raise HarnessError(
                f"pruning: this criterion can't read the inputs of {name}, a layer of torchvision's; choose magnitude "
                "or snip"
            )

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            seen[name] = Layer(layer, inputs[0], y)  # type: ignore[arg-type]

        hooks.append(module.register_forward_hook(keep))

    try:
        for name in names:
            watch(name)
        network.eval()
        logits = network.heads(tensors, x.double())[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen


def batches_of(minibatches: Sequence[tuple[Tensor, Tensor]], place: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One replicate's minibatches, x [N, C, *S] and y [N]."""
    for x, y in minibatches:
        yield x[place], y[place]


@torch.no_grad()
def products(
    network: Stack, tensors: Tensors, others: Tensors, samples: Iterable[tuple[Tensor, Tensor]], name: str
) -> tuple[Tensor, Tensor]:
    """Mean products of a layer's inputs x with themselves, and with those that it has in a network of `others`.

    Two [inputs * taps + 1, same] in the order of `columns`, then a constant 1, over all samples and positions.
    """

    def rows_of(values: Tensors, x: Tensor) -> Tensor:
        columns = activations(network, values, x, [name])[1][name].columns()
        return F.pad(columns.flatten(2).flatten(0, 1), (0, 1), value=1.0)

    own = both = torch.zeros(())
    rows = 0
    for x, _ in samples:
        here, there = rows_of(tensors, x), rows_of(others, x)
        own, both, rows = own + here.T @ here, both + here.T @ there, rows + len(here)
    return own / rows, both / rows
