"""Operations on feature maps: convolution, batch normalisation, ReLU, pooling, and their gradients.

A feature map is [C, P, N]: channel, position (row by row), sample; N is a multiple of `LANES`. Some are
padded by one position: channels a multiple of a page apart would map to the same few cache sets.
"""

import ctypes
import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

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


class _Geometry(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("outputs", "inputs", "out_positions", "in_positions")],
        *[(name, ctypes.c_int64) for name in ("out_row", "in_row", "samples", "taps")],
        ("under", ctypes.c_void_p),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("channels", "count", "row")],
        *[(name, ctypes.c_void_p) for name in ("scale", "shift", "mean", "variance", "centre", "steep")],
        *[(name, ctypes.c_double) for name in ("momentum", "eps")],
        *[(name, ctypes.c_int64) for name in ("training", "relu")],
    ]


class Shape(NamedTuple):
    """A convolution's shape: channels, the input's spatial size, the kernel's width, stride, and samples."""

    outputs: int
    inputs: int
    size: tuple[int, ...]
    width: int
    stride: int
    samples: int

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
def _tables(shape: Shape, out_room: int, in_room: int) -> tuple[_Geometry, _Geometry, tuple[np.ndarray, ...]]:
    """Which input position lies under each tap at each output position, and the reverse (-1 is padding).

    The two structures point into the arrays.
    """
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
    samples, taps = shape.samples, shape.taps
    rows = (out_room * samples, in_room * samples)
    forward = _Geometry(shape.outputs, shape.inputs, outputs, inputs, *rows, samples, taps, under.ctypes.data)
    backward = _Geometry(shape.inputs, shape.outputs, inputs, outputs, *rows[::-1], samples, taps, over.ctypes.data)
    return forward, backward, (under, over)


def convolve(program: Program, x: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    """[C, P, N] -> [O, Q, N] for weights [O, C, *k]."""
    positions = room(math.prod(shape.out_size), shape.samples)
    y = program.buffer(shape.outputs, positions, shape.samples)
    strides = (shape.inputs * shape.taps, shape.taps, 1)
    program.add(CONVOLVE, (y, x, weight), (*strides, 0), _tables(shape, positions, x.shape[1])[0])
    return y


def input_gradient(program: Program, dy: Tensor, weight: Tensor, shape: Shape, into: Tensor | None = None) -> Tensor:
    """Gradient to the convolution's input, added to `into` if given."""
    dx = into
    if dx is None:
        dx = program.buffer(shape.inputs, room(math.prod(shape.size), shape.samples), shape.samples)
    strides = (shape.taps, shape.inputs * shape.taps, 1)
    tables = _tables(shape, dy.shape[1], dx.shape[1])
    program.add(CONVOLVE, (dx, dy, weight), (*strides, int(into is not None)), tables[1])
    return dx


def weight_gradient(program: Program, dw: Tensor, dy: Tensor, x: Tensor, shape: Shape) -> None:
    """Write the gradient to the convolution's weights to dw [O, C, *k]."""
    program.add(WEIGHT_GRADIENT, (dw, dy, x), (), _tables(shape, dy.shape[1], x.shape[1])[0])


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
    channels, allocated, samples = y.shape
    stacked = (norm.weight, norm.bias, norm.mean, norm.variance)
    tensors = (*map(program.own, stacked), program.buffer(channels), program.buffer(channels))
    pointers = (tensor.data_ptr() for tensor in tensors)
    flags = (int(norm.training), int(relu))
    sizes = (channels, positions * samples, allocated * samples)
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
    """Mean over positions, as rows [N, C]."""
    channels, allocated, samples = maps.shape
    rows = program.buffer(samples, channels)
    program.add(POOL, (rows, maps), (channels, positions, allocated * samples, samples))
    return rows


def pool_backward(program: Program, rows: Tensor, maps: Tensor, positions: int) -> Tensor:
    """Gradient to `maps` from the gradient to its means, rows [N, C]."""
    channels, allocated, samples = maps.shape
    gradient = program.buffer(*maps.shape)
    program.add(POOL_BACKWARD, (gradient, rows), (channels, positions, allocated * samples, samples))
    return gradient


def pack(x: Tensor, into: Tensor) -> None:
    """Write x [R, N, C, *S] to feature maps [R, C, P', N'], P' >= P, N' >= N."""
    samples, positions = x.shape[1], x.shape[3:].numel()
    into[:, :, :positions, :samples] = x.flatten(3).permute(0, 2, 3, 1)


def rounded(samples: int) -> int:
    """Samples that are allocated for a feature map: a multiple of LANES."""
    return -(-samples // LANES) * LANES
