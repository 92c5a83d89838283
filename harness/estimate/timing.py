"""Estimates a scale's time on this machine from a few timed steps of each network, and its disk space."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from harness.data import SOURCES
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.networks.layers import BatchNorm
from harness.paper import Spec
from harness.paper.models import Line, Recipe, Setting
from harness.plan.runs import Pair, Run, all_runs, dense_run, pairs, stages, steps_of
from harness.plan.twins import snapshots
from harness.training.batches import Batches
from harness.training.device import pick
from harness.training.loop import evaluate, train, use_threads
from harness.training.state import read_network
from harness.training.updates import SLOTS

LONGEST_SECONDS = 2.0  # limit of one network's timing; a few steps on a few samples are always timed
LONGEST_WALL = 3.0  # limit in wall-clock time, as a multiple: on a busy machine this process gets little of each second
FEWEST_SAMPLES = 4  # of a step, for a network whose batch would take too long
TRIES = 3  # timings of one step; the fastest counts
MOST_STEPS = 50
MOST_SAMPLES = 512  # of a forward pass: evaluate's batch


@dataclass(frozen=True)
class Timing:
    """Seconds of one network's training step on one core or GPU; `samples` of the batch were timed.

    `forward`: seconds of the network's forward pass per sample.
    """

    seconds: float
    samples: int
    forward: float = 0.0


@dataclass(frozen=True)
class Cost:
    """An experiment's size and estimated cost at this scale."""

    experiment: str
    networks: int
    steps: int
    seconds: float  # of training, on one core or GPU
    bytes: int
    step_seconds: float
    samples: int  # samples of the batch that were timed
    batch_size: int
    forward: float = 0.0  # seconds per sample
    pair_seconds: float = 0.0  # of the line between two networks
    comparing: float = 0.0  # seconds of all lines


class Watch:
    """The time that a timing has used: this process's CPU time, or the time on a GPU, and wall-clock time.

    On a CPU a network is timed on one thread, so the process's time is one core's: other processes' load does not
    count.
    """

    def __init__(self, at_most: float):
        self.at_most, self.clock = at_most, _clock()
        self.began, self.began_wall = self.clock(), time.perf_counter()

    def allows(self, seconds: float) -> bool:
        """Whether there is time left for this many seconds of work."""
        return self.clock() - self.began + seconds <= self.at_most and self.allows_wall(seconds)

    def allows_wall(self, seconds: float) -> bool:
        """Whether the wall-clock limit leaves time for it, if the machine stays as busy as so far."""
        own, wall = self.clock() - self.began, time.perf_counter() - self.began_wall
        return wall + seconds * (wall / own if own > 0 else 1.0) <= LONGEST_WALL * self.at_most

    def best(self, timer: Callable[[int], float], tries: int) -> float:
        """The fewest seconds of one step in `tries` timings, or in fewer if wall-clock time runs out."""
        best = timer(1)
        for _ in range(tries - 1):
            if self.allows_wall(best):
                best = min(best, timer(1))
        return best


def _clock() -> Callable[[], float]:
    return time.process_time if pick().type == "cpu" else time.perf_counter


def step_seconds(spec: Spec, experiment: str, at_most: float = LONGEST_SECONDS) -> Timing:
    """Measure a network's training step and forward pass: on the GPU if available, else on one thread.

    Starts with one replicate and a few samples; the first step is a warm-up. If time allows, times the whole batch, and
    then the stack that the scale trains together. If not, scales the time up in proportion to the batch. The samples
    are random numbers in memory, so the time to read images from disk is not included. On a busy machine the timing
    ends sooner, but a core's measured time stays the same.
    """
    setting, recipe = spec.scale.experiments[experiment], spec.recipe(experiment)
    use_threads(1)
    batch = recipe.batch_size
    samples, replicates = min(FEWEST_SAMPLES, batch), 1
    stack = min(setting.replicates, setting.replicates_per_job)
    timer = _timer(setting, recipe, samples, replicates)
    timer(1)
    watch = Watch(at_most)
    best = watch.best(timer, TRIES)
    while (samples, replicates) != (batch, stack):
        larger = (min(8 * samples, batch), replicates) if samples < batch else (samples, stack)
        if not watch.allows(best * larger[0] * larger[1] / (samples * replicates)):
            break
        try:
            wider = _timer(setting, recipe, *larger)
            best = watch.best(wider, TRIES - 1)
        except torch.OutOfMemoryError:
            break
        timer, (samples, replicates) = wider, larger
    steps = 1
    while watch.allows(best * steps):
        best = min(best, timer(steps) / steps)
        steps = min(steps * 4, MOST_STEPS)
    return Timing(best / replicates * batch / samples, samples, _forward_seconds(setting, stack, at_most / 4))


def _timer(setting: Setting, recipe: Recipe, samples: int, replicates: int) -> Callable[[int], float]:
    """A function that trains a new stack on random samples for a number of steps and returns the seconds."""
    device, clock = pick(), _clock()
    short = recipe.model_copy(update={"batch_size": samples, "drops": (), "warmup": 0})
    names: list[tuple[str | int, ...]] = [("calibration", replicate) for replicate in range(replicates)]
    network = _network(setting, names)
    x, y = _samples(setting, 4 * samples, device)
    batches, start = Batches(x, y, samples, names, recipe.augmentation), read_network(network, 0)

    def seconds(steps: int) -> float:
        began = clock()
        train(network, short.model_copy(update={"steps": steps}), batches, start)  # its last check waits for the device
        return clock() - began

    return seconds


def _network(setting: Setting, names: list[tuple[str | int, ...]]) -> nn.Module:
    source = SOURCES[setting.data]
    network = build(setting.network, len(names), source.shape, source.classes)
    initialise(network, names)
    return network.to(pick())


