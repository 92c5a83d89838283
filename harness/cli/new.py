"""The commands for those who write papers as data: `harness new paper` and `harness schema`."""

from typing import Annotated

import typer

from harness.base.paths import checkout
from harness.cli import options

new = typer.Typer(no_args_is_help=True, help="Begin a paper of your own.")


@new.command()
def paper(
    name: Annotated[str, typer.Argument(help="Its folder in papers/: lower-case letters, digits, hyphens.")],
) -> None:
    """Write papers/NAME: one experiment, one claim, and the scales smoke and mini, ready to run and to be filled in."""
    from harness.paper.new import new_paper

    root = checkout().resolve()
    folder = new_paper(root, name).relative_to(root)
    console = options.console()
    console.print(f"{folder}/: run it with `harness reproduce --paper {name} --scale smoke`, then --scale mini.")
    console.print("Fill in paper.yaml, experiments.yaml, claims.yaml and scales/, in this order.")


def schema() -> None:
    """Write papers/schemas/, the JSON Schemas of a paper's files, with which editors complete and check them."""
    from harness.base.files import write_text
    from harness.paper.schema import FOLDER, schemas

    folder = checkout().resolve() / FOLDER
    for file, text in schemas().items():
        write_text(folder / file, text)
    options.console().print(f"{FOLDER}/: {', '.join(schemas())}")
