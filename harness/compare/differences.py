"""`harness compare`: the differences between two runs, in the terminal and on a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.base import words
from harness.base.errors import HarnessError
from harness.base.files import write_text
from harness.claims.document import ClaimVerdict, Verdict
from harness.compare.noise import Comparison, Difference, compare_tables
from harness.compare.overlay import Both, draw_all
from harness.compare.read import ComparedRun, read_runs
from harness.lottery import branches
from harness.paper import load_spec
from harness.paper.claims import LEFT_OUT, LEVEL
from harness.report import formats
from harness.report.page import html
from harness.report.summary import COLOURS

SHOWN = 20  # differences in the terminal; the page has all of them
NEAREST = 10  # differences on the page that do not exceed noise
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Change:
    """A claim whose verdict differs between the runs. Estimates are text and include the interval."""

    id: str
    title: str
    before: Verdict
    after: Verdict
    estimate_before: str
    estimate_after: str


@dataclass(frozen=True)
class RunComparison:
    """The comparison of two runs, with everything that is shown of it."""

    a: ComparedRun
    b: ComparedRun
    warnings: list[str]
    claims: int  # how many were compared
    changes: list[Change]
    claims_in_one: list[str]  # the claims that only one of the runs has
    tables: Comparison
    curves_equal: bool


def compare_folders(
    root: Path,
    results: Path,
    paper: str,
    scale: str,
    sources: list[str],
    names: tuple[str, str],
    out: Path | None,
    console: Console,
) -> Path:
    """Compare two runs, print the differences and write the page below `out`. Returns the page's path.

    `sources` are folders, git revisions or `reference`, `names` what the user called them. Raises HarnessError.
    """
    runs = read_runs(sources, names, root, results, paper, scale)
    comparison = compare(*runs)
    show(comparison, console)
    try:
        spec = load_spec(root, comparison.b.paper, comparison.b.scale)
        titles = {name: experiment.title for name, experiment in spec.experiments.items()}
        stable = spec.paper.stable_below
    except HarnessError:  # this checkout does not have the scale
        titles, stable = {}, None
    return write_page(comparison, titles, out or results / "compare", stable.value if stable else None)


def compare(a: ComparedRun, b: ComparedRun) -> RunComparison:
    """Compare two runs of one paper. Raises HarnessError for runs of different papers."""
    if a.paper != b.paper:
        raise HarnessError(
            f"{a.name} and {b.name}: runs of different papers ({a.paper}, {b.paper}), which share no claims. "
            "Give two runs of one paper."
        )
    tables = compare_tables(a.table, b.table)
    # a claim that was not selected is none of the run's
    claims_a, claims_b = ({claim.id: claim for claim in run.claims if claim.reason != LEFT_OUT} for run in (a, b))
    shared = [name for name in claims_a if name in claims_b]
    if a.scale != b.scale:
        shared = [name for name in shared if claims_a[name].judged and claims_b[name].judged]
    return RunComparison(
        a=a,
        b=b,
        warnings=_warnings(a, b, tables),
        claims=len(shared),
        changes=_changes(claims_a, claims_b, shared),
        claims_in_one=sorted(set(claims_a) ^ set(claims_b), key=words.natural_key),
        tables=tables,
        curves_equal=a.curves.equals(b.curves),
    )


def _warnings(a: ComparedRun, b: ComparedRun, tables: Comparison) -> list[str]:
    """Causes of differences other than the code."""
    warnings = []
    if a.scale != b.scale:
        warnings.append(
            f"different scales ({a.scale}, {b.scale}) train different networks on different data, so their numbers "
            "differ; only claims that both scales judge are compared"
        )
    if tables.rows.settings:
        warnings.append(
            f"{tables.rows.settings} rows differ in their number of steps or density between the runs: "
            "the settings differ, not only the outcome"
        )
    return warnings


def _changes(a: Mapping[str, ClaimVerdict], b: Mapping[str, ClaimVerdict], names: list[str]) -> list[Change]:
    changes = []
    for name in sorted(names, key=words.natural_key):
        before, after = a[name], b[name]
        if before.verdict != after.verdict:
            estimates = _estimate(before), _estimate(after)
            changes.append(Change(name, words.clean(after.title), before.verdict, after.verdict, *estimates))
    return changes


def _estimate(claim: ClaimVerdict) -> str:
    return formats.headline(claim) if claim.judged else ""


def claims_line(comparison: RunComparison) -> str:
    """How many claims were compared and how many changed."""
    changed = len(comparison.changes)
    text = f"{comparison.claims} claims in both runs: {changed or 'no'} verdict{'s' * (changed != 1)} changed"
    if comparison.claims_in_one:
        text += f"; only in one run: {', '.join(comparison.claims_in_one)}"
    return text


def rows_line(comparison: RunComparison) -> str:
    """How many rows of the tables are the same."""
    rows = comparison.tables.rows
    if rows.bit_equal:
        curves = "the curves too" if comparison.curves_equal else "the curves differ"
        return f"The tables are bit-identical except for times: {rows.both} rows; {curves}"
    text = f"{rows.both} rows in both runs, {rows.equal} of them bit-identical"
    if rows.only_a or rows.only_b:
        text += f"; {rows.only_a} only in A, {rows.only_b} only in B"
    if rows.statuses:
        text += f"; {rows.statuses} with different statuses (diverged or not)"
    return text


def cells_line(comparison: RunComparison) -> str:
    """How many cells were tested, and how."""
    tables, tested = comparison.tables, comparison.tables.differences
    paired = sum(difference.paired for difference in tested)
    text = f"{len(tested)} cells compared ({paired} paired by replicate, {len(tested) - paired} by Welch's test)"
    text += f", {tables.same} skipped because their networks are bit-identical"
    text += "".join(f", {count} not comparable: {reason}" for reason, count in tables.untested.items())
    exceeding, alone = len(tables.exceeding), sum(difference.p <= 1 - LEVEL for difference in tested)
    text += f". {exceeding or 'None'} exceed{'s' * (exceeding < 2)} replicate noise (Holm over all cells, 5%)"
    return text + f"; without correction {alone} would, about {len(tested) * (1 - LEVEL):.0f} of them by chance"


def describe(difference: Difference) -> dict[str, str]:
    """A difference as words and numbers, for the terminal and the page."""
    cell, replicates = difference.cell, difference.replicates
    measure = cell.measure.replace("_", " ")
    kind = formats.unit("difference", cell.measure)
    return {
        "experiment": words.clean(cell.experiment),
        "branch": branches.label(cell.branch),
        "k": f"{cell.k:,}",
        "level": str(cell.level),
        "density": words.percent(difference.density),
        "measure": f"{measure}, {cell.comparison.replace('_', ' ')}" if cell.comparison else measure,
        "a": words.number(difference.a, False),
        "b": words.number(difference.b, False),
        "change": formats.with_unit(f"{'+' * (difference.change > 0)}{words.number(difference.change, False)}", kind),
        "interval": formats.interval((difference.low, difference.high)),
        "replicates": str(replicates[0]) if difference.paired else f"{replicates[0]}, {replicates[1]}",
        "p": f"{difference.adjusted:.2g}",
    }


def show(comparison: RunComparison, console: Console) -> None:
    """Print the comparison."""
    for letter, run in (("A", comparison.a), ("B", comparison.b)):
        console.print(f"{letter}  {_printable(run.name)}: {_printable(str(run))}", soft_wrap=True)
    for warning in comparison.warnings:
        console.print(f"warning: {_printable(warning)}", style="yellow", soft_wrap=True)
    console.print(f"\n{_printable(claims_line(comparison))}", soft_wrap=True)
    if comparison.changes:
        console.print(_changes_table(comparison.changes))
    console.print(_printable(rows_line(comparison)), soft_wrap=True)
    if not comparison.tables.rows.bit_equal:
        console.print(_printable(cells_line(comparison)), soft_wrap=True)
    exceeding = comparison.tables.exceeding
    if exceeding:
        console.print(_differences_table(exceeding[:SHOWN]))
        if len(exceeding) > SHOWN:
            console.print(f"and {len(exceeding) - SHOWN} more on the page")


def _printable(text: str) -> str:
    """Text that the console prints literally, without effect of markup or control characters in names."""
    return escape(words.clean(text))


def _changes_table(changes: list[Change]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "", "A", "", "B", ""):
        table.add_column(name)
    for change in changes:
        table.add_row(
            Text(change.id, style="bold"),
            Text(change.title),
            Text(change.before, style=COLOURS[change.before]),
            Text(change.estimate_before),
            Text(change.after, style=COLOURS[change.after]),
            Text(change.estimate_after),
        )
    return table


def _differences_table(differences: list[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    left = ("experiment", "branch", "measure")
    columns = ("experiment", "branch", "k", "density", "measure", "a", "b", "change", "interval", "p")
    for name in columns:
        header = {"a": "A", "b": "B", "interval": "95% interval", "p": "p (Holm)"}.get(name, name)
        table.add_column(header, justify="left" if name in left else "right")
    for difference in differences:
        cells = describe(difference)
        table.add_row(*(Text(words.clean(cells[name])) for name in columns))
    return table


def write_page(
    comparison: RunComparison, titles: Mapping[str, str], out: Path, stable_below: float | None = None
) -> Path:
    """Write out/compare.html, which needs no other file, and return its path.

    `titles` are the titles of experiments. Networks whose instability (points) is below `stable_below` are stable.
    """
    experiments = {name: {"title": title} for name, title in titles.items()}
    tables = comparison.tables
    marked = {difference.cell for difference in tables.exceeding}
    both = Both.of(comparison.a.table, comparison.b.table, experiments, marked, stable_below)
    others = [difference for difference in tables.differences if not difference.exceeds][:NEAREST]
    runs = (("A", comparison.a), ("B", comparison.b))
    template = html(TEMPLATES).get_template("compare.html.j2")
    page = template.render(
        comparison=comparison,
        lines={"claims": claims_line(comparison), "rows": rows_line(comparison), "cells": cells_line(comparison)},
        runs=[(letter, words.clean(run.name), str(run), _machine(run)) for letter, run in runs],
        symbols=formats.SYMBOLS,
        exceeding=[describe(difference) for difference in tables.exceeding],
        nearest=[describe(difference) for difference in others],
        figures=draw_all(both),
    )
    path = out / "compare.html"
    write_text(path, page)
    return path


def _machine(run: ComparedRun) -> list[tuple[str, str]]:
    """The hardware and packages that computed a run, by their names, from its provenance."""
    hardware, packages = ((run.provenance.get(key) or {}) for key in ("hardware", "packages"))
    values = [(name, hardware.get(name)) for name in ("cpu", "gpu", "kernels") if isinstance(hardware, dict)]
    values += [(name, packages.get(name)) for name in ("torch", "numpy") if isinstance(packages, dict)]
    return [(name, words.clean(value)) for name, value in values if value]
