"""What a run's results mean when they are held against a baseline: data in, findings out.

A regression is a claim that the baseline supports and this run does not, a calibration value that leaves its band or
the one that the baseline records, or, at a scale that judges no claims, a table with other rows. Everything else that
differs is listed and fails nothing. In particular no number fails: another kind of machine has other last bits, and
intervals say how far a number may move. Nor does a changed prediction, of which a baseline has the digest alone: which
of two is the weaker, a reader has to judge, so it is named whatever the verdict.

At a scale that judges no claims (smoke) that is not much: the run finished, and the table has the rows that it should
have, with as many weights left in each network. Whether its numbers are right, it can't tell: on the machine's kind
that made the baseline a change of them is reported, elsewhere not even that.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from harness.check.baseline import Baseline, Calibration, ClaimResult, Rows
from harness.report.formats import interval, natural_key, number

Outcome = Literal["failed", "changed", "same", "not compared"]
Kind = Literal["claim", "calibration", "table"]


@dataclass(frozen=True)
class Finding:
    """One thing compared: a claim, an experiment's calibration value, or its part of the table.

    `before` and `now` are verdicts, values or counts of rows; `estimates` are a claim's. `exact`: its numbers are the
    baseline's to the last bit.
    """

    kind: Kind
    name: str
    outcome: Outcome
    text: str
    before: str = ""
    now: str = ""
    exact: bool = False
    estimates: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Whole:
    """What of the paper exists at the scale, whether or not it was run."""

    claims: Collection[str]
    experiments: Collection[str]


@dataclass(frozen=True)
class Report:
    """All findings. `partial`: claims were selected, so that the rest of the scale was not run."""

    findings: list[Finding]
    partial: bool
    judges_claims: bool

    def of(self, outcome: Outcome) -> list[Finding]:
        return [finding for finding in self.findings if finding.outcome == outcome]

    @property
    def failed(self) -> bool:
        return bool(self.of("failed"))


def compare(before: Baseline, now: Baseline, whole: Whole, partial: bool) -> Report:
    """Hold a run against a baseline of the same paper and scale.

    `now` has the claims and experiments that were run; what of `whole` it lacks was not selected.
    """
    alike = before.machines == now.machines
    names = sorted({*before.claims, *now.claims}, key=natural_key)
    found = [_claim(name, before.claims.get(name), now.claims.get(name), whole, alike) for name in names]
    for name in dict.fromkeys((*before.calibration, *now.calibration)):
        found += _calibration(name, before.calibration.get(name), now.calibration.get(name), whole, alike)
    for name in dict.fromkeys((*before.tables, *now.tables)):
        # rows guard a scale that has nothing else to guard it
        strict = not now.judges_claims
        found.append(_table(name, before.tables.get(name), now.tables.get(name), partial, strict, alike))
    return Report(found, partial, now.judges_claims)


def _claim(name: str, before: ClaimResult | None, now: ClaimResult | None, whole: Whole, alike: bool) -> Finding:
    was, found = before.verdict if before else "not in the baseline", now.verdict if now else ""

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("claim", name, outcome, text, was, found, exact, (_estimate(before), _estimate(now)))

    if now is None:
        if name in whole.claims:
            return finding("not compared", "not run: not among the chosen claims")
        return finding("failed" if was == "supported" else "changed", f"{was} in the baseline, judged here no longer")
    if before is None:
        return finding("changed", f"{found}, and not in the baseline")
    moved = "; its prediction has changed since the baseline" if before.prediction != now.prediction else ""
    if found != was:
        return finding("failed" if was == "supported" else "changed", f"{was} in the baseline, now {found}{moved}")
    if moved:
        return finding("changed", f"{found} as in the baseline{moved}")
    if before.numbers != now.numbers:
        return finding("changed" if alike else "same", f"{found} as in the baseline; {_numbers(alike)}")
    return finding("same", f"{found}, with the baseline's numbers to the last bit", True)


def _calibration(
    name: str, before: Calibration | None, now: Calibration | None, whole: Whole, alike: bool
) -> Iterable[Finding]:
    """At most one finding: an experiment that never had a band is none."""
    if not any(one and one.band for one in (before, now)):
        return
    was, found = (_value(one) for one in (before, now))

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("calibration", name, outcome, text, was, found, exact)

    fitted = before is not None and before.fits
    if now is None and name in whole.experiments:
        yield finding("not compared", "not run: no chosen claim needs it")
    elif now is None or now.band is None:
        what = "the scale has no such experiment" if now is None else "the scale gives it no band"
        yield finding("failed" if fitted else "changed", f"{what} any more")
    elif before is None or before.band is None:
        yield finding("changed", "not in the baseline")
    elif fitted and not now.fits:
        yield finding("failed", "has left its calibration band")
    elif fitted and not before.holds(now.value):
        text = f"has left the band that the baseline records, {_band(before.band)}; the band was changed too"
        yield finding("failed", f"{text}. If that is meant, write the baseline anew")
    elif before.band != now.band:
        yield finding("changed", "its calibration band has changed since the baseline")
    elif fitted != now.fits:
        yield finding("changed", "is back in its calibration band")
    elif before.value != now.value:
        yield finding("changed" if alike else "same", _numbers(alike))
    else:
        yield finding("same", "the baseline's value to the last bit", True)


def _table(name: str, before: Rows | None, now: Rows | None, partial: bool, strict: bool, alike: bool) -> Finding:
    was, found = (_count(one) for one in (before, now))

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("table", name, outcome, text, was, found, exact)

    if before is None:
        return finding("changed", "not in the baseline")
    if now is None or before.rows != now.rows:
        if partial:
            return finding("not compared", "only what the chosen claims need was run")
        return finding("failed" if strict else "changed", f"other rows or counts of weights ({was}; now {found})")
    if (before.values, before.curves) != (now.values, now.curves):
        return finding("changed" if alike else "same", f"the same rows; {_numbers(alike)}")
    return finding("same", "the same rows with the same bits", True)


def _numbers(alike: bool) -> str:
    return "its numbers changed" if alike else "its numbers differ, as they do between kinds of machine"


def _estimate(one: ClaimResult | None) -> str:
    return "" if one is None or one.interval is None else f"{number(one.estimate, False)} {interval(one.interval)}"


def _value(one: Calibration | None) -> str:
    if one is None:
        return ""
    value = "no value" if one.value is None else f"{one.value:.2f}%"
    return value if one.band is None else f"{value} of {_band(one.band)}"


def _band(band: tuple[float, float]) -> str:
    return f"{band[0]:g} to {band[1]:g}%"


def _count(one: Rows | None) -> str:
    return "no rows" if one is None else f"{one.networks} networks, {one.pairs} pairs"


def unchanged(report: Report) -> bool:
    """Whether everything that was compared has the baseline's bits."""
    compared = [one for one in report.findings if one.outcome != "not compared"]
    return bool(compared) and all(one.outcome == "same" and one.exact for one in compared)


def conclusion(report: Report) -> str:
    """What the check found, in one sentence."""
    if report.failed:
        kinds = {"claim": "claim", "calibration": "calibration value", "table": "table"}
        counts = [(sum(one.kind == kind for one in report.of("failed")), word) for kind, word in kinds.items()]
        told = ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n)
        return f"Regression: {told}."
    if unchanged(report):
        return (
            "No result that was run has changed, to the last bit."
            if report.partial
            else ("No result changed: every row of the table and every curve has the baseline's bits.")
        )
    held = sum(one.kind == "claim" and one.before == one.now == "supported" for one in report.findings)
    start = f"No regression: {held} claim{' is' if held == 1 else 's are'} still supported"
    changed = len(report.of("changed"))
    listed = f"{changed or 'no'} other change{'' if changed == 1 else 's'} to look at"
    return f"{start if report.judges_claims else 'Every row is there'}; {listed}."
