"""What a training step of a ResNet-20 spends its time on, by kind of operation, dense and pruned.

`python -m benchmarks.operations` times each operation of one network's step on one core, by all weights and by the
kept ones, and prints the least time of all rounds. The masks are those of `harness bench`, global magnitude. It answers
why a step at 16.8% density costs more than 16.8%: it also prints the share of the arithmetic that the kept weights
take, since global pruning keeps more of the first layers, each of whose weights is used at the most positions.
"""

import ctypes
import time

import torch
from rich.console import Console
from rich.table import Table

from harness.base.paths import checkout
from harness.bench.jobs import Stack, Task
from harness.bench.settings import GROUPS
from harness.data import source_of
from harness.kernels import call, program
from harness.networks import fused
from harness.paper import load_spec

STABILIZING = "stabilizing-lth"
DENSITIES = (1.0, 0.168, 0.107)
ROUNDS = 40
KINDS = {
    "convolutions": ("CONVOLVE", "SPARSE_CONVOLVE"),  # forward, and backward to the layer's input
    "weight gradients": ("WEIGHT_GRADIENT", "SPARSE_WEIGHT_GRADIENT"),
    "batch normalisation": ("NORMALISE", "NORMALISE_BACKWARD"),
    "optimizer": ("UPDATE",),
}


def operations(stack: Stack) -> list[program.Operation]:
    """The operations of a stack's training step, which has one replicate."""
    stack.run(1)
    (step,) = fused._passes[stack.network].values()
    return step.programs[0].operations


def least_times(step: list[program.Operation]) -> list[float]:
    """The least time of each operation in seconds, each run after those before it, less that of an empty call."""
    arrays = [(program.Operation * 1)(operation) for operation in step]
    firsts = [(ctypes.c_void_p * 1)(ctypes.addressof(array)) for array in arrays]
    one, none, arrived = (ctypes.c_int64 * 1)(1), (ctypes.c_int64 * 1)(0), ctypes.c_int64()

    def seconds(place: int, count: ctypes.Array[ctypes.c_int64]) -> float:
        arrived.value = 0
        started = time.perf_counter()
        call("execute", firsts[place], count, 1, ctypes.byref(arrived))
        return time.perf_counter() - started

    empty, least = min(seconds(0, none) for _ in range(1000)), [float("inf")] * len(step)
    for _ in range(ROUNDS):
        least = [min(before, seconds(place, one)) for place, before in enumerate(least)]
    return [time_taken - empty for time_taken in least]


def by_kind(step: list[program.Operation]) -> dict[str, float]:
    """Microseconds of a step by kind of operation."""
    names = {getattr(program, name): kind for kind, members in KINDS.items() for name in members}
    sums = dict.fromkeys([*KINDS, "other"], 0.0)
    for operation, seconds in zip(step, least_times(step), strict=True):
        sums[names.get(operation.kind, "other")] += seconds * 1e6
    return sums


def kept_arithmetic(stack: Stack) -> float:
    """The kept weights' share of the convolutions' arithmetic: a weight counts at every position of its maps."""
    kept = total = 0.0
    for name, weight in stack.network.named_parameters():
        if weight.dim() > 3:
            positions = float(weight.shape[1]) ** -(weight.dim() - 3)  # maps halve in each dimension as width doubles
            kept += positions * float(stack.masks[name].sum() if name in stack.masks else weight.numel())
            total += positions * weight.numel()
    return kept / total


def main() -> None:
    torch.manual_seed(0)
    for group in GROUPS:
        if group.name not in ("resnet20", "mini"):
            continue
        spec = load_spec(checkout(), STABILIZING, group.scale)
        setting = spec.scale.experiments[group.experiment]
        shape, recipe = source_of(setting.data, spec.scale.data).shape, spec.recipe(group.experiment)
        task = Task(setting.network, shape, 10, recipe, max(group.samples, recipe.batch_size))
        stacks = {"by all weights": Stack(task, [0], 1, "dense engine", DENSITIES[-1])}
        stacks |= {f"kept: {density:.1%}": Stack(task, [0], 1, density=density) for density in DENSITIES}
        columns = {name: by_kind(operations(stack)) for name, stack in stacks.items()}
        table = Table(title=f"{group.title}, batch {recipe.batch_size}: microseconds of a step", title_justify="left")
        for column in ("operation", *columns):
            table.add_column(column, justify="left" if column == "operation" else "right", no_wrap=True)
        for kind in (*KINDS, "other"):
            table.add_row(kind, *(f"{column[kind]:,.0f}" for column in columns.values()))
        table.add_row("all", *(f"{sum(column.values()):,.0f}" for column in columns.values()), style="bold")
        table.add_row(
            "arithmetic of kept weights", "100%", *(f"{kept_arithmetic(s):.0%}" for s in list(stacks.values())[1:])
        )
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
