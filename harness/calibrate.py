"""How long a scale will take on this machine: a few timed steps of each network, and the bytes that its runs leave."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from harness.data import SOURCES
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.plan import Run, all_runs, dense_run, steps_of
from harness.sharing import snapshots
from harness.spec import Spec
from harness.spec.models import Recipe, Setting
from harness.training.batches import Batches
from harness.training.device import pick
from harness.training.loop import train, use_threads
from harness.training.state import read_network
from harness.training.updates import SLOTS

LONGEST_SECONDS = 2.0  # of one network's timing; two steps on a few samples are timed whatever they take
FEWEST_SAMPLES = 4  # of a step, for a network whose batch would take too long
MOST_STEPS = 50


@dataclass(frozen=True)
class Timing:
    """Seconds of one network's training step on one core or GPU; `samples` of the batch were timed."""

    seconds: float
    samples: int


@dataclass(frozen=True)
class Cost:
    """An experiment's size and estimated cost at this scale."""

    experiment: str
    networks: int
    steps: int
    seconds: float  # of one core or GPU
    bytes: int
    step_seconds: float
    samples: int  # of the batch that was timed
    batch_size: int


def step_seconds(spec: Spec, experiment: str, at_most: float = LONGEST_SECONDS) -> Timing:
    """Measure a network's training step: on the GPU if there is one, else on one thread.

    Begins with one replicate and a few samples, of which a first step that loads and builds things does not count, and
    goes on to the whole batch, then to the stack that the scale trains together, while time lasts. Where it does not
    last for the batch, the time is scaled up by proportion. The samples are random numbers in memory: reading images
    from a disk is not in it.
    """
    setting, recipe = spec.scale.experiments[experiment], spec.recipe(experiment)
    use_threads(1)
    batch = recipe.batch_size
    samples, replicates = min(FEWEST_SAMPLES, batch), 1
    stack = min(setting.replicates, setting.replicates_per_job)
    timer = _timer(setting, recipe, samples, replicates)
    timer(1)
    began = time.perf_counter()
    best = timer(1)
    while (samples, replicates) != (batch, stack):
        larger = (min(8 * samples, batch), replicates) if samples < batch else (samples, stack)
        predicted = best * larger[0] * larger[1] / (samples * replicates)
        if time.perf_counter() - began + predicted > at_most:
            break
        try:
            timer = _timer(setting, recipe, *larger)
            best = _warm(timer, at_most)
        except torch.OutOfMemoryError:
            break
        samples, replicates = larger
    steps = 1
    while time.perf_counter() - began + best * steps < at_most:
        best = min(best, timer(steps) / steps)
        steps = min(steps * 4, MOST_STEPS)
    return Timing(best / replicates * batch / samples, samples)


def _timer(setting: Setting, recipe: Recipe, samples: int, replicates: int) -> Callable[[int], float]:
    """A function that trains a new stack for some steps, on random samples, and returns the seconds that it took."""
    source, device = SOURCES[setting.data], pick()
    short = recipe.model_copy(update={"batch_size": samples, "drops": (), "warmup": 0})
    names: list[tuple[str | int, ...]] = [("calibration", replicate) for replicate in range(replicates)]
    network = build(setting.network, replicates, source.shape, source.classes)
    initialise(network, names)
    network.to(device)
    x = torch.randn(4 * samples, *source.shape, device=device)
    y = torch.arange(4 * samples, device=device) % source.classes
    batches, start = Batches(x, y, samples, names, recipe.augmentation), read_network(network, 0)

    def seconds(steps: int) -> float:
        began = time.perf_counter()
        train(network, short.model_copy(update={"steps": steps}), batches, start)  # its last check waits for the device
        return time.perf_counter() - began

    return seconds


def _warm(timer: Callable[[int], float], at_most: float) -> float:
    """Seconds of one step: of a second one where the first, which builds and loads things, was quick."""
    first = timer(1)
    return min(first, timer(1)) if first < at_most / 2 else first


@lru_cache(maxsize=256)
def _sizes(network: str, data: str) -> tuple[int, int]:
    """Parameters of one network, and those that pruning may touch."""
    made = build(network, 1, SOURCES[data].shape, SOURCES[data].classes)
    named = dict(made.named_parameters())
    return parameter_count(made), sum(named[name][0].numel() for name in prunable_names(made))


def costs(
    spec: Spec,
    at_most: float = LONGEST_SECONDS,
    runs: Collection[Run] | None = None,
    measured: Mapping[str, Cost] | None = None,
) -> list[Cost]:
    """The estimated cost of every experiment of the scale, or of those `runs` of it.

    Networks are timed for `at_most` seconds each, unless an earlier cost of the experiment is given in `measured`.
    """
    found = []
    own: dict[str, list[Run]] = {name: [] for name in spec.scale.experiments}
    for run in all_runs(spec) if runs is None else runs:
        own[run.experiment].append(run)
    timed: dict[tuple[str, str, int, str, str, str, int], Timing] = {}
    for name, setting in spec.scale.experiments.items():
        recipe = spec.recipe(name)
        stack = min(setting.replicates, setting.replicates_per_job)
        kind = (recipe.batch_size, recipe.augmentation, recipe.optimizer, recipe.precision)
        same = (setting.network, setting.data, *kind, stack)
        if measured and name in measured:
            timed[same] = Timing(measured[name].step_seconds, measured[name].samples)
        elif same not in timed:
            timed[same] = step_seconds(spec, name, at_most)
        timing = timed[same]
        steps = sum(steps_of(run, recipe.steps, setting.restart) for run in own[name])
        weights, mask = _sizes(setting.network, setting.data)
        # float32 weights, and beside them what the optimizer keeps; one byte a mask
        kept = len(snapshots(spec, name)) * (1 + len(SLOTS[recipe.optimizer])) * 4 * weights
        size = sum(
            4 * weights + mask * (run.level > 0) + kept * (run == dense_run(name, run.replicate)) for run in own[name]
        )
        seconds = steps * timing.seconds
        shape = (timing.seconds, timing.samples, recipe.batch_size)
        found.append(Cost(name, len(own[name]), steps, seconds, size, *shape))
    return found


def run_seconds(spec: Spec, found: list[Cost]) -> dict[Run, float]:
    """The estimated seconds of every run of the scale."""
    step = {cost.experiment: cost.step_seconds for cost in found}
    settings = spec.scale.experiments
    recipes = {name: spec.recipe(name).steps for name in settings}
    return {
        run: step[run.experiment] * steps_of(run, recipes[run.experiment], settings[run.experiment].restart)
        for run in all_runs(spec)
    }
