"""`harness reproduce`: runs the workflow, shows its progress, and recovers from an interrupted run."""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.markup import escape

from harness.base.errors import HarnessError
from harness.base.variables import variable
from harness.data import require
from harness.estimate.show import Plan, chosen
from harness.paper import Spec
from harness.plan.kinds import prepares
from harness.report.summary import verdict_table, verdicts_of
from harness.results.clock import start_clock, stop_clock
from harness.results.environment import place
from harness.results.fit import forget_broken, other_versions
from harness.results.folders import Folders
from harness.results.heartbeats import clear_heartbeats
from harness.results.open import folders_of, load_scale
from harness.results.selection import as_selected, write_selection
from harness.training.device import choose, pick
from harness.workflow.adopt import adopt, forget_altered, is_new, refuse_altered, remember
from harness.workflow.engine import failures, runs_here, start_workflow, stop_workflow
from harness.workflow.live import Watcher, finished_line, watch
from harness.workflow.locks import only_run
from harness.workflow.rules import UNTIL, Rules
from harness.workflow.run_stage import end_with_parent


@dataclass(frozen=True)
class Request:
    """The options of `harness reproduce`.

    `results` is the results folder, relative to the checkout if it is inside it. Without `claims` and `budget` the
    whole scale runs.
    """

    paper: str
    scale: str
    results: Path
    cores: int
    claims: str = ""
    budget: str = ""
    every_replicate: bool = False
    until: str = "report"
    profile: str = ""
    adopts: bool = False  # adopt the finished results in the run's folder, from whatever source


class Selection(NamedTuple):
    """Which claims to run, None for the whole scale, and their looks if they follow a planned design."""

    claims: list[str] | None
    design: Mapping[str, Any] = MappingProxyType({})


def reproduce(root: Path, request: Request, console: Console) -> None:
    """Run a scale, or the part that the chosen claims need, and show the verdicts.

    Raises HarnessError for invalid options, and if the run is stopped or does not finish.
    """
    end_with_dvc()
    if request.until not in UNTIL:
        raise HarnessError(f"--until: {request.until!r}: unknown; choose one of {', '.join(UNTIL)}")
    whole = load_scale(root, request.paper, request.scale)
    choose(whole)
    folders = folders_of(root, request.results, request.paper, request.scale)
    claims = chosen(Plan(whole, folders), request.claims, request.budget, console)
    reproduce_selection(root, request, Selection(claims), console)


def reproduce_selection(root: Path, request: Request, selection: Selection, console: Console) -> None:
    """Run the part of a scale that a selection needs, and show the verdicts. Raises HarnessError as `reproduce`."""
    folders, (claims, design) = folders_of(root, request.results, request.paper, request.scale), selection
    whole = load_scale(root, request.paper, request.scale)
    spec = as_selected(whole, claims, request.every_replicate, design.get("looks", {}))
    for setting in spec.scale.experiments.values():
        if not folders.stage(prepares(setting.data)).exists():
            require(setting.data, spec.scale.data)  # refuses an unavailable data set before anything runs
    rules = Rules(request.paper, request.scale, str(request.results))
    with only_run(root, folders.base):
        write_selection(folders, claims, request.budget, request.every_replicate, design=design)
        _settle(root, spec, folders, rules, console, request.adopts)
        _run(root, request, spec, folders, rules, console)
        if request.until != "report":
            console.print(escape(f"{folders.base}: {request.until} done"), soft_wrap=True)
            return
        write_selection(folders, claims, request.budget, request.every_replicate, True, design)
        remember(root, folders)
    console.print(verdict_table(verdicts_of(folders)))
    console.print(escape(f"{finished_line(folders)}. Page: {folders.report / 'index.html'}"), soft_wrap=True)


def _settle(root: Path, spec: Spec, folders: Folders, rules: Rules, console: Console, adopts: bool) -> None:
    """Keep the earlier results that are still valid, and print what runs again."""
    if is_new(root, folders) and not adopts:
        refuse_altered(folders)
    for name in forget_altered(spec, folders):
        console.print(
            f"making again {escape(str(folders.base / name))}: broken, or not what card.json says", soft_wrap=True
        )
    if adopts or is_new(root, folders):
        fit, total = adopt(root, spec, folders, rules)
        line = f"{folders.base}: finished results; {fit} of {total} stages fit and stay as they are"
        console.print(escape(line), soft_wrap=True)
    for reason in forget_broken(spec, folders):
        console.print(f"running again {escape(reason)}", soft_wrap=True)
    others = other_versions(spec, folders)
    if others:
        console.print(
            f"{escape(str(folders.base))}: networks were computed with {escape(', '.join(others))}, not the versions "
            "installed here; they are kept. To train them again use `harness check`",
            soft_wrap=True,
        )


def _run(root: Path, request: Request, spec: Spec, folders: Folders, rules: Rules, console: Console) -> None:
    """Run the workflow and watch it. Raises HarnessError if it is stopped or fails."""
    start_clock(folders)
    clear_heartbeats(folders.progress)
    plan = Plan(spec, folders, at_most=0.5)
    if runs_here(root, request.profile) and pick().type == "cpu":
        rules = replace(rules, processes=shared_jobs(plan, request.cores))
    watcher = Watcher(spec, folders, plan.prices.training, request.cores)
    began, log = time.time(), folders.logs / "workflow.log"
    title = f"{spec.paper.title}: scale {request.scale}, {request.cores} cores. Log: {log}"
    console.print(escape(title), soft_wrap=True)
    process = start_workflow(root, rules, request.cores, log, request.until, request.profile)
    try:
        status = watch(process, watcher, console)
    except KeyboardInterrupt:
        stop_workflow(process)
        raise HarnessError("stopped; finished work is kept: run the same command again to resume") from None
    finally:
        stop_clock(folders)
    if status:
        for reason in failures(folders, began, status):
            Console(stderr=True, highlight=False).print(f"error: {escape(reason)}", soft_wrap=True)
        raise HarnessError(f"the run did not finish; details in {log}")


def shared_jobs(plan: Plan, cores: int) -> dict[str, int]:
    """The processes of each job left to run whose work several of them share, so that no core is idle."""
    return {name: processes for name, processes in plan.jobs(cores, left=True).widths(cores).items() if processes > 1}


def end_with_dvc() -> None:
    """As a stage of `dvc repro`, end this process when DVC ends: otherwise killing DVC would leave the run going."""
    if "DVC_STAGE" not in os.environ:
        return
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                os.environ[variable("parent")] = f"{process.pid}@{place()}"
                end_with_parent()
                return
