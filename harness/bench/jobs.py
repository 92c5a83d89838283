"""The jobs that are measured: a stack's training, the straightforward training, the work between two levels, and the
machine's own rates. Any of them can be created in another process. They use random data in the data sets' shapes.
"""

import importlib
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from harness import kernels
from harness.base.seeds import DATA_ORDER, numpy_generator
from harness.bench import settings
from harness.estimate.arithmetic import MOMENTS
from harness.kernels import sparse
from harness.lottery.masks import dense_masks, prune_by_magnitude
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.results.store import SNAPSHOTS, Store, final_tensors, snapshot_tensors, state_of
from harness.training.batches import Batches
from harness.training.loop import evaluate, train, use_threads
from harness.training.state import read_network, stacked
from harness.training.step import cross_entropy

RECIPE = {"optimizer", "learning_rate", "momentum", "weight_decay", "batch_size", "augmentation"}
STRAIGHTFORWARD = Path("benchmarks") / "straightforward.py"


@dataclass(frozen=True)
class Task:
    """A training step to measure, and its device."""

    network: str
    shape: tuple[int, ...]
    classes: int
    recipe: Recipe
    samples: int
    device: str = "cpu"

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def arrays(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Random samples (uint8 images or float32 series) and their labels."""
    generator = numpy_generator("bench", "data")
    images = generator.integers(0, 256, (task.samples, *task.shape), dtype=np.uint8)
    x = images if len(task.shape) == 3 else images / np.float32(64) - 2
    return x, generator.integers(0, task.classes, task.samples)


@lru_cache(maxsize=1)
def tensors(task: Task) -> tuple[Tensor, Tensor]:
    """The same data, standardised and on the device, once for all stacks of a process."""
    x, y = (torch.from_numpy(part).to(task.device) for part in arrays(task))
    x = x.float()
    return (x - x.mean()) / x.std(), y


# how a stack is computed: as usual, with every layer by all its weights, or without the kernels
ENGINES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "harness": nullcontext,
    "dense engine": sparse.without,
    "torch engine": kernels.without,
}


class Stack:
    """The harness's training: replicates together, from pruned weights, with or without its own kernels."""

    def __init__(
        self,
        task: Task,
        replicates: list[int],
        threads: int,
        engine: str = "harness",
        density: float = settings.DENSITY,
    ):
        use_threads(threads, task.recipe.precision)
        self.task, self.engine = task, ENGINES[engine]
        self.x, self.y = tensors(task)
        with self.engine():
            self.network = build(task.network, len(replicates), task.shape, task.classes)
        initialise(self.network, [("bench", replicate) for replicate in replicates])
        self.network.to(task.device)
        self.start = read_network(self.network, 0)
        names = prunable_names(self.network)
        masks = dense_masks(self.start.weights, names)
        keep = round(density * sum(mask[0].numel() for mask in masks.values()))
        self.masks = prune_by_magnitude(self.start.weights, masks, keep)
        orders: list[tuple[str | int, ...]] = [("bench", replicate, DATA_ORDER) for replicate in replicates]
        self.batches = Batches(self.x, self.y, task.recipe.batch_size, orders, task.recipe.augmentation)
        self.step = 0

    def run(self, steps: int) -> dict[str, float]:
        """Train on the next batches of the data order, from the same weights."""
        first, self.step = self.step, self.step + steps
        recipe = self.task.recipe.model_copy(update={"steps": self.step, "drops": (), "warmup": 0})
        self.task.wait()
        with self.engine():
            trained = train(self.network, recipe, self.batches, replace(self.start, step=first), self.masks)
        self.task.wait()
        return {"seconds": trained.seconds}


def import_straightforward(root: Path) -> ModuleType:
    """benchmarks/straightforward.py of a checkout, imported by a name that a data loader's processes can import too."""
    folder = str((root / STRAIGHTFORWARD).parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(STRAIGHTFORWARD.stem)


class Straightforward:
    """One network, as benchmarks/straightforward.py trains it."""

    def __init__(self, task: Task, root: Path, workers: int):
        module = import_straightforward(root)
        recipe = task.recipe.model_dump(include=RECIPE)
        self.training = module.Training(
            task.network, *arrays(task), **recipe, density=settings.DENSITY, workers=workers, device=task.device
        )

    def run(self, steps: int) -> dict[str, float]:
        """Continue the training."""
        return {"seconds": self.training.run(steps)}


class SparseProp:
    """LeNet-300-100 with the fully connected layers of the `sparseprop` package (Nikdan et al. 2023), one network.

    Raises ImportError if the package is not installed.
    """

    def __init__(self, task: Task, threads: int, density: float):
        from sparseprop.modules import SparseLinear

        use_threads(threads)
        torch.manual_seed(0)
        sizes = (math.prod(task.shape), 300, 100, task.classes)
        dense = [torch.nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
        for layer in dense:
            layer.weight.data *= torch.rand(layer.weight.shape) < density
        hidden1, hidden2, output = map(SparseLinear.from_dense, dense)
        relu = torch.nn.ReLU()
        self.network = torch.nn.Sequential(torch.nn.Flatten(), hidden1, relu, hidden2, relu, output)
        rate, decay = task.recipe.learning_rate, task.recipe.weight_decay
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, weight_decay=decay)
        x, y = tensors(task)
        self.batches = Batches(x, y, task.recipe.batch_size, [("bench", 0, DATA_ORDER)], task.recipe.augmentation)
        self.step = 0

    def run(self, steps: int) -> dict[str, float]:
        """Continue the training."""
        started = time.perf_counter()
        for _ in range(steps):
            x, y = self.batches.batch(self.step)
            self.step += 1
            self.optimizer.zero_grad()
            cross_entropy(self.network(x[0]), y[0]).mean().backward()
            self.optimizer.step()
        return {"seconds": time.perf_counter() - started}


class Between(Stack):
    """The work between a level's training and the next: evaluate, save, load, prune, rewind."""

    def __init__(
        self,
        task: Task,
        replicates: list[int],
        threads: int,
        *,
        folder: Path,
        snapshots: int,
        evaluated: tuple[int, ...],
        evaluated_here: int,
    ):
        super().__init__(task, replicates, threads)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.TemporaryDirectory(dir=folder)
        self.store = Store(Path(self.folder.name))
        self.evaluated = (evaluated_here,) if evaluated_here else evaluated
        self.scale = sum(evaluated) / sum(self.evaluated)
        slots = range(MOMENTS[task.recipe.optimizer])
        moments = {f"{slot}/{name}": value for slot in slots for name, value in self.start.weights.items()}
        states = dict.fromkeys(range(snapshots), replace(self.start, optimizer=moments))
        for position in range(len(replicates)):
            snapshot = {name: value.clone() for name, value in snapshot_tensors(states, position).items()}
            self.store.write(f"r{position}{SNAPSHOTS}", {}, snapshot)

    def run(self, steps: int) -> dict[str, float]:
        """Do this work `steps` times."""
        parts = dict.fromkeys(("evaluate", "save", "load", "prune"), 0.0)
        positions = range(len(next(iter(self.masks.values()))))
        keep = int(sum(mask[0].sum() for mask in self.masks.values()) * 0.8)
        for _ in range(steps):
            times = [time.perf_counter()]
            for samples in self.evaluated:
                evaluate(self.network, self.x[:samples], self.y[:samples])
            times.append(time.perf_counter())
            for position in positions:
                self.store.write(f"r{position}", {}, final_tensors(self.start, self.masks, position))
            times.append(time.perf_counter())
            stored = [self.store.load(f"r{position}") for position in positions]
            snapshots = [self.store.load_part(f"r{position}{SNAPSHOTS}", "k0/") for position in positions]
            stacked([state_of(snapshot, 0) for snapshot in snapshots]).rewound()
            times.append(time.perf_counter())
            weights = {name: torch.stack([run[f"final/weights/{name}"] for run in stored]) for name in self.masks}
            masks = {name: torch.stack([run[f"mask/{name}"].float() for run in stored]) for name in self.masks}
            prune_by_magnitude(weights, masks, keep)
            times.append(time.perf_counter())
            for part, (before, after) in zip(parts, pairwise(times), strict=True):
                parts[part] += after - before
        parts["evaluate"] *= self.scale
        return {**parts, "seconds": sum(parts.values())}


class Matrix:
    """Products of large matrices in the recipe's precision, which show how much arithmetic the machine can do."""

    def __init__(self, task: Task, threads: int):
        use_threads(threads, task.recipe.precision)
        self.task, size = task, (settings.MATRIX, settings.MATRIX)
        dtype = torch.bfloat16 if task.recipe.precision == "bfloat16" else torch.float32
        self.a, self.b, self.out = (torch.rand(size, device=task.device, dtype=dtype) for _ in range(3))

    def run(self, steps: int) -> dict[str, float]:
        """Multiply `steps` times."""
        self.task.wait()
        started = time.perf_counter()
        for _ in range(steps):
            torch.mm(self.a, self.b, out=self.out)
        self.task.wait()
        return {"seconds": time.perf_counter() - started}


class Move:
    """Copies of an array of numbers, or its addition in place, which show how much the memory can move."""

    def __init__(self, task: Task, threads: int, numbers: int, add: bool):
        torch.set_num_threads(threads)
        self.task, self.add = task, add
        self.a, self.out = (torch.rand(numbers, device=task.device) for _ in range(2))

    def run(self, steps: int) -> dict[str, float]:
        """Copy or add `steps` times."""
        move = self.out.add_ if self.add else self.out.copy_
        self.task.wait()
        started = time.perf_counter()
        for _ in range(steps):
            move(self.a)
        self.task.wait()
        return {"seconds": time.perf_counter() - started}
