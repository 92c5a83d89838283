"""The command `harness compare`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.base.paths import REFERENCE, checkout
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
