"""The commands `harness ticket list` and `harness ticket export`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.options import RESULTS, Paper, Results, Scale

ticket = typer.Typer(no_args_is_help=True, help="List the tickets of a finished run, or export one.")


@ticket.command("list")
def list_(paper: Paper = "", scale: Scale = "", results: Results = RESULTS) -> None:
    """List the tickets of a run, with the test accuracy of the networks trained from them."""
    spec, folders = options.scale_of(paper, scale), options.folders_of(paper, scale, results)
    from harness.share.ticket_table import ticket_table

    options.console().print(ticket_table(spec, folders))


@ticket.command()
def export(
    experiment: Annotated[str, typer.Option(help="An experiment of the run.")],
    level: Annotated[int, typer.Option(help="Number of pruning rounds.")],
    k: Annotated[int, typer.Option(help="Rewind iteration.")] = 0,
    replicate: Annotated[int, typer.Option(help="Replicate: which initialisation.")] = 0,
    branch: Annotated[str, typer.Option(help="The branch that made the mask, such as imp or snip.")] = "imp",
    out: Annotated[
        Path | None, typer.Option(help="The folder to write.", show_default="named after the ticket")
    ] = None,
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
) -> None:
    """Export one ticket (mask and rewound weights) with a card that shows how to train it in plain PyTorch."""
    # relative paths are the user's, so resolve them before the working directory changes
    name = f"ticket-{experiment}-r{replicate}-k{k}-L{level}-{branch}"
    folder = (out or Path(name)).absolute()
    spec, folders = options.scale_of(paper, scale), options.folders_of(paper, scale, results)
    from harness.share.export import CARD
    from harness.share.export import export as write

    exported = write(spec, folders, experiment, replicate, k, level, branch, folder)
    weights = f"{exported.origin['density']:.3g} of {exported.origin['prunable']:,} weights"
    options.console().print(f"{weights}, at step {k}. Card: {folder / CARD}", markup=False, soft_wrap=True)
