"""The `harness` command."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from harness import __version__
from harness.check.commands import check
from harness.errors import HarnessError
from harness.paths import FIRST_PAPER, checkout, other_results, results_folder
from harness.share import commands_remote
from harness.share.commands_ticket import ticket
from harness.share.commands_verify import compare, verify

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
Claims = Annotated[str, typer.Option(help="Only what these claims need, such as C6,C7.")]
Budget = Annotated[str, typer.Option(help="The most claims for so much core or GPU time, such as 20h or 90min.")]
Cores = Annotated[int, typer.Option(min=1, help="Processor cores to use; each training takes one.")]
Until = Annotated[str, typer.Option(help="How far to go: data, experiments or report.")]
Profile = Annotated[
    str, typer.Option(envvar="HARNESS_PROFILE", help="Where jobs run: a folder of envs/profiles/, or one of your own.")
]


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

    found = _results(results)
    return Folders(results_folder(found, paper, scale), other_results(found, checkout(), paper, scale))


def _run(paper: str, scale: str, results: Path) -> tuple[Any, Any]:
    """A run's scale, or what of it the selection recorded with it needs, and its folders."""
    from harness.workflow.selection import as_recorded

    spec, folders = _spec(paper, scale), _folders(paper, scale, results)
    return as_recorded(spec, folders), folders


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
    claims: Claims = "",
    budget: Budget = "",
    every_replicate: Annotated[
        bool, typer.Option("--every-replicate", help="With --claims: all replicates of the scale, not the fewest.")
    ] = False,
    until: Until = "report",
    profile: Profile = "",
) -> None:
    """Run the paper's experiments at a scale and judge its claims. Run it again to go on from where it stopped.

    With --claims or --budget, only what the chosen claims need is run, and the others are not tested; without them
    afterwards, it goes on to the whole.
    """
    whole, folders = _spec(paper, scale), _folders(paper, scale, results)
    from harness.calibrate import costs
    from harness.data import require
    from harness.share.adopt import adopt, is_new, remember
    from harness.workflow.clock import start_clock, stop_clock
    from harness.workflow.live import Watcher, finished_line, watch
    from harness.workflow.mend import forget_broken
    from harness.workflow.planning import Plan, chosen
    from harness.workflow.reproduce import (
        clear_heartbeats,
        end_with_dvc,
        failures,
        only_run,
        start_workflow,
        stop_workflow,
    )
    from harness.workflow.rules import UNTIL, Rules
    from harness.workflow.selection import as_selected, write_selection

    end_with_dvc()
    if until not in UNTIL:
        raise HarnessError(f"--until: {until!r}: unknown; choose one of {', '.join(UNTIL)}")
    console, root = _console(), checkout().resolve()
    selection = chosen(Plan(whole, folders), claims, budget, console)
    spec = as_selected(whole, selection, every_replicate)
    for setting in spec.scale.experiments.values():
        if not folders.stage(f"prepare/{setting.data}").exists():
            require(setting.data)  # refuses a set that can't be had before anything is run
    rules = Rules(paper, scale, str(_results(results)))
    with only_run(root, folders.base):
        write_selection(folders, selection, budget, every_replicate)
        if is_new(root, folders):
            fit, stages = adopt(root, spec, folders, rules)
            console.print(f"{folders.base}: finished results; {fit} of {stages} stages fit and stay as they are")
        for reason in forget_broken(spec, folders):
            console.print(f"running again {escape(reason)}")
        start_clock(folders)
        clear_heartbeats(spec, folders)
        cost = {one.experiment: one.step_seconds for one in costs(spec, at_most=0.5)}
        watcher = Watcher(spec, folders, cost, cores)
        began, log = time.time(), folders.logs / "workflow.log"
        console.print(f"{escape(spec.paper.title)}: scale {scale}, {cores} cores. Log: {log}")
        process = start_workflow(root, rules, cores, log, until, profile)
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
            raise HarnessError(f"the run did not finish; details in {log}")
        if until != "report":
            console.print(f"{folders.base}: {until} done")
            return
        write_selection(folders, selection, budget, every_replicate, finished=True)
        remember(root, folders)
    _show(folders, console)
    console.print(f"{finished_line(folders)}. Page: {folders.report / 'index.html'}")


@app.command()
def plan(
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    cores: Cores = CORES,
    stages: Annotated[bool, typer.Option("--stages", help="List the stages too.")] = False,
    results: Results = Path("results"),
    claims: Claims = "",
    budget: Budget = "",
) -> None:
    """Show what a scale would run and what each claim needs of it, without running it: trainings, time, disk."""
    spec, folders = _spec(paper, scale), _folders(paper, scale, results)
    from harness.plan import stages as all_stages
    from harness.workflow.planning import Plan, chosen, show
    from harness.workflow.selection import as_selected

    console = _console()
    found = Plan(spec, folders)
    selection = chosen(found, claims, budget, console)
    show(found, cores, console, selection)
    if stages:
        for stage in all_stages(as_selected(spec, selection)):
            console.print(stage.name)


@app.command()
def claims(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Show the verdict of each claim of a finished run."""
    _, folders = _run(paper, scale, results)
    _show(folders, _console())


def _show(folders: Any, console: Console) -> None:
    from harness.claims.judge import read_claims
    from harness.report import verdict_table

    if not folders.claims.exists():
        raise HarnessError(f"{folders.claims}: missing. Run `harness reproduce` first.")
    found = read_claims(folders.claims)
    console.print(verdict_table(found))


@app.command()
def report(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Judge the claims and build the page and the card again from a finished run's tables, training nothing."""
    spec, folders = _run(paper, scale, results)
    from harness.share.adopt import remember
    from harness.share.card import card_stage
    from harness.workflow.judging import claims_stage, report_stage

    claims_stage(spec, folders)
    report_stage(spec, folders)
    card_stage(spec, folders)
    remember(checkout().resolve(), folders)
    _console().print(f"Page: {folders.report / 'index.html'}")


@app.command(hidden=True)
def stage(
    name: str,
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    results: Results = Path("results"),
    threads: Annotated[int, typer.Option(min=1)] = 1,
    digest: Annotated[str, typer.Option(help="Refuse if code or settings here have another digest.")] = "",
) -> None:
    """Run one stage of the workflow (what the rules call)."""
    from harness.workflow.devices import check_device, take_device, uses_device
    from harness.workflow.stages import end_with_parent, run_stage

    end_with_parent()
    if uses_device(name):
        take_device()  # before CUDA is started
        check_device()
    run_stage(*_run(paper, scale, results), name, threads, digest)


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(help="Measure this alone: lenet, resnet20, mini, fixed.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns that each way takes; 5 if not given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A short look, not for figures to report.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    paper: Paper = FIRST_PAPER,
    cores: Cores = CORES,
    results: Results = Path("results"),
) -> None:
    """Measure the training engine against the machine's limit and a straightforward PyTorch training."""
    from harness.bench.run import bench as measure

    options: dict[str, Any] = {"rounds": rounds, "quick": quick, "device": device, "cores": cores}
    measure(checkout().resolve(), paper, _results(results), _console(), only=only or [], **options)


for _command in (verify, compare, check, commands_remote.push, commands_remote.pull, commands_remote.adopt):
    app.command()(_command)
app.add_typer(ticket, name="ticket")


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
        # names in somebody's files may hold what a terminal would obey
        shown = "".join(one for one in str(error) if one == "\n" or one.isprintable())
        print(f"error: {shown}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
