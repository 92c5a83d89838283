"""Operations on a stack's rows [R, N, features]: fully connected layers, the loss, and the optimizers' steps."""

import ctypes
import math
from typing import Protocol

from torch import Tensor, nn

from harness.kernels import LANES
from harness.kernels.program import (
    BIAS_GRADIENT,
    DENSE,
    DENSE_BACKWARD,
    DENSE_GRADIENT,
    LOSS,
    PAD,
    TRANSPOSE,
    UPDATE,
    Program,
    Update,
)


class _Dense(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("replicates", "samples", "inputs", "outputs", "x_pitch", "w_pitch", "y_pitch", "relu")
    ]


class Memory(Protocol):
    """An optimizer's tensors for each parameter, and its constants at the current step."""

    constants: Update

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Two tensors of the parameter's shape (the second may be None) and its keep-mask in bytes, or None."""
        ...


def pad(program: Program, x: Tensor, columns: int, into: Tensor | None = None) -> Tensor:
    """x [..., c] with its rows truncated or zero-padded to `columns`."""
    padded = program.buffer(*x.shape[:-1], columns) if into is None else into
    rows = math.prod(x.shape[:-1])
    program.add(PAD, (padded, x), (rows, min(columns, x.shape[-1]), x.shape[-1], columns))
    return padded


def update(program: Program, parameter: nn.Parameter, memory: Memory) -> None:
    """Move a parameter by its `.grad`."""
    first, second, mask = memory.of(parameter)
    sizes = (len(parameter), parameter[0].numel())
    program.add(UPDATE, (parameter, parameter.grad, first, second, mask), sizes, memory.constants)


class Layer:
    """A `Linear` in a program: rows x [R, N, inputs] -> `y` [R, N, outputs], [ReLU].

    A layer with fewer than LANES outputs is padded to LANES with zero weights.
    """

    def __init__(self, program: Program, x: Tensor, linear: nn.Module, *, relu: bool):
        self.weight: nn.Parameter = linear.weight  # type: ignore[assignment]
        self.bias: nn.Parameter = linear.bias  # type: ignore[assignment]
        self.x, self.relu = x, relu
        replicates, inputs, outputs = self.weight.shape
        self.small = outputs < LANES
        self._w: Tensor = self.weight
        bias: Tensor = self.bias
        if self.small:
            self._w, bias = pad(program, self._w, LANES), pad(program, bias, LANES)
        width = self._w.shape[-1]
        self.settings = _Dense(replicates, x.shape[1], inputs, width, inputs, width, width, int(relu))
        self.y = program.buffer(replicates, x.shape[1], width)
        program.add(DENSE, (self.y, x, self._w, bias), (), self.settings)

    def backward(self, program: Program, dy: Tensor, memory: Memory | None, *, further: bool) -> Tensor | None:
        """Take dy, the gradient to `y` [R, N, width]; return the gradient to x if `further`, else None.

        x is the output of a ReLU, or a mean of such outputs, so its gradient is passed on only where x > 0.

        With a `memory` the parameters move at once; without one their gradients are left in `.grad`.
        """
        replicates, inputs, width = self._w.shape
        dx = None
        if further:
            transposed = program.buffer(replicates, width, inputs)
            program.add(TRANSPOSE, (transposed, self._w), (replicates, inputs, width, width))
            dx = program.buffer(replicates, dy.shape[1], inputs)
            program.add(DENSE_BACKWARD, (dx, dy, transposed, self.x), (), self.settings)
        if memory and not self.small:
            first, second, mask = memory.of(self.weight)
            operands = (None, dy, self.x, memory.constants, self._w, first, second, mask)
            program.add(DENSE_GRADIENT, operands, (), self.settings)
        else:
            dw = program.buffer(replicates, inputs, width) if self.small else self.weight.grad
            program.add(DENSE_GRADIENT, (dw, dy, self.x), (), self.settings)
            if self.small and dw is not None:
                pad(program, dw, self.weight.shape[-1], self.weight.grad)
            if memory:
                update(program, self.weight, memory)
        db = program.buffer(replicates, 1, width) if self.small else self.bias.grad
        program.add(BIAS_GRADIENT, (db, dy), (), self.settings)
        if self.small and db is not None:
            pad(program, db, self.bias.shape[-1], self.bias.grad)
        if memory:
            update(program, self.bias, memory)
        return dx


def loss(program: Program, last: Layer, labels: Tensor, losses: Tensor) -> Tensor:
    """Mean cross-entropy of each replicate to `losses` [R]; the gradient overwrites the last layer's y."""
    program.add(LOSS, (losses, last.y, labels), (last.weight.shape[-1],), last.settings)
    return last.y
