"""The command `harness publish`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.cli import options
from harness.cli.options import RESULTS, Paper, Results, Scale


def publish(
    paper: Paper = "",
    scale: Scale = "",
    results: Results = RESULTS,
    again: Annotated[
        bool, typer.Option("--again", help="Only judge what is published again, with the code of today.")
    ] = False,
) -> None:
    """Make a finished run the reference of its paper and scale, and write docs/reproduction.md.

    The run's tables, verdicts, provenance and card are copied to reference/<paper>/<scale>/, for git to keep. A run
    that is not finished, was altered, or was made by uncommitted code is refused. Trains nothing.
    """
    from harness.publish.publish import publish as publish_run
    from harness.publish.publish import publish_again
    from harness.workflow.locks import only_run

    root: Path = checkout().resolve()
    if again:
        if paper or scale or results:
            raise HarnessError("--again: judges every published run; omit the other options")
        publish_again(root, options.console())
        return
    folders = options.folders_of(paper, scale, results)
    if not folders.base.is_dir():
        raise HarnessError(f"{folders.base}: holds no finished run. `harness reproduce` makes one")
    with only_run(root, folders.base):
        publish_run(root, folders, *options.paper_and_scale(paper, scale), options.console())
