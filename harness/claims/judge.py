"""Judges claims on a finished run's tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from harness.base.words import finite
from harness.claims import verdicts as rules
from harness.claims.document import FEWER_REPLICATES, ClaimVerdict, PartVerdict, Verdict
from harness.claims.parts import PartData, interval_of, read_part
from harness.claims.statistics import LEVEL, bonferroni, disjoint, inside, sign_level
from harness.claims.table import Table
from harness.paper.claims import Cell, Claim, Part, ScaleClaim, expand_parts

Calibration = Mapping[str, tuple[float, float]]


def judge(
    claims: Sequence[Claim],
    scale: str,
    table: pd.DataFrame,
    calibration: Calibration,
    whole_replicates: Mapping[str, int] = MappingProxyType({}),
    tested: Mapping[str, int] = MappingProxyType({}),
) -> list[ClaimVerdict]:
    """Judge every claim at one scale.

    Args:
        claims: in the order of the result.
        scale: name of the scale; a claim without an entry for it is not tested.
        table: the tidy table, a row per trained network and per compared pair.
        calibration: per experiment the band in percent for the mean dense test accuracy. Outside the band its runs do
            not represent the paper's, and no claim that uses the experiment is tested.
        whole_replicates: replicates of the whole scale, of each experiment for which the run has fewer. A verdict can
            depend on their number, so its reason names both.
        tested: per experiment the number of examples in its test set, which test accuracy counts; where it is not
            known, test accuracy counts as continuous.

    Returns:
        One verdict per claim. Missing rows give ``not tested``.

    Raises:
        ValueError: the table lacks a needed column, or a calibration band's bounds are swapped.
    """
    entries = [(claim, claim.scales.get(scale)) for claim in claims]
    measures = {measure for _, entry in entries if entry for part in entry.parts for measure in part.measures}
    reader = Table(table, measures | ({"test_accuracy"} if calibration else set()), tested)
    misfits = calibration_misfits(reader, calibration)
    verdicts = [_judge_claim(claim, entry, scale, reader, misfits) for claim, entry in entries]
    return [_of_fewer(verdict, entry, whole_replicates) for verdict, (_, entry) in zip(verdicts, entries, strict=True)]


def _of_fewer(verdict: ClaimVerdict, entry: ScaleClaim | None, whole_replicates: Mapping[str, int]) -> ClaimVerdict:
    """The verdict, whose reason says so where it rests on fewer replicates than the whole scale has."""
    experiments = _experiments(expand_parts(entry)) if entry and verdict.judged else []
    whole = max((whole_replicates.get(experiment, 0) for experiment in experiments), default=0)
    if verdict.replicates >= whole:
        return verdict
    fewer = f"at {verdict.replicates} of {whole} replicates; {FEWER_REPLICATES}"
    return verdict.model_copy(update={"reason": f"{verdict.reason}; {fewer}"})


def calibration_misfits(reader: Table, calibration: Calibration) -> dict[str, str]:
    """Reason for each experiment whose mean dense test accuracy (over replicates) is outside its band or unknown."""
    misfits = {}
    for experiment, (low, high) in calibration.items():
        if not low <= high:
            raise ValueError(
                f"calibration of {experiment}: [{low}, {high}] is not a band; give [lowest, highest] percent"
            )
        dense = reader.cell(Cell(experiment=experiment, branch="dense"), "test_accuracy")
        band = f"its calibration band {low:g} to {high:g}%"
        if not dense.values:
            misfits[experiment] = f"{experiment} has no dense network with a test accuracy to hold against {band}"
            continue
        mean = float(np.mean(list(dense.values.values())))
        if not low <= mean <= high:
            misfits[experiment] = f"{experiment}'s dense networks reach {mean:.2f}% on average, outside {band}"
    return misfits


def _judge_claim(
    claim: Claim, entry: ScaleClaim | None, scale: str, reader: Table, misfits: dict[str, str]
) -> ClaimVerdict:
    if entry is None:
        reason = claim.not_tested or f"nothing is predicted at the {scale} scale"
        return _claim_verdict(claim, None, "not tested", reason, [], None)
    expanded = expand_parts(entry)
    if claim.calibrates:
        misfits = {}
    judged = [_judge_part(part, entry, expanded, reader, misfits) for part in expanded]
    parts, margins = [part for part, _ in judged], [margin for _, margin in judged]
    verdict = rules.claim_verdict([part.verdict for part in parts], entry.combine)
    unfit = [misfits[e] for e in _experiments(expanded) if e in misfits]
    if unfit:
        verdict = "not tested"
    deciding = rules.deciding_part(parts, margins, verdict, entry.combine)
    reason = "; ".join(unfit) if unfit else rules.claim_reason(parts, verdict, entry.combine, deciding)
    return _claim_verdict(claim, entry, verdict, reason, parts, deciding)


def _experiments(parts: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(cell.experiment for part in parts for cell in part.cells))


def _judge_part(
    part: Part, entry: ScaleClaim, claim: Sequence[Part], reader: Table, misfits: dict[str, str]
) -> tuple[PartVerdict, float]:
    """The part's verdict, and its margin (see `rules.margin`), which is infinite if the part is not tested."""
    data = read_part(part, reader, claim)
    unfit = [misfits[e] for e in _experiments([part]) if e in misfits]
    if unfit:
        return _part_verdict(part, data, "not tested", "; ".join(unfit)), math.inf
    if data.problem:
        return _part_verdict(part, data, "not tested", data.problem), math.inf
    if data.replicates < entry.replicates:
        lacking = "; ".join(data.dropped) or "the table holds no more"
        reason = f"needs {entry.replicates} replicates, has {data.replicates}: {lacking}"
        return _part_verdict(part, data, "not tested", reason), math.inf
    strict = bonferroni(LEVEL, len(claim))
    levels = (LEVEL, strict) if entry.combine == "all" else (strict, LEVEL)
    support, refute = (interval_of(data, level) for level in levels)
    region = data.region
    verdict = rules.part_verdict(bool(inside(support, region)), bool(disjoint(refute, region)))
    bounds = (float(support.low), float(support.high))
    shown, other = data.shown(bounds), data.shown((float(refute.low), float(refute.high)))
    if data.median:
        levels = (sign_level(data.replicates, levels[0]), sign_level(data.replicates, levels[1]))
    reason = rules.part_reason(verdict, shown, other, part.bounds, levels, len(claim))
    if part.statistic == "median":
        within = sum(part.bounds[0] <= value <= part.bounds[1] for value in data.values)
        reason += f"; {within} of {data.replicates} replicates are in it"
    if data.dropped:
        reason += f"; {'; '.join(data.dropped)}"
    estimate = float(support.estimate)
    return (
        _part_verdict(part, data, verdict, reason, data.shown((estimate, 0.0))[0], shown),
        rules.margin(estimate, bounds, region),
    )


