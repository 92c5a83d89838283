"""How long a scale will take on this machine: a few timed steps of each network, and the bytes that its runs leave."""

import time
from dataclasses import dataclass

import torch

from harness.data import SOURCES
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.plan import Run, all_runs, dense_run, steps_of
from harness.spec import Spec
from harness.training.batches import Batches
from harness.training.loop import train, use_threads
from harness.training.state import read_network

LONGEST_SECONDS = 4.0  # of one experiment's timing


@dataclass(frozen=True)
class Cost:
    """An experiment's size and estimated cost at this scale."""

    experiment: str
    networks: int
    steps: int
    seconds: float  # of one core
    bytes: int
    runnable: bool


def step_seconds(spec: Spec, experiment: str, at_most: float = LONGEST_SECONDS) -> float:
    """Measured seconds of one network's training step, on one thread, in stacks as large as the scale trains."""
    setting, recipe = spec.scale.experiments[experiment], spec.recipe(experiment)
    use_threads(1)
    replicates = min(setting.replicates, setting.replicates_per_job)
    shape = SOURCES[setting.data].shape
    samples = 4 * recipe.batch_size
    x, y = torch.randn(samples, *shape), torch.arange(samples) % 10
    network = build(setting.network, replicates, shape, 10)
    initialise(network, [("calibration", replicate) for replicate in range(replicates)])
    batches = Batches(x, y, recipe.batch_size, [("calibration", r) for r in range(replicates)], recipe.augmentation)
    best, steps, begun = float("inf"), 1, time.perf_counter()
    while time.perf_counter() - begun < at_most:
        short = recipe.model_copy(update={"steps": steps, "drops": (), "warmup": 0})
        started = time.perf_counter()
        train(network, short, batches, read_network(network, 0))
        best = min(best, (time.perf_counter() - started) / steps / replicates)
        steps = min(steps * 4, 50)
    return best


def costs(spec: Spec, at_most: float = LONGEST_SECONDS) -> list[Cost]:
    """The estimated cost of every experiment of the scale."""
    found = []
    runs: dict[str, list[Run]] = {name: [] for name in spec.scale.experiments}
    for run in all_runs(spec):
        runs[run.experiment].append(run)
    timed: dict[tuple[str, str, int, str, int], float] = {}
    for name, setting in spec.scale.experiments.items():
        recipe = spec.recipe(name)
        stack = min(setting.replicates, setting.replicates_per_job)
        same = (setting.network, setting.data, recipe.batch_size, recipe.augmentation, stack)
        if same not in timed:
            timed[same] = step_seconds(spec, name, at_most)
        steps = sum(steps_of(run, recipe.steps, setting.restart) for run in runs[name])
        network = build(setting.network, 1, SOURCES[setting.data].shape, 10)
        weights = 4 * parameter_count(network)
        mask = sum(dict(network.named_parameters())[weight][0].numel() for weight in prunable_names(network))
        snapshots = len(setting.snapshot_steps()) * (3 if recipe.optimizer == "adam" else 2) * weights
        size = sum(
            weights + mask * (run.level > 0) + snapshots * (run == dense_run(name, run.replicate)) for run in runs[name]
        )
        found.append(
            Cost(name, len(runs[name]), steps, steps * timed[same], size, SOURCES[setting.data].make is not None)
        )
    return found
