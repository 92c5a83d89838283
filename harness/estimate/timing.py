"""Estimates a scale's time on this machine from a few timed steps of each network, and its disk space."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median

import numpy as np
import torch

from harness.base.devices import take_device
from harness.base.processes import crew
from harness.data import source_of
from harness.estimate.cards import Card, step_on
from harness.kernels.sparse import BREAK_EVEN
from harness.lottery.branches import BRANCHES
from harness.lottery.masks import dense_masks, keep_count, prune_by_magnitude
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.networks.layers import BatchNorm, Stack
from harness.paper import Spec
from harness.paper.models import Line, Recipe
from harness.plan.courses import steps_of
from harness.plan.runs import Pair, Run, all_runs, dense_run, pairs, stages
from harness.plan.twins import snapshots
from harness.training.batches import Batches
from harness.training.device import pick
from harness.training.loop import Stopped, evaluate, train, use_threads
from harness.training.state import State, read_network
from harness.training.step import by_kernels
from harness.training.updates import SLOTS

LONGEST_SECONDS = 2.0  # limit of one network's timing; a few steps on a few samples are always timed
LONGEST_WALL = 3.0  # limit in wall-clock time, as a multiple: on a busy machine this process gets little of each second
FEWEST_SAMPLES = 4  # of a step, for a network whose batch would take too long
TRIES = 3  # timings of one step; the fastest counts
MOST_STEPS = 50
MOST_SAMPLES = 512  # of a forward pass
OBJECTIVE = 10.0  # a step of a branch with a loss of its own, in dense steps by the kernels: 3 to 17 of them
DENSITIES = (1.0, 0.05, 0.3)  # at which a step by the kernels is timed, as long as there is time
# the time of so many dense steps must be left to time the densities: writing the programs of a small network takes as
# long as ten of its steps, those of a large one less than a step
ENOUGH_FOR_STACK, ENOUGH_FOR_ONE = 30, 4


@dataclass(frozen=True)
class Timing:
    """Seconds of one network's training step on one core or GPU; `samples` of the batch were timed.

    `forward`: seconds of the network's forward pass per sample. `shares`: densities at which a step was timed, and its
    time there as a share of the dense network's; empty if it costs as much at every density, or was not timed.
    """

    seconds: float
    samples: int
    forward: float = 0.0
    shares: tuple[tuple[float, float], ...] = ()

    def at(self, density: float) -> float:
        """Seconds of a step at a density of the mask: interpolated, and at most the dense network's.

        A network is dense down to the highest density at which a layer is computed by its kept weights. Below the
        lowest density that was timed a step costs what it does there.
        """
        if not self.shares:
            return self.seconds
        densities, shares = zip(*sorted({max(BREAK_EVEN.values()): 1.0, **dict(self.shares)}.items()), strict=True)
        return self.seconds * float(np.interp(density, densities, shares))


@dataclass(frozen=True)
class Cost:
    """An experiment's size and estimated cost at this scale."""

    experiment: str
    networks: int
    steps: int
    seconds: float  # of training, on one core or GPU
    bytes: int
    timing: Timing
    batch_size: int
    pair_seconds: float = 0.0  # of the line between two networks
    comparing: float = 0.0  # seconds of all lines


