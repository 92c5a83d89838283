"""Measure one group: every implementation of its training step and the machine's rates. The results are records."""

from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from harness.bench import settings
from harness.bench.jobs import STRAIGHTFORWARD, Between, Matrix, Move, SparseProp, Stack, Straightforward, Task
from harness.bench.settings import Goal, Group
from harness.bench.workers import Inline, Workers
from harness.data import source_of
from harness.estimate.arithmetic import Work, step_work
from harness.paper import Spec

Record = dict[str, Any]
BY_DENSITY = {"harness": "by density", "dense engine": "by density, dense engine"}  # kinds of candidates
PROBE = 0.25  # share of a candidate's time that is enough to measure a rate of the machine


@dataclass(frozen=True)
class Effort:
    """How long to measure: each candidate runs for about `seconds` in each of `rounds` rounds."""

    rounds: int
    seconds: float
    cores: int
    workers: type[Workers] | type[Inline] = Workers


@dataclass
class Candidate:
    """One implementation or probe, its processes and threads, and the seconds of its rounds."""

    kind: str
    jobs: list[Any]
    replicates: int = 1
    spread: str = ""
    pool: str = ""  # candidates of one pool share processes, so they need the same number of threads
    density: float = settings.DENSITY
    unit: int = 1  # operations or bytes of a step, for a rate of the machine
    steps: int = 1
    rounds: list[dict[str, float]] = field(default_factory=list)  # seconds of one step, by part

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.replicates} at once, {self.spread}, density {self.density}"

    @property
    def rates(self) -> list[float]:
        """Steps per second in each round, summed over the networks."""
        return [self.replicates / seconds["seconds"] for seconds in self.rounds]

    @property
    def rate(self) -> float:
        return median(self.rates)

    def part(self, name: str) -> float:
        return median(seconds[name] for seconds in self.rounds)


