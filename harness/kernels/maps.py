"""Operations on feature maps: convolution, batch normalisation, ReLU, pooling, and their gradients.

A feature map is [B, C, P, N]: block of samples, channel, position (row by row), sample; N is a multiple of `LANES`.
Some are padded by one position: channels a multiple of a page apart would map to the same few cache sets.
"""

import ctypes
import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.kernels import LANES
from harness.kernels.program import (
    CONVOLVE,
    NORMALISE,
    NORMALISE_BACKWARD,
    POOL,
    POOL_BACKWARD,
    WEIGHT_GRADIENT,
    Program,
)

EPS = 1e-5  # torch's default
BLOCK = 64  # most samples of a block, as in operations.h: lines of a map's rows stay in the second-level cache


class Geometry(ctypes.Structure):
    """`Geometry` of operations.h; `under` points to `table` [positions, taps]; a line has `line` positions."""

    table: np.ndarray
    line: int
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("outputs", "inputs", "out_positions", "in_positions")],
        *[(name, ctypes.c_int64) for name in ("out_row", "in_row", "blocks", "samples", "taps")],
        ("under", ctypes.c_void_p),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("channels", "blocks", "count", "row")],
        *[(name, ctypes.c_void_p) for name in ("scale", "shift", "mean", "variance", "centre", "steep")],
        *[(name, ctypes.c_double) for name in ("momentum", "eps")],
        *[(name, ctypes.c_int64) for name in ("training", "relu")],
    ]


