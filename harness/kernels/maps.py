"""Programs of operations on a stack's feature maps: convolution, batch normalisation, ReLU, and their gradients.

A feature map is [R, C, P, N]: replicate, channel, position (row by row), sample; N is a multiple of `LANES`. A program
is written down once for a network and a number of samples, with its buffers, and then run at every step in one call.
"""

import ctypes
import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.kernels import LANES, call

EPS = 1e-5  # torch's default

CONVOLVE, WEIGHT_GRADIENT, NORMALISE, NORMALISE_BACKWARD = range(4)  # as in maps.c


class _Geometry(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("outputs", "inputs", "out_positions", "in_positions", "samples", "taps")],
        ("under", ctypes.c_void_p),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("channels", "count")],
        *[(name, ctypes.c_void_p) for name in ("scale", "shift", "mean", "variance", "centre", "steep")],
        *[(name, ctypes.c_double) for name in ("momentum", "eps")],
        *[(name, ctypes.c_int64) for name in ("training", "relu")],
    ]


class _Operation(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int64),
        ("geometry", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("operand", ctypes.c_void_p * 8),
        *[(name, ctypes.c_int64) for name in ("replicates", "wr", "wi", "wk", "wt", "add")],
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


@lru_cache(maxsize=256)
def _tables(shape: Shape) -> tuple[_Geometry, _Geometry, tuple[np.ndarray, ...]]:
    """Which input position lies under each tap at each output position, and the reverse (-1 is padding).

    The arrays are what the two structures point to.
    """
    outputs, inputs = math.prod(shape.out_size), math.prod(shape.size)
    under = np.full((outputs, shape.taps), -1, np.int32)
    over = np.full((inputs, shape.taps), -1, np.int32)
    offsets = list(itertools.product(range(shape.width), repeat=len(shape.size)))
    for output, place in enumerate(itertools.product(*map(range, shape.out_size))):
        for tap, offset in enumerate(offsets):
            at = tuple(a * shape.stride + b - shape.width // 2 for a, b in zip(place, offset, strict=True))
            if all(0 <= a < length for a, length in zip(at, shape.size, strict=True)):
                position = int(np.ravel_multi_index(at, shape.size))
                under[output, tap], over[position, tap] = position, output
    forward = _Geometry(shape.outputs, shape.inputs, outputs, inputs, shape.samples, shape.taps, under.ctypes.data)
    backward = _Geometry(shape.inputs, shape.outputs, inputs, outputs, shape.samples, shape.taps, over.ctypes.data)
    return forward, backward, (under, over)


class Normed(NamedTuple):
    """A batch normalisation in a program: its structure, and the tensors that it points to."""

    structure: _Norm
    module: Any
    centre: Tensor
    steep: Tensor


class Program:
    """Operations in order, and the buffers that they work on. Buffers given back are used again by later operations."""

    def __init__(self) -> None:
        self.norms: list[Normed] = []
        self._operations: list[_Operation] = []
        self._keep: list[Any] = []
        self._free: dict[int, list[Tensor]] = {}
        self._array: Any = None
        self._arrived = ctypes.c_int64()

    def run(self) -> None:
        """Perform all operations."""
        if self._array is None:
            self._array = (_Operation * len(self._operations))(*self._operations)
        self._arrived.value = 0
        call("execute", self._array, len(self._operations), ctypes.byref(self._arrived))

    def buffer(self, *shape: int) -> Tensor:
        """A buffer of float32 of this shape, not initialised."""
        free = self._free.get(math.prod(shape))
        if free:
            return free.pop().view(shape)
        made = torch.empty(shape)
        self._keep.append(made)
        return made

    def give_back(self, buffer: Tensor) -> None:
        """Let operations added from here on use a buffer for their results."""
        self._free.setdefault(buffer.numel(), []).append(buffer)

    def _add(self, kind: int, *operands: Tensor | None, **fields: Any) -> None:
        if any(operand is not None and not operand.is_contiguous() for operand in operands):
            raise ValueError("operands of a kernel must be contiguous")
        operation = _Operation(kind=kind, **fields)
        operation.operand[: len(operands)] = [None if tensor is None else tensor.data_ptr() for tensor in operands]
        self._operations.append(operation)
        self._keep.append(operands)

    def convolve(self, x: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        """[R, C, P, N] -> [R, O, Q, N] for weights [R, O, C, *k]."""
        y = self.buffer(len(weight), shape.outputs, math.prod(shape.out_size), shape.samples)
        pair = shape.inputs * shape.taps
        strides = {"wr": shape.outputs * pair, "wi": pair, "wk": shape.taps, "wt": 1}
        geometry = ctypes.addressof(_tables(shape)[0])
        self._add(CONVOLVE, y, x, weight, geometry=geometry, replicates=len(weight), **strides)
        return y

    def input_gradient(self, dy: Tensor, weight: Tensor, shape: Shape, into: Tensor | None = None) -> Tensor:
        """Gradient to the convolution's input, added to `into` if that is given."""
        dx = into
        if dx is None:
            dx = self.buffer(len(weight), shape.inputs, math.prod(shape.size), shape.samples)
        pair = shape.inputs * shape.taps
        strides = {"wr": shape.outputs * pair, "wi": shape.taps, "wk": pair, "wt": 1, "add": int(into is not None)}
        geometry = ctypes.addressof(_tables(shape)[1])
        self._add(CONVOLVE, dx, dy, weight, geometry=geometry, replicates=len(weight), **strides)
        return dx

    def weight_gradient(self, dw: Tensor, dy: Tensor, x: Tensor, shape: Shape) -> None:
        """Write the gradient to the convolution's weights to dw [R, O, C, *k]."""
        geometry = ctypes.addressof(_tables(shape)[0])
        self._add(WEIGHT_GRADIENT, dw, dy, x, geometry=geometry, replicates=len(dw))

    def normalise(
        self, y: Tensor, norm: Any, *, relu: bool, residual: Tensor | None = None, in_place: bool = False
    ) -> tuple[Tensor, Normed]:
        """[relu](batch norm of y [+ residual]) by a `BatchNorm`; in training, its running statistics are updated."""
        replicates, channels, positions, samples = y.shape
        centre, steep = self.buffer(replicates, channels), self.buffer(replicates, channels)
        tensors = (norm.weight, norm.bias, norm.mean, norm.variance, centre, steep)
        pointers = (tensor.data_ptr() for tensor in tensors)
        structure = _Norm(
            replicates * channels, positions * samples, *pointers, norm.momentum, EPS, int(norm.training), int(relu)
        )
        self.norms.append(Normed(structure, norm, centre, steep))
        out = y if in_place else self.buffer(*y.shape)
        self._add(NORMALISE, out, y, residual, norm=ctypes.addressof(structure))
        return out, self.norms[-1]

    def normalise_backward(
        self, normed: Normed, dy: Tensor, out: Tensor, y: Tensor, through: Tensor | None = None
    ) -> None:
        """Turn dy, the gradient to `out`, into the gradient to y; leave those to the weight and bias in their `.grad`.

        `through` gets the gradient to the residual.
        """
        scale, shift = normed.module.weight, normed.module.bias
        self._add(
            NORMALISE_BACKWARD, dy, scale.grad, shift.grad, through, dy, out, y, norm=ctypes.addressof(normed.structure)
        )


def pack(x: Tensor, into: Tensor) -> None:
    """Write x [R, N, C, *S] to feature maps [R, C, P, N'], N' >= N."""
    into[..., : x.shape[1]] = x.flatten(3).permute(0, 2, 3, 1)


def rounded(samples: int) -> int:
    """Samples that a feature map has room for: a multiple of LANES."""
    return -(-samples // LANES) * LANES
