"""`harness bench`: measure the chosen groups, print them, and write results/bench/."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console

from harness.bench import settings
from harness.bench.engine import kernels
from harness.bench.fixed import fixed_costs
from harness.bench.measure import Effort, Record, measure_group
from harness.bench.show import figure, tables
from harness.bench.workers import Crew, Inline
from harness.errors import HarnessError
from harness.files import write_json, write_text
from harness.paths import results_folder
from harness.spec import Spec, load_spec
from harness.workflow.context import Folders
from harness.workflow.environment import environment

FULL_SECONDS, QUICK_SECONDS, QUICK_ROUNDS = 2.0, 0.3, 2
BUSY_SECONDS, BUSY_PERCENT = 0.5, 20.0
SCRATCH = Path("bench") / "scratch"
FIXED, FIXED_SCALE = "fixed", "mini"
CREW: type[Crew] | type[Inline] = Crew


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
    """Measure, show and write. Raises HarnessError for a name or device that isn't there."""
    groups = _chosen(only, device)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it no reproducible products on a GPU
    rounds = rounds or (QUICK_ROUNDS if quick else settings.LEAST_ROUNDS)
    effort = Effort(rounds, QUICK_SECONDS if quick else FULL_SECONDS, cores, CREW)
    folder = results / "bench"
    facts = environment()
    facts["packages"] |= {name: version(name) for name in ("torchvision", "pillow")}
    machine = facts["hardware"]["gpu"] if device == "cuda" else f"{facts['hardware']['cpu']}, {cores} cores"
    by = kernels() or "torch alone"
    console.print(f"{machine}; kernels: {by}; {rounds} rounds of about {effort.seconds:g} s each way")
    others = psutil.cpu_percent(BUSY_SECONDS)
    if others > BUSY_PERCENT:
        console.print(f"[yellow]Other programs keep this machine {others:.0f}% busy: no figure will hold.[/]")
    try:
        records = _measured(groups, root, paper, results, console, effort)
    finally:
        shutil.rmtree(results / SCRATCH, ignore_errors=True)
    measured: dict[str, Any] = {
        "busy_before_percent": others,
        "rounds": rounds,
        "seconds_each": effort.seconds,
        "quick": quick,
        "cores": cores,
        "device": device,
    }
    write_json(folder / "bench.json", {**facts, **measured, "kernels": kernels(), "records": records})
    written = [folder / "bench.json"]
    if any(record.get("measured") for record in records):
        write_text(folder / "bench.svg", figure(records, machine) + "\n")
        written.append(folder / "bench.svg")
    for table in tables(records):
        console.print(table)
    if quick or rounds < settings.LEAST_ROUNDS:
        console.print(f"A look, not a measurement: figures to report take {settings.LEAST_ROUNDS} rounds or more.")
    console.print(f"Written: {', '.join(map(str, written))}")
    return records


def _measured(
    names: list[str], root: Path, paper: str, results: Path, console: Console, effort: Effort
) -> list[Record]:
    """The records of all groups in turn."""
    records: list[Record] = []
    specs: dict[str, Spec] = {}
    for name in names:
        console.print(f"measuring {name} ...")
        group = next((group for group in settings.GROUPS if group.name == name), None)
        scale = group.scale if group else FIXED_SCALE
        spec = specs.setdefault(scale, load_spec(root, paper, scale))
        if group:
            records += measure_group(group, spec, root, results / SCRATCH, effort)
        else:
            finished = Folders(results_folder(results, paper, scale))
            records += fixed_costs(spec, root, finished, results / SCRATCH, effort.rounds, effort.cores)
    return records


def _chosen(only: list[str], device: str) -> list[str]:
    """The groups to measure on a device, in order."""
    if device not in ("cpu", "cuda"):
        raise HarnessError(f"--device {device!r}: choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("--device cuda: PyTorch finds no CUDA device here; leave the option out for the CPU")
    there = [group.name for group in settings.GROUPS if group.device == device]
    there += [FIXED] if device == "cpu" else []
    for name in only:
        if name not in there:
            raise HarnessError(f"--only {name!r}: not measured on {device}; choose one of {', '.join(there)}")
    return [name for name in there if not only or name in only]
