"""Every check of a run in turn, then training and comparing again, and what was checked in the end."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from safetensors import SafetensorError

from harness.base.errors import HarnessError
from harness.results.keys import CODE_PARTS
from harness.verify import lineage, packs, rebuild, revision
from harness.verify.drawings import drawings
from harness.verify.files import files
from harness.verify.recompare import CURVE_POINTS, Compared, choose_networks, measured, recompare
from harness.verify.retrain import ACCURACY_POINTS, RELATIVE_DISTANCE, Outcome, retrain
from harness.verify.shared_run import SharedRun

MOST = 20  # lines shown of one check: a replaced table differs in every cell
MEASURES = "distances, angles, instabilities and curves"
# what a file that is not as it should be makes a check raise, besides HarnessError
BROKEN = (
    *(OSError, KeyError, TypeError, ValueError, AttributeError, IndexError),
    *(ArithmeticError, RuntimeError, SafetensorError),
)
Check = Callable[[SharedRun], Iterator[str]]
# what is checked, in words; the function that gives a line for each difference; the parts of the code that it repeats
CHECKS: tuple[tuple[str, Check, tuple[str, ...]], ...] = (
    ("the files on the card", files, ()),
    ("the card's facts", rebuild.card, ("report",)),
    ("the crate", rebuild.crate, ("report",)),
    ("the code that the card names", revision.code, ()),
    ("the copies of spec and workflow", revision.copies, ()),
    ("networks.json", lineage.networks, ("collect",)),
    ("stage records", lineage.stage_records, ()),
    ("provenance.json", rebuild.provenance, ("collect",)),
    ("the table and the curves", rebuild.tables, ("collect",)),
    ("instabilities", rebuild.instabilities, ("collect",)),
    ("tickets", packs.masks, ("tickets",)),
    ("claims.json and metrics.json", rebuild.claims, ("claims",)),
    ("drawings", drawings, ()),
)


@dataclass
class Findings:
    """Differences by check, what was trained and compared again, and what could not be looked at."""

    console: Console
    checked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    pairs: list[Compared] = field(default_factory=list)
    incomparable: list[str] = field(default_factory=list)  # checks in which other code gives other values
    missed: list[str] = field(default_factory=list)  # checks that were due and could not be made
    unchecked: list[str] = field(default_factory=list)  # what no check here covers

    @property
    def fine(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and not self.incomparable

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        lists = ("checked", "differences", "incomparable", "missed", "unchecked")
        again = [{"network": outcome.run, "same_bits": outcome.bits} for outcome in self.outcomes]
        pairs = [[pair.pair.run.id, pair.pair.run_b.id] for pair in self.pairs]
        content = {name: getattr(self, name) for name in lists}
        return {"fine": self.fine, **content, "trained_again": again, "compared_again": pairs}

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(escape(line), soft_wrap=True)

    def note(self, what: str, lines: Iterable[str], before: str = "", same_code: bool = True) -> None:
        """Note and print the differences of a check; a file that can't be read for it is one too.

        Without `same_code`, other code than here made what is checked: its values are not comparable where they differ.
        """
        noted: list[str] = []
        try:
            noted.extend(lines)
        except HarnessError as error:
            noted.append(str(error))
        except BROKEN as error:
            first = (str(error).splitlines() or [""])[0]
            noted.append(f"{what}: could not be checked: {type(error).__name__}: {first:.200}")
        # a broken file is met by several checks
        noted = [line for line in (f"{before}{line}" for line in noted) if line not in self.differences]
        if noted and not same_code:
            self.incomparable.append(what)
            self.say(f"OTHER CODE made {what}: this code gives other values, such as {noted[0]}")
            return
        self.differences += noted
        for line in noted if len(noted) <= MOST else noted[: MOST - 1]:
            self.say(f"DIFFERS {line}")
        if len(noted) > MOST:
            self.say(f"DIFFERS and {len(noted) - MOST + 1} more differences of {what}")


def verify(shared: SharedRun, sample: int, seed: int, console: Console) -> Findings:
    """Check a run and train `sample` of its networks again; prints a line for each difference, then a summary."""
    for note in shared.notes:
        console.print(f"note: {escape(note)}", style="yellow", soft_wrap=True)
    findings = Findings(console)
    checks = list(CHECKS)
    if shared.same_code("report"):
        checks.append(("the page made again", rebuild.page, ()))
    else:
        findings.missed.append("the page (the code that writes it has changed since)")
    if shared.folders.runs.is_dir():
        checks.append(("stored networks", packs.stored, ()))
    else:
        findings.unchecked.append("final weights (runs/ is not here)")
    for name, check, parts in checks:
        findings.checked.append(name)
        findings.note(name, check(shared), same_code=shared.same_code(*parts))
    _left_out(shared, findings)
    compute_again(shared, sample, seed, findings)
    for line in summary(shared, findings):
        findings.say(line)
    return findings


def _left_out(shared: SharedRun, findings: Findings) -> None:
    """What the checks leave out for this card: other code, another machine."""
    changed = [part for part in CODE_PARTS if not shared.same_code(part)]
    if changed:
        findings.missed.append(f"keys and digests of what other code made here ({', '.join(changed)})")
        if revision.code_fault(shared):
            findings.missed.append(f"whether the card's code is what it says ({revision.code_fault(shared)})")
    if not revision.workflow(shared):
        findings.missed.append("the copy of the workflow (git here does not have its revision, or it had changes)")
    if not shared.same_machine:
        findings.unchecked.append("how figures are drawn (other packages or another machine)")
    if lacking := packs.without_snapshots(shared):
        findings.unchecked.append(
            f"tickets' weights at k > 0 of {lacking} replicates, unless their dense network was trained again"
        )
    if not rebuild.same_words(shared):
        findings.unchecked.append("the crate beyond its checksums (other code, packages or machine)")
    with contextlib.suppress(HarnessError):  # said by the checks
        if rebuild.agent(shared):
            findings.unchecked.append("who ran it (the crate alone names an agent)")


def compute_again(shared: SharedRun, sample: int, seed: int, findings: Findings) -> None:
    """Train randomly chosen networks again, then compare pairs of networks again."""
    runs = {run.id: run for run in shared.runs()}
    try:
        trained = [name for name in runs if name in shared.networks and shared.networks[name].trained]
        pairs = [pair for _, pair in measured(shared).values()]
    except HarnessError:  # said by the checks
        trained, pairs = [], []
    chosen = choose_networks(trained, pairs, sample, seed)
    if len(chosen) < sample:
        findings.unchecked.append(f"{sample - len(chosen)} of the {sample} networks asked for: no more were trained")
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:

        def train(name: str) -> Iterator[str]:
            outcome = retrain(shared, runs[name], Path(scratch))
            findings.outcomes.append(outcome)
            if not outcome.differences:
                findings.say(f"  {outcome.words}")
            yield from outcome.differences

        def compare() -> Iterator[str]:
            for compared in recompare(shared, sample, seed, Path(scratch)):
                findings.pairs.append(compared)
                name = f"{compared.pair.run.id} and {compared.pair.run_b.id}"
                findings.say(f"compared again {name}")
                findings.note(name, compared.differences, f"{name}, compared again: ")
            yield from ()  # each pair's are noted with it

        for place, name in enumerate(chosen, 1):
            findings.say(f"training again {name} ({place} of {len(chosen)})")
            findings.note("training again", train(name), f"{name}, trained again: ")
        findings.note("pairs of networks compared again", compare())


def summary(shared: SharedRun, findings: Findings) -> list[str]:
    """What was checked, what was not, and how it ended."""
    lines = [f"Checked: {', '.join(findings.checked)}.", *_diverged(shared)]
    missed, unchecked = list(findings.missed), list(findings.unchecked)
    if findings.outcomes:
        lines.append(_trained(findings.outcomes))
        unchecked.append("accuracies, losses and status beyond what files say of each other, but for those networks")
    else:
        missed.append("training (no network was trained again)")
    if findings.pairs:
        exact = all(pair.exact for pair in findings.pairs)
        within = "" if exact else f" (errors on the line within {CURVE_POINTS:g} points)"
        lines.append(f"Compared again: {len(findings.pairs)} pairs of networks{within}.")
        unchecked.append(f"{MEASURES} of the other pairs")
    else:
        missed.append(
            f"{MEASURES} (of no pair are both networks at hand: runs/ is not here, or take a larger --sample)"
        )
    unchecked.append("seconds, and where networks were taken from (trained_as)")
    lines.append(f"Not checked: {'; '.join([*missed, *unchecked])}.")
    if findings.differences:
        return [*lines, f"{len(findings.differences)} differences"]
    if findings.incomparable:
        revision_there = shared.card["code"]["revision"][:10] or "the revision of its code"
        return [*lines, f"Not verified: other code made this run. Check out {revision_there} and verify there"]
    if missed:
        return [*lines, f"No difference in what could be checked; not checked: {'; '.join(missed)}"]
    return [*lines, "No difference: verified"]


def _trained(outcomes: list[Outcome]) -> str:
    """How the networks ended that were trained again."""
    bits = sum(outcome.bits for outcome in outcomes)
    near = sum(not outcome.bits and not outcome.differences for outcome in outcomes)
    tolerance = f"accuracies {ACCURACY_POINTS:g} points, weights {RELATIVE_DISTANCE:g}"
    more = f", {near} within tolerance ({tolerance})" if near else ""
    return f"Trained again: {len(outcomes)} networks, {bits} to the same bits{more}."


def _diverged(shared: SharedRun) -> list[str]:
    """Names the networks that diverged: no claim counts them."""
    try:
        names = [name for name, network in shared.networks.items() if network.status == "diverged"]
    except HarnessError:  # said by the checks
        return []
    shown = ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
    return [f"Diverged, and so in no claim: {shown}."] if names else []
