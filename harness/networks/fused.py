"""Networks on the CPU kernels: inference and training steps as programs over the network's parameters.

A stack has one program for each replicate, so that what a replicate computes depends on nothing of its neighbours. A
network has two methods for it: `packed(shape)` returns the inputs of its programs, a `Packed`, and
`write(program, x, shape, learn, memory)` adds a replicate's passes on its input to a program, and returns a `Written`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.kernels import LANES, available, sparse
from harness.kernels import dense as rows
from harness.kernels.dense import Memory
from harness.kernels.maps import (
    BLOCK,
    Convolution,
    Normed,
    Shape,
    normalise,
    normalise_backward,
    pack,
    packed,
    pool,
    pool_backward,
    room,
)
from harness.kernels.program import Program, Runner, Source


@dataclass(frozen=True)
class Selected:
    """Some of a data set's samples that are not copied yet: data [count, *sample], index [R, N]."""

    data: Tensor
    index: Tensor

    @property
    def shape(self) -> torch.Size:
        """[R, N, *sample]."""
        return torch.Size((*self.index.shape, *self.data.shape[1:]))

    def tensor(self) -> Tensor:
        """The samples, copied."""
        # twice as fast as self.data[self.index]
        return self.data.index_select(0, self.index.flatten()).unflatten(0, self.index.shape)


Samples = Tensor | Selected  # [R, N, *sample]


class Packed(NamedTuple):
    """The input of each replicate's program, and the function that brings a batch to them."""

    inputs: list[Any]
    fill: Callable[[Samples], None]


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
    fill: Callable[[Samples], None]
    written: list[Written]
    labels: Tensor
    losses: Tensor
    memory: Memory | None
    tensors: list[Tensor]
    addresses: list[int]
    kept: list[Tensor]  # in inference, which of the layers' weights are not zero

    def stale(self, memory: Memory | None, kept: list[Tensor]) -> bool:
        """Whether the optimizer has changed; without one, whether a tensor has moved or other weights are zero."""
        if memory or self.memory:
            return self.memory is not memory
        moved = self.addresses != [tensor.data_ptr() for tensor in self.tensors]
        return moved or any(not torch.equal(now, then) for now, then in zip(kept, self.kept, strict=True))


_passes: WeakKeyDictionary[nn.Module, dict[tuple[int, bool, bool], _Pass]] = WeakKeyDictionary()


def usable(network: nn.Module, x: Samples) -> bool:
    """Whether a stack's input [R, N, *sample] can go through the kernels.

    Feature maps hold multiples of LANES samples; padding samples would count in the statistics of a training step.
    """
    data = x.data if isinstance(x, Selected) else x
    if not hasattr(network, "write") or data.device.type != "cpu" or data.dtype != torch.float32 or not available():
        return False
    has_statistics = next(network.buffers(), None) is not None
    return not (network.training and has_statistics and x.shape[1] % LANES)


def logits(network: nn.Module, x: Tensor) -> Tensor:
    """What `network(x)` returns, without gradients."""
    lasts = [written.last for written in _run(network, x, None, None, learn=False).written]
    return torch.stack([last.y[: x.shape[1], : last.outputs] for last in lasts])


def step(network: nn.Module, x: Samples, y: Tensor, memory: Memory | None = None) -> Tensor:
    """Mean cross-entropy [R] of a training batch x [R, N, *sample], y [R, N].

    With a `memory` the parameters move by one step of its optimizer; without one, gradients are left in `.grad`. The
    parameters of an optimizer stay where they are, and so does the momentum of batch normalisation.
    """
    return _run(network, x, y, memory, learn=True).losses


def _run(network: nn.Module, x: Samples, y: Tensor | None, memory: Memory | None, *, learn: bool) -> _Pass:
    passes = _passes.setdefault(network, {})
    key = (x.shape[1], network.training, learn)
    current = passes.get(key)
    kept = [] if learn else [weight.detach() != 0 for weight in network.parameters() if weight.dim() > 2]
    if current is None or current.stale(memory, kept):
        current = passes[key] = _write(network, x, memory, learn, current.programs if current else [])
        current.kept = kept
    if not memory:
        for written in current.written:
            for norm in written.norms:
                norm.refresh()
    current.fill(x)
    if y is not None:
        current.labels.copy_(y)
    current.runner.run()
    return current


