"""`harness verify`: does a run hold what its card says, do its files agree, and do its networks train again?"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.errors import HarnessError
from harness.plan import Run
from harness.share import crosschecks, lineage, listed, packs, revision
from harness.share.drawings import drawings
from harness.share.given import Given
from harness.share.page import page
from harness.share.recompare import CURVE_POINTS, Compared, choose_networks, measured, recompare
from harness.share.retrain import ACCURACY_POINTS, RELATIVE_DISTANCE, Outcome, retrain
from harness.workflow.identity import CODE_PARTS

MOST = 20  # lines shown of one check: a replaced table differs in every cell
# what a file that is not as it should be makes a check raise, besides HarnessError
BROKEN = (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError)

# what is checked, in words, and the function that gives a line for each difference
CHECKS: tuple[tuple[str, Callable[[Given], Iterator[str]]], ...] = (
    ("checksums and sizes on the card", listed.files),
    ("the card's facts", listed.facts),
    ("the crate and the copy of the spec", listed.copies),
    ("the code that the card names", revision.code),
    ("the copy of the workflow", revision.workflow),
    ("networks.json", lineage.networks),
    ("stage records", crosschecks.records),
    ("the table", crosschecks.table),
    ("curves and instabilities", crosschecks.lines),
    ("tickets' masks and densities", packs.masks),
    ("claims judged again", crosschecks.claims),
    ("metrics.json", crosschecks.numbers),
    ("drawings", drawings),
)


@dataclass
class Findings:
    """Differences by check, what was trained and compared again, and what could not be looked at."""

    checked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    pairs: list[Compared] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)  # checks that were due and could not be made
    unchecked: list[str] = field(default_factory=list)  # what no check here covers

    @property
    def fine(self) -> bool:
        return not self.differences


def verify(given: Given, sample: int, seed: int, console: Console) -> Findings:
    """Check a run and train `sample` of its networks again; prints a line for each difference, then a summary."""
    for note in given.notes:
        console.print(f"note: {escape(note)}", style="yellow", soft_wrap=True)
    found = Findings()
    for name, check in CHECKS:
        _run_check(given, name, check, found, console)
    if given.same_code("report"):
        _run_check(given, "the page built again", page, found, console)
    else:
        found.missed.append("the page (the code that writes it has changed since)")
    if given.folders.runs.is_dir():
        _run_check(given, "stored networks", packs.stored, found, console)
    else:
        found.unchecked.append("final weights (runs/ is not here)")
    _left_out(given, found)
    _again(given, sample, seed, found, console)
    for line in summary(given, found):
        console.print(escape(line), soft_wrap=True)
    return found


def _left_out(given: Given, found: Findings) -> None:
    """What the checks leave out for this card: other code, another machine."""
    changed = [part for part in CODE_PARTS if not given.same_code(part)]
    if changed:
        found.missed.append(f"keys and digests of what other code made here ({', '.join(changed)})")
        if revision.code_fault(given):
            found.missed.append(f"whether the card's code is what it says ({revision.code_fault(given)})")
    if not revision.known_workflow(given):
        found.missed.append("the copy of the workflow (git here does not have its revision, or it had changes)")
    if not given.same_machine:
        found.unchecked.append("how figures are drawn (other packages or another machine)")
    try:
        lacking = packs.without_snapshots(given)
        if lacking:
            found.unchecked.append(
                f"tickets' weights at k > 0 of {lacking} replicates, unless their dense network was trained again"
            )
        if not listed.same_words(given):
            found.unchecked.append("the crate beyond its checksums (other code, packages or machine)")
        if listed.agent(given):
            found.unchecked.append("who ran it (the crate alone names an agent)")
    except HarnessError:  # said by the checks
        return


def _run_check(
    given: Given, name: str, check: Callable[[Given], Iterator[str]], found: Findings, console: Console
) -> None:
    """One check; a file that can't be read for it is a difference too."""
    lines: list[str] = []
    try:
        lines.extend(check(given))
    except HarnessError as error:
        lines.append(str(error))
    except BROKEN as error:
        lines.append(_broken(name, error))
    found.checked.append(name)
    lines = [line for line in lines if line not in found.differences]  # a broken file is met by several checks
    found.differences += lines
    shown = (
        lines if len(lines) <= MOST else [*lines[: MOST - 1], f"and {len(lines) - MOST + 1} more differences of {name}"]
    )
    for line in shown:
        console.print(f"DIFFERS {escape(line)}", soft_wrap=True)


