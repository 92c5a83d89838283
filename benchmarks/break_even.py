"""At which densities a layer costs less by its kept weights: where `harness.kernels.sparse.BREAK_EVEN` comes from.

`python -m benchmarks.break_even` times each layer's part of a training step in both ways, interleaved, on one core, and
prints the ratio dense / sparse (above 1: sparse is faster) for random masks, from the least time of all rounds.
"""

import time

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import Parameter

from harness import kernels
from harness.kernels import dense, maps, sparse
from harness.kernels.maps import Shape
from harness.kernels.program import Program, Runner
from harness.networks.layers import Linear
from harness.paper.models import Recipe
from harness.training.updates import Updater

DENSITIES = (1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.107, 0.035)
SECONDS, ROUNDS = 0.05, 6  # of one way in a round, and rounds
ADAM = Recipe.model_validate({"optimizer": "adam", "learning_rate": 1.2e-3, "batch_size": 60, "steps": 1})
LINEAR = {"784 -> 300": (784, 300), "300 -> 100": (300, 100)}
CONVOLUTIONS = {  # those of the 1-D ResNet-20 of the mini scale, batch 64, and of the ResNet-20, batch 128
    "1-D, 8 -> 8, 40 positions": Shape(8, 8, (40,), 3, 1, 64),
    "1-D, 16 -> 16, 20 positions": Shape(16, 16, (20,), 3, 1, 64),
    "1-D, 32 -> 32, 10 positions": Shape(32, 32, (10,), 3, 1, 64),
    "1-D, 16 -> 32, stride 2": Shape(32, 16, (20,), 3, 2, 64),
    "2-D, 16 -> 16, 32 x 32": Shape(16, 16, (32, 32), 3, 1, 64, 2),
    "2-D, 32 -> 32, 16 x 16": Shape(32, 32, (16, 16), 3, 1, 64, 2),
    "2-D, 64 -> 64, 8 x 8": Shape(64, 64, (8, 8), 3, 1, 64, 2),
    "2-D, 32 -> 64, stride 2": Shape(64, 32, (16, 16), 3, 2, 64, 2),
}


def linear(inputs: int, outputs: int, density: float) -> tuple[Program, Program]:
    """A fully connected layer's step on a batch of 60 rows, by all weights and by the kept ones."""
    layer = Linear(1, inputs, outputs)
    torch.nn.init.normal_(layer.weight)
    mask = (torch.rand(1, inputs, outputs) < density).float()
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    x = torch.rand(60, inputs)
    updater = Updater(ADAM, dict(layer.named_parameters()), {"weight": mask})
    updater.begin(ADAM.learning_rate)
    by_all, by_kept = Program(0), Program(0)
    dense.Layer(by_all, x, layer, relu=True).backward(by_all, torch.randn(60, outputs), updater, further=True)
    blocks = sparse.to_blocks(by_kept, x)
    kept = sparse.Layer(by_kept, blocks, layer, mask[0], updater, relu=True)
    kept.backward(by_kept, torch.randn(1, outputs, sparse.BLOCK), further=True)
    return by_all, by_kept


def convolution(shape: Shape, density: float) -> tuple[Program, Program]:
    """A convolution's three passes, by all weights and by the kept ones."""
    mask = torch.rand(shape.outputs, shape.inputs, *[shape.width] * len(shape.size)) < density
    weight = Parameter(torch.randn(1, *mask.shape) * mask)
    weight.grad = torch.zeros_like(weight)
    positions = maps.room(torch.Size(shape.size).numel(), shape.samples)
    x = torch.randn(shape.blocks, shape.inputs, positions, shape.samples)
    programs = (Program(0), Program(0))
    layers = (maps.Convolution(programs[0], x, weight, shape), sparse.Convolution(programs[1], x, weight, mask, shape))
    for program, layer in zip(programs, layers, strict=True):
        dy = torch.randn(layer.y.shape)
        layer.input_gradient(program, dy)
        layer.weight_gradient(program, dy)
    return programs


def seconds(runner: Runner) -> float:
    """The time of one run."""
    started = time.perf_counter()
    runner.run()
    return time.perf_counter() - started


def ratio(programs: tuple[Program, Program]) -> float:
    """Least time by all weights / least time by the kept ones."""
    runners = [Runner([program]) for program in programs]
    least = [seconds(runner) for runner in runners]
    for _ in range(ROUNDS):
        for way, runner in enumerate(runners):
            times = [seconds(runner) for _ in range(max(3, round(SECONDS / least[way])))]
            least[way] = min(least[way], *times)
    return least[0] / least[1]


def main() -> None:
    kernels.use_threads(1)
    torch.manual_seed(0)
    table = Table(title=f"dense / sparse, kernels {kernels.available()}", title_justify="left")
    for column in ("layer", *(f"{density:.1%}" for density in DENSITIES)):
        table.add_column(column, justify="left" if column == "layer" else "right", no_wrap=True)
    for name, sizes in LINEAR.items():
        table.add_row(name, *(f"{ratio(linear(*sizes, density)):.2f}" for density in DENSITIES))
    for name, shape in CONVOLUTIONS.items():
        table.add_row(name, *(f"{ratio(convolution(shape, density)):.2f}" for density in DENSITIES))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