def _write(network: Any, x: Samples, memory: Memory | None, learn: bool, earlier: list[Program]) -> _Pass:
    if learn:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)  # a pruned weight's may stay as it is here
    packed: Packed = network.packed(x.shape)
    labels, losses = torch.zeros(x.shape[:2], dtype=torch.int64), torch.zeros(x.shape[0])
    programs = [Program(r, earlier[r] if earlier else None) for r in range(x.shape[0])]
    passes: list[Written] = []
    for program, own in zip(programs, packed.inputs, strict=True):
        written = network.write(program, own, x.shape, learn, memory)
        if learn:
            gradient = rows.loss(program, written.last, labels, losses)
            below = written.last.backward(program, gradient, memory, further=True)
            assert below is not None
            written.backward(below)
        passes.append(written)
    tensors = [*network.parameters(), *network.buffers()]
    addresses = [tensor.data_ptr() for tensor in tensors]
    return _Pass(programs, Runner(programs), packed.fill, passes, labels, losses, memory, tensors, addresses, [])


def packed_rows(shape: torch.Size) -> Packed:
    """Rows of samples, for a batch of `shape` [R, N, *sample], which are read from where they lie."""
    source, features = Source(), shape[2:].numel()
    index, all_rows = torch.zeros(shape[:2], dtype=torch.int64), torch.arange(shape[:2].numel()).view(shape[:2])

    def fill(x: Samples) -> None:
        data, chosen = (x.data, x.index) if isinstance(x, Selected) else (x, all_rows)
        source.data = data.contiguous()  # must not go away before the program has run
        source.rows = source.data.data_ptr()
        index.copy_(chosen)

    return Packed([rows.Rows(source, own, features) for own in index], fill)


def packed_maps(shape: torch.Size) -> Packed:
    """Feature maps for x of `shape` [R, N, C, *S], or its rows, if they become maps when they are cut in blocks."""
    positions = shape[3:].numel()
    if shape[1] % BLOCK == 0 and room(positions, BLOCK) == positions and shape[2:].numel() >= LANES:
        return packed_rows(shape)
    maps = packed(shape)
    return Packed(list(maps), lambda x: pack(x.tensor() if isinstance(x, Selected) else x, maps))


def _mask(program: Program, parameter: nn.Parameter, learn: bool, memory: Memory | None) -> Tensor | None:
    """The replicate's keep-mask: in training the optimizer's, None if it has none; else what is not zero."""
    if not learn:
        return program.own(parameter) != 0
    mask = memory.of(parameter)[2] if memory else None
    return None if mask is None else program.own(mask)


def write_rows(program: Program, layers: list[Any], x: rows.Rows, learn: bool, memory: Memory | None) -> Written:
    """Fully connected layers, with ReLU between them, on rows x [N, features]; the last one is dense.

    Raises ValueError for a hidden layer of fewer than LANES units.
    """
    if any(layer.fan_out < LANES for layer in layers[:-1]):
        raise ValueError(f"a hidden layer of fewer than {LANES} units can't be computed by the kernels")
    samples = len(x.chosen)
    y: rows.Rows | Tensor = x
    written: list[rows.Layer | sparse.Layer] = []
    for layer in layers[:-1]:
        mask = _mask(program, layer.weight, learn, memory)
        if mask is not None and sparse.pays(mask):
            before = y if isinstance(y, Tensor) and y.dim() == 3 else sparse.to_blocks(program, y)
            written.append(sparse.Layer(program, before, layer, mask, memory, relu=True))
        else:
            written.append(rows.Layer(program, _as_rows(program, y, samples), layer, relu=True))
        y = written[-1].y
    last = rows.Layer(program, _as_rows(program, y, samples), layers[-1], relu=False)

    def backward(gradient: Tensor) -> None:
        dy: Tensor | None = gradient
        for number, layer in reversed(list(enumerate(written))):
            assert dy is not None
            if isinstance(layer, sparse.Layer):
                dy = layer.backward(program, dy if dy.dim() == 3 else sparse.to_blocks(program, dy), further=number > 0)
            else:
                dy = layer.backward(program, _as_rows(program, dy, samples), memory, further=number > 0)

    return Written(last, backward)


def _as_rows(program: Program, y: rows.Rows | Tensor, samples: int) -> Tensor:
    if isinstance(y, rows.Rows):
        return rows.select(program, y)
    return y if y.dim() == 2 else sparse.to_rows(program, y, samples)