def _samples(setting: Setting, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    source = SOURCES[setting.data]
    return torch.randn(count, *source.shape, device=device), torch.arange(count, device=device) % source.classes


def _forward_seconds(setting: Setting, stack: int, at_most: float) -> float:
    """Seconds per sample and network of a stack's forward pass in `evaluate`; 0.0 without linear interpolation."""
    if not setting.line.points:
        return 0.0
    network = _network(setting, [("calibration", replicate) for replicate in range(stack)])
    timer = _forward_timer(setting, network, FEWEST_SAMPLES)
    timer(1)
    watch, samples = Watch(at_most), FEWEST_SAMPLES
    best = watch.best(timer, TRIES)
    while samples < MOST_SAMPLES:
        larger = min(8 * samples, MOST_SAMPLES)
        if not watch.allows(best * larger / samples):
            break
        try:
            best = watch.best(_forward_timer(setting, network, larger), TRIES - 1)
        except torch.OutOfMemoryError:
            break
        samples = larger
    return best / samples / stack


def _forward_timer(setting: Setting, network: nn.Module, samples: int) -> Callable[[int], float]:
    """A function that evaluates a stack on random samples a number of times and returns the seconds."""
    clock, (x, y) = _clock(), _samples(setting, samples, pick())

    def seconds(times: int) -> float:
        began = clock()
        for _ in range(times):
            evaluate(network, x, y)  # returns numbers on the CPU, so it waits for the device
        return clock() - began

    return seconds


def line_samples(line: Line, has_norm: bool) -> int:
    """Samples that pass forward through one network for the linear interpolation of a pair.

    With BatchNorm, errors are measured with averaged and with re-estimated statistics; re-estimating them reads the
    training samples once more.
    """
    once = line.points * (line.train_samples + line.test_samples)
    return 2 * once + line.points * line.train_samples if has_norm else once


def _lines(spec: Spec) -> Iterator[Pair]:
    """Every pair of the scale that is compared by linear interpolation."""
    for stage in stages(spec):
        if stage.kind == "stability":
            yield from (pair for group in pairs(spec, stage) for pair in group if pair.interpolated)


@lru_cache(maxsize=256)
def _sizes(network: str, data: str) -> tuple[int, int, bool]:
    """A network's number of parameters, of prunable parameters, and whether it has BatchNorm."""
    model = build(network, 1, SOURCES[data].shape, SOURCES[data].classes)
    named = dict(model.named_parameters())
    prunable = sum(named[name][0].numel() for name in prunable_names(model))
    return parameter_count(model), prunable, any(isinstance(module, BatchNorm) for module in model.modules())


def costs(
    spec: Spec,
    at_most: float = LONGEST_SECONDS,
    runs: Collection[Run] | None = None,
    measured: Mapping[str, Cost] | None = None,
) -> list[Cost]:
    """The estimated cost of every experiment of the scale, or of these `runs`; comparing always covers the whole scale.

    Networks are timed for `at_most` seconds each, except for experiments with an earlier cost in `measured`.
    """
    estimates = []
    own: dict[str, list[Run]] = {name: [] for name in spec.scale.experiments}
    for run in all_runs(spec) if runs is None else runs:
        own[run.experiment].append(run)
    lines = Counter(pair.run_b.experiment for pair in _lines(spec))
    timed: dict[tuple[object, ...], Timing] = {}
    for name, setting in spec.scale.experiments.items():
        recipe = spec.recipe(name)
        stack = min(setting.replicates, setting.replicates_per_job)
        kind = (recipe.batch_size, bool(setting.line.points), recipe.augmentation, recipe.optimizer, recipe.precision)
        same = (setting.network, setting.data, *kind, stack)
        if measured and name in measured:
            earlier = measured[name]
            timed[same] = Timing(earlier.step_seconds, earlier.samples, earlier.forward)
        elif same not in timed:
            timed[same] = step_seconds(spec, name, at_most)
        timing = timed[same]
        steps = sum(steps_of(run, recipe.steps, setting.restart) for run in own[name])
        weights, mask, has_norm = _sizes(setting.network, setting.data)
        # float32 weights and as many values for each of the optimizer's slots; masks have one byte per weight
        kept = len(snapshots(spec, name)) * (1 + len(SLOTS[recipe.optimizer])) * 4 * weights
        size = sum(
            4 * weights + mask * (run.level > 0) + kept * (run == dense_run(name, run.replicate)) for run in own[name]
        )
        seconds = steps * timing.seconds
        shape = (timing.seconds, timing.samples, recipe.batch_size, timing.forward)
        pair = timing.forward * line_samples(setting.line, has_norm)
        estimates.append(Cost(name, len(own[name]), steps, seconds, size, *shape, pair, pair * lines[name]))
    return estimates


def run_seconds(spec: Spec, estimates: list[Cost]) -> dict[Run, float]:
    """The estimated seconds of training every run of the scale."""
    step = {cost.experiment: cost.step_seconds for cost in estimates}
    settings = spec.scale.experiments
    recipes = {name: spec.recipe(name).steps for name in settings}
    return {
        run: step[run.experiment] * steps_of(run, recipes[run.experiment], settings[run.experiment].restart)
        for run in all_runs(spec)
    }


def line_seconds(spec: Spec, estimates: list[Cost]) -> dict[Pair, float]:
    """The estimated seconds of every pair of the scale that is compared by linear interpolation."""
    seconds = {cost.experiment: cost.pair_seconds for cost in estimates}
    return {pair: seconds[pair.run_b.experiment] for pair in _lines(spec)}
