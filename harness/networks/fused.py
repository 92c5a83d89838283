"""Networks on the CPU kernels: inference and training steps as programs over the network's parameters.

A stack has one program for each replicate, so that what a replicate computes depends on nothing of its neighbours. A
network has two methods for it: `packed(shape)` returns the input of its programs, a `Packed`, and
`write(program, x, shape, learn, memory)` adds a replicate's passes on its part of that input to a program, and returns
a `Written`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.kernels import LANES, available
from harness.kernels import dense as rows
from harness.kernels.dense import Memory
from harness.kernels.maps import (
    Normed,
    Shape,
    convolve,
    input_gradient,
    normalise,
    normalise_backward,
    pack,
    pool,
    pool_backward,
    room,
    rounded,
    weight_gradient,
)
from harness.kernels.program import Program, Runner


class Packed(NamedTuple):
    """A stack's input [R, ...] in the layout of its programs, and the function that copies x [R, N, *sample] to it."""

    tensor: Tensor
    fill: Callable[[Tensor], None]


@dataclass
class Written:
    """A replicate's forward pass in a program, and the function that adds its backward pass."""

    last: rows.Layer  # the output layer: its y holds the logits [N', at least classes]
    backward: Callable[[Tensor], None]  # adds the other layers' backward passes, given the gradient to the last one's x
    norms: list[Normed] = field(default_factory=list)


@dataclass
class _Pass:
    """Programs that are ready to run, and the tensors that they read and write."""

    programs: list[Program]
    runner: Runner
    fill: Callable[[Tensor], None]
    written: list[Written]
    labels: Tensor
    losses: Tensor
    memory: Memory | None
    tensors: list[Tensor]
    addresses: list[int]

    def stale(self, memory: Memory | None) -> bool:
        """Whether a tensor has moved in memory, or the optimizer has changed."""
        return self.memory is not memory or self.addresses != [tensor.data_ptr() for tensor in self.tensors]


_passes: WeakKeyDictionary[nn.Module, dict[tuple[int, bool, bool], _Pass]] = WeakKeyDictionary()


def usable(network: nn.Module, x: Tensor) -> bool:
    """Whether a stack's input [R, N, *sample] can go through the kernels.

    Feature maps hold multiples of LANES samples; padding samples would count in the statistics of a training step.
    """
    if not hasattr(network, "write") or x.device.type != "cpu" or x.dtype != torch.float32 or not available():
        return False
    has_statistics = next(network.buffers(), None) is not None
    return not (network.training and has_statistics and x.shape[1] % LANES)


def logits(network: nn.Module, x: Tensor) -> Tensor:
    """What `network(x)` returns, without gradients."""
    lasts = [written.last for written in _run(network, x, None, None, learn=False).written]
    return torch.stack([last.y[: x.shape[1], : last.outputs] for last in lasts])


def step(network: nn.Module, x: Tensor, y: Tensor, memory: Memory | None = None) -> Tensor:
    """Mean cross-entropy [R] of a training batch x [R, N, *sample], y [R, N].

    With a `memory` the parameters move by one step of its optimizer; without one, gradients are left in `.grad`.
    """
    return _run(network, x, y, memory, learn=True).losses


def _run(network: nn.Module, x: Tensor, y: Tensor | None, memory: Memory | None, *, learn: bool) -> _Pass:
    passes = _passes.setdefault(network, {})
    key = (x.shape[1], network.training, learn)
    current = passes.get(key)
    if current is None or current.stale(memory):
        current = passes[key] = _write(network, x, memory, learn, current.programs if current else [])
    for written in current.written:
        for norm in written.norms:
            norm.refresh()
    current.fill(x)
    if y is not None:
        current.labels.copy_(y)
    current.runner.run()
    return current


def _write(network: Any, x: Tensor, memory: Memory | None, learn: bool, earlier: list[Program]) -> _Pass:
    if learn:
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
    packed: Packed = network.packed(x.shape)
    labels, losses = torch.zeros(x.shape[:2], dtype=torch.int64), torch.zeros(x.shape[0])
    programs = [Program(r, earlier[r] if earlier else None) for r in range(len(x))]
    passes: list[Written] = []
    for program in programs:
        written = network.write(program, program.own(packed.tensor), x.shape, learn, memory)
        if learn:
            gradient = rows.loss(program, written.last, labels, losses)
            below = written.last.backward(program, gradient, memory, further=True)
            assert below is not None
            written.backward(below)
        passes.append(written)
    tensors = [*network.parameters(), *network.buffers()]
    addresses = [tensor.data_ptr() for tensor in tensors]
    return _Pass(programs, Runner(programs), packed.fill, passes, labels, losses, memory, tensors, addresses)


def packed_rows(shape: torch.Size) -> Packed:
    """Rows [R, N, features] for x of `shape` [R, N, *sample]."""
    x = torch.zeros(shape[0], shape[1], shape[2:].numel())

    def fill(samples: Tensor) -> None:
        x.copy_(samples.flatten(2))

    return Packed(x, fill)


