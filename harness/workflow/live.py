"""Shows the progress of a run: a live view in a terminal, lines of text in a log."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.base.files import read_json
from harness.base.words import duration
from harness.paper import Spec
from harness.plan.courses import steps_of
from harness.plan.kinds import prepares
from harness.plan.runs import Run, data_sets, stacks, stages
from harness.results.folders import Folders
from harness.results.heartbeats import read_heartbeats

LOG_EVERY_SECONDS = 30.0
LAST_BYTES = 1000  # of a log, that hold its last line
PRIOR_SECONDS = 60.0  # weight of the calibration's estimate, as seconds of observed progress


@dataclass
class Progress:
    """The progress of a run: its networks, its speed and what is left."""

    networks: int
    done: int
    rate: float  # network steps per second, of this run
    elapsed_seconds: float
    left_seconds: float
    stages: tuple[int, int]  # finished, of all
    accuracy: float | None
    running: list[str]
    preparing: list[str] = field(default_factory=list)  # the last line that each data set's preparation told


class Watcher:
    """Reads stage records and heartbeats, one of each process that trains.

    `cost`: estimated seconds of each training. A stage's steps are taken in the order of its stacks, and a sparse
    network's are quicker.
    """

    def __init__(self, spec: Spec, folders: Folders, cost: Mapping[Run, float], cores: int):
        self.cores = cores
        self.folders = folders
        self.stages = {stage.name: stage for stage in stages(spec)}
        self.preparations = [prepares(name) for name in data_sets(spec)]
        self.networks: dict[str, int] = {}
        self.steps: dict[str, list[int]] = {}  # of a stage, after each of its runs
        self.cost: dict[str, list[float]] = {}  # the seconds of these steps
        for stage in self.stages.values():
            runs = [run for stack in stacks(spec, stage) for run in stack]
            self.networks[stage.name] = len(runs)
            self.steps[stage.name] = list(accumulate((steps_of(spec, run) for run in runs), initial=0))
            self.cost[stage.name] = list(accumulate((cost[run] for run in runs), initial=0.0))
        self.earlier = {name: self._log_changed(name) for name in self.preparations}
        self.began = time.monotonic()

    def _finished(self) -> set[str]:
        return {name for name in self.stages if self.folders.stage(name).exists()}

    def _seconds(self, stage: str, steps: int) -> float:
        """The estimated seconds of a stage's first steps."""
        return float(np.interp(steps, self.steps[stage], self.cost[stage]))

    def _log(self, name: str) -> Path:
        return self.folders.logs / f"{name}.log"

    def _log_changed(self, name: str) -> float:
        """When a stage's log was last written to; 0.0 without one."""
        return self._log(name).stat().st_mtime if self._log(name).is_file() else 0.0

    def _preparing(self) -> Iterator[str]:
        """The last line of the log of each data set that is being prepared."""
        for name in self.preparations:
            if not self.folders.stage(name).exists() and self._log_changed(name) != self.earlier[name]:
                with self._log(name).open("rb") as file:
                    file.seek(max(0, self._log(name).stat().st_size - LAST_BYTES))
                    yield from file.read().decode(errors="replace").splitlines()[-1:]

    def look(self) -> Progress:
        """The current progress."""
        finished = self._finished()
        beats = [beat for beat in read_heartbeats(self.folders.progress) if beat.get("stage") in self.stages]
        active = [beat for beat in beats if beat["stage"] not in finished]
        elapsed = max(time.monotonic() - self.began, 1e-9)
        steps, before = Counter[str](), Counter[str]()  # by stage, which several processes may share
        for beat in beats:
            steps[beat["stage"]] += beat["steps"]
            before[beat["stage"]] += beat["found_steps"]
        ahead = {name: self._seconds(name, before[name] + steps[name]) for name in self.stages}
        done_cost = sum(ahead[name] - self._seconds(name, before[name]) for name in steps)
        left_cost = sum(self.cost[name][-1] - ahead[name] for name in self.stages if name not in finished)
        accuracies = sorted((beat["time"], beat["accuracy"]) for beat in beats if beat.get("accuracy") is not None)
        return Progress(
            networks=sum(self.networks.values()),
            done=sum(self.networks[name] for name in finished) + sum(beat["done"] for beat in active),
            rate=steps.total() / elapsed,
            elapsed_seconds=elapsed,
            stages=(len(finished), len(self.stages)),
            left_seconds=left_cost * (elapsed + PRIOR_SECONDS) / (done_cost + PRIOR_SECONDS * self.cores),
            accuracy=accuracies[-1][1] if accuracies else None,
            running=[beat["running"] for beat in active if beat["running"]],
            preparing=list(self._preparing()),
        )


def watch(process: subprocess.Popen[bytes], watcher: Watcher, console: Console) -> int:
    """Show progress until the workflow ends. Returns its exit status."""
    if console.is_terminal:
        with Live(_view(watcher.look()), console=console, refresh_per_second=2, transient=True) as live:
            while process.poll() is None:
                time.sleep(0.5)
                live.update(_view(watcher.look()))
        return process.returncode
    last = time.monotonic()
    while process.poll() is None:
        time.sleep(0.5)
        if time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            console.print(escape(line(watcher.look())), soft_wrap=True)
    return process.returncode


def line(now: Progress) -> str:
    """The progress as one line of text."""
    parts = [f"trainings {now.done} of {now.networks}", "stages {} of {}".format(*now.stages)]
    parts.append(f"{duration(now.elapsed_seconds)} passed, {duration(now.left_seconds)} left")
    if now.running:
        parts.append(f"{now.rate:,.0f} steps/s")
    if now.accuracy is not None:
        parts.append(f"latest test accuracy {now.accuracy:.1f}%")
    if not now.running and now.done == now.networks:
        parts.append("comparing, judging")
    if not now.running:
        parts += now.preparing
    return ", ".join(parts)


def _view(now: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    share = now.done / now.networks if now.networks else 1.0
    filled = round(32 * share)
    table.add_row(f"[green]{'━' * filled}[/green][dim]{'━' * (32 - filled)}[/dim] {share:4.0%}", escape(line(now)))
    for running in now.running:
        table.add_row("[dim]training[/dim]", f"[dim]{running}[/dim]")
    return table


def finished_line(folders: Folders) -> str:
    """How long the run took, how much of it was training, and the processor time, from its provenance."""
    provenance: dict[str, Any] = read_json(folders.provenance)
    wall_clock, processors = provenance["wall_clock_seconds"], provenance.get("cpu_seconds")
    effort = f"the networks took {duration(provenance['network_core_seconds'])} to train"
    if processors is not None:
        effort = f"the stages took {duration(processors)} of CPU time"
    return (
        f"{duration(wall_clock)} of wall clock, {provenance['training_share']:.0%} of the stages' time in "
        f"training; {effort}, added up over jobs"
    )