def spreads(replicates: int, cores: int) -> list[tuple[int, int]]:
    """The (processes, threads of each) to try: everything in one process, and as many processes as possible."""
    processes = min(replicates, cores)
    pairs = {(1, cores), (processes, cores // processes)}
    return sorted(pairs | {(1, 1)} if replicates == 1 else pairs)


def spread_name(processes: int, threads: int) -> str:
    """Such as "2 processes" of one thread each, or "2 threads" of one process."""
    parts = [f"{n} {word}" for n, word in ((processes, "processes"), (threads, "threads")) if n > 1]
    return " × ".join(parts) or "1 thread"


def measure_group(group: Group, spec: Spec, root: Path, scratch: Path, effort: Effort) -> list[Record]:
    """Measure all candidates of a group, interleaved. Raises HarnessError when one fails."""
    setting = spec.scale.experiments[group.experiment]
    shape, recipe = source_of(setting.data, spec.scale.data).shape, spec.recipe(group.experiment)
    task = Task(setting.network, shape, 10, recipe, max(group.samples, recipe.batch_size), group.device)
    work = step_work(task.network, shape, task.classes, recipe)
    candidates = _candidates(group, task, work, root, effort.cores)
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
        spread = spread_name(1, effort.cores)
        candidates.append(Candidate("between levels", [between], most, spread, str(effort.cores)))
    _interleave(candidates, effort)
    return _records(group, task, work, candidates)


def _candidates(group: Group, task: Task, work: Work, root: Path, cores: int) -> list[Candidate]:
    """The machine's rates and every implementation of the training step, each in every spread."""
    candidates = []
    for processes, threads in spreads(cores, cores) if group.device == "cpu" else [(1, 1)]:
        layout = (processes, spread_name(processes, threads), str(threads))
        product = partial(Matrix, task, threads)
        candidates.append(Candidate("matrix rate", [product] * processes, *layout, unit=2 * settings.MATRIX**3))
        # smaller arrays may stay in the caches, as in an optimizer's update; an update writes in place, unlike a copy
        for numbers, add in (
            (settings.COPIED, False),
            (work.update_bytes // 8, False),
            (work.update_bytes // 12, True),
        ):
            move = partial(Move, task, threads, numbers, add)
            name = f"copy rate, {numbers} numbers{', added' if add else ''}"
            candidates.append(Candidate(name, [move] * processes, *layout, unit=numbers * (12 if add else 8)))
    engines = ("harness", "torch engine") if group.torch_engine else ("harness",)
    for row in group.rows:
        for processes, threads in spreads(row.replicates, cores) if group.device == "cpu" else [(1, 1)]:
            shares = [list(range(first, row.replicates, processes)) for first in range(processes)]
            for engine in engines:
                jobs = [partial(Stack, task, share, threads, engine) for share in shares]
                spread = spread_name(processes, threads)
                candidates.append(Candidate(engine, jobs, row.replicates, spread, str(threads)))
    if group.by_density:
        candidates += _by_density(group, task, cores)
    if (root / STRAIGHTFORWARD).is_file():
        for workers in settings.LOADER_WORKERS:
            job = partial(Straightforward, task, root, workers)
            candidates.append(Candidate("straightforward", [job], 1, f"{workers} workers", "straightforward"))
    return candidates


def _by_density(group: Group, task: Task, cores: int) -> list[Candidate]:
    """One thread a process: by kept weights at each density, by all weights at one, and by sparseprop if installed."""
    count = group.by_density
    processes = min(count, cores)
    spread, shares = spread_name(processes, 1), [list(range(first, count, processes)) for first in range(processes)]
    candidates = []
    for engine, densities in (("harness", settings.DENSITIES), ("dense engine", settings.DENSITIES[-1:])):
        for density in densities:
            jobs = [partial(Stack, task, share, 1, engine, density) for share in shares]
            candidates.append(Candidate(BY_DENSITY[engine], jobs, count, spread, "1", density))
    if task.network == "lenet-300-100" and find_spec("sparseprop"):
        for density in settings.DENSITIES:
            others = [partial(SparseProp, task, 1, density)] * cores
            candidates.append(Candidate("sparseprop", others, cores, spread_name(cores, 1), "1", density))
    return candidates


def _interleave(candidates: list[Candidate], effort: Effort) -> None:
    """Run the candidates one at a time, round by round, each for about the same time."""
    sizes: dict[str, int] = {}
    for candidate in candidates:
        sizes[candidate.pool] = max(sizes.get(candidate.pool, 0), len(candidate.jobs))
    pools: dict[str, Workers | Inline] = {}
    try:
        for pool, size in sizes.items():
            pools[pool] = effort.workers(size)
        for candidate in candidates:
            pools[candidate.pool].make(candidate.name, candidate.jobs)
        for candidate in candidates:
            _calibrate(candidate, pools[candidate.pool], effort.seconds * (PROBE if candidate.unit > 1 else 1))
        for _ in range(effort.rounds):
            for candidate in candidates:
                parts = pools[candidate.pool].run(candidate.name, candidate.steps)
                candidate.rounds.append({part: seconds / candidate.steps for part, seconds in parts.items()})
    finally:
        for workers in pools.values():
            workers.close()


def _calibrate(candidate: Candidate, workers: Workers | Inline, target: float) -> None:
    """Warm a candidate up, and set its number of steps so that they take about `target` seconds."""
    workers.run(candidate.name, 1)
    while True:
        seconds = workers.run(candidate.name, candidate.steps)["seconds"]
        if seconds > 0.7 * target:
            candidate.steps = max(1, round(candidate.steps * target / seconds))
            return
        candidate.steps *= max(2, min(8, round(target / max(seconds, 1e-6))))


def _records(group: Group, task: Task, work: Work, candidates: list[Candidate]) -> list[Record]:
    limit = _limit(group, work, candidates)
    rows = [_training(group, task, candidates, limit, "harness", row.replicates, row.goals) for row in group.rows]
    if group.torch_engine:
        rows += [_training(group, task, candidates, limit, "torch engine", row.replicates) for row in group.rows]
    rows.append(_training(group, task, candidates, limit, "straightforward", 1))
    if group.by_density:
        rows += _density_records(group, work, candidates, limit)
    between = [_between(candidate, rows) for candidate in candidates if candidate.kind == "between levels"]
    return [*rows, limit, *between]


def _limit(group: Group, work: Work, candidates: list[Candidate]) -> Record:
    """The record of the machine's limit: its rates, the work of a step, and the steps per second that follow."""
    probes = {candidate.name: candidate.rate * candidate.unit for candidate in candidates if candidate.unit > 1}
    flop_rate, byte_rate = (max(rate for name, rate in probes.items() if kind in name) for kind in ("matrix", "copy"))
    return {
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


def _training(
    group: Group,
    task: Task,
    candidates: list[Candidate],
    limit: Record,
    kind: str,
    replicates: int,
    goals: tuple[Goal, ...] = (),
) -> Record:
    """The record of the fastest candidate that trains `replicates` at once, compared with others and the limit."""
    best = _fastest(candidates, kind, replicates)
    record: Record = {"group": group.name, "setting": group.title, "what": kind, "replicates": replicates}
    if best is None:
        return {**record, "measured": False}

    rate = best.rate

    def ratio(other: Candidate | None) -> float | None:
        return rate / other.rate if other else None

    bytes_per_step = limit["layer_bytes_per_step"] + limit["update_bytes_per_step"]
    record |= {
        "measured": True,
        "device": group.device,
        "spread": best.spread,
        "steps_per_second": rate,
        "steps_per_second_each": rate / replicates,
        "images_per_second": rate * task.recipe.batch_size,
        "seconds_per_level": replicates / rate * task.recipe.steps,
        "steps_per_level": task.recipe.steps,
        "batch_size": task.recipe.batch_size,
        "ratio_to_straightforward": ratio(_fastest(candidates, "straightforward")),
        "ratio_to_torch": ratio(_fastest(candidates, "torch engine")),
        "ratio_to_one": ratio(_fastest(candidates, "harness", 1)),
        "share_of_arithmetic": rate / limit["steps_per_second_arithmetic"],
        "share_of_limit": rate / limit["steps_per_second"],
        "share_of_copy_rate": rate * bytes_per_step / limit["copy_bytes_per_second"],
        "ways": _rounds(candidates, kind, replicates),
    }
    return with_goals(record, goals)


def _density_records(group: Group, work: Work, candidates: list[Candidate], limit: Record) -> list[Record]:
    """A record for each density: the rate of the kept weights, beside the dense engine and other implementations.

    The limit is the arithmetic of the kept weights, or the update and the layers' own bytes of the kept weights.
    """
    by_kind = {(candidate.kind, candidate.density): candidate for candidate in candidates}
    dense = by_kind[BY_DENSITY["dense engine"], settings.DENSITIES[-1]]
    straightforward = _fastest(candidates, "straightforward")
    goals = dict(group.density_goals)
    records = []
    for density in settings.DENSITIES:
        own, other = by_kind[BY_DENSITY["harness"], density], by_kind.get(("sparseprop", density))
        kept_flops, kept_bytes = density * work.flops, density * work.update_bytes + work.layer_bytes
        record = {
            "group": group.name,
            "setting": group.title,
            "what": "density",
            "density": density,
            "replicates": own.replicates,
            "spread": own.spread,
            "steps_per_second": own.rate,
            "rounds": own.rates,
            "dense_steps_per_second": dense.rate,
            "sparseprop_steps_per_second": other.rate if other else None,
            "ratio_to_dense": own.rate / dense.rate,
            "ratio_to_straightforward": own.rate / straightforward.rate if straightforward else None,
            "ratio_to_sparseprop": own.rate / other.rate if other else None,
            "share_of_arithmetic": own.rate * kept_flops / limit["matrix_flops_per_second"],
            "share_of_copy_rate": own.rate * kept_bytes / limit["copy_bytes_per_second"],
        }
        least = goals.get(density)
        records.append(with_goals(record, (Goal("ratio_to_dense", least=least),) if least else ()))
    return records


def _rounds(candidates: list[Candidate], kind: str, replicates: int) -> list[Record]:
    """The rates of every candidate of a kind, round by round."""
    return [
        {"spread": candidate.spread, "steps_per_second": candidate.rate, "rounds": candidate.rates}
        for candidate in candidates
        if (candidate.kind, candidate.replicates) == (kind, replicates)
    ]


def _between(candidate: Candidate, rows: list[Record]) -> Record:
    """The record of the work between two levels, as a share of the same networks' training."""
    level = next(row for row in rows if (row["what"], row["replicates"]) == ("harness", candidate.replicates))
    keys = ("group", "setting", "replicates", "seconds_per_level")
    record = {**{key: level[key] for key in keys}, "what": candidate.kind, "spread": candidate.spread}
    record |= {name: candidate.part(name) for name in candidate.rounds[0]}
    record["share_of_level"] = record["seconds"] / record["seconds_per_level"]
    return with_goals(record, (settings.BETWEEN_LEVELS,))


def with_goals(record: Record, goals: tuple[Goal, ...]) -> Record:
    """A record with its goals, and whether each is met (None: not measured)."""
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


def _fastest(candidates: list[Candidate], kind: str, replicates: int | None = None) -> Candidate | None:
    """The fastest candidate of a kind, or None if none was measured."""
    matching = [
        candidate for candidate in candidates if candidate.kind == kind and replicates in (None, candidate.replicates)
    ]
    return max(matching, key=lambda candidate: candidate.rate, default=None)
