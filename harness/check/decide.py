"""The comparison of a run's results with a baseline: data in, findings out.

Four things are a regression, and fail a check: a claim that the baseline supports and this run does not, a calibration
value that leaves its band or the one in the baseline, a claim's region that is not the frozen one without an erratum
that says why, and, at a scale that judges no claims, a table with other rows.
Every other difference is listed and fails nothing. No number fails: the last bits depend on the kind of machine, and
intervals say how far a number may move.

At a scale that judges no claims (smoke) a check shows little: the run finishes, and the table has the rows of the
baseline, with as many weights left in each network. It can't tell whether the numbers are right. It reports changed
numbers only on the kind of machine that made the baseline.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.base.words import natural_key, number
from harness.check.baseline import Baseline, Calibration, ClaimResult, Rows
from harness.claims.document import shown
from harness.paper.claims import Claim
from harness.paper.frozen import Frozen, excused, frozen_now, moved
from harness.report.formats import interval

Outcome = Literal["failed", "changed", "same", "not compared"]
Kind = Literal["claim", "calibration", "table", "region"]


@dataclass(frozen=True)
class Finding:
    """The comparison of one thing: a claim, its regions, an experiment's calibration value, or its part of the table.

    `before` and `now` are verdicts, regions, values or counts of rows; `estimates` are those of a claim. `exact` says
    that the numbers are bit-identical to the baseline's.
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
    """The claims and experiments of the whole scale, whether or not they were run."""

    claims: Collection[str]
    experiments: Collection[str]


@dataclass(frozen=True)
class Report:
    """All findings. `partial` says that claims were selected and the rest of the scale was not run."""

    findings: list[Finding]
    partial: bool
    judges_claims: bool

    def of(self, outcome: Outcome) -> list[Finding]:
        return [finding for finding in self.findings if finding.outcome == outcome]

    @property
    def failed(self) -> bool:
        return bool(self.of("failed"))


def regions(claims: Sequence[Claim], scale: str, frozen: Frozen, had_results: Collection[str]) -> list[Finding]:
    """The claims whose regions at a scale are not the frozen ones, or that `had_results` and are not frozen."""
    findings, known = [], {claim.id: claim for claim in claims}
    for name, was, now in moved(claims, scale, frozen):
        claim = known.get(name)
        entry = frozen_now(claim, scale) if claim else None
        if claim and excused(claim, scale):
            findings.append(Finding("region", name, "changed", "moved, and an erratum says why", was, now))
        else:
            digits = entry.sha256[:12] if entry else ""
            fix = f"add {{date, scale: {scale}, sha256: '{digits}', reason}} to its errata" if digits else "restore it"
            findings.append(Finding("region", name, "failed", f"moved after it was frozen; {fix}", was, now))
    for claim in claims:
        if scale in claim.scales and scale not in frozen.get(claim.id, {}):
            if claim.id in had_results:
                text = "has results and is not frozen; restore its entry in frozen.yaml"
                findings.append(Finding("region", claim.id, "failed", text))
            else:
                text = "not frozen; `harness check --freeze` freezes it"
                findings.append(Finding("region", claim.id, "changed", text))
    return findings


def compare(before: Baseline, now: Baseline, whole: Whole, partial: bool, moves: Sequence[Finding] = ()) -> Report:
    """Compare a run with a baseline of the same paper and scale. `moves`: of `regions`.

    `now` has the claims and experiments that were run. Those of `whole` that it lacks were not selected.
    """
    alike = before.machines == now.machines
    names = sorted({*before.claims, *now.claims}, key=natural_key)
    findings = list(moves)
    findings += [_claim(name, before.claims.get(name), now.claims.get(name), whole, alike) for name in names]
    for name in dict.fromkeys((*before.calibration, *now.calibration)):
        findings += _calibration(name, before.calibration.get(name), now.calibration.get(name), whole, alike)
    for name in dict.fromkeys((*before.tables, *now.tables)):
        strict = not now.judges_claims  # without claims, the rows are all that can fail
        findings.append(_table(name, before.tables.get(name), now.tables.get(name), partial, strict, alike))
    return Report(findings, partial, now.judges_claims)


def _claim(name: str, before: ClaimResult | None, now: ClaimResult | None, whole: Whole, alike: bool) -> Finding:
    was, verdict = before.verdict if before else "not in the baseline", now.verdict if now else ""

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("claim", name, outcome, text, was, verdict, exact, (_estimate(before), _estimate(now)))

    if now is None:
        if name in whole.claims:
            return finding("not compared", "not run: not among the selected claims")
        return finding("failed" if was == "supported" else "changed", f"{was} in the baseline, no longer judged here")
    if before is None:
        return finding("changed", f"{verdict}, and not in the baseline")
    moved = "; its prediction has changed since the baseline" if before.prediction != now.prediction else ""
    if verdict != was:
        return finding("failed" if was == "supported" else "changed", f"{was} in the baseline, now {verdict}{moved}")
    if moved:
        return finding("changed", f"{verdict} as in the baseline{moved}")
    if before.numbers != now.numbers:
        return finding("changed" if alike else "same", f"{verdict} as in the baseline; {_numbers(alike)}")
    return finding("same", f"{verdict}, with numbers bit-identical to the baseline's", True)


