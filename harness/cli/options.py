"""The options that several commands share, and what they mean."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.base.cores import usable_cores
from harness.base.paths import RESULTS as DEFAULT_RESULTS
from harness.base.paths import checkout

if TYPE_CHECKING:
    from harness.paper import Spec
    from harness.results.folders import Folders

_named: dict[str, str] = {}  # the options that name the run of this command, as the user wrote them
HINT = re.compile(r"`harness (\w+(?: list| export)?)( [^`]*)?`")
WITHOUT_RUN = ("push", "pull")  # commands of the run that params.yaml names


def _name(param: typer.CallbackParam, value: str) -> str:
    _named.pop(param.name or "", None)
    if value:
        _named[param.name or ""] = str(value)
    return value


def _results(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """The results folder as an absolute path: a relative one is relative to where the user stands."""
    _name(param, str(value or ""))
    return value and value.expanduser().absolute()


Paper = Annotated[
    str,
    typer.Option(help="A paper, by its folder in papers/.", show_default="the one in params.yaml", callback=_name),
]
Scale = Annotated[
    str,
    typer.Option(
        help="A scale of the paper: smoke, mini, wide or paper.", show_default="the one in params.yaml", callback=_name
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        help="The results folder. A run is in RESULTS/<paper>/<scale>.",
        show_default="results in the checkout",
        callback=_results,
    ),
]
Claims = Annotated[str, typer.Option(help="Only what these claims need, such as C6,C7.")]
Budget = Annotated[str, typer.Option(help="Only as many claims as fit in this core or GPU time, such as 20h or 90min.")]
Cores = Annotated[int, typer.Option(min=1, help="CPU cores to use. Each training takes one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
CORES = usable_cores()
RESULTS: Path | None = None  # the folder of that name in the checkout


def with_run(text: str) -> str:
    """Text whose hints at other commands name the run that this command was given: its paper, scale and results."""

    def complete(hint: re.Match[str]) -> str:
        command, rest = hint[1], hint[2] or ""
        options = {f"--{name}": value for name, value in _named.items() if f"--{name} " not in f"{rest} "}
        if command in WITHOUT_RUN or not options:
            return hint[0]
        return f"`harness {command}{rest} {shlex.join(word for pair in options.items() for word in pair)}`"

    return HINT.sub(complete, text)


class _Output(Console):
    """A console whose hints at other commands name the run."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(with_run(text) if isinstance(text, str) else text for text in objects), **options)


def console(json: bool = False) -> Console:
    """The console for output; beside `json` for what is said meanwhile, on standard error.

    Where it is not a terminal, it is as wide as COLUMNS says, or wide enough for whole lines.
    """
    terminal = _Output(highlight=False, stderr=json)
    wide = terminal.is_terminal or "COLUMNS" in os.environ
    return terminal if wide else _Output(highlight=False, stderr=json, width=160)


def print_json(content: Any) -> None:
    """Print JSON to standard output, without colours and at any width."""
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def paper_and_scale(paper: str, scale: str) -> tuple[str, str]:
    """The paper and the scale, by default those in params.yaml. Raises HarnessError."""
    if paper and scale:
        return paper, scale
    from harness.paper.params import default_run

    default = default_run(checkout())
    return paper or default.paper, scale or default.scale


def results_of(results: Path | None) -> Path:
    """A results folder, as a path relative to the checkout if it is inside. None: results/ in the checkout.

    Changes the working directory to the checkout, so that the workflow engine sees the same paths wherever a command
    is run.
    """
    root = checkout().resolve()
    folder = root / DEFAULT_RESULTS if results is None else results
    folder = folder.resolve()
    os.chdir(root)
    return folder.relative_to(root) if folder.is_relative_to(root) else folder


def scale_of(paper: str, scale: str) -> "Spec":
    """The whole scale that the options name. Raises HarnessError."""
    from harness.results.open import load_scale

    return load_scale(checkout(), *paper_and_scale(paper, scale))


def folders_of(paper: str, scale: str, results: Path | None) -> "Folders":
    """The folders of the run that the options name. Raises HarnessError."""
    from harness.results import open as runs

    return runs.folders_of(checkout(), results_of(results), *paper_and_scale(paper, scale))


def run_of(paper: str, scale: str, results: Path | None) -> "tuple[Spec, Folders]":
    """The run that the options name: its scale, or the part selected of it, and its folders. Raises HarnessError."""
    from harness.results.open import open_run

    return open_run(checkout(), results_of(results), *paper_and_scale(paper, scale))
