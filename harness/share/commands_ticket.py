"""The commands `harness ticket list` and `harness ticket export`. They import the rest of the package when called."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.paths import FIRST_PAPER

if TYPE_CHECKING:
    from harness.share.tickets import Pack

Paper = Annotated[str, typer.Option(help="A folder of papers/.")]
Scale = Annotated[str, typer.Option(help="A scale of the paper: smoke, mini or paper.")]
Results = Annotated[Path, typer.Option(help="Where runs are kept.")]

ticket = typer.Typer(no_args_is_help=True, help="Tickets of a finished run: list them, export one for use elsewhere.")


@ticket.command("list")
def list_(paper: Paper = FIRST_PAPER, scale: Scale = "mini", results: Results = Path("results")) -> None:
    """Show which tickets a run has, and how well what was trained from them does."""
    from rich.table import Table
    from rich.text import Text

    from harness.cli import _console, _folders, _spec
    from harness.errors import HarnessError
    from harness.report.formats import clean
    from harness.share.export import how_to_get, packs
    from harness.share.tickets import open_pack
    from harness.share.untrusted import read_checked_json

    spec, folders = _spec(paper, scale), _folders(paper, scale, results)
    found = packs(folders)
    if not found:
        raise HarnessError(f"{folders.tickets}: no tickets here. {how_to_get(spec)}")
    networks = read_checked_json(folders.networks) if folders.networks.exists() else {}
    table = Table(title=f"Tickets of {spec.paper.id}, scale {scale}", title_justify="left")
    for column in ("experiment", "network", "data set", "branch", "replicates"):
        table.add_column(column)
    for column in ("k", "levels", "density", "test accuracy"):
        table.add_column(column, justify="right")
    for files in found.values():
        opened = [open_pack(path) for path in files.values()]
        for row in _rows(opened, networks):
            table.add_row(*(Text(clean(cell)) for cell in row))  # text, never markup
    _console().print(table)


def _rows(packs: "list[Pack]", networks: Any) -> list[tuple[str, ...]]:
    """A row for each branch and rewind iteration of an experiment's packs."""
    from harness.plan import Run
    from harness.share.export import accuracy, density

    rows: list[tuple[str, ...]] = []
    first = packs[0].facts
    for branch, k in sorted({(branch, k) for pack in packs for branch, k, _ in pack.masks()}):
        here = [(pack, [level for *place, level in pack.masks() if place == [branch, k]]) for pack in packs]
        here = [(pack, own) for pack, own in here if own]
        levels = sorted({level for _, own in here for level in own})
        ends = [density(pack.mask(branch, k, level)) for pack, own in here[:1] for level in (own[0], own[-1])]
        runs = [
            Run(first.experiment, pack.facts.replicate, k, level, branch, 0)  # type: ignore[arg-type]
            for pack, own in here
            for level in own
        ]
        scores = [score for run in runs if (score := accuracy(networks, run)) is not None]
        rows.append(
            (
                *(first.experiment, first.network, first.data, branch),
                _span([pack.facts.replicate for pack, _ in here]),
                *(str(k), _span(levels)),
                _range([100 * end for end in ends], 3),
                _range(scores, 4),
            )
        )
    return rows


def _span(numbers: list[int]) -> str:
    """1, 2 or 1 to 5."""
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole and len(numbers) > 2 else ", ".join(map(str, numbers))


def _range(numbers: list[float], digits: int) -> str:
    """The highest and the lowest, in percent."""
    ends = list(dict.fromkeys(f"{number:.{digits}g}%" for number in (max(numbers), min(numbers)))) if numbers else []
    return " to ".join(ends)


@ticket.command()
def export(
    experiment: Annotated[str, typer.Option(help="An experiment of the run.")],
    level: Annotated[int, typer.Option(help="How many rounds of pruning.")],
    k: Annotated[int, typer.Option(help="Rewind iteration.")] = 0,
    replicate: Annotated[int, typer.Option(help="Which initialisation.")] = 0,
    branch: Annotated[str, typer.Option(help="imp or snip.")] = "imp",
    out: Annotated[Path | None, typer.Option(help="The folder to write; named after the ticket if not given.")] = None,
    paper: Paper = FIRST_PAPER,
    scale: Scale = "mini",
    results: Results = Path("results"),
) -> None:
    """Write one ticket, mask and rewound weights, with a card that says how plain PyTorch loads and trains it."""
    from harness.cli import _console, _folders, _spec

    # the user's own folder: the commands work in the checkout
    name = f"ticket-{experiment}-r{replicate}-k{k}-L{level}-{branch}"
    folder = (out or Path(name)).absolute()
    spec, folders = _spec(paper, scale), _folders(paper, scale, results)
    from harness.share.export import CARD
    from harness.share.export import export as write

    found = write(spec, folders, experiment, replicate, k, level, branch, folder)
    _console().print(
        f"{found.facts['density']:.3g} of {found.facts['prunable']:,} weights, at step {k}. Card: {folder / CARD}",
        markup=False,
        soft_wrap=True,
    )
