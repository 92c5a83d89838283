"""The commands `harness compare` and `harness verify`. They import the rest of the package when they are called."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.errors import HarnessError
from harness.paths import FIRST_PAPER, checkout

Paper = Annotated[str, typer.Option(help="A folder of papers/.")]
Scale = Annotated[str, typer.Option(help="A scale of the paper: smoke, mini or paper.")]
Results = Annotated[Path, typer.Option(help="Where runs are kept.")]
Run = Annotated[str, typer.Argument(help="A run's folder, or a git revision whose results DVC keeps.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the page, compare.html; results/compare if not given.")]


def compare(
    a: Run,
    b: Run,
    out: Out = None,
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    results: Results = Path("results"),
) -> None:
    """Show what differs between two runs: verdicts that changed, and differences that exceed replicate noise.

    --paper and --scale say which run of a git revision is meant, or of a results folder that holds several.
    """
    from harness.cli import _console, _results
    from harness.share.compare import compare as compare_runs
    from harness.share.compare import show, write_page
    from harness.share.sides import read_side
    from harness.spec import load_spec

    # paths are the user's, given before `_results` goes to the checkout's root
    names = [os.path.abspath(name) if Path(name).is_dir() else name for name in (a, b)]  # noqa: PTH100  keeps links
    page = None if out is None else out.absolute()
    found_results, root, console = _results(results), checkout().resolve(), _console()
    sides = [
        read_side(place, root, found_results, paper, scale, name) for place, name in zip(names, (a, b), strict=True)
    ]
    found = compare_runs(*sides)
    show(found, console)
    try:
        spec = load_spec(root, found.b.paper, found.b.scale)
        titles = {name: experiment.title for name, experiment in spec.experiments.items()}
        stable = spec.paper.stable_below
    except HarnessError:  # a scale that this checkout does not have
        titles, stable = {}, None
    path = write_page(found, titles, page or found_results / "compare", stable.value if stable else None)
    console.print(f"Page: {escape(str(path))}", soft_wrap=True)


def verify(
    sample: Annotated[int, typer.Option(min=0, help="Networks to train again; 0 for none.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the choice of networks: the same seed chooses the same.")] = 0,
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    results: Results = Path("results"),
) -> None:
    """Check a run against its card and its files against each other, and train some of its networks again.

    Prints a line for each difference. Exit status 1 if there is any, or if the folder is not one of a run.
    """
    from harness.cli import _console, _folders
    from harness.share.given import open_given
    from harness.share.verify import verify as verify_run

    folders = _folders(paper, scale, results)
    found = verify_run(open_given(folders, paper, scale), sample, seed, _console())
    if not found.fine:
        raise typer.Exit(1)
