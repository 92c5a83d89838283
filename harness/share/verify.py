"""`harness verify`: does a run hold what its card says, do its files agree, and do its networks train again?"""

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape

from harness.claims.judge import read_claims
from harness.errors import HarnessError
from harness.plan import Run
from harness.share import crosschecks, packs
from harness.share.given import Given
from harness.share.retrain import ACCURACY_POINTS, RELATIVE_DISTANCE, Outcome, choose, retrain
from harness.spec.load import dump
from harness.workflow.identity import identity

MOST = 20  # lines shown of one check: a replaced table differs in every cell
_SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)

# what is checked, in words, and the function that gives a line for each difference
CHECKS: tuple[tuple[str, Callable[[Given], Iterator[str]]], ...] = (
    ("checksums and sizes on the card", crosschecks.files),
    ("the card's facts", crosschecks.facts),
    ("the crate and the copy of the spec", crosschecks.copies),
    ("networks.json", crosschecks.networks),
    ("stage records", crosschecks.records),
    ("the table", crosschecks.table),
    ("curves and instabilities", crosschecks.lines),
    ("tickets' masks and densities", packs.masks),
    ("claims judged again", crosschecks.claims),
)


@dataclass
class Findings:
    """Differences by check, the networks trained again, and what could not be looked at."""

    checked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not self.differences


def verify(given: Given, sample: int, seed: int, console: Console) -> Findings:
    """Check a run and train `sample` of its networks again; prints a line for each difference, then a summary."""
    for note in given.notes:
        console.print(f"note: {escape(note)}", style="yellow", soft_wrap=True)
    found = Findings()
    for name, check in (*CHECKS, ("the page built again", _page), ("stored networks", packs.stored)):
        if check is _page and not given.same_code("report"):
            found.unchecked.append("the page (the code that writes it has changed since)")
        elif check is packs.stored and not given.folders.runs.is_dir():
            found.unchecked.append("final weights (runs/ is not here)")
        else:
            _run_check(given, name, check, found, console)
    if not given.same_machine:
        found.unchecked.append("how figures are drawn (other packages or another machine)")
    alone = "losses, validation accuracy and seconds of the table beyond its checksum"
    found.unchecked += [alone] if sample == 0 else [f"{alone}, but for the networks trained again"]
    _retrain(given, sample, seed, found, console)
    for line in summary(found):
        console.print(escape(line), soft_wrap=True)
    return found


def _run_check(
    given: Given, name: str, check: Callable[[Given], Iterator[str]], found: Findings, console: Console
) -> None:
    """One check; a file that can't be read for it is a difference too."""
    lines: list[str] = []
    try:
        lines.extend(check(given))
    except HarnessError as error:
        lines.append(str(error))
    found.checked.append(name)
    lines = [line for line in lines if line not in found.differences]  # a broken file is met by several checks
    found.differences += lines
    shown = (
        lines if len(lines) <= MOST else [*lines[: MOST - 1], f"and {len(lines) - MOST + 1} more differences of {name}"]
    )
    for line in shown:
        console.print(f"DIFFERS {escape(line)}", soft_wrap=True)


def _retrain(given: Given, sample: int, seed: int, found: Findings, console: Console) -> None:
    """Train randomly chosen networks again."""
    runs = {run.id: run for run in given.runs()}
    try:
        healthy = [name for name in runs if name in given.networks and given.networks[name].status == "ok"]
    except HarnessError:  # said by the checks
        healthy = []
    chosen = choose(healthy, sample, seed)
    if len(chosen) < sample:
        found.unchecked.append(f"{sample - len(chosen)} of the {sample} networks asked for: no more ended well")
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:
        for place, name in enumerate(chosen, 1):
            console.print(f"training again {escape(name)} ({place} of {len(chosen)})", soft_wrap=True)
            outcome = _one(given, runs[name], Path(scratch))
            found.outcomes.append(outcome)
            for line in outcome.differences:
                console.print(f"DIFFERS {escape(name)}, trained again: {escape(line)}", soft_wrap=True)
                found.differences.append(f"{name}: {line}")
            if not outcome.differences:
                console.print(f"  {escape(outcome.words)}", soft_wrap=True)


def _one(given: Given, run: Run, scratch: Path) -> Outcome:
    try:
        return retrain(given, run, scratch)
    except HarnessError as error:
        return Outcome(run.id, differences=[f"can't be trained again: {error}"])


def _page(given: Given) -> Iterator[str]:
    """The page and its Markdown twin, built again from the run's tables. Figures count where they are drawn alike."""
    from harness.report import build_report
    from harness.workflow.judging import scale_facts

    files = sorted((given.spec.folder / "published").glob("*.csv"))
    published = pd.concat([pd.read_csv(file) for file in files], ignore_index=True) if files else pd.DataFrame()
    here = identity(given.spec)
    code = {part: given.card["code"]["digests"].get(part, "") for part in here["code"]}
    provenance = {**given.provenance, "identity": {**here, "code": code}}
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
        out, own = Path(folder), given.folders.report
        build_report(
            dump(given.spec.paper),
            scale_facts(given.spec),
            read_claims(given.folders.claims),
            given.table,
            given.curves,
            published,
            provenance,
            out,
        )
        drawn_alike = given.same_machine
        for name in ("index.html", "report.md"):
            made, told = ((place / name).read_text(encoding="utf-8") for place in (out, own))
            if _SVG.sub("", made) != _SVG.sub("", told):
                yield f"report/{name}: is not what its tables give: {_first_difference(told, made)}"
            elif drawn_alike and made != told:
                yield f"report/{name}: its figures are not those that its tables give"
        figures = [{path.name for path in (place / "figures").glob("*")} for place in (out, own)]
        for name in sorted(figures[0] ^ figures[1]):
            yield f"report/figures/{name}: is {'missing' if name in figures[0] else 'not a figure of the page'}"
        for name in sorted(figures[0] & figures[1]):
            if drawn_alike and (out / "figures" / name).read_bytes() != (own / "figures" / name).read_bytes():
                yield f"report/figures/{name}: is not what its tables give"


def _first_difference(told: str, made: str) -> str:
    """The first line that differs, as it is and as it was built again."""
    pairs = zip([*told.splitlines(), ""], [*made.splitlines(), ""], strict=False)
    one, other = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return f"{one[:100]!r} instead of {other[:100]!r}"


def summary(found: Findings) -> list[str]:
    """What was checked, what was not, and how it ended."""
    again, bits = len(found.outcomes), sum(one.bits for one in found.outcomes)
    near = sum(not one.bits and not one.differences for one in found.outcomes)
    lines = [f"Checked: {', '.join(found.checked)}."]
    if again:
        text = f"Trained again: {again} networks, {bits} to the same bits"
        if near:
            text += f", {near} within tolerance (accuracies {ACCURACY_POINTS:g} points, weights {RELATIVE_DISTANCE:g})"
        lines.append(f"{text}.")
    else:
        found.unchecked.append("training (no network was trained again)")
    lines.append(f"Not checked: {'; '.join(found.unchecked)}.")
    lines.append(f"{len(found.differences)} differences" if found.differences else "No difference: verified")
    return lines