def packed_maps(shape: torch.Size) -> Packed:
    """Feature maps [R, C, P', N'] for x of `shape` [R, N, C, *S]."""
    samples = rounded(shape[1])
    x = torch.zeros(shape[0], shape[2], room(shape[3:].numel(), samples), samples)
    return Packed(x, lambda samples: pack(samples, x))


def write_rows(program: Program, layers: list[nn.Module], x: Tensor, memory: Memory | None) -> Written:
    """Fully connected layers, with ReLU between them, on rows x [N, features]."""
    written: list[rows.Layer] = []
    for layer in layers:
        before = written[-1].y if written else x
        written.append(rows.Layer(program, before, layer, relu=layer is not layers[-1]))

    def backward(gradient: Tensor) -> None:
        for number, layer in reversed(list(enumerate(written[:-1]))):
            below = layer.backward(program, gradient, memory, further=number > 0)
            if below is not None:
                gradient = below

    return Written(written[-1], backward)


def write_residual(
    program: Program, network: Any, x: Tensor, size: tuple[int, ...], learn: bool, memory: Memory | None
) -> Written:
    """A residual network (`harness.networks.architectures.resnet.ResNet`) on feature maps x [C, P', N'] of `size`."""
    stem = _Layer(program, x, network.conv, network.norm, size, keep=learn)
    norms, last, blocks = [stem.normed], stem.out, []
    for block in network.blocks:
        blocks.append(_Block(program, last, block, size, keep=learn))
        norms += blocks[-1].norms
        if not learn:
            program.give_back(last)
        last, size = blocks[-1].second.out, blocks[-1].first.shape.out_size
    positions = math.prod(size)
    output = rows.Layer(program, pool(program, last, positions), network.output, relu=False)

    def backward(gradient: Tensor) -> None:
        at = pool_backward(program, gradient, last, positions)
        for written in reversed(blocks):
            at = written.backward(program, at)
        stem.backward(program, at)
        if memory:
            for name, parameter in network.named_parameters():
                if not name.startswith("output."):
                    rows.update(program, parameter, memory)

    return Written(output, backward, norms)


class _Layer:
    """Convolution, batch normalisation, [residual,] [ReLU] in a program; `keep` stores what the backward pass needs."""

    def __init__(
        self,
        program: Program,
        x: Tensor,
        conv: Any,
        norm: Any,
        size: tuple[int, ...],
        *,
        relu: bool = True,
        residual: Tensor | None = None,
        keep: bool,
    ):
        outputs, inputs = conv.weight.shape[1:3]
        self.shape = Shape(outputs, inputs, size, conv.width, conv.stride, x.shape[-1])
        self.x, self.conv = x, conv
        self.y = convolve(program, x, program.own(conv.weight), self.shape)
        positions = math.prod(self.shape.out_size)
        self.out, self.normed = normalise(
            program, self.y, positions, norm, relu=relu, residual=residual, in_place=not keep
        )

    def backward(self, program: Program, gradient: Tensor, through: Tensor | None = None) -> Tensor:
        """Write the parameters' gradients; return the gradient to the convolution's output, in place of `gradient`."""
        normalise_backward(program, self.normed, gradient, self.out, self.y, through)
        weight_gradient(program, program.gradient(self.conv.weight), gradient, self.x, self.shape)
        return gradient

    def below(self, program: Program, dy: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient to x from dy, the gradient to the convolution's output, whose buffer is given back."""
        dx = input_gradient(program, dy, program.own(self.conv.weight), self.shape, into)
        program.give_back(dy)
        return dx


class _Block:
    """A residual block in a program: see `harness.networks.architectures.resnet.Block`."""

    def __init__(self, program: Program, x: Tensor, block: Any, size: tuple[int, ...], *, keep: bool):
        self.first = _Layer(program, x, block.conv1, block.norm1, size, keep=keep)
        self.short: _Layer | None = None
        residual = x
        if len(block.shortcut):
            conv, norm = block.shortcut
            self.short = _Layer(program, x, conv, norm, size, relu=False, keep=keep)
            residual = self.short.out
        inside = self.first.shape.out_size
        self.second = _Layer(program, self.first.out, block.conv2, block.norm2, inside, residual=residual, keep=keep)
        layers = [self.first, self.second, *([self.short] if self.short else [])]
        self.norms = [layer.normed for layer in layers]
        if not keep:
            program.give_back(self.first.out)
            if self.short:
                program.give_back(self.short.out)

    def backward(self, program: Program, gradient: Tensor) -> Tensor:
        """Gradient to the block's input from the gradient to its output, whose buffer is given back."""
        through = program.buffer(*gradient.shape)
        inner = self.second.below(program, self.second.backward(program, gradient, through))
        dy1 = self.first.backward(program, inner)
        if not self.short:
            return self.first.below(program, dy1, into=through)
        dx = self.first.below(program, dy1)
        return self.short.below(program, self.short.backward(program, through), into=dx)
