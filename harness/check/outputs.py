"""A check's findings for people and machines: terminal, JUnit XML, Markdown for a pull request, badge.

Titles and names are data: cells of the terminal are `Text`, Markdown goes through `escape_markdown`, XML is written by
a library after characters that XML has no place for were removed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.check.baseline import Baseline
from harness.check.decide import Finding, Outcome, Report, conclusion
from harness.report.formats import clean, escape_markdown

COLOURS: dict[Outcome, str] = {"failed": "red", "changed": "yellow", "same": "green", "not compared": "bright_black"}
ORDER: tuple[Outcome, ...] = ("failed", "changed", "same", "not compared")
LIMITS = (
    "This scale judges no claim: what was checked is that the run finishes and that the table has the baseline's rows, "
    "not that its numbers are right."
)


@dataclass(frozen=True)
class Check:
    """A finished check: a baseline read at `where`, a run, and what came of comparing them; or the `error` instead."""

    paper: str
    scale: str
    titles: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    before: Baseline | None = None
    now: Baseline | None = None
    report: Report | None = None
    error: str = ""

    @property
    def name(self) -> str:
        return f"harness check, {self.paper} at {self.scale}"

    def titled(self, finding: Finding) -> str:
        """`C6 At k = 0, ...`; an experiment's name for anything but a claim."""
        return clean(f"{finding.name} {self.titles.get(finding.name, '')}" if finding.kind == "claim" else finding.name)

    def notes(self) -> list[str]:
        """What a reader must know to read the findings rightly."""
        if self.report is None or self.before is None or self.now is None:
            return []
        changed = [part for part, code in self.now.code.items() if self.before.code.get(part) != code]
        parts = f"changed since then: {', '.join(changed)}" if changed else "the same since then"
        notes = [f"Baseline: {self.where}. Code on which numbers or verdicts depend: {parts}."]
        if not self.report.judges_claims:
            notes.append(LIMITS)
        if self.before.machines != self.now.machines:
            machines = ("; ".join(one.machines) or "an unknown machine" for one in (self.before, self.now))
            notes.append("The baseline was made on {}, this run on {}: only verdicts are compared.".format(*machines))
        if self.report.partial:
            notes.append("Only what the chosen claims need was run.")
        return notes

    def conclusion(self) -> str:
        return conclusion(self.report) if self.report else f"The check could not be made: {self.error}"


def show(check: Check, console: Console) -> None:
    """Print what failed, what changed and how much did not, then the conclusion."""
    report = check.report
    if report is None:
        return
    listed = [one for outcome in ("failed", "changed") for one in report.of(outcome)]
    if listed:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "", "baseline", "now", ""):
            table.add_column(name)
        for one in listed:
            style = COLOURS[one.outcome]
            table.add_row(Text(one.outcome, style=style), *(Text(clean(cell)) for cell in _cells(check, one)))
        console.print(table)
    for line in (_counts(report), *check.notes()):
        console.print(Text(clean(line)), soft_wrap=True)
    console.print(Text(check.conclusion(), style="bold red" if report.failed else "bold green"), soft_wrap=True)


def _cells(check: Check, one: Finding) -> tuple[str, str, str, str]:
    """What was compared, what it was and is, and what that means."""
    before, now = (
        f"{value} {estimate}".strip() for value, estimate in zip((one.before, one.now), one.estimates, strict=True)
    )
    return f"{one.kind} {check.titled(one)}", before, now, one.text


def _counts(report: Report) -> str:
    counts = ((len(report.of(outcome)), outcome) for outcome in ORDER)
    return ", ".join(f"{n} {outcome}" for n, outcome in counts if n) or "nothing compared"


def junit(check: Check) -> str:
    """JUnit XML: one testcase a claim, a calibration value and an experiment's table; an error is one of its own."""
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    suite = TestSuite(clean(check.name))
    for one in check.report.findings if check.report else []:
        case = TestCase(check.titled(one), f"{clean(check.paper)}.{clean(check.scale)}.{one.kind}")
        text = clean(one.text)
        if one.outcome == "failed":
            failure = Failure(text, "regression")
            failure.text = clean("baseline: {1}; now: {2}".format(*_cells(check, one)))
            case.result = [failure]
        elif one.outcome == "not compared":
            case.result = [Skipped(text)]
        else:
            case.system_out = text
        suite.add_testcase(case)
    if check.report is None:
        case = TestCase("check", f"{clean(check.paper)}.{clean(check.scale)}")
        case.result = [Error(clean(check.error), "error")]
        suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    return str(xml.tostring().decode()) + "\n"


def summary(check: Check) -> str:
    """Markdown for a pull request: the conclusion, what failed and changed as a table, the rest as counts."""
    failed = check.report is None or check.report.failed
    lines = [
        f"### {'❌' if failed else '✅'} {escape_markdown(check.name)}",
        "",
        f"**{escape_markdown(check.conclusion())}**",
    ]
    report = check.report
    listed = [one for outcome in ("failed", "changed") for one in report.of(outcome)] if report else []
    if listed:
        lines += ["", "| | what | baseline | now | |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(escape_markdown(text) for text in (one.outcome, *_cells(check, one))) + " |"
            for one in listed
        ]
    if report:
        lines += ["", escape_markdown(f"{_counts(report)}.")]
    return "\n".join([*lines, *(line for note in check.notes() for line in ("", escape_markdown(note)))]) + "\n"


def badge(check: Check) -> dict[str, Any]:
    """The JSON that a shields.io endpoint badge reads."""
    label = f"claims ({clean(check.scale)})"
    report = check.report
    if report is None:
        message, colour = "unknown", "lightgrey"
    elif report.failed:
        n = len(report.of("failed"))
        message, colour = f"{n} regression{'s' if n > 1 else ''}", "red"
    elif not report.judges_claims:
        label, message, colour = clean(check.scale), "runs", "green"
    else:
        claims = [one for one in report.findings if one.kind == "claim"]
        supported = sum(one.now == "supported" for one in claims)
        message, colour = f"{supported} supported", "brightgreen"
    return {"schemaVersion": 1, "label": label, "message": message, "color": colour}
