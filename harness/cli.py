"""The `harness` command."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import __version__
from harness.errors import HarnessError
from harness.paths import FIRST_PAPER, checkout, results_folder

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reproduces a paper's experiments and gives each of its claims a verdict.",
)

Paper = Annotated[str, typer.Option(help="A folder of papers/.")]
Scale = Annotated[str, typer.Option(help="A scale of the paper: smoke, mini or paper.")]
Results = Annotated[Path, typer.Option(help="Where runs are kept.")]
CORES = os.cpu_count() or 1
Cores = Annotated[int, typer.Option(min=1, help="Processor cores to use; each training takes one.")]


def _console() -> Console:
    # a log file gets whole lines, whatever width it claims
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _spec(paper: str, scale: str) -> Any:
    from harness.spec import load_spec
    from harness.workflow.check import check_settings

    spec = load_spec(checkout(), paper, scale)
    check_settings(spec)
    return spec


def _folders(paper: str, scale: str, results: Path) -> Any:
    from harness.workflow.context import Folders

    return Folders(results_folder(_results(results), paper, scale))


def _results(results: Path) -> Path:
    """A results folder: relative to the checkout where it lies below it, whichever folder a command is given in."""
    root = checkout().resolve()
    found = (root / results).resolve()
    os.chdir(root)  # so that the workflow engine sees the same paths whoever starts it
    return found.relative_to(root) if found.is_relative_to(root) else found


@app.command()
def reproduce(
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    cores: Cores = CORES,
    results: Results = Path("results"),
) -> None:
    """Run the paper's experiments at a scale and judge its claims. Run it again to go on from where it stopped."""
    spec = _spec(paper, scale)
    from harness.calibrate import costs
    from harness.data import checksum
    from harness.workflow.clock import start_clock, stop_clock
    from harness.workflow.live import Watcher, finished_line, watch
    from harness.workflow.reproduce import (
        clear_heartbeats,
        failures,
        forget_broken,
        only_run,
        start_workflow,
        stop_workflow,
    )
    from harness.workflow.rules import Rules

    for setting in spec.scale.experiments.values():
        checksum(setting.data)  # refuses a set that can't be had before anything is run
    console, root = _console(), checkout().resolve()
    folders, rules = _folders(paper, scale, results), Rules(paper, scale, str(_results(results)))
    with only_run(root, folders.base):
        for reason in forget_broken(spec, folders):
            console.print(f"running again {escape(reason)}")
        start_clock(folders)
        clear_heartbeats(spec, folders)
        cost = {one.experiment: one.seconds / max(one.steps, 1) for one in costs(spec, at_most=0.5)}
        watcher = Watcher(spec, folders, cost, cores)
        began, log = time.time(), folders.logs / "workflow.log"
        console.print(f"{escape(spec.paper.title)}: scale {scale}, {cores} cores. Log: {log}")
        process = start_workflow(root, rules, cores, log)
        try:
            status = watch(process, watcher, console)
        except KeyboardInterrupt:
            stop_workflow(process)
            stop_clock(folders)
            raise HarnessError("stopped; nothing finished is lost: run the same command again to go on") from None
        stop_clock(folders)
        if status:
            reasons = failures(folders, began)
            for reason in reasons:
                Console(stderr=True, highlight=False).print(f"error: {escape(reason)}", soft_wrap=True)
            raise HarnessError(f"the run did not finish ({len(reasons)} stages failed); details in {log}")
    _show(folders, console)
    console.print(f"{finished_line(folders)}. Page: {folders.report / 'index.html'}")


@app.command()
def plan(
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    cores: Cores = CORES,
    stages: Annotated[bool, typer.Option("--stages", help="List the stages too.")] = False,
) -> None:
    """Show what a scale would run, without running it: trainings, steps, estimated time and disk."""
    spec = _spec(paper, scale)
    from harness.calibrate import costs
    from harness.plan import stages as all_stages
    from harness.workflow.live import duration

    console = _console()
    table = Table(title=f"{escape(spec.paper.title)}, scale {scale}", title_justify="left")
    for column in ("experiment", "network", "data set"):
        table.add_column(column)
    for column in ("replicates", "trainings", "steps", "core time", "disk"):
        table.add_column(column, justify="right")
    found = costs(spec)
    for one in found:
        setting = spec.scale.experiments[one.experiment]
        name = setting.data if one.runnable else f"{setting.data} (no loader yet)"
        sizes = (
            str(setting.replicates),
            f"{one.networks:,}",
            f"{one.steps:,}",
            duration(one.seconds),
            f"{one.bytes / 1e6:,.0f} MB",
        )
        table.add_row(one.experiment, setting.network, name, *sizes)
    console.print(table)
    seconds = sum(one.seconds for one in found) / cores
    console.print(
        f"{sum(one.networks for one in found):,} trainings, {sum(one.steps for one in found):,} steps, "
        f"{sum(one.bytes for one in found) / 1e6:,.0f} MB; about {duration(seconds)} on {cores} cores of this "
        "machine's CPU (measured on a few steps of each network)"
    )
    if stages:
        for stage in all_stages(spec):
            console.print(stage.name)


@app.command()
def claims(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Show the verdict of each claim of a finished run."""
    _spec(paper, scale)
    _show(_folders(paper, scale, results), _console())


def _show(folders: Any, console: Console) -> None:
    from harness.claims.judge import read_claims
    from harness.report import verdict_table

    if not folders.claims.exists():
        raise HarnessError(f"{folders.claims}: missing. Run `harness reproduce` first.")
    found = read_claims(folders.claims)
    console.print(verdict_table(found))


@app.command()
def report(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Judge the claims and build the page again from a finished run's tables, without training anything."""
    spec, folders = _spec(paper, scale), _folders(paper, scale, results)
    from harness.workflow.stages import claims_stage, report_stage

    claims_stage(spec, folders)
    report_stage(spec, folders)
    _console().print(f"Page: {folders.report / 'index.html'}")


@app.command(hidden=True)
def stage(
    name: str,
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    results: Results = Path("results"),
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Run one stage of the workflow (what the rules call)."""
    from harness.workflow.stages import end_with_parent, run_stage

    end_with_parent()
    run_stage(_spec(paper, scale), _folders(paper, scale, results), name, threads)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Reproduces a paper's experiments and gives each of its claims a verdict."""


def main() -> None:
    """Entry point: errors of input in one line on stderr, exit status 1; a traceback is a bug."""
    try:
        app()
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
