"""The options that several commands share, and what they mean."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from harness.base.paths import checkout

if TYPE_CHECKING:
    from harness.paper import Spec
    from harness.results.folders import Folders

Paper = Annotated[str, typer.Option(help="A paper, by its folder in papers/.", show_default="the one in params.yaml")]
Scale = Annotated[
    str, typer.Option(help="A scale of the paper: smoke, mini or paper.", show_default="the one in params.yaml")
]
Results = Annotated[Path, typer.Option(help="The results folder. A run is in RESULTS/<paper>/<scale>.")]
Claims = Annotated[str, typer.Option(help="Only what these claims need, such as C6,C7.")]
Budget = Annotated[str, typer.Option(help="Only as many claims as fit in this core or GPU time, such as 20h or 90min.")]
Cores = Annotated[int, typer.Option(min=1, help="CPU cores to use. Each training takes one.")]
CORES = os.cpu_count() or 1
RESULTS = Path("results")


def console() -> Console:
    """The console for output, wide enough for whole lines where it is not a terminal."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=160)


def paper_and_scale(paper: str, scale: str) -> tuple[str, str]:
    """The paper and the scale, by default those in params.yaml. Raises HarnessError."""
    if paper and scale:
        return paper, scale
    from harness.paper.params import default_run

    default = default_run(checkout())
    return paper or default.paper, scale or default.scale


def results_of(results: Path) -> Path:
    """A results folder, as a path relative to the checkout if it is inside.

    Changes the working directory to the checkout, so that the workflow engine sees the same paths wherever a command
    is run.
    """
    root = checkout().resolve()
    folder = (root / results).resolve()
    os.chdir(root)
    return folder.relative_to(root) if folder.is_relative_to(root) else folder


def scale_of(paper: str, scale: str) -> "Spec":
    """The whole scale that the options name. Raises HarnessError."""
    from harness.results.open import load_scale

    return load_scale(checkout(), *paper_and_scale(paper, scale))


def folders_of(paper: str, scale: str, results: Path) -> "Folders":
    """The folders of the run that the options name. Raises HarnessError."""
    from harness.results import open as runs

    return runs.folders_of(checkout(), results_of(results), *paper_and_scale(paper, scale))


def run_of(paper: str, scale: str, results: Path) -> "tuple[Spec, Folders]":
    """The run that the options name: its scale, or the part selected of it, and its folders. Raises HarnessError."""
    from harness.results.open import open_run

    return open_run(checkout(), results_of(results), *paper_and_scale(paper, scale))
