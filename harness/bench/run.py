"""`harness bench`: measure the selected groups, print the results and write them to results/bench/."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console

from harness import kernels
from harness.base.devices import take_device
from harness.base.errors import HarnessError
from harness.base.files import write_json, write_text
from harness.base.paths import results_folder
from harness.bench import settings
from harness.bench.fixed import fixed_costs
from harness.bench.measure import Effort, Record, measure_group
from harness.bench.show import figure, tables
from harness.bench.workers import Inline, Workers
from harness.paper import Spec, load_spec
from harness.results.environment import environment
from harness.results.folders import Folders
from harness.training.device import CHOICE, pick

FULL_SECONDS, QUICK_SECONDS, QUICK_ROUNDS = 2.0, 0.3, 2
BUSY_SECONDS, BUSY_PERCENT = 0.5, 20.0
SCRATCH = Path("bench") / "scratch"
FIXED, FIXED_SCALE = "fixed", "mini"
WORKERS: type[Workers] | type[Inline] = Workers


def bench(
    root: Path,
    paper: str,
    results: Path,
    console: Console,
    *,
    only: list[str],
    rounds: int | None,
    quick: bool,
    device: str,
    cores: int,
) -> list[Record]:
    """Measure, print and write, each group as it is measured. Raises HarnessError for an unknown group or a missing
    device."""
    groups = _selected(only, device)
    if not os.environ.get(CHOICE, "").startswith(device):
        os.environ[CHOICE] = device
    if device == "cuda":
        take_device()
    pick()
    rounds = rounds or (QUICK_ROUNDS if quick else settings.LEAST_ROUNDS)
    effort = Effort(rounds, QUICK_SECONDS if quick else FULL_SECONDS, cores, WORKERS)
    conditions = _conditions(effort, device, quick)
    hardware = conditions["hardware"]
    title = hardware["gpu"] if device == "cuda" else f"{hardware['cpu']}, {cores} cores"
    engine = kernels.available() or "torch alone"
    console.print(f"{title}; kernels: {engine}; {rounds} rounds of about {effort.seconds:g} s per implementation")
    conditions["busy_before_percent"] = _busy_percent(console)
    records: list[Record] = []
    written: list[Path] = []
    try:
        for measured in _measured(groups, root, paper, results, console, effort):
            records += measured
            written = _write(results / "bench", {**conditions, "records": records}, title)
            for table in tables(measured):
                console.print(table)
    finally:
        shutil.rmtree(results / SCRATCH, ignore_errors=True)
    if quick or rounds < settings.LEAST_ROUNDS:
        console.print(f"Do not quote these numbers: a measurement takes {settings.LEAST_ROUNDS} rounds or more.")
    console.print(f"Written: {', '.join(map(str, written))}")
    return records


def _conditions(effort: Effort, device: str, quick: bool) -> dict[str, Any]:
    """The machine, its packages and the options of a measurement."""
    conditions = environment()
    conditions["packages"] |= {name: version(name) for name in ("torchvision", "pillow")}
    return conditions | {
        "rounds": effort.rounds,
        "seconds_each": effort.seconds,
        "quick": quick,
        "cores": effort.cores,
        "device": device,
        "kernels": kernels.available(),
    }


def _busy_percent(console: Console) -> float:
    """How busy other programs keep this machine, with a warning if that spoils a measurement."""
    busy = psutil.cpu_percent(BUSY_SECONDS)
    if busy > BUSY_PERCENT:
        console.print(f"[yellow]Other programs keep this machine {busy:.0f}% busy: do not quote any number.[/]")
    return busy


def _write(folder: Path, content: dict[str, Any], title: str) -> list[Path]:
    """Write bench.json, and bench.svg if anything was measured. Returns the paths."""
    paths = [folder / "bench.json"]
    write_json(paths[0], content)
    if any(record.get("measured") for record in content["records"]):
        paths.append(folder / "bench.svg")
        write_text(paths[1], figure(content["records"], title) + "\n")
    return paths


def _measured(
    names: list[str], root: Path, paper: str, results: Path, console: Console, effort: Effort
) -> Iterator[list[Record]]:
    """The records of each group, measured one after another."""
    specs: dict[str, Spec] = {}
    for name in names:
        console.print(f"measuring {name} ...")
        group = next((group for group in settings.GROUPS if group.name == name), None)
        scale = group.scale if group else FIXED_SCALE
        spec = specs.setdefault(scale, load_spec(root, paper, scale))
        if group:
            yield measure_group(group, spec, root, results / SCRATCH, effort)
        else:
            finished = Folders(results_folder(results, paper, scale))
            yield fixed_costs(spec, root, finished, results / SCRATCH, effort.rounds, effort.cores)


def _selected(only: list[str], device: str) -> list[str]:
    """The groups to measure on a device, in order."""
    if device not in ("cpu", "cuda"):
        raise HarnessError(f"--device {device!r}: choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("--device cuda: PyTorch finds no CUDA device here; omit the option to measure the CPU")
    names = [group.name for group in settings.GROUPS if group.device == device]
    names += [FIXED] if device == "cpu" else []
    for name in only:
        if name not in names:
            raise HarnessError(f"--only {name!r}: not measured on {device}; choose one of {', '.join(names)}")
    return [name for name in names if not only or name in only]
