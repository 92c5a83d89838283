"""The `harness` command. Each group of its commands has a file."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.base.errors import HarnessError, reason
from harness.base.paths import elsewhere
from harness.base.variables import variables
from harness.base.words import printable
from harness.cli import check, compare, new, options, publish, remote, run, ticket, verify

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Reproduces a paper's experiments and gives each of its claims a verdict.",
)
NO_MEMORY = re.compile(r"failed to map segment|[Cc]annot allocate memory")  # a library that doesn't fit into memory
COMMANDS: tuple[Callable[..., None], ...] = (
    *(run.reproduce, run.plan, run.claims, run.report, verify.verify, compare.compare, compare.board, check.check),
    *(publish.publish, remote.push, remote.pull, remote.adopt, run.bench, new.schema),
)


def _help(command: Callable[..., None]) -> str:
    """The docstring of a command with each paragraph on one line: Typer keeps line breaks after the first paragraph."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


for _command in COMMANDS:
    app.command(help=_help(_command))(_command)
app.command(hidden=True, help=_help(run.stage))(run.stage)
app.add_typer(ticket.ticket, name="ticket")
app.add_typer(new.new, name="new")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Reproduces a paper's experiments and gives each of its claims a verdict."""
    variables()  # before anything else: a wrong one is said at once
    if (root := elsewhere()) is not None:
        print(f"note: the working directory is in no checkout; using {root}", file=sys.stderr)


def main() -> None:
    """Entry point. Bad input gives an error message on stderr and exit status 1. A traceback is a bug."""
    try:
        Path.cwd()  # removed folders break libraries in ways that nobody understands
        app()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush on exit doesn't fail too
        sys.exit(1)
    except ImportError as error:
        if not NO_MEMORY.search(str(error)):
            raise
        print(f"error: {reason(MemoryError())}", file=sys.stderr)
        sys.exit(1)
    except (HarnessError, OSError, MemoryError) as error:
        print(f"error: {printable(options.with_run(reason(error)))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
