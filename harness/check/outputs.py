"""A check's findings for people and machines: terminal, JUnit XML, Markdown for a pull request, badge.

Titles and names are untrusted. Terminal cells are `Text`, Markdown goes through `escape_markdown`, and a library writes
the XML after the characters that XML does not allow are removed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.base.files import write_json, write_text
from harness.base.words import clean, escape_markdown
from harness.check.baseline import Baseline
from harness.check.decide import Finding, Outcome, Report, conclusion
from harness.claims.document import shown

COLOURS: dict[Outcome, str] = {"failed": "red", "changed": "yellow", "same": "green", "not compared": "bright_black"}
ORDER: tuple[Outcome, ...] = ("failed", "changed", "same", "not compared")
LIMITS = (
    "This scale judges no claim: the check shows that the run finishes and that the table has the baseline's rows, "
    "not that its numbers are right."
)


@dataclass(frozen=True)
class Check:
    """A finished check: the baseline read from `where`, the run's results and their comparison, or else an `error`."""

    paper: str
    scale: str
    titles: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    before: Baseline | None = None
    now: Baseline | None = None
    report: Report | None = None
    error: str = ""
    papers_own: bool = True

    @property
    def name(self) -> str:
        return f"harness check, {self.paper} at {self.scale}"

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        report = self.report
        return {
            "paper": self.paper,
            "scale": self.scale,
            "baseline": self.where,
            "failed": report is None or report.failed,
            "partial": report is not None and report.partial,
            "findings": [asdict(finding) for finding in report.findings] if report else [],
            "error": self.error,
        }

    def titled(self, finding: Finding) -> str:
        """A claim's id and title, such as `C6 At k = 0, ...`; the experiment's name for any other finding."""
        return clean(
            f"{finding.name} {self.titles.get(finding.name, '')}"
            if finding.kind in ("claim", "region")
            else finding.name
        )

    def notes(self) -> list[str]:
        """What a reader must know to interpret the findings."""
        if self.report is None or self.before is None or self.now is None:
            return []
        changed = [part for part, code in self.now.code.items() if self.before.code.get(part) != code]
        parts = f"changed since then: {', '.join(changed)}" if changed else "unchanged since then"
        notes = [f"Baseline: {self.where}. Code that numbers or verdicts depend on: {parts}."]
        if not self.report.judges_claims:
            notes.append(LIMITS)
        if self.before.machines != self.now.machines:
            machines = ("; ".join(results.machines) or "an unknown machine" for results in (self.before, self.now))
            notes.append("The baseline was made on {}, this run on {}: only verdicts are compared.".format(*machines))
        if self.report.partial:
            notes.append("Only what the selected claims need was run.")
        return notes

    def conclusion(self) -> str:
        return conclusion(self.report, self.papers_own) if self.report else f"The check did not finish: {self.error}"


def show(check: Check, console: Console) -> None:
    """Print what failed, what changed and how much did not, then the conclusion."""
    report = check.report
    if report is None:
        return
    differences = [*report.of("failed"), *report.of("changed")]
    if differences:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "", "baseline", "now", ""):
            table.add_column(name)
        for finding in differences:
            outcome = Text(finding.outcome, style=COLOURS[finding.outcome])
            table.add_row(outcome, *(Text(clean(cell)) for cell in _cells(check, finding)))
        console.print(table)
    for line in (_counts(report), *check.notes()):
        console.print(Text(clean(line)), soft_wrap=True)
    console.print(Text(check.conclusion(), style="bold red" if report.failed else "bold green"), soft_wrap=True)


def _cells(check: Check, finding: Finding) -> tuple[str, str, str, str]:
    """What was compared, its state in the baseline, its state now, and the finding."""
    states = zip((finding.before, finding.now), finding.estimates, strict=True)
    before, now = (f"{value} {estimate}".strip() for value, estimate in states)
    return f"{finding.kind} {check.titled(finding)}", before, now, finding.text


def _counts(report: Report) -> str:
    counts = ((len(report.of(outcome)), outcome) for outcome in ORDER)
    return ", ".join(f"{n} {outcome}" for n, outcome in counts if n) or "nothing compared"


def junit(check: Check) -> str:
    """JUnit XML: a testcase for each claim, calibration value and experiment's table, or a single one for an error."""
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    suite = TestSuite(clean(check.name))
    for finding in check.report.findings if check.report else []:
        case = TestCase(check.titled(finding), f"{clean(check.paper)}.{clean(check.scale)}.{finding.kind}")
        text = clean(finding.text)
        if finding.outcome == "failed":
            failure = Failure(text, "regression")
            failure.text = clean("baseline: {1}; now: {2}".format(*_cells(check, finding)))
            case.result = [failure]
        elif finding.outcome == "not compared":
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
    """Markdown for a pull request: the conclusion, a table of what failed and changed, counts of the rest."""
    failed = check.report is None or check.report.failed
    lines = [
        f"### {'❌' if failed else '✅'} {escape_markdown(check.name)}",
        "",
        f"**{escape_markdown(check.conclusion())}**",
    ]
    report = check.report
    differences = [*report.of("failed"), *report.of("changed")] if report else []
    if differences:
        lines += ["", "| | what | baseline | now | |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(escape_markdown(text) for text in (finding.outcome, *_cells(check, finding))) + " |"
            for finding in differences
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
        supported = sum(finding.kind == "claim" and finding.now == "supported" for finding in report.findings)
        message, colour = f"{supported} {shown('supported', check.papers_own)}", "brightgreen"
    return {"schemaVersion": 1, "label": label, "message": message, "color": colour}


def write(check: Check, files: Mapping[str, Path]) -> None:
    """Write the requested files, named "junit", "summary" and "badge". Raises HarnessError if one can't be written."""
    if "junit" in files:
        write_text(files["junit"], junit(check))
    if "summary" in files:
        write_text(files["summary"], summary(check))
    if "badge" in files:
        write_json(files["badge"], badge(check))