@dataclass(frozen=True)
class Subject:
    """A network and the samples that it is for, by their shape (C, *S)."""

    network: str
    shape: tuple[int, ...]
    classes: int

    def stack(self, replicates: int) -> Stack:
        """New replicates of the network in one module."""
        return build(self.network, replicates, self.shape, self.classes)

    def samples(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random x [count, C, *S] and y [count] on the device that trains."""
        device = pick()
        return torch.randn(count, *self.shape, device=device), torch.arange(count, device=device) % self.classes


def subject_of(spec: Spec, experiment: str) -> Subject:
    """The network and the samples of an experiment."""
    setting = spec.scale.experiments[experiment]
    source = source_of(setting.data, spec.scale.data)
    return Subject(setting.network, source.shape, source.classes)


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
        return self.used() + seconds <= self.at_most and self.allows_wall(seconds)

    def used(self) -> float:
        """The seconds of its own time so far."""
        return self.clock() - self.began

    def allows_wall(self, seconds: float) -> bool:
        """Whether the wall-clock limit leaves time for it, if the machine stays as busy as so far."""
        own, wall = self.used(), time.perf_counter() - self.began_wall
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
    ends sooner, but a core's measured time stays the same. Where the kernels compute the step, the time that is left
    then goes to steps under masks.
    """
    setting, recipe, subject = spec.scale.experiments[experiment], spec.recipe(experiment), subject_of(spec, experiment)
    use_threads(1, recipe.precision)
    batch = recipe.batch_size
    samples, replicates = min(FEWEST_SAMPLES, batch), 1
    stack = min(setting.replicates, setting.replicates_per_job)
    timer = _timer(subject, recipe, samples, replicates)
    timer(1)
    watch = Watch(at_most)
    best = watch.best(timer, TRIES)
    while (samples, replicates) != (batch, stack):
        larger = (min(8 * samples, batch), replicates) if samples < batch else (samples, stack)
        if not watch.allows(best * larger[0] * larger[1] / (samples * replicates)):
            break
        try:
            wider = _timer(subject, recipe, *larger)
            best = watch.best(wider, TRIES - 1)
        except torch.OutOfMemoryError:
            break
        timer, (samples, replicates) = wider, larger
    masked: dict[float, float] = {}
    if samples == batch and _by_kernels(subject, recipe):
        masked = _masked(subject, recipe, best / replicates, stack, watch)
    steps = 1
    while not masked and watch.allows(best * steps):
        best = min(best, timer(steps) / steps)
        steps = min(steps * 4, MOST_STEPS)
    step = masked.get(1.0, best / replicates * batch / samples)
    shares = tuple((density, min(1.0, own / step)) for density, own in masked.items())
    forward = _forward_seconds(subject, stack, at_most / 4) if setting.line.points else 0.0
    return Timing(step, samples, forward, shares)


def _by_kernels(subject: Subject, recipe: Recipe) -> bool:
    """Whether the kernels compute the network's training step on this machine."""
    batch = torch.empty(1, recipe.batch_size, *subject.shape, device=pick())
    return by_kernels(subject.stack(1), batch, recipe)


def _masked(subject: Subject, recipe: Recipe, step: float, stack: int, watch: Watch) -> dict[float, float]:
    """Seconds of one network's step at each of DENSITIES, or at as many of them as time allows.

    `step`: seconds of one network's dense step. A stack is timed if there is time for it, else one network.
    """
    seconds: dict[float, float] = {}
    replicates = stack if watch.allows(ENOUGH_FOR_STACK * step * stack) else 1
    if not watch.allows(ENOUGH_FOR_ONE * step):
        return {}
    left = watch.at_most - watch.used()
    for number, density in enumerate(DENSITIES, start=1):
        if not watch.allows(2 * step * replicates):
            break
        for_others = left * (1 - number / len(DENSITIES))
        seconds[density] = _masked_seconds(subject, recipe, replicates, density, watch, for_others) / replicates
    return seconds


def _masked_seconds(
    subject: Subject, recipe: Recipe, replicates: int, density: float, watch: Watch, for_others: float
) -> float:
    """Seconds of a stack's step under masks of a density; the first step, which writes the programs, does not count.

    At least one more step is timed, and others as long as the watch has time and keeps some seconds of it for others.
    """
    short, network, batches, start = _training(subject, recipe, recipe.batch_size, replicates)
    masks = dense_masks(start.weights, prunable_names(network))
    total = sum(mask[0].numel() for mask in masks.values())
    masks = prune_by_magnitude(start.weights, masks, keep_count(total, density))
    times: list[float] = []

    def enough() -> bool:
        times.append(watch.clock())
        return len(times) > 1 and not watch.allows(times[-1] - times[-2] + for_others)

    recipe = short.model_copy(update={"steps": 1 + MOST_STEPS})
    with suppress(Stopped):
        train(network, recipe, batches, start, masks, keep_state=lambda *_: None, stopping=enough)
    return median(after - before for before, after in pairwise(times))


def _training(subject: Subject, recipe: Recipe, samples: int, replicates: int) -> tuple[Recipe, Stack, Batches, State]:
    """A new stack on random samples, and a recipe for a few steps from its state."""
    short = recipe.model_copy(update={"batch_size": samples, "drops": (), "warmup": 0})
    names: list[tuple[str | int, ...]] = [("calibration", replicate) for replicate in range(replicates)]
    network = _network(subject, names)
    batches = Batches(*subject.samples(4 * samples), samples, names, recipe.augmentation)
    return short, network, batches, read_network(network, 0)


def _timer(subject: Subject, recipe: Recipe, samples: int, replicates: int) -> Callable[[int], float]:
    """A function that trains a new stack on random samples for a number of steps and returns the seconds."""
    clock = _clock()
    short, network, batches, start = _training(subject, recipe, samples, replicates)

    def seconds(steps: int) -> float:
        began = clock()
        train(network, short.model_copy(update={"steps": steps}), batches, start)  # its last check waits for the device
        return clock() - began

    return seconds


def _network(subject: Subject, names: list[tuple[str | int, ...]]) -> Stack:
    network = subject.stack(len(names))
    initialise(network, names)
    return network.to(pick())


def _forward_seconds(subject: Subject, stack: int, at_most: float) -> float:
    """Seconds per sample and network of a stack's forward pass in `evaluate`."""
    network = _network(subject, [("calibration", replicate) for replicate in range(stack)])
    timer = _forward_timer(subject, network, FEWEST_SAMPLES)
    timer(1)
    watch, samples = Watch(at_most), FEWEST_SAMPLES
    best = watch.best(timer, TRIES)
    while samples < MOST_SAMPLES:
        larger = min(8 * samples, MOST_SAMPLES)
        if not watch.allows(best * larger / samples):
            break
        try:
            best = watch.best(_forward_timer(subject, network, larger), TRIES - 1)
        except torch.OutOfMemoryError:
            break
        samples = larger
    return best / samples / stack


def _forward_timer(subject: Subject, network: Stack, samples: int) -> Callable[[int], float]:
    """A function that evaluates a stack on random samples a number of times and returns the seconds."""
    clock, (x, y) = _clock(), subject.samples(samples)

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
def _sizes(subject: Subject) -> tuple[int, int, bool]:
    """A network's number of parameters, of prunable parameters, and whether it has BatchNorm."""
    model = subject.stack(1)
    named = dict(model.named_parameters())
    prunable = sum(named[name][0].numel() for name in prunable_names(model))
    return parameter_count(model), prunable, any(isinstance(module, BatchNorm) for module in model.modules())


Alike = tuple[object, ...]  # what a network's timing depends on


def _timed_alike(spec: Spec, name: str) -> Alike:
    """Experiments with the same value have the same timing."""
    setting, recipe = spec.scale.experiments[name], spec.recipe(name)
    step = (recipe.batch_size, recipe.augmentation, recipe.optimizer, recipe.precision)
    stack = min(setting.replicates, setting.replicates_per_job)
    return (subject_of(spec, name), bool(setting.line.points), *step, stack)


def _timings(spec: Spec, experiments: Mapping[Alike, str], at_most: float, card: Card | None) -> dict[Alike, Timing]:
    """The timing of each of the experiments.

    A GPU is timed in a process of its own, which locks it until the end: this one, which then waits for a workflow's
    jobs, keeps none of its memory.
    """
    if card:
        return {same: _by_rates(card, spec, name) for same, name in experiments.items()}
    if not experiments or pick().type == "cpu":
        return {same: step_seconds(spec, name, at_most) for same, name in experiments.items()}
    with crew(1, take_device) as timers:
        return {same: timers.start(_in_crew, spec, name, at_most).result() for same, name in experiments.items()}


def _by_rates(card: Card, spec: Spec, experiment: str) -> Timing:
    seconds, forward = step_on(card, spec, experiment)
    return Timing(seconds, spec.recipe(experiment).batch_size, forward)


def _in_crew(_: str, spec: Spec, experiment: str, at_most: float) -> Timing:
    return step_seconds(spec, experiment, at_most)


def costs(
    spec: Spec,
    at_most: float = LONGEST_SECONDS,
    runs: Collection[Run] | None = None,
    measured: Mapping[str, Cost] | None = None,
    card: Card | None = None,
) -> list[Cost]:
    """The estimated cost of every experiment of the scale, or of these `runs`; comparing always covers the whole scale.

    Networks are timed for `at_most` seconds each, except for experiments with an earlier cost in `measured`. With a
    `card` nothing is timed: its rates are used.
    """
    estimates = []
    own: dict[str, list[Run]] = {name: [] for name in spec.scale.experiments}
    for run in all_runs(spec) if runs is None else runs:
        own[run.experiment].append(run)
    lines = Counter(pair.run_b.experiment for pair in _lines(spec))
    alike = {name: _timed_alike(spec, name) for name in own}
    timed = {alike[name]: cost.timing for name, cost in (measured or {}).items() if name in own}
    timed |= _timings(spec, {alike[name]: name for name in reversed(own) if alike[name] not in timed}, at_most, card)
    for name, setting in spec.scale.experiments.items():
        recipe, subject, timing = spec.recipe(name), subject_of(spec, name), timed[alike[name]]
        steps = sum(steps_of(spec, run) for run in own[name])
        weights, mask, has_norm = _sizes(subject)
        # float32 weights and as many values for each of the optimizer's slots; masks have one byte per weight
        kept = len(snapshots(spec, name)) * (1 + len(SLOTS[recipe.optimizer])) * 4 * weights
        size = sum(
            4 * weights + mask * (run.level > 0) + kept * (run == dense_run(name, run.replicate)) for run in own[name]
        )
        seconds = sum(_seconds(spec, run, timing) for run in own[name])
        pair = timing.forward * line_samples(setting.line, has_norm)
        estimates.append(
            Cost(name, len(own[name]), steps, seconds, size, timing, recipe.batch_size, pair, pair * lines[name])
        )
    return estimates


def run_seconds(spec: Spec, estimates: list[Cost]) -> dict[Run, float]:
    """The estimated seconds of training every run of the scale."""
    timings = {cost.experiment: cost.timing for cost in estimates}
    return {run: _seconds(spec, run, timings[run.experiment]) for run in all_runs(spec)}


def _seconds(spec: Spec, run: Run, timing: Timing) -> float:
    """The estimated seconds of a run's training, at its level's density."""
    if BRANCHES[run.branch].objective:
        return steps_of(spec, run) * timing.seconds * OBJECTIVE
    return steps_of(spec, run) * timing.at(spec.scale.experiments[run.experiment].pruning.density(run.level))


def line_seconds(spec: Spec, estimates: list[Cost]) -> dict[Pair, float]:
    """The estimated seconds of every pair of the scale that is compared by linear interpolation."""
    seconds = {cost.experiment: cost.pair_seconds for cost in estimates}
    return {pair: seconds[pair.run_b.experiment] for pair in _lines(spec)}
