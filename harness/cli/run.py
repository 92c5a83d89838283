"""Commands that run a scale or show a run's results: reproduce, plan, claims, report, bench and the hidden stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.base.paths import checkout
from harness.base.variables import variable
from harness.cli import options
from harness.cli.options import CORES, RESULTS, Budget, Claims, Cores, Json, Paper, Results, Scale


def reproduce(
    paper: Paper = "",
    scale: Scale = "",
    cores: Cores = CORES,
    results: Results = RESULTS,
    claims: Claims = "",
    budget: Budget = "",
    every_replicate: Annotated[
        bool,
        typer.Option("--every-replicate", help="With --claims: train all replicates of the scale, not the fewest."),
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Look at 5, 10 and 20 replicates, at a stricter level, and add them only where a claim is undecided "
            "and can still be decided.",
        ),
    ] = False,
    until: Annotated[str, typer.Option(help="Stop after this part: data, experiments or report.")] = "report",
    profile: Annotated[
        str,
        typer.Option(
            envvar=variable("profile"), help="Where jobs run: a profile in envs/profiles/, or your own folder."
        ),
    ] = "",
) -> None:
    """Run the paper's experiments at a scale and judge its claims. Run it again to continue a stopped run.

    With --claims, --budget or --until-decided, it runs only what the selected claims need, and does not test the
    others. Run it again without these options to add the rest.
    """
    paper, scale = options.paper_and_scale(paper, scale)
    from harness.workflow.reproduce import Request, reproduce
    from harness.workflow.until_decided import reproduce_until_decided

    request = Request(paper, scale, options.results_of(results), cores, claims, budget, every_replicate, until, profile)
    run = reproduce_until_decided if until_decided else reproduce
    run(checkout().resolve(), request, options.console())


def plan(
    paper: Paper = "",
    scale: Scale = "",
    cores: Cores = CORES,
    stages: Annotated[bool, typer.Option("--stages", help="Also list the stages.")] = False,
    results: Results = RESULTS,
    claims: Claims = "",
    budget: Budget = "",
    card: Annotated[
        str, typer.Option(help="The GPU whose published rates give the time: h100, a100 or 4090.", show_default="none")
    ] = "",
    json: Json = False,
) -> None:
    """Show what a scale would run and what each claim needs: trainings, time and disk space. Runs nothing.

    Where the scale needs GPUs and there is none, the time is that of an H100.
    """
    spec, folders = options.scale_of(paper, scale), options.folders_of(paper, scale, results)
    from harness.estimate.show import as_json, list_stages, plan_of, show

    plan, selection = plan_of(spec, folders, options.console(json), claims, budget, card)
    if json:
        options.print_json(as_json(plan, cores, selection, stages))
        return
    show(plan, cores, options.console(), selection)
    if stages:
        print(*list_stages(plan, selection), sep="\n")


def claims(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[CLAIM]...", help="Show these claims in full, such as C7.")
    ] = None,
    json: Json = False,
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
) -> None:
    """Show the verdict of each claim of a finished run, or of some claims with their reasons and parts."""
    folders = options.folders_of(paper, scale, results)
    if not folders.claims.exists():
        options.scale_of(paper, scale)  # an unknown paper or scale is said first
    from harness.report import summary

    verdicts = summary.verdicts_of(folders, ids or [])
    if json:
        options.print_json([verdict.model_dump(mode="json") for verdict in verdicts])
    elif ids:
        options.console().print(*map(summary.in_full, verdicts), sep="\n")
    else:
        options.console().print(summary.verdict_table(verdicts))


def report(paper: Paper = "", scale: Scale = "", results: Results = RESULTS) -> None:
    """Judge the claims and build the page and the card again from a finished run's tables. Trains nothing."""
    spec, folders = options.run_of(paper, scale, results)
    from harness.workflow.adopt import report_again
    from harness.workflow.locks import only_run

    root: Path = checkout().resolve()
    with only_run(root, folders.base):
        report_again(root, spec, folders)
    options.console().print(f"Page: {folders.report / 'index.html'}", markup=False, soft_wrap=True)


def stage(
    name: Annotated[str, typer.Argument(help="A stage that `harness plan --stages` lists.")],
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to use.")] = 1,
    digest: Annotated[str, typer.Option(help="Refuse to run if the code and settings have another digest.")] = "",
) -> None:
    """Run one stage. The workflow's rules call this."""
    from harness.workflow.run_stage import end_with_parent, prepare_process, run_stage

    end_with_parent()
    spec, folders = options.run_of(paper, scale, results)
    prepare_process(spec, name)  # before CUDA starts
    run_stage(spec, folders, name, threads, digest)


def bench(
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only this group (repeatable): lenet, resnet20, mini or fixed.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Timing rounds per implementation.", show_default="5; 2 with --quick")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Quick run. Do not quote its numbers.")] = False,
    device: Annotated[str, typer.Option(help="The device to measure: cpu or cuda.")] = "cpu",
    paper: Paper = "",
    cores: Cores = CORES,
    results: Results = RESULTS,
) -> None:
    """Measure the training engine against the machine's limit and a straightforward PyTorch training."""
    paper, _ = options.paper_and_scale(paper, "mini")
    from harness.bench.run import bench as measure

    choices: dict[str, Any] = {"rounds": rounds, "quick": quick, "device": device, "cores": cores}
    root: Path = checkout().resolve()
    measure(root, paper, options.results_of(results), options.console(), only=only or [], **choices)
