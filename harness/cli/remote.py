"""The commands that share a run: push, pull and adopt."""

from pathlib import Path
from typing import Annotated

import typer

from harness.base.paths import checkout
from harness.cli import options
from harness.cli.options import RESULTS, Paper, Results, Scale

Remote = Annotated[
    str, typer.Option(help="A remote that `dvc remote list` shows.", show_default="DVC's default remote")
]
Networks = Annotated[
    bool, typer.Option("--networks", help="Also the weights and snapshots of all networks: far more data.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace local results even if they were never pushed or committed.")
]


def push(remote: Remote = "", networks: Networks = False) -> None:
    """Record the finished run that params.yaml names in dvc.lock, and upload it to a DVC remote."""
    from harness.share.remote import push as push_run
    from harness.workflow.locks import only_run

    root: Path = checkout().resolve()
    spec, folders = options.run_of("", "", RESULTS)
    with only_run(root, folders.base):
        summary = push_run(root, spec, folders, remote, networks)
    options.console().print(
        f"{folders.base}: {summary}\n"
        f"Commit dvc.lock{', networks.dvc' if networks else ''}, and .dvc/config and params.yaml where they changed, "
        "with git, so that others can pull this run.",
        markup=False,
        soft_wrap=True,
    )


def pull(remote: Remote = "", networks: Networks = False, force: Force = False) -> None:
    """Download this git revision's results (page, tables, claims and tickets), check them and adopt them."""
    from harness.share.remote import pull as pull_run
    from harness.workflow.adopt import adopt_run
    from harness.workflow.locks import only_run

    root: Path = checkout().resolve()
    folders = options.folders_of("", "", RESULTS)
    with only_run(root, folders.base):
        pull_run(root, folders, remote, networks, force)
        summary = adopt_run(root, options.results_of(RESULTS), *options.paper_and_scale("", ""))
    options.console().print(f"{summary}. Page: {folders.report / 'index.html'}", markup=False, soft_wrap=True)


def adopt(paper: Paper = "", scale: Scale = "", results: Results = RESULTS) -> None:
    """Adopt finished results that `dvc pull`, `dvc checkout` or a copy put here, so that nothing is run again."""
    from harness.workflow.adopt import adopt_run
    from harness.workflow.locks import only_run

    root: Path = checkout().resolve()
    folders = options.folders_of(paper, scale, results)
    with only_run(root, folders.base):
        summary = adopt_run(root, options.results_of(results), *options.paper_and_scale(paper, scale))
    options.console().print(summary, markup=False, soft_wrap=True)
