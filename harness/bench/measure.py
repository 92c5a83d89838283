"""One group of settings: every way of training it, the machine's rates, and the records that come of them."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from harness.bench import settings
from harness.bench.arithmetic import Work, step_work
from harness.bench.jobs import STRAIGHTFORWARD, Between, Matrix, Move, Stack, Straightforward, Task
from harness.bench.settings import Goal, Group
from harness.bench.workers import Crew, Inline
from harness.data import SOURCES
from harness.spec import Spec

Record = dict[str, Any]
PROBE = 0.25  # of a way's time is enough for one of the machine's rates


@dataclass(frozen=True)
class Effort:
    """How long and how often: each way runs for about `seconds` in each of `rounds` rounds."""

    rounds: int
    seconds: float
    cores: int
    crew: type[Crew] | type[Inline] = Crew


@dataclass
class Way:
    """One way to do something, and what its rounds took."""

    what: str
    jobs: list[Any]
    replicates: int = 1
    spread: str = ""
    seat: str = ""  # ways of one seat share processes: they need the same number of threads
    unit: int = 1  # operations or bytes of a step, for a rate of the machine
    steps: int = 1
    rounds: list[dict[str, float]] = field(default_factory=list)  # seconds of one step, by part

    @property
    def name(self) -> str:
        return f"{self.what}, {self.replicates} at once, {self.spread}"

    @property
    def rates(self) -> list[float]:
        """Steps a second of each round, summed over the networks."""
        return [self.replicates / taken["seconds"] for taken in self.rounds]

    @property
    def rate(self) -> float:
        return median(self.rates)

    def part(self, name: str) -> float:
        return median(taken[name] for taken in self.rounds)


def spreads(replicates: int, cores: int) -> list[tuple[int, int]]:
    """Candidates for (processes, threads of each): everything in one process, and as many processes as can be."""
    processes = min(replicates, cores)
    found = {(1, cores), (processes, cores // processes)}
    return sorted(found | {(1, 1)} if replicates == 1 else found)


def spread_name(processes: int, threads: int) -> str:
    """As in "2 processes", each of one thread, or "2 threads" of one process."""
    many = [f"{n} {word}" for n, word in ((processes, "processes"), (threads, "threads")) if n > 1]
    return " × ".join(many) or "1 thread"


def measure_group(group: Group, spec: Spec, root: Path, scratch: Path, effort: Effort) -> list[Record]:
    """Measure all ways of a group in turns. Raises HarnessError when a way can't be run."""
    setting = spec.scale.experiments[group.experiment]
    shape, recipe = SOURCES[setting.data].shape, spec.recipe(group.experiment)
    task = Task(setting.network, shape, 10, recipe, max(group.samples, recipe.batch_size), group.device)
    work = step_work(task.network, shape, task.classes, recipe)
    ways = _ways(group, task, work, root, effort.cores)
    most = max(row.replicates for row in group.rows)
    if group.evaluated:
        between = partial(
            Between,
            task,
            list(range(most)),
            effort.cores,
            folder=scratch,
            snapshots=len(setting.snapshot_steps()),
            evaluated=group.evaluated,
            evaluated_here=group.evaluated_here,
        )
        ways.append(Way("between levels", [between], most, spread_name(1, effort.cores), str(effort.cores)))
    _take_turns(ways, effort)
    return _records(group, task, work, ways)