def write_blocks(
    program: Program, network: Any, x: rows.Rows | Tensor, size: tuple[int, ...], learn: bool, memory: Memory | None
) -> Written:
    """A `ResNet` or `ConvNet` of `harness.networks.architectures` on feature maps x [B, C, P', N'] of `size`."""
    maps = x if isinstance(x, Tensor) else sparse.to_blocks(program, x).unflatten(1, (-1, math.prod(size)))
    stem = _Layer(program, maps, network.conv, network.norm, size, memory=memory, learn=learn)
    norms, last, blocks = [stem.normed], stem.out, list[_Single | _Residual]()
    for block in network.blocks:
        kind = _Residual if hasattr(block, "shortcut") else _Single
        blocks.append(kind(program, last, block, size, memory, learn=learn))
        norms += blocks[-1].norms
        if not learn:
            program.give_back(last)
        last, size = blocks[-1].last.out, blocks[-1].first.shape.out_size
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
    """Convolution, batch normalisation, [residual,] [ReLU]; to `learn`, what the backward pass needs is kept."""

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
        memory: Memory | None,
        learn: bool,
    ):
        outputs, inputs = conv.weight.shape[1:3]
        self.shape = Shape(outputs, inputs, size, conv.width, conv.stride, x.shape[-1], len(x))
        mask = _mask(program, conv.weight, learn, memory)
        self.conv: Convolution | sparse.Convolution
        if mask is not None and sparse.pays(mask, self.shape):
            self.conv = sparse.Convolution(program, x, conv.weight, mask, self.shape)
        else:
            self.conv = Convolution(program, x, conv.weight, self.shape)
        self.y = self.conv.y
        positions = math.prod(self.shape.out_size)
        self.out, self.normed = normalise(
            program, self.y, positions, norm, relu=relu, residual=residual, in_place=not learn
        )

    def backward(self, program: Program, gradient: Tensor, through: Tensor | None = None) -> Tensor:
        """Write the parameters' gradients; return the gradient to the convolution's output, in place of `gradient`."""
        normalise_backward(program, self.normed, gradient, self.out, self.y, through)
        self.conv.weight_gradient(program, gradient)
        return gradient

    def below(self, program: Program, dy: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient to x from dy, the gradient to the convolution's output, whose buffer is given back."""
        dx = self.conv.input_gradient(program, dy, into)
        program.give_back(dy)
        return dx


class _Single:
    """A layer as a block in a program: see `harness.networks.architectures.convnet.Layer`."""

    def __init__(
        self, program: Program, x: Tensor, block: Any, size: tuple[int, ...], memory: Memory | None, *, learn: bool
    ):
        self.first = self.last = _Layer(program, x, block.conv, block.norm, size, memory=memory, learn=learn)
        self.norms = [self.first.normed]

    def backward(self, program: Program, gradient: Tensor) -> Tensor:
        """Gradient to the block's input from the gradient to its output, whose buffer is given back."""
        return self.first.below(program, self.first.backward(program, gradient))


class _Residual:
    """A residual block in a program: see `harness.networks.architectures.resnet.Block`."""

    def __init__(
        self, program: Program, x: Tensor, block: Any, size: tuple[int, ...], memory: Memory | None, *, learn: bool
    ):
        self.first = _Layer(program, x, block.conv1, block.norm1, size, memory=memory, learn=learn)
        self.short: _Layer | None = None
        residual = x
        if len(block.shortcut):
            conv, norm = block.shortcut
            self.short = _Layer(program, x, conv, norm, size, relu=False, memory=memory, learn=learn)
            residual = self.short.out
        inside = self.first.shape.out_size
        self.last = _Layer(
            program, self.first.out, block.conv2, block.norm2, inside, residual=residual, memory=memory, learn=learn
        )
        layers = [self.first, self.last, *([self.short] if self.short else [])]
        self.norms = [layer.normed for layer in layers]
        if not learn:
            program.give_back(self.first.out)
            if self.short:
                program.give_back(self.short.out)

    def backward(self, program: Program, gradient: Tensor) -> Tensor:
        """Gradient to the block's input from the gradient to its output, whose buffer is given back."""
        through = program.buffer(*gradient.shape)
        inner = self.last.below(program, self.last.backward(program, gradient, through))
        dy1 = self.first.backward(program, inner)
        if not self.short:
            return self.first.below(program, dy1, into=through)
        dx = self.first.below(program, dy1)
        return self.short.below(program, self.short.backward(program, through), into=dx)