def _broken(name: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{name}: could not be checked: {type(error).__name__}: {first:.200}"


def _again(given: Given, sample: int, seed: int, found: Findings, console: Console) -> None:
    """Train randomly chosen networks again, then compare pairs of networks again."""
    runs = {run.id: run for run in given.runs()}
    try:
        trained = [name for name in runs if name in given.networks and given.networks[name].trained]
        pairs = [pair for _, pair in measured(given).values()]
    except HarnessError:  # said by the checks
        trained, pairs = [], []
    chosen = choose_networks(trained, pairs, sample, seed)
    if len(chosen) < sample:
        found.unchecked.append(f"{sample - len(chosen)} of the {sample} networks asked for: no more were trained")
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:
        for place, name in enumerate(chosen, 1):
            console.print(f"training again {escape(name)} ({place} of {len(chosen)})", soft_wrap=True)
            outcome = _one(given, runs[name], Path(scratch))
            found.outcomes.append(outcome)
            _show(f"{name}, trained again", outcome.differences, found, console)
            if not outcome.differences:
                console.print(f"  {escape(outcome.words)}", soft_wrap=True)
        try:
            for one in recompare(given, sample, seed, Path(scratch)):
                found.pairs.append(one)
                name = f"{one.pair.run.id} and {one.pair.run_b.id}"
                console.print(f"compared again {escape(name)}", soft_wrap=True)
                _show(f"{name}, compared again", one.differences, found, console)
        except HarnessError as error:
            _show("pairs of networks can't be compared again", [str(error)], found, console)
        except BROKEN as error:
            _show("pairs of networks", [_broken("compared again", error)], found, console)


def _show(what: str, lines: list[str], found: Findings, console: Console) -> None:
    """Note differences of what was trained or compared again."""
    for line in lines:
        console.print(f"DIFFERS {escape(what)}: {escape(line)}", soft_wrap=True)
        found.differences.append(f"{what}: {line}")


def _one(given: Given, run: Run, scratch: Path) -> Outcome:
    try:
        return retrain(given, run, scratch)
    except HarnessError as error:
        return Outcome(run.id, differences=[f"can't be trained again: {error}"])
    except BROKEN as error:
        return Outcome(run.id, differences=[_broken("training again", error)])


def summary(given: Given, found: Findings) -> list[str]:
    """What was checked, what was not, and how it ended."""
    lines = [f"Checked: {', '.join(found.checked)}."]
    lines += _diverged(given)
    again, bits = len(found.outcomes), sum(one.bits for one in found.outcomes)
    near = sum(not one.bits and not one.differences for one in found.outcomes)
    missed, unchecked = list(found.missed), list(found.unchecked)
    if again:
        text = f"Trained again: {again} networks, {bits} to the same bits"
        if near:
            text += f", {near} within tolerance (accuracies {ACCURACY_POINTS:g} points, weights {RELATIVE_DISTANCE:g})"
        lines.append(f"{text}.")
        unchecked.append("accuracies, losses and status beyond what files say of each other, but for those networks")
    else:
        missed.append("training (no network was trained again)")
    measures = "distances, angles, instabilities and curves"
    if found.pairs:
        exact = all(one.exact for one in found.pairs)
        lines.append(
            f"Compared again: {len(found.pairs)} pairs of networks"
            + ("." if exact else f" (errors on the line within {CURVE_POINTS:g} points).")
        )
        unchecked.append(f"{measures} of the other pairs")
    else:
        missed.append(
            f"{measures} (of no pair are both networks at hand: runs/ is not here, or take a larger --sample)"
        )
    unchecked.append("seconds, and where networks were taken from (trained_as)")
    lines.append(f"Not checked: {'; '.join([*missed, *unchecked])}.")
    if found.differences:
        return [*lines, f"{len(found.differences)} differences"]
    if missed:
        return [*lines, f"No difference in what could be checked; not checked: {'; '.join(missed)}"]
    return [*lines, "No difference: verified"]


def _diverged(given: Given) -> list[str]:
    """Names the networks that diverged: no claim counts them."""
    try:
        names = [name for name, network in given.networks.items() if network.status == "diverged"]
    except HarnessError:  # said by the checks
        return []
    shown = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
    return [f"Diverged, and so in no claim: {shown}."] if names else []
