"""The tickets of a finished run as a table, with the test accuracy of the networks trained from them."""

from typing import Any

from rich.table import Table
from rich.text import Text

from harness.base.errors import HarnessError
from harness.base.untrusted import read_checked_json
from harness.base.words import clean
from harness.paper import Spec
from harness.plan.runs import Run
from harness.results.folders import Folders
from harness.share.export import accuracy, checked_pack, density, how_to_get, pack_checksums, packs
from harness.stages.tickets import Pack


def ticket_table(spec: Spec, folders: Folders) -> Table:
    """A row for each experiment, branch and rewind iteration. Raises HarnessError for a run without tickets."""
    files = packs(folders)
    if not files:
        raise HarnessError(f"{folders.tickets}: no tickets here. {how_to_get(spec)}")
    networks = read_checked_json(folders.networks) if folders.networks.exists() else {}
    table = Table(title=f"Tickets of {spec.paper.id}, scale {spec.scale_name}", title_justify="left")
    for column in ("experiment", "network", "data set", "branch", "replicates"):
        table.add_column(column)
    for column in ("k", "levels", "density", "test accuracy"):
        table.add_column(column, justify="right")
    checksums = pack_checksums(folders)
    for paths in files.values():
        for row in _rows([checked_pack(folders, path, checksums) for path in paths.values()], networks):
            table.add_row(*(Text(clean(cell)) for cell in row))  # text, never markup
    return table


def _rows(packs: list[Pack], networks: Any) -> list[tuple[str, ...]]:
    """A row for each branch and rewind iteration of an experiment's packs."""
    rows: list[tuple[str, ...]] = []
    first = packs[0].metadata
    for branch, k in sorted({(branch, k) for pack in packs for branch, k, _ in pack.masks()}):
        levels_by_pack = [(pack, [key[2] for key in pack.masks() if key[:2] == (branch, k)]) for pack in packs]
        levels_by_pack = [(pack, levels) for pack, levels in levels_by_pack if levels]
        first_pack, first_levels = levels_by_pack[0]
        densities = [density(first_pack.mask(branch, k, level)) for level in (first_levels[0], first_levels[-1])]
        runs = [
            Run(first.experiment, pack.metadata.replicate, k, level, branch, 0)
            for pack, levels in levels_by_pack
            for level in levels
        ]
        accuracies = [value for run in runs if (value := accuracy(networks, run)) is not None]
        rows.append(
            (
                *(first.experiment, first.network, first.data, branch),
                _span([pack.metadata.replicate for pack, _ in levels_by_pack]),
                *(str(k), _span(sorted({run.level for run in runs}))),
                _range([100 * value for value in densities], 3),
                _range(accuracies, 4),
            )
        )
    return rows


def _span(numbers: list[int]) -> str:
    """Numbers as text, such as "1, 2" or "1 to 5"."""
    contiguous = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if contiguous and len(numbers) > 2 else ", ".join(map(str, numbers))


def _range(numbers: list[float], digits: int) -> str:
    """The highest and the lowest number in percent, such as "64% to 41%"; "" without any."""
    ends = list(dict.fromkeys(f"{number:.{digits}g}%" for number in (max(numbers), min(numbers)))) if numbers else []
    return " to ".join(ends)
