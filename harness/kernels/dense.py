"""Operations on rows [N, features]: fully connected layers, the loss, and the optimizers' steps."""

import ctypes
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

from harness.kernels import LANES
from harness.kernels.program import (
    BIAS_GRADIENT,
    DENSE,
    DENSE_BACKWARD,
    DENSE_GRADIENT,
    LOSS,
    PAD,
    SELECT,
    TRANSPOSE,
    UPDATE,
    Program,
    Source,
    Update,
)


class _Dense(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64) for name in ("samples", "inputs", "outputs", "x_pitch", "w_pitch", "y_pitch", "relu")
    ]


class Memory(Protocol):
    """An optimizer's tensors for each parameter of a stack, and its constants at the current step."""

    constants: Update

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Two tensors of the parameter's shape (the second may be None) and its keep-mask in bytes, or None."""
        ...

    def kept(self, parameter: nn.Parameter, replicate: int, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        """A replicate's weights and the tensors of `of` at some places, as lists of a multiple of LANES numbers.

        The lists are what moves; they are copied to the parameter by the optimizer's `write_back`.
        """
        ...


def memory_of(program: Program, memory: Memory, parameter: nn.Parameter) -> list[Tensor | None]:
    """The replicate's parts of what `memory.of` returns."""
    return [None if tensor is None else program.own(tensor) for tensor in memory.of(parameter)]


def pad(program: Program, x: Tensor, columns: int, into: Tensor | None = None) -> Tensor:
    """x [..., c] with its rows truncated or zero-padded to `columns`."""
    padded = program.buffer(*x.shape[:-1], columns) if into is None else into
    rows = math.prod(x.shape[:-1])
    program.add(PAD, (padded, x), (rows, min(columns, x.shape[-1]), x.shape[-1], columns))
    return padded


class Rows(NamedTuple):
    """A program's input: the rows `chosen` [N] of a source, each of `features` numbers."""

    source: Source
    chosen: Tensor
    features: int


def select(program: Program, x: Rows) -> Tensor:
    """The rows [N, features]."""
    rows = program.buffer(len(x.chosen), x.features)
    program.add(SELECT, (rows, x.chosen), rows.shape, x.source)
    return rows


def update(program: Program, parameter: nn.Parameter, memory: Memory) -> None:
    """Move a parameter by its `.grad`."""
    own, gradient = program.own(parameter), program.gradient(parameter)
    operands = (own, gradient, *memory_of(program, memory, parameter))
    program.add(UPDATE, operands, (own.numel(),), memory.constants)


class Layer:
    """A `Linear` in a program: rows x [N, inputs] -> `y` [N, outputs], [ReLU].

    A layer with fewer than LANES outputs is padded to LANES with zero weights.
    """

    def __init__(self, program: Program, x: Tensor, linear: Any, *, relu: bool):
        self.weight: nn.Parameter = linear.weight
        self.bias: nn.Parameter = linear.bias
        self.x, self.relu = x, relu
        inputs, self.outputs = self.weight.shape[1:]
        self.small = self.outputs < LANES
        self._w, bias = program.own(self.weight), program.own(self.bias)
        if self.small:
            self._w, bias = pad(program, self._w, LANES), pad(program, bias, LANES)
        width = self._w.shape[-1]
        self.settings = _Dense(len(x), inputs, width, inputs, width, width, int(relu))
        self.y = program.buffer(len(x), width)
        program.add(DENSE, (self.y, x, self._w, bias), (), self.settings)

    def backward(self, program: Program, dy: Tensor, memory: Memory | None, *, further: bool) -> Tensor | None:
        """Take dy, the gradient to `y` [N, width]; return the gradient to x if `further`, else None.

        x is the output of a ReLU, or a mean of such outputs, so its gradient is passed on only where x > 0.

        With a `memory` the parameters move at once; without one their gradients are left in `.grad`.
        """
        inputs, width = self._w.shape
        dx = None
        if further:
            transposed = program.buffer(width, inputs)
            program.add(TRANSPOSE, (transposed, self._w), (inputs, width, width))
            dx = program.buffer(len(dy), inputs)
            program.add(DENSE_BACKWARD, (dx, dy, transposed, self.x), (), self.settings)
        if memory and not self.small:
            operands = (None, dy, self.x, memory.constants, self._w, *memory_of(program, memory, self.weight))
            program.add(DENSE_GRADIENT, operands, (), self.settings)
        else:
            gradient = program.gradient(self.weight)
            dw = program.buffer(inputs, width) if self.small else gradient
            program.add(DENSE_GRADIENT, (dw, dy, self.x), (), self.settings)
            if self.small:
                pad(program, dw, self.outputs, gradient)
            if memory:
                update(program, self.weight, memory)
        gradient = program.gradient(self.bias)
        db = program.buffer(1, width) if self.small else gradient
        program.add(BIAS_GRADIENT, (db, dy), (), self.settings)
        if self.small:
            pad(program, db, self.outputs, gradient)
        if memory:
            update(program, self.bias, memory)
        return dx


def loss(program: Program, last: Layer, labels: Tensor, losses: Tensor) -> Tensor:
    """The replicate's mean cross-entropy to `losses` [R]; the gradient overwrites the last layer's y."""
    operands = (program.own(losses), last.y, program.own(labels))
    program.add(LOSS, operands, (last.outputs,), last.settings)
    return last.y
