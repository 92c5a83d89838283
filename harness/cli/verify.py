"""The command `harness verify`."""

from typing import Annotated

import typer

from harness.cli import options
from harness.cli.options import RESULTS, Json, Paper, Results, Scale


def verify(
    sample: Annotated[int, typer.Option(min=0, help="How many networks to train again, 0 for none.")] = 2,
    seed: Annotated[int, typer.Option(help="Random seed of the sample.")] = 0,
    json: Json = False,
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
) -> None:
    """Check a run against its card and its files against each other, and train a sample of its networks again.

    Prints a line for each difference. Exit status 1: there is a difference, or the folder does not contain a run.
    """
    from harness.base.devices import check_device, take_device
    from harness.training.device import choose
    from harness.verify.shared_run import open_run
    from harness.verify.verify import verify as verify_run

    folders = options.folders_of(paper, scale, results)
    run = open_run(folders, *options.paper_and_scale(paper, scale))
    choose(run.spec)
    if sample:
        take_device()
        check_device()
    findings = verify_run(run, sample, seed, options.console(json))
    if json:
        options.print_json(findings.as_json())
    if not findings.fine:
        raise typer.Exit(1)
