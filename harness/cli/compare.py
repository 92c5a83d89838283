"""The commands `harness compare` and `harness board`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.base.paths import REFERENCE, checkout
from harness.base.paths import RESULTS as DEFAULT_RESULTS
from harness.base.words import printable
from harness.cli import options
from harness.cli.options import RESULTS, Paper, Results, Scale

Run = Annotated[
    str,
    typer.Argument(help="A run's folder, a git revision whose results DVC keeps, or `reference`: the published run."),
]


def compare(
    a: Run,
    b: Run,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page, compare.html.", show_default="RESULTS/compare")
    ] = None,
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
) -> None:
    """Show the differences between two runs: changed verdicts, and differences that exceed replicate noise.

    --paper and --scale select the run if A or B is a git revision, or a results folder with several runs. `reference`
    is the published run of the other one's paper and scale.
    """
    from harness.compare.differences import compare_folders

    # relative paths are the user's, so resolve them before `results_of` changes the working directory
    is_folder = {name: name != str(REFERENCE) and Path(name).is_dir() for name in (a, b)}
    sources = [os.path.abspath(name) if is_folder[name] else name for name in (a, b)]  # noqa: PTH100  keeps links
    page = None if out is None else out.absolute()
    folder, console = options.results_of(results), options.console()
    paper, scale = options.paper_and_scale(paper, scale)
    path = compare_folders(checkout().resolve(), folder, paper, scale, sources, (a, b), page, console)
    console.print(f"Page: {escape(str(path))}", soft_wrap=True)


def board(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULTS...",
            help="Folders of finished runs, or folders with several of them, such as `results` and `reference`.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page, board.html.", show_default="results/board in the checkout")
    ] = None,
) -> None:
    """Show the verdicts of many runs on one page: a table of claims by runs, and where a verdict changed.

    The page, board.html, links each verdict to its claim on the run's own page. Exit status 1: a folder can't be read;
    the page has the others.
    """
    from harness.compare.board import write_board

    sources = [(Path(os.path.abspath(name)), name) for name in runs]  # noqa: PTH100  keeps links
    path = (out or checkout() / DEFAULT_RESULTS / "board").absolute() / "board.html"
    faults = write_board(sources, path, options.console())
    for fault in faults:
        print(f"error: {printable(fault)}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)
