"""The wall clock of a scale on some cores, and how many processes each of its jobs should have there."""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from harness.paper import Spec
from harness.paper.resources import load_resources
from harness.plan.courses import steps_of
from harness.plan.cut import cut
from harness.plan.kinds import KINDS, WHOLE, kind_of
from harness.plan.runs import Pair, Run, Stage, pairs, stacks, stages
from harness.results.fit import graph, read_record
from harness.results.folders import Folders

# of a job besides its work: the workflow engine, Python, PyTorch, digests and data. With it, the records of a mini
# scale of 57 jobs give the 7 min 33 s that the run took on two cores that did nothing else. Up to 8 s elsewhere.
START_SECONDS = 2.5
CLOSE_ENOUGH = 1.02  # a schedule is left alone if it is so near the shortest that these cores allow
MOST_WORK = 400_000  # of a search for widths: jobs times schedules, a few seconds
STARTS = (1, 2, 3, 5, 9, 17, 33)  # widths that a search starts from

Graph = Mapping[str, Collection[str]]  # job -> the jobs that must end before it starts
Widths = Mapping[str, int]  # job -> its cores


@dataclass(frozen=True)
class Jobs:
    """A run's jobs: what each waits for, and its seconds by the cores that it may have."""

    inputs: Graph
    seconds: Mapping[str, Mapping[int, float]]
    recorded: int = 0  # jobs whose seconds are those of their records

    @property
    def narrow(self) -> dict[str, int]:
        """Each job on as few cores as it may have."""
        return {name: min(options) for name, options in self.seconds.items()}

    def wall_clock(self, widths: Widths, cores: int) -> float:
        """Seconds until the last job ends: whenever cores are free, the job with the longest way to the end that fits
        starts."""
        seconds = {name: self.seconds[name][width] for name, width in widths.items()}
        tails, readers = self._tails(seconds)
        order = {name: place for place, name in enumerate(sorted(widths, key=lambda name: -tails[name]))}
        missing = {name: len(self.inputs[name]) for name in widths}
        ready = sorted((name for name in widths if not missing[name]), key=order.__getitem__)
        running: list[tuple[float, int, str]] = []
        now, free, ticket = 0.0, cores, count()
        while ready or running:
            for name in list(ready):
                if widths[name] <= free:
                    free -= widths[name]
                    heapq.heappush(running, (now + seconds[name], next(ticket), name))
                    ready.remove(name)
                    if not free:
                        break
            now, _, ended = heapq.heappop(running)
            free += widths[ended]
            for name in readers[ended]:
                missing[name] -= 1
                if not missing[name]:
                    ready.append(name)
            ready.sort(key=order.__getitem__)
        return now

    def _tails(self, seconds: Mapping[str, float]) -> tuple[dict[str, float], dict[str, list[str]]]:
        """The seconds from each job's start to the end of the longest chain behind it, and who waits for it."""
        readers: dict[str, list[str]] = {name: [] for name in self.inputs}
        for name, before in self.inputs.items():
            for other in before:
                readers[other].append(name)
        tails: dict[str, float] = {}
        for name in reversed(list(self.inputs)):  # a job stands after those it waits for
            tails[name] = seconds[name] + max((tails[other] for other in readers[name]), default=0.0)
        return tails, readers

    def shortest(self, cores: int) -> float:
        """Seconds that no schedule on these cores is under: of the cores' work, and of the longest chain."""
        work = sum(min(width * seconds for width, seconds in options.items()) for options in self.seconds.values())
        return max(work / cores, self.longest_chain(cores))

    def longest_chain(self, cores: int) -> float:
        """Seconds of the longest chain of jobs that wait for each other, each on as many of these cores as help it."""
        fastest = {
            name: min(seconds for width, seconds in options.items() if width <= cores)
            for name, options in self.seconds.items()
        }
        return max(self._tails(fastest)[0].values(), default=0.0)

    def widths(self, cores: int) -> dict[str, int]:
        """Cores for each job that make the run end early.

        Starts from several uniform widths, and changes the width of the jobs of one experiment and kind, and then of
        one job, as long as this helps and the number of tries allows. Equal jobs and cores give equal widths.
        """
        options = {
            name: sorted(width for width in own if width <= cores or width == min(own))
            for name, own in self.seconds.items()
        }
        kinds: dict[tuple[str, str], list[str]] = {}
        for name in options:
            kinds.setdefault((name.partition("/")[0], kind_of(name).name), []).append(name)
        groups = [names for names in (*kinds.values(), *([name] for name in options)) if _several(options, names)]
        best = self.narrow
        time, enough = self.wall_clock(best, cores), CLOSE_ENOUGH * self.shortest(cores)
        widest = max(own[-1] for own in options.values())
        starts = [width for width in STARTS if width <= widest]
        tries = MOST_WORK // max(1, len(options) * len(starts))
        for start in starts:
            if time > enough:
                widths = {
                    name: max(width for width in own if width <= max(start, own[0])) for name, own in options.items()
                }
                found = self._improved(widths, groups, options, cores, enough, tries)
                if found[0] < time:
                    time, best = found
        return best

    def _improved(
        self,
        widths: dict[str, int],
        groups: Iterable[list[str]],
        options: Mapping[str, list[int]],
        cores: int,
        enough: float,
        tries: int,
    ) -> tuple[float, dict[str, int]]:
        """The wall clock and the widths after changing one group's width at a time, as long as this helps."""
        time, better = self.wall_clock(widths, cores), True
        while better:
            better = False
            for names in groups:
                for width in _several(options, names):
                    changed = {**widths, **{name: width for name in names if width in options[name]}}
                    if tries <= 0 or time <= enough:
                        return time, widths
                    tries -= 1
                    if changed != widths and (shorter := self.wall_clock(changed, cores)) < time:
                        time, widths, better = shorter, changed, True
        return time, widths