def _calibration(
    name: str, before: Calibration | None, now: Calibration | None, whole: Whole, alike: bool
) -> Iterable[Finding]:
    """The finding about a calibration value of an experiment; none if it never had a band."""
    if not any(calibration and calibration.band for calibration in (before, now)):
        return

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("calibration", name, outcome, text, _value(before), _value(now), exact)

    fitted = before is not None and before.fits
    if now is None and name.partition(".")[0] in whole.experiments:
        yield finding("not compared", "not run: no selected claim needs it")
    elif now is None or now.band is None:
        lost = "has this experiment" if now is None else "gives it a band"
        yield finding("failed" if fitted else "changed", f"the scale no longer {lost}")
    elif before is None or before.band is None:
        yield finding("changed", "not in the baseline")
    elif fitted and not now.fits:
        yield finding("failed", "has left its calibration band")
    elif fitted and not before.holds(now.value):
        text = f"has left the baseline's band, {_band(before.band)}, and the band has changed too"
        yield finding("failed", f"{text}. If this is intended, write a new baseline")
    elif before.band != now.band:
        yield finding("changed", "its calibration band has changed since the baseline")
    elif fitted != now.fits:
        yield finding("changed", "is back in its calibration band")
    elif before.value != now.value:
        yield finding("changed" if alike else "same", _numbers(alike))
    else:
        yield finding("same", "bit-identical to the baseline's", True)


def _table(name: str, before: Rows | None, now: Rows | None, partial: bool, strict: bool, alike: bool) -> Finding:
    was, count = _count(before), _count(now)

    def finding(outcome: Outcome, text: str, exact: bool = False) -> Finding:
        return Finding("table", name, outcome, text, was, count, exact)

    if before is None:
        return finding("changed", "not in the baseline")
    if now is None or before.rows != now.rows:
        if partial:
            return finding("not compared", "only what the selected claims need was run")
        return finding("failed" if strict else "changed", f"other rows or weight counts ({was}; now {count})")
    if (before.values, before.curves) != (now.values, now.curves):
        return finding("changed" if alike else "same", f"the same rows; {_numbers(alike)}")
    return finding("same", "the same rows, bit-identical", True)


def _numbers(alike: bool) -> str:
    return "its numbers changed" if alike else "its numbers differ, as they do between kinds of machine"


def _estimate(claim: ClaimResult | None) -> str:
    if claim is None or claim.interval is None:
        return ""
    return f"{number(claim.estimate, False)} {interval(claim.interval)}"


def _value(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    value = "no value" if calibration.value is None else f"{calibration.value:.4g}"
    return value if calibration.band is None else f"{value} of {_band(calibration.band)}"


def _band(band: tuple[float, float]) -> str:
    return f"{band[0]:g} to {band[1]:g}"


def _count(rows: Rows | None) -> str:
    return "no rows" if rows is None else f"{rows.networks} networks, {rows.pairs} pairs"


def unchanged(report: Report) -> bool:
    """Whether everything that was compared is bit-identical to the baseline."""
    compared = [finding for finding in report.findings if finding.outcome != "not compared"]
    return bool(compared) and all(finding.outcome == "same" and finding.exact for finding in compared)


def conclusion(report: Report, papers_own: bool = True) -> str:
    """The result of the check, in one sentence; the verdicts in the words of the paper's own scale or of another."""
    if report.failed:
        kinds = {"claim": "claim", "region": "region", "calibration": "calibration value", "table": "table"}
        counts = [(sum(finding.kind == kind for finding in report.of("failed")), word) for kind, word in kinds.items()]
        failures = ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n)
        return f"Regression: {failures}."
    if unchanged(report):
        compared = "what was run is" if report.partial else "the table and every curve are"
        return f"No result changed: {compared} bit-identical to the baseline."
    held = sum(finding.kind == "claim" and finding.before == finding.now == "supported" for finding in report.findings)
    start = f"No regression: {held} claim{' is' if held == 1 else 's are'} still {shown('supported', papers_own)}"
    changed = len(report.of("changed"))
    others = f"{changed or 'no'} other change{'' if changed == 1 else 's'} to look at"
    return f"{start if report.judges_claims else 'All rows match'}; {others}."
