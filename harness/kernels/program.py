"""Programs: a pass of one network as a list of operations and buffers, written once; a stack's run in one call."""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

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
    SELECT,
    GATHER,
    TO_BLOCKS,
    TO_ROWS,
    SPARSE_ROWS,
    SPARSE_GRADIENT,
    SPARSE_BIAS,
    SPARSE_CONVOLVE,
    SPARSE_WEIGHT_GRADIENT,
) = range(23)


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


class Source(ctypes.Structure):
    """`Source` of operations.h: where the rows lie of which a batch's samples are some."""

    _fields_ = [("rows", ctypes.c_void_p)]


class Program:
    """Operations in order on replicate `replicate` of a stack, and their buffers.

    A program that replaces an `earlier` one reuses its buffers: allocating memory costs as much as several steps.
    """

    def __init__(self, replicate: int, earlier: "Program | None" = None) -> None:
        self.replicate = replicate
        self.buffers: dict[int, Tensor] = {}  # by address
        self.operations: list[Operation] = []
        self._keep: list[Any] = []
        self._free: dict[int, list[Tensor]] = {}
        for buffer in earlier.buffers.values() if earlier else []:
            self.give_back(buffer)

    def own(self, stacked: Tensor) -> Tensor:
        """The replicate's part of a stack's tensor [R, ...]."""
        return stacked.detach()[self.replicate]

    def gradient(self, parameter: nn.Parameter) -> Tensor:
        """The replicate's part of a parameter's gradient; raises ValueError if the parameter has none."""
        if parameter.grad is None:
            raise ValueError("the parameter has no gradient to write to")
        return self.own(parameter.grad)

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
        self.operations.append(operation)
        self._keep += [operands, settings]


class Runner:
    """Runs a stack's programs, one for each replicate, in one call."""

    def __init__(self, programs: list[Program]) -> None:
        self._arrays = [(Operation * len(program.operations))(*program.operations) for program in programs]
        self._firsts = (ctypes.c_void_p * len(programs))(*map(ctypes.addressof, self._arrays))
        self._counts = (ctypes.c_int64 * len(programs))(*map(len, self._arrays))
        self._programs = programs  # their operands must not go away
        self._arrived = ctypes.c_int64()

    def run(self) -> None:
        """Perform all operations."""
        self._arrived.value = 0
        call("execute", self._firsts, self._counts, len(self._programs), ctypes.byref(self._arrived))


def _address(operand: Tensor | ctypes.Structure | None) -> int | None:
    if operand is None:
        return None
    if isinstance(operand, ctypes.Structure):
        return ctypes.addressof(operand)
    if not operand.is_contiguous() or operand.device.type != "cpu":
        raise ValueError("operands of a kernel must be contiguous, and on the CPU")
    return operand.data_ptr()