def _several(options: Mapping[str, list[int]], names: Iterable[str]) -> list[int]:
    """The widths that jobs can have, if any of them can have several; else none."""
    own = [options[name] for name in names if len(options[name]) > 1]
    return sorted({width for widths in own for width in widths})


def jobs_of(
    spec: Spec,
    folders: Folders,
    training: Mapping[Run, float],
    comparing: Mapping[Pair, float],
    cores: int,
    left: bool = False,
) -> Jobs:
    """All jobs of a scale, from the seconds of its trainings and comparisons on one core.

    A finished stage counts with the time that it took, if it trained all of its networks; with `left`, it takes no
    time. A job that several processes share is shorter as `harness.plan.cut` says; the threads that a scale's resources
    ask for count as perfect.
    """
    resources = load_resources(spec.folder, spec.scale_name)
    planned = {stage.name: stage for stage in stages(spec)}
    inputs: dict[str, list[str]] = graph(spec, folders)
    seconds: dict[str, dict[int, float]] = {name: {1: START_SECONDS} for name in inputs}
    recorded = 0
    for name, stage in planned.items():
        threads = min(cores, resources.need(stage.kind, stage.experiment).threads)
        if left and folders.stage(name).exists():
            seconds[name] = {1: 0.0}
            continue
        work = None if left else _recorded(spec, folders, stage)
        recorded += work is not None
        if work is None:
            runs = (run for stack in stacks(spec, stage) for run in stack)
            compared = (pair for group in pairs(spec, stage) for pair in group) if stage.kind == "stability" else ()
            work = sum(training.get(run, 0.0) for run in runs) + sum(comparing.get(pair, 0.0) for pair in compared)
        seconds[name] = {
            width: START_SECONDS + work * share for width, share in _shares(spec, stage, threads, cores).items()
        }
    for name, before in zip(WHOLE, ((*inputs,), *((name,) for name in WHOLE)), strict=False):
        inputs[name], seconds[name] = list(before), {1: START_SECONDS}
    return Jobs(inputs, seconds, recorded)


def _shares(spec: Spec, stage: Stage, threads: int, cores: int) -> dict[int, float]:
    """The duration of a stage's work by the cores of its job, as a share of that on one core.

    Only numbers of cores that no smaller number equals, from the threads that it asks for on.
    """
    if not KINDS[stage.kind].on_device:
        return {1: 1.0}
    whole = cut(spec, stage, 1).weight
    shares: dict[int, float] = {}
    for width in range(threads, cores + 1):
        made = cut(spec, stage, width)
        share = made.weight / whole / max(1, threads // made.workers)
        if not shares or share < min(shares.values()):
            shares[width] = share
    return shares


def _recorded(spec: Spec, folders: Folders, stage: Stage) -> float | None:
    """The seconds on one core of a finished stage, by its record; None if it did not train all of its networks."""
    record = read_record(folders.stage(stage.name))
    seconds, threads, steps = (record.get(field) for field in ("seconds", "threads", "steps"))
    if not isinstance(seconds, int | float) or not isinstance(threads, int) or threads < 1:
        return None
    due = sum(steps_of(spec, run) for stack in stacks(spec, stage) for run in stack)
    if KINDS[stage.kind].trains and steps != due:
        return None
    return float(seconds) * cut(spec, stage, 1).weight / cut(spec, stage, threads).weight