def _ways(group: Group, task: Task, work: Work, root: Path, cores: int) -> list[Way]:
    ways = []
    for processes, threads in spreads(cores, cores) if group.device == "cpu" else [(1, 1)]:
        place = (processes, spread_name(processes, threads), str(threads))
        product = partial(Matrix, task, threads)
        ways.append(Way("matrix rate", [product] * processes, *place, unit=2 * settings.MATRIX**3))
        # the smaller ones may stay in the caches, as an update does; its writes are in place, a copy's are not
        for numbers, add in (
            (settings.COPIED, False),
            (work.update_bytes // 8, False),
            (work.update_bytes // 12, True),
        ):
            move = partial(Move, task, threads, numbers, add)
            name = f"copy rate, {numbers} numbers{', added' if add else ''}"
            ways.append(Way(name, [move] * processes, *place, unit=numbers * (12 if add else 8)))
    engines = ("harness", "torch engine") if group.torch_engine else ("harness",)
    for row in group.rows:
        for processes, threads in spreads(row.replicates, cores) if group.device == "cpu" else [(1, 1)]:
            shares = [list(range(first, row.replicates, processes)) for first in range(processes)]
            for engine in engines:
                jobs = [partial(Stack, task, share, threads, engine != "harness") for share in shares]
                ways.append(Way(engine, jobs, row.replicates, spread_name(processes, threads), str(threads)))
    if (root / STRAIGHTFORWARD).is_file():
        for workers in settings.LOADER_WORKERS:
            job = partial(Straightforward, task, root, workers)
            ways.append(Way("straightforward", [job], 1, f"{workers} workers", "straightforward"))
    return ways


def _take_turns(ways: list[Way], effort: Effort) -> None:
    """Let the ways run one at a time, round by round, each for about the same time."""
    sizes: dict[str, int] = {}
    for way in ways:
        sizes[way.seat] = max(sizes.get(way.seat, 0), len(way.jobs))
    crews: dict[str, Crew | Inline] = {}
    try:
        for seat, size in sizes.items():
            crews[seat] = effort.crew(size)
        for way in ways:
            crews[way.seat].make(way.name, way.jobs)
        for way in ways:
            _settle(way, crews[way.seat], effort.seconds * (PROBE if way.unit > 1 else 1))
        for _ in range(effort.rounds):
            for way in ways:
                taken = crews[way.seat].run(way.name, way.steps)
                way.rounds.append({part: seconds / way.steps for part, seconds in taken.items()})
    finally:
        for crew in crews.values():
            crew.close()


def _settle(way: Way, crew: Crew | Inline, seconds: float) -> None:
    """Warm a way up until its number of steps takes about `seconds`."""
    crew.run(way.name, 1)
    while True:
        taken = crew.run(way.name, way.steps)["seconds"]
        if taken > 0.7 * seconds:
            way.steps = max(1, round(way.steps * seconds / taken))
            return
        way.steps *= max(2, min(8, round(seconds / max(taken, 1e-6))))


def _records(group: Group, task: Task, work: Work, ways: list[Way]) -> list[Record]:
    probes = {way.name: way.rate * way.unit for way in ways if way.unit > 1}
    flop_rate, byte_rate = (max(rate for name, rate in probes.items() if kind in name) for kind in ("matrix", "copy"))
    of = {name: _fastest(ways, name) for name in ("straightforward", "torch engine")}
    one = _fastest(ways, "harness", 1)

    def record(what: str, replicates: int, goals: tuple[Goal, ...] = ()) -> Record:
        best = _fastest(ways, what, replicates)
        found: Record = {"group": group.name, "setting": group.title, "what": what, "replicates": replicates}
        if best is None:
            return {**found, "measured": False}
        seconds = replicates / best.rate  # of one step of all the networks
        found |= {
            "measured": True,
            "device": group.device,
            "spread": best.spread,
            "steps_per_second": best.rate,
            "steps_per_second_each": best.rate / replicates,
            "images_per_second": best.rate * task.recipe.batch_size,
            "seconds_per_level": seconds * task.recipe.steps,
            "steps_per_level": task.recipe.steps,
            "batch_size": task.recipe.batch_size,
            "ratio_to_straightforward": best.rate / of["straightforward"].rate if of["straightforward"] else None,
            "ratio_to_torch": best.rate / of["torch engine"].rate if of["torch engine"] else None,
            "ratio_to_one": best.rate / one.rate if one else None,
            "share_of_arithmetic": best.rate * work.flops / flop_rate,
            "share_of_limit": best.rate * work.seconds(flop_rate, byte_rate),
            "share_of_copy_rate": best.rate * (work.layer_bytes + work.update_bytes) / byte_rate,
            "ways": [
                {"spread": way.spread, "steps_per_second": way.rate, "rounds": way.rates}
                for way in ways
                if (way.what, way.replicates) == (what, replicates)
            ],
        }
        return judged(found, goals)

    rows = [record("harness", row.replicates, row.goals) for row in group.rows]
    rows += [record("torch engine", row.replicates) for row in group.rows if group.torch_engine]
    rows.append(record("straightforward", 1))
    limit: Record = {
        "group": group.name,
        "setting": group.title,
        "what": "limit",
        "matrix_flops_per_second": flop_rate,
        "copy_bytes_per_second": byte_rate,
        "flops_per_step": work.flops,
        "update_bytes_per_step": work.update_bytes,
        "layer_bytes_per_step": work.layer_bytes,
        "steps_per_second": 1 / work.seconds(flop_rate, byte_rate),
        "steps_per_second_arithmetic": flop_rate / work.flops,
        "probes": probes,
    }
    return [*rows, limit, *(_between(way, rows) for way in ways if way.what == "between levels")]


def _between(way: Way, rows: list[Record]) -> Record:
    """The record of what lies between two levels, as a share of the same networks' training."""
    level = next(row for row in rows if (row["what"], row["replicates"]) == ("harness", way.replicates))
    keys = ("group", "setting", "replicates", "seconds_per_level")
    found = {**{key: level[key] for key in keys}, "what": way.what, "spread": way.spread}
    found |= {name: way.part(name) for name in way.rounds[0]}
    return judged(found | {"share_of_level": found["seconds"] / found["seconds_per_level"]}, (settings.BETWEEN_LEVELS,))


def judged(record: Record, goals: tuple[Goal, ...]) -> Record:
    """A record with its goals, each met, missed or (None) not measured."""
    values = [(goal, record[goal.figure]) for goal in goals]
    return record | {
        "goals": [
            {
                "figure": goal.figure,
                "least": goal.least,
                "most": goal.most,
                "text": goal.text,
                "met": None if value is None else goal.met(value),
            }
            for goal, value in values
        ]
    }


def _fastest(ways: list[Way], what: str, replicates: int | None = None) -> Way | None:
    """The fastest way to do something; None if it was not measured."""
    found = [way for way in ways if way.what == what and replicates in (None, way.replicates)]
    return max(found, key=lambda way: way.rate, default=None)
