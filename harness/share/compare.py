"""`harness compare`: what differs between two runs, in the terminal and on a page of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.claims.statistics import LEVEL
from harness.errors import HarnessError
from harness.files import write_text
from harness.report import formats
from harness.report.summary import COLOURS
from harness.share.noise import Comparison, Difference, compare_tables
from harness.share.overlay import Both, draw_all
from harness.share.sides import Side

SHOWN = 20  # differences in the terminal; the page has them all
NEAREST = 10  # of those that do not exceed noise, on the page
TEMPLATES = [Path(__file__).parent / "templates", Path(__file__).parents[1] / "report" / "templates"]


@dataclass(frozen=True)
class Change:
    """A claim whose verdict differs: verdicts, and estimates with intervals as text."""

    id: str
    title: str
    before: str
    after: str
    estimate_before: str
    estimate_after: str


@dataclass(frozen=True)
class Found:
    """All that a comparison shows."""

    a: Side
    b: Side
    warnings: list[str]
    claims: int  # compared
    changes: list[Change]
    claims_in_one: list[str]
    tables: Comparison
    curves_equal: bool


def compare(a: Side, b: Side) -> Found:
    """Compare two runs of one paper. Raises HarnessError for runs of different papers."""
    if a.paper != b.paper:
        raise HarnessError(
            f"{a.name} and {b.name}: are runs of different papers ({a.paper}, {b.paper}), which share no claims. "
            "Give two runs of one paper."
        )
    warnings = []
    if a.scale != b.scale:
        warnings.append(
            f"different scales ({a.scale}, {b.scale}): other networks and data, so differences in their numbers "
            "are to be expected; claims are compared where both judge them"
        )
    tables = compare_tables(a.table, b.table)
    if tables.rows.settings:
        warnings.append(
            f"{tables.rows.settings} rows of both runs have another number of steps or another density: "
            "the settings differ, not only the outcome"
        )
    verdicts = [{str(claim.get("id")): claim for claim in side.claims} for side in (a, b)]
    both = [name for name in verdicts[0] if name in verdicts[1]]
    if a.scale != b.scale:
        both = [name for name in both if all(formats.verdict_of(one[name]) != "not tested" for one in verdicts)]
    return Found(
        a,
        b,
        warnings,
        len(both),
        _changes(verdicts[0], verdicts[1], both),
        sorted(set(verdicts[0]) ^ set(verdicts[1]), key=formats.natural_key),
        tables,
        a.curves.equals(b.curves),
    )


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], names: list[str]) -> list[Change]:
    found = []
    for name in sorted(names, key=formats.natural_key):
        before, after = a[name], b[name]
        words = formats.verdict_of(before), formats.verdict_of(after)
        if words[0] != words[1]:
            first, second = (_estimate(claim) for claim in (before, after))
            found.append(Change(name, formats.clean(after.get("title")), *words, first, second))
    return found


def _estimate(claim: Mapping[str, Any]) -> str:
    return "" if formats.verdict_of(claim) == "not tested" else formats.headline(claim)


def claims_line(found: Found) -> str:
    """How many claims were compared and how many changed."""
    changed = len(found.changes)
    text = f"{found.claims} claims in both runs: {changed or 'no'} verdict{'s' * (changed != 1)} changed"
    if found.claims_in_one:
        text += f"; only in one run: {', '.join(found.claims_in_one)}"
    return text


def rows_line(found: Found) -> str:
    """How far the tables are the same."""
    rows = found.tables.rows
    if rows.bit_equal:
        curves = "the curves too" if found.curves_equal else "the curves differ"
        return f"The tables are bit-equal: {rows.both} rows, but for the time they took; {curves}"
    text = f"{rows.both} rows in both runs, {rows.equal} of them bit-equal"
    if rows.only_a or rows.only_b:
        text += f"; {rows.only_a} only in A, {rows.only_b} only in B"
    if rows.statuses:
        text += f"; {rows.statuses} ended otherwise (diverged or not)"
    return text


def cells_line(found: Found) -> str:
    """How many cells were tested, and how."""
    tables, tested = found.tables, found.tables.differences
    paired = sum(one.paired for one in tested)
    text = f"{len(tested)} cells compared ({paired} paired by replicate, {len(tested) - paired} by Welch's test)"
    text += f", {tables.same} left out as the same networks bit by bit"
    text += "".join(f", {count} not comparable: {reason}" for reason, count in tables.untested.items())
    exceeding, alone = len(tables.exceeding), sum(one.p <= 1 - LEVEL for one in tested)
    text += f". {exceeding or 'None'} exceed{'s' * (exceeding < 2)} replicate noise (Holm over all cells, 5%)"
    return text + f"; taken alone {alone} would, of which noise gives about {len(tested) * (1 - LEVEL):.0f}"


def describe(one: Difference) -> dict[str, str]:
    """A difference as words and numbers, for the terminal and the page."""
    cell = one.cell
    what = cell.measure.replace("_", " ")
    kind = formats.unit({"statistic": "difference", "measure": cell.measure})
    return {
        "experiment": formats.clean(cell.experiment),
        "branch": formats.BRANCHES.get(cell.branch, formats.clean(cell.branch)),
        "k": f"{cell.k:,}",
        "level": str(cell.level),
        "density": formats.percent(one.density),
        "measure": f"{what}, {cell.comparison.replace('_', ' ')}" if cell.comparison else what,
        "a": formats.number(one.a, False),
        "b": formats.number(one.b, False),
        "change": formats.with_unit(f"{'+' * (one.change > 0)}{formats.number(one.change, False)}", kind),
        "interval": formats.interval([one.low, one.high]),
        "replicates": str(one.replicates[0]) if one.paired else f"{one.replicates[0]}, {one.replicates[1]}",
        "p": f"{one.adjusted:.2g}",
    }


def show(found: Found, console: Console) -> None:
    """Print the comparison."""
    for letter, side in (("A", found.a), ("B", found.b)):
        console.print(f"{letter}  {_plain(side.name)}: {_plain(str(side))}", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"warning: {_plain(warning)}", style="yellow", soft_wrap=True)
    console.print(f"\n{_plain(claims_line(found))}", soft_wrap=True)
    if found.changes:
        console.print(_changes_table(found.changes))
    console.print(_plain(rows_line(found)), soft_wrap=True)
    if not found.tables.rows.bit_equal:
        console.print(_plain(cells_line(found)), soft_wrap=True)
    if found.tables.exceeding:
        console.print(_differences_table(found.tables.exceeding[:SHOWN]))
        if len(found.tables.exceeding) > SHOWN:
            console.print(f"and {len(found.tables.exceeding) - SHOWN} more on the page")


def _plain(text: str) -> str:
    """Text for the console as it stands: neither markup nor control characters of names have an effect."""
    return escape(formats.clean(text))


def _changes_table(changes: list[Change]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "", "A", "", "B", ""):
        table.add_column(name)
    for one in changes:
        cells = (
            Text(formats.clean(one.id), style="bold"),
            Text(one.title),
            Text(one.before, style=COLOURS[one.before]),
            Text(one.estimate_before),
            Text(one.after, style=COLOURS[one.after]),
            Text(one.estimate_after),
        )
        table.add_row(*cells)
    return table


def _differences_table(differences: list[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    left = ("experiment", "branch", "measure")
    columns = ("experiment", "branch", "k", "density", "measure", "a", "b", "change", "interval", "p")
    for name in columns:
        shown = {"a": "A", "b": "B", "interval": "95% interval", "p": "p (Holm)"}.get(name, name)
        table.add_column(shown, justify="left" if name in left else "right")
    for one in differences:
        words = describe(one)
        table.add_row(*(Text(formats.clean(words[name])) for name in columns))
    return table


def write_page(found: Found, titles: Mapping[str, str], out: Path, stable_below: float | None = None) -> Path:
    """Write out/compare.html, which needs no other file, and return its path.

    `titles` are the experiments'; networks with an instability (points) under `stable_below` are stable.
    """
    experiments = {name: {"title": title} for name, title in titles.items()}
    marked = {one.cell for one in found.tables.exceeding}
    both = Both.of(found.a.table, found.b.table, experiments, marked, stable_below)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2"), default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    others = [one for one in found.tables.differences if not one.exceeds][:NEAREST]
    page = environment.get_template("compare.html.j2").render(
        found=found,
        lines={"claims": claims_line(found), "rows": rows_line(found), "cells": cells_line(found)},
        sides=[(letter, formats.clean(s.name), str(s), _facts(s)) for letter, s in (("A", found.a), ("B", found.b))],
        symbols=formats.SYMBOLS,
        exceeding=[describe(one) for one in found.tables.exceeding],
        nearest=[describe(one) for one in others],
        figures=draw_all(both),
    )
    path = out / "compare.html"
    write_text(path, page)
    return path


def _facts(side: Side) -> list[tuple[str, str]]:
    """What may differ between machines and days, from the run's provenance."""
    hardware, packages = ((side.facts.get(key) or {}) for key in ("hardware", "packages"))
    words = [(name, hardware.get(name)) for name in ("cpu", "gpu", "kernels") if isinstance(hardware, dict)]
    words += [(name, packages.get(name)) for name in ("torch", "numpy") if isinstance(packages, dict)]
    return [(name, formats.clean(value)) for name, value in words if value]
