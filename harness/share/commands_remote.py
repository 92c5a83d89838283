"""The commands `harness push`, `harness pull` and `harness adopt`. They import the rest when they are called."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from harness.errors import HarnessError
from harness.paths import FIRST_PAPER, checkout

Remote = Annotated[str, typer.Option(help="A remote that `dvc remote list` shows; the default one if not given.")]
Networks = Annotated[bool, typer.Option("--networks", help="All networks' weights and snapshots too: far more.")]
Force = Annotated[bool, typer.Option("--force", help="Replace results here that were never pushed or committed.")]
Paper = Annotated[str, typer.Option(help="A folder of papers/.")]
Scale = Annotated[str, typer.Option(help="A scale of the paper: smoke, mini or paper.")]
Results = Annotated[Path, typer.Option(help="Where runs are kept.")]


def push(remote: Remote = "", networks: Networks = False) -> None:
    """Record the finished run that params.yaml names in dvc.lock, and upload it to a DVC remote."""
    from harness.cli import _console, _run
    from harness.share.remote import push as push_run
    from harness.share.remote import tracked
    from harness.workflow.reproduce import only_run

    root = checkout().resolve()
    run = tracked(root)
    spec, folders = _run(run.paper, run.scale, Path("results"))
    with only_run(root, folders.base):
        said = push_run(root, spec, folders, remote, networks)
    _console().print(
        f"{run.folder}: {escape(said)}\n"
        f"Commit dvc.lock{', networks.dvc' if networks else ''}, and .dvc/config and params.yaml where they changed, "
        "with git, so that others can pull this run.",
        soft_wrap=True,
    )


def pull(remote: Remote = "", networks: Networks = False, force: Force = False) -> None:
    """Download the results of this revision, check them, and take them as finished: page, tables, claims, tickets."""
    from harness.cli import _console, _folders
    from harness.share.remote import pull as pull_run
    from harness.share.remote import tracked
    from harness.workflow.reproduce import only_run

    root = checkout().resolve()
    run = tracked(root)
    folders = _folders(run.paper, run.scale, Path("results"))
    with only_run(root, folders.base):
        pull_run(root, folders, remote, networks, force)
        said = _adopt(root, run.paper, run.scale, Path("results"))
    _console().print(f"{said}. Page: {folders.report / 'index.html'}", soft_wrap=True)


def adopt(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Take finished results that `dvc pull` or `dvc checkout` put here, so that nothing of them that fits is redone."""
    from harness.cli import _console, _folders
    from harness.workflow.reproduce import only_run

    root, folders = checkout().resolve(), _folders(paper, scale, results)
    if not folders.card.exists():
        raise HarnessError(f"{folders.base}: holds no finished run. `harness pull` or `dvc checkout` brings one")
    with only_run(root, folders.base):
        _console().print(_adopt(root, paper, scale, results), soft_wrap=True)


def _adopt(root: Path, paper: str, scale: str, results: Path) -> str:
    from harness.cli import _results, _run
    from harness.share.adopt import adopt as adopt_run
    from harness.workflow.rules import Rules

    found: tuple[Any, Any] = _run(paper, scale, results)
    spec, folders = found
    fit, stages = adopt_run(root, spec, folders, Rules(paper, scale, str(_results(results))))
    rest = "" if fit == stages else "; `harness reproduce` makes the others again"
    return f"{folders.base}: {fit} of {stages} stages fit this code and these settings{rest}"
