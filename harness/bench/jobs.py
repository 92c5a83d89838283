"""The pieces of work that are measured: a stack's training, the straightforward one, what lies between two levels, and
the machine's own rates. All can be made in another process; random data in the data sets' shapes serves.
"""

import importlib
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from harness.bench import settings
from harness.bench.arithmetic import MOMENTS
from harness.bench.engine import torch_alone
from harness.networks import build, initialise, prunable_names
from harness.pruning import dense_masks, prune_by_magnitude
from harness.seeds import numpy_generator
from harness.spec.models import Recipe
from harness.training.batches import Batches
from harness.training.loop import evaluate, train, use_threads
from harness.training.state import read_network, stacked
from harness.training.store import SNAPSHOTS, Store, final_tensors, snapshot_tensors, state_of

RECIPE = {"optimizer", "learning_rate", "momentum", "weight_decay", "batch_size", "augmentation"}
STRAIGHTFORWARD = Path("benchmarks") / "straightforward.py"


@dataclass(frozen=True)
class Task:
    """A training step to be measured, and where."""

    network: str
    shape: tuple[int, ...]
    classes: int
    recipe: Recipe
    samples: int
    device: str = "cpu"

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def arrays(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Random samples: uint8 where they are images, float32 where they are series."""
    generator = numpy_generator("bench", "data")
    images = generator.integers(0, 256, (task.samples, *task.shape), dtype=np.uint8)
    x = images if len(task.shape) == 3 else images / np.float32(64) - 2
    return x, generator.integers(0, task.classes, task.samples)


@lru_cache(maxsize=1)
def tensors(task: Task) -> tuple[Tensor, Tensor]:
    """The same, standardised and on the device, once for all stacks of a process."""
    x, y = (torch.from_numpy(part).to(task.device) for part in arrays(task))
    x = x.float()
    return (x - x.mean()) / x.std(), y


class Stack:
    """The harness: replicates trained together from pruned weights; `plain` leaves its own kernels out."""

    def __init__(self, task: Task, replicates: list[int], threads: int, plain: bool = False):
        use_threads(threads)
        self.task, self.engine = task, torch_alone if plain else nullcontext
        self.x, self.y = tensors(task)
        with self.engine():
            self.network = build(task.network, len(replicates), task.shape, task.classes)
        initialise(self.network, [("bench", replicate) for replicate in replicates])
        self.network.to(task.device)
        self.start = read_network(self.network, 0)
        names = prunable_names(self.network)
        masks = dense_masks(self.start.weights, names)
        keep = round(settings.DENSITY * sum(mask[0].numel() for mask in masks.values()))
        self.masks = prune_by_magnitude(self.start.weights, masks, keep)
        orders: list[tuple[str | int, ...]] = [("bench", replicate, "data order") for replicate in replicates]
        self.batches = Batches(self.x, self.y, task.recipe.batch_size, orders, task.recipe.augmentation)
        self.step = 0

    def run(self, steps: int) -> dict[str, float]:
        """Train on, through the data's order, from the same weights."""
        first, self.step = self.step, self.step + steps
        recipe = self.task.recipe.model_copy(update={"steps": self.step, "drops": (), "warmup": 0})
        self.task.wait()
        with self.engine():
            trained = train(self.network, recipe, self.batches, replace(self.start, step=first), self.masks)
        self.task.wait()
        return {"seconds": trained.seconds}


def import_straightforward(root: Path) -> ModuleType:
    """benchmarks/straightforward.py of a checkout, by a name under which a loader's processes find it too."""
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
        """Train on."""
        return {"seconds": self.training.run(steps)}


class Between(Stack):
    """What lies between a level's training and the next: save, load, prune, rewind, evaluate."""

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
            kept = {name: value.clone() for name, value in snapshot_tensors(states, position).items()}
            self.store.write(f"r{position}{SNAPSHOTS}", {}, kept)

    def run(self, steps: int) -> dict[str, float]:
        """So many times all of it."""
        parts = dict.fromkeys(("evaluate", "save", "load", "prune"), 0.0)
        runs = range(len(next(iter(self.masks.values()))))
        keep = int(sum(mask[0].sum() for mask in self.masks.values()) * 0.8)
        for _ in range(steps):
            times = [time.perf_counter()]
            for samples in self.evaluated:
                evaluate(self.network, self.x[:samples], self.y[:samples])
            times.append(time.perf_counter())
            for run in runs:
                self.store.write(f"r{run}", {}, final_tensors(self.start, self.masks, run))
            times.append(time.perf_counter())
            stored = [self.store.load(f"r{run}") for run in runs]
            stacked([state_of(self.store.load_part(f"r{run}{SNAPSHOTS}", "k0/"), 0) for run in runs]).rewound()
            times.append(time.perf_counter())
            weights = {name: torch.stack([one[f"final/weights/{name}"] for one in stored]) for name in self.masks}
            masks = {name: torch.stack([one[f"mask/{name}"].float() for one in stored]) for name in self.masks}
            prune_by_magnitude(weights, masks, keep)
            times.append(time.perf_counter())
            for part, (before, after) in zip(parts, pairwise(times), strict=True):
                parts[part] += after - before
        parts["evaluate"] *= self.scale
        return {**parts, "seconds": sum(parts.values())}


class Matrix:
    """Products of large matrices, in the recipe's precision: the arithmetic that the machine can do."""

    def __init__(self, task: Task, threads: int):
        torch.set_num_threads(threads)
        self.task, size = task, (settings.MATRIX, settings.MATRIX)
        dtype = torch.bfloat16 if task.recipe.precision == "bfloat16" else torch.float32
        self.a, self.b, self.out = (torch.rand(size, device=task.device, dtype=dtype) for _ in range(3))

    def run(self, steps: int) -> dict[str, float]:
        """So many products."""
        torch.backends.cuda.matmul.allow_tf32 = self.task.recipe.precision == "tf32"
        self.task.wait()
        started = time.perf_counter()
        for _ in range(steps):
            torch.mm(self.a, self.b, out=self.out)
        self.task.wait()
        return {"seconds": time.perf_counter() - started}


class Move:
    """Copies of so many numbers, or their addition in place: what memory can move."""

    def __init__(self, task: Task, threads: int, numbers: int, add: bool):
        torch.set_num_threads(threads)
        self.task, self.add = task, add
        self.a, self.out = (torch.rand(numbers, device=task.device) for _ in range(2))

    def run(self, steps: int) -> dict[str, float]:
        """So many times."""
        move = self.out.add_ if self.add else self.out.copy_
        self.task.wait()
        started = time.perf_counter()
        for _ in range(steps):
            move(self.a)
        self.task.wait()
        return {"seconds": time.perf_counter() - started}