class Shape(NamedTuple):
    """A convolution's shape: channels, the input's spatial size, the kernel's width, stride, and blocks of samples."""

    outputs: int
    inputs: int
    size: tuple[int, ...]
    width: int
    stride: int
    samples: int
    blocks: int = 1

    @property
    def taps(self) -> int:
        """Weights of the kernel for each pair of channels."""
        return self.width ** len(self.size)

    @property
    def out_size(self) -> tuple[int, ...]:
        """Spatial size of the output: padding is width // 2."""
        return tuple((length + self.stride - 1) // self.stride for length in self.size)


def room(positions: int, samples: int) -> int:
    """Positions that are allocated for a feature map."""
    return positions + (positions * samples * 4 % 4096 == 0)


@lru_cache(maxsize=256)
def geometries(shape: Shape, out_room: int, in_room: int) -> tuple[Geometry, Geometry]:
    """Which input position lies under each tap at each output position, and the reverse (-1 is padding)."""
    outputs, inputs = math.prod(shape.out_size), math.prod(shape.size)
    under = np.full((outputs, shape.taps), -1, np.int32)
    over = np.full((inputs, shape.taps), -1, np.int32)
    offsets = list(itertools.product(range(shape.width), repeat=len(shape.size)))
    for output, coordinates in enumerate(itertools.product(*map(range, shape.out_size))):
        for tap, offset in enumerate(offsets):
            at = tuple(a * shape.stride + b - shape.width // 2 for a, b in zip(coordinates, offset, strict=True))
            if all(0 <= a < length for a, length in zip(at, shape.size, strict=True)):
                position = int(np.ravel_multi_index(at, shape.size))
                under[output, tap], over[position, tap] = position, output
    samples, sizes = shape.samples, (shape.blocks, shape.samples, shape.taps)
    rows = (out_room * samples, in_room * samples)
    forward = Geometry(shape.outputs, shape.inputs, outputs, inputs, *rows, *sizes, under.ctypes.data)
    backward = Geometry(shape.inputs, shape.outputs, inputs, outputs, *rows[::-1], *sizes, over.ctypes.data)
    forward.table, backward.table = under, over
    forward.line, backward.line = shape.out_size[-1], shape.size[-1]
    return forward, backward


def maps_of(program: Program, shape: Shape) -> Tensor:
    """A buffer for a convolution's output [B, O, Q, N]."""
    return program.buffer(shape.blocks, shape.outputs, room(math.prod(shape.out_size), shape.samples), shape.samples)


class Convolution:
    """A convolution in a program: feature maps x [B, C, P, N] -> `y` [B, O, Q, N], for weights [R, O, C, *k]."""

    def __init__(self, program: Program, x: Tensor, weight: nn.Parameter, shape: Shape):
        self.x, self.weight = x, weight
        self.pair = shape.inputs * shape.taps  # weights of an output
        self.y = maps_of(program, shape)
        self.forward, self.backward = geometries(shape, self.y.shape[2], x.shape[2])
        program.add(CONVOLVE, (self.y, x, program.own(weight)), (self.pair, shape.taps, 1, 0), self.forward)

    def input_gradient(self, program: Program, dy: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient to x, added to `into` if given."""
        dx = program.buffer(*self.x.shape) if into is None else into
        numbers = (self.backward.taps, self.pair, 1, int(into is not None))
        program.add(CONVOLVE, (dx, dy, program.own(self.weight)), numbers, self.backward)
        return dx

    def weight_gradient(self, program: Program, dy: Tensor) -> None:
        """Write the gradient of the weights to `.grad`."""
        program.add(WEIGHT_GRADIENT, (program.gradient(self.weight), dy, self.x), (), self.forward)


class Normed(NamedTuple):
    """A batch normalisation in a program: its structure, and the `BatchNorm` module."""

    structure: _Norm
    module: Any

    def refresh(self) -> None:
        """Copy the module's momentum, which may change between runs."""
        self.structure.momentum = self.module.momentum


def normalise(
    program: Program,
    y: Tensor,
    positions: int,
    norm: Any,
    *,
    relu: bool,
    residual: Tensor | None = None,
    in_place: bool = False,
) -> tuple[Tensor, Normed]:
    """[relu](batch norm of y [+ residual]) by a `BatchNorm`; in training, its running statistics are updated."""
    blocks, channels, allocated, samples = y.shape
    stacked = (norm.weight, norm.bias, norm.mean, norm.variance)
    tensors = (*map(program.own, stacked), program.buffer(channels), program.buffer(channels))
    pointers = (tensor.data_ptr() for tensor in tensors)
    flags = (int(norm.training), int(relu))
    sizes = (channels, blocks, positions * samples, allocated * samples)
    structure = _Norm(*sizes, *pointers, norm.momentum, EPS, *flags)
    out = y if in_place else program.buffer(*y.shape)
    program.add(NORMALISE, (out, y, residual), (), structure)
    return out, Normed(structure, norm)


def normalise_backward(
    program: Program, normed: Normed, dy: Tensor, out: Tensor, y: Tensor, through: Tensor | None = None
) -> None:
    """Turn dy, the gradient to `out`, into the gradient to y, and write the weight's and bias's gradients to `.grad`.

    `through` gets the gradient to the residual.
    """
    scale, shift = program.gradient(normed.module.weight), program.gradient(normed.module.bias)
    program.add(NORMALISE_BACKWARD, (dy, scale, shift, through, dy, out, y), (), normed.structure)


def pool(program: Program, maps: Tensor, positions: int) -> Tensor:
    """Mean over positions, as rows [B * N, C]."""
    blocks, channels, allocated, samples = maps.shape
    rows = program.buffer(blocks * samples, channels)
    program.add(POOL, (rows, maps), (blocks, channels, positions, allocated * samples, samples))
    return rows


def pool_backward(program: Program, rows: Tensor, maps: Tensor, positions: int) -> Tensor:
    """Gradient to `maps` from the gradient to its means, rows [B * N, C]."""
    blocks, channels, allocated, samples = maps.shape
    gradient = program.buffer(*maps.shape)
    program.add(POOL_BACKWARD, (gradient, rows), (blocks, channels, positions, allocated * samples, samples))
    return gradient


def packed(shape: torch.Size) -> Tensor:
    """Zeros [R, B, C, P', N'] for x of `shape` [R, N, C, *S]; N is rounded up, and cut in equal blocks."""
    samples, block = rounded(shape[1]), min(BLOCK, rounded(shape[1]))
    while samples % block:
        block -= LANES
    return torch.zeros(shape[0], samples // block, shape[2], room(shape[3:].numel(), block), block)


def pack(x: Tensor, into: Tensor) -> None:
    """Write x [R, N, C, *S] to feature maps [R, B, C, P', N'], P' >= P, B * N' >= N."""
    maps = x.flatten(3).permute(0, 2, 3, 1)
    for block, part in enumerate(maps.split(into.shape[-1], dim=3)):
        into[:, block, :, : maps.shape[2], : part.shape[3]] = part


def rounded(samples: int) -> int:
    """Samples that are allocated for a feature map: a multiple of LANES."""
    return -(-samples // LANES) * LANES
