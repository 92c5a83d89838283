"""What a person sees while a run goes on: one live line block in a terminal, plain lines in a log."""

import subprocess
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.files import read_json
from harness.plan import stacks, stages, steps_of
from harness.spec import Spec
from harness.workflow.context import Folders
from harness.workflow.progress import read_heartbeats

PLAIN_EVERY_SECONDS = 30.0
PRIOR_SECONDS = 60.0  # how long a run is trusted to take what the calibration says


@dataclass
class Progress:
    """Networks and weighted steps of a run, done and in all."""

    networks: int
    done: int
    rate: float  # network steps a second, of this run
    left_seconds: float
    accuracy: float | None
    running: list[str]


class Watcher:
    """Reads stage records and heartbeats; `cost` is the estimated seconds of one network step of each experiment."""

    def __init__(self, spec: Spec, folders: Folders, cost: dict[str, float], cores: int):
        self.cores = cores
        self.folders = folders
        self.stages = {stage.name: stage for stage in stages(spec)}
        self.networks: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.cost = {stage.name: cost.get(stage.experiment, 1.0) for stage in self.stages.values()}
        for stage in self.stages.values():
            runs = [run for stack in stacks(spec, stage) for run in stack]
            self.networks[stage.name] = len(runs)
            steps, restart = spec.recipe(stage.experiment).steps, spec.scale.experiments[stage.experiment].restart
            self.steps[stage.name] = sum(steps_of(run, steps, restart) for run in runs)
        self.began = time.time()

    def _finished(self) -> set[str]:
        return {name for name in self.stages if self.folders.stage(name).exists()}

    def look(self) -> Progress:
        """The progress now."""
        finished = self._finished()
        beats = {
            beat["stage"]: beat for beat in read_heartbeats(self.folders.progress) if beat.get("stage") in self.stages
        }
        active = {name: beat for name, beat in beats.items() if name not in finished}
        elapsed = max(time.time() - self.began, 1e-9)
        steps = sum(beat["steps"] for beat in beats.values())
        done_cost = sum(beat["steps"] * self.cost[name] for name, beat in beats.items())
        left_cost = sum(self.steps[name] * self.cost[name] for name in self.stages if name not in finished)
        left_cost -= sum((beat["steps"] + beat["found_steps"]) * self.cost[name] for name, beat in active.items())
        accuracies = sorted(
            (beat["time"], beat["accuracy"]) for beat in beats.values() if beat.get("accuracy") is not None
        )
        return Progress(
            networks=sum(self.networks.values()),
            done=sum(self.networks[name] for name in finished) + sum(beat["done"] for beat in active.values()),
            rate=steps / elapsed,
            left_seconds=left_cost * (elapsed + PRIOR_SECONDS) / (done_cost + PRIOR_SECONDS * self.cores),
            accuracy=accuracies[-1][1] if accuracies else None,
            running=[beat["running"] for beat in active.values() if beat["running"]],
        )


def watch(process: subprocess.Popen[bytes], watcher: Watcher, console: Console) -> int:
    """Show progress until the workflow ends. Returns its exit status."""
    if console.is_terminal:
        with Live(_view(watcher.look()), console=console, refresh_per_second=2, transient=True) as live:
            while process.poll() is None:
                time.sleep(0.5)
                live.update(_view(watcher.look()))
        return process.returncode
    last = time.time()
    while process.poll() is None:
        time.sleep(0.5)
        if time.time() - last >= PLAIN_EVERY_SECONDS:
            last = time.time()
            console.print(line(watcher.look()), soft_wrap=True)
    return process.returncode


def line(now: Progress) -> str:
    """One plain line of progress."""
    parts = [f"trainings {now.done} of {now.networks}", f"{now.rate:,.0f} steps/s"]
    parts.append(f"{duration(now.left_seconds)} left")
    if now.accuracy is not None:
        parts.append(f"latest test accuracy {now.accuracy:.1f}%")
    if not now.running and now.done == now.networks:
        parts.append("comparing, judging")
    return ", ".join(parts)


def _view(now: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    share = now.done / now.networks if now.networks else 1.0
    filled = round(32 * share)
    table.add_row(f"[green]{'━' * filled}[/green][dim]{'━' * (32 - filled)}[/dim] {share:4.0%}", line(now))
    for running in now.running:
        table.add_row("[dim]training[/dim]", f"[dim]{running}[/dim]")
    return table


def duration(seconds: float) -> str:
    """45 s, 12 min, 1 h 04 min, 18 days 4 h, 3.2 years."""
    if seconds < 90:
        return f"{max(seconds, 0.0):.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} days {hours % 24} h" if hours < 365 * 24 else f"{hours / 24 / 365.25:,.1f} years"


def disk(size: float) -> str:
    """Bytes as 3 MB, 350 MB, 1.2 GB, 350 GB, 1.1 TB."""
    units = [("MB", 1e6), ("GB", 1e9), ("TB", 1e12)]
    unit, per = next(((unit, per) for unit, per in units[:2] if round(size / per) < 1000), units[2])
    return f"{size / per:.1f} {unit}" if unit != "MB" and size / per < 10 else f"{size / per:,.0f} {unit}"


def finished_line(folders: Folders) -> str:
    """How long the run took and how much of it was training, from its provenance."""
    facts: dict[str, Any] = read_json(folders.provenance)
    return (
        f"{duration(facts['wall_clock_seconds'])} of wall clock, {facts['training_share']:.0%} of the stages' time in "
        f"training; the networks took {duration(facts['network_core_seconds'])} of core time to train"
    )
