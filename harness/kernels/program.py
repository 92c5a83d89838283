"""Programs: a network pass as a list of operations and buffers, built once and run in one call."""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from harness.kernels import call

# as in operations.h
(
    CONVOLVE,
    WEIGHT_GRADIENT,
    NORMALISE,
    NORMALISE_BACKWARD,
    POOL,
    POOL_BACKWARD,
    DENSE,
    LOSS,
    TRANSPOSE,
    DENSE_BACKWARD,
    DENSE_GRADIENT,
    BIAS_GRADIENT,
    PAD,
    UPDATE,
) = range(14)


class Operation(ctypes.Structure):
    """`Operation` of operations.h."""

    _fields_ = [
        ("kind", ctypes.c_int64),
        ("settings", ctypes.c_void_p),
        ("operand", ctypes.c_void_p * 8),
        ("number", ctypes.c_int64 * 6),
    ]


class Update(ctypes.Structure):
    """`Update` of operations.h: an optimizer's constants at a step."""

    _fields_ = [
        ("kind", ctypes.c_int64),
        *[(name, ctypes.c_float) for name in ("rate", "decay", "momentum", "beta1", "beta2", "eps", "root")],
    ]


class Program:
    """Operations in order on a stack of `replicates` networks, and their buffers.

    A program that replaces an `earlier` one reuses its buffers: allocating memory costs as much as several steps.
    """

    def __init__(self, replicates: int, earlier: "Program | None" = None) -> None:
        self.replicates = replicates
        self.buffers: dict[int, Tensor] = {}  # by address
        self._operations: list[Operation] = []
        self._keep: list[Any] = []
        self._free: dict[int, list[Tensor]] = {}
        self._array: Any = None
        for buffer in earlier.buffers.values() if earlier else []:
            self.give_back(buffer)
        self._arrived = ctypes.c_int64()

    def run(self) -> None:
        """Perform all operations."""
        if self._array is None:
            self._array = (Operation * len(self._operations))(*self._operations)
        self._arrived.value = 0
        call("execute", self._array, len(self._operations), self.replicates, ctypes.byref(self._arrived))

    def buffer(self, *shape: int) -> Tensor:
        """An uninitialised float32 buffer of this shape; one that was given back is reused."""
        free = self._free.get(math.prod(shape))
        buffer = free.pop().view(shape) if free else torch.empty(shape)
        self.buffers[buffer.data_ptr()] = buffer
        return buffer

    def give_back(self, buffer: Tensor) -> None:
        """Let operations that are added later reuse a buffer."""
        self._free.setdefault(buffer.numel(), []).append(buffer)

    def add(
        self,
        kind: int,
        operands: tuple[Tensor | ctypes.Structure | None, ...],
        numbers: tuple[int, ...] = (),
        settings: ctypes.Structure | None = None,
    ) -> None:
        """Append an operation on contiguous tensors in memory; raises ValueError for any other tensor."""
        operation = Operation(kind=kind, settings=ctypes.addressof(settings) if settings else None)
        operation.operand[: len(operands)] = [_address(operand) for operand in operands]
        operation.number[: len(numbers)] = numbers
        self._operations.append(operation)
        self._keep += [operands, settings]


def _address(operand: Tensor | ctypes.Structure | None) -> int | None:
    if operand is None:
        return None
    if isinstance(operand, ctypes.Structure):
        return ctypes.addressof(operand)
    if not operand.is_contiguous() or operand.device.type != "cpu":
        raise ValueError("operands of a kernel must be contiguous, and on the CPU")
    return operand.data_ptr()