def _part_verdict(
    part: Part,
    data: PartData,
    verdict: Verdict,
    reason: str,
    estimate: float | None = None,
    interval: rules.Bounds | None = None,
) -> PartVerdict:
    return PartVerdict(
        name=part.name,
        statistic=part.statistic,
        measure=part.measure,
        log=part.logarithmic,
        verdict=verdict,
        reason=reason,
        estimate=finite(estimate),
        interval=None if interval is None else (finite(interval[0]), finite(interval[1])),
        region=part.region,
        replicates=data.replicates,
        values=[finite(value) for value in data.values],
        runs=data.runs,
    )


def _claim_verdict(
    claim: Claim,
    entry: ScaleClaim | None,
    verdict: Verdict,
    reason: str,
    parts: list[PartVerdict],
    deciding: PartVerdict | None,
) -> ClaimVerdict:
    shown = deciding or next(iter(parts), None)
    measured = deciding if verdict != "not tested" else None
    return ClaimVerdict(
        id=claim.id,
        title=claim.title,
        statement=claim.statement.strip(),
        source=claim.source,
        verdict=verdict,
        reason=reason,
        estimate=measured.estimate if measured else None,
        interval=measured.interval if measured else None,
        region=shown.region if shown else (None, None),
        replicates=shown.replicates if shown else 0,
        published=claim.published,
        runs=sorted({run for part in parts for run in part.runs}),
        parts=parts,
        note=claim.note,
        figure=claim.figure,
        figure_experiments=claim.figure_experiments,
        prediction=entry.prediction if entry else None,
    )


def chance_flips(claims: Iterable[ClaimVerdict]) -> float:
    """About how many claims would be supported by chance if every true value lay exactly at its region's edge.

    Each judged claim counts once, at the rate of one part: under ``all`` every part must be inside by chance, under
    ``any`` the parts share one rate (Bonferroni). For a t interval the rate is 2.5% under normal noise, but higher with
    skew, so the result is not a bound; for a median or onset it is the sign test's exact tail. If a claim's parts have
    different rates, the highest counts. Parts and claims that are not tested do not count.
    """
    return math.fsum(
        max(
            (_edge_rate(part.statistic, part.replicates) for part in claim.parts if part.verdict != "not tested"),
            default=0,
        )
        for claim in claims
        if claim.judged
    )


def _edge_rate(statistic: str, replicates: int) -> float:
    if statistic not in ("median", "onset", "onset_difference"):
        return rules.ONE_SIDED
    return (1 - level) / 2 if (level := sign_level(replicates)) else 0.0
