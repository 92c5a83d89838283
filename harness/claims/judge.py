"""Judges claims on a finished run's tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import pandas as pd

from harness.base.words import finite
from harness.claims import verdicts as rules
from harness.claims.calibration import MEASURES, Bands, misfits
from harness.claims.document import FEWER_REPLICATES, ClaimVerdict, PartVerdict, Size, SizeVerdict, Verdict
from harness.claims.parts import PartData, interval_of, read_part
from harness.claims.statistics import LEVEL, bonferroni, disjoint, inside, prediction, sign_level
from harness.claims.table import Table, TestSet
from harness.paper.claims import Claim, Part, ScaleClaim, expand_parts
from harness.paper.published import Published


def judge(
    claims: Sequence[Claim],
    scale: str,
    table: pd.DataFrame,
    calibration: Bands,
    whole_replicates: Mapping[str, int] = MappingProxyType({}),
    test_sets: Mapping[str, TestSet] = MappingProxyType({}),
    papers: Published | None = None,
) -> list[ClaimVerdict]:
    """Judge every claim at one scale.

    Args:
        claims: in the order of the result.
        scale: name of the scale; a claim without an entry for it is not tested.
        table: the tidy table, a row per trained network and per compared pair.
        calibration: bands for each experiment's dense networks, see `harness.claims.calibration`. Outside of one its
            runs do not represent the paper's, and no claim that uses the experiment is tested.
        whole_replicates: replicates of the whole scale, of each experiment for which the run has fewer. A verdict can
            depend on their number, so its reason names both.
        test_sets: per experiment its test set, which test accuracy counts. Where it is not known, test accuracy counts
            as continuous, and a diverged network has none.
        papers: at the paper's own scale its published numbers, which sizes are held against; None at another.

    Returns:
        One verdict per claim. Missing rows give ``not tested``.

    Raises:
        ValueError: the table lacks a needed column, or a calibration band's bounds are swapped.
    """
    entries = [(claim, claim.scales.get(scale)) for claim in claims]
    measures = {measure for _, entry in entries if entry for part in entry.parts for measure in part.measures}
    gauges = {MEASURES[name].column for bands in calibration.values() for name in bands}
    reader = Table(table, measures | gauges, test_sets)
    unfit = misfits(reader, calibration)
    verdicts = [_judge_claim(claim, entry, scale, reader, unfit, papers) for claim, entry in entries]
    return [_of_fewer(verdict, entry, whole_replicates) for verdict, (_, entry) in zip(verdicts, entries, strict=True)]


def _of_fewer(verdict: ClaimVerdict, entry: ScaleClaim | None, whole_replicates: Mapping[str, int]) -> ClaimVerdict:
    """The verdict, whose reason says so where it rests on fewer replicates than the whole scale has."""
    experiments = _experiments(expand_parts(entry)) if entry and verdict.judged else []
    whole = max((whole_replicates.get(experiment, 0) for experiment in experiments), default=0)
    if verdict.replicates >= whole:
        return verdict
    fewer = f"at {verdict.replicates} of {whole} replicates; {FEWER_REPLICATES}"
    return verdict.model_copy(update={"reason": f"{verdict.reason}; {fewer}"})


def _judge_claim(
    claim: Claim, entry: ScaleClaim | None, scale: str, reader: Table, misfits: dict[str, str], papers: Published | None
) -> ClaimVerdict:
    if entry is None:
        reason = claim.not_tested or f"nothing is predicted at the {scale} scale"
        return _claim_verdict(claim, None, "not tested", reason, [], None, [], papers)
    expanded = expand_parts(entry)
    directions = [part for part in expanded if part.region is not None]
    if claim.calibrates:
        misfits = {}
    judged = [_judge_part(part, entry, directions, reader, misfits) for part in directions]
    parts, margins = [part for part, _ in judged], [margin for _, margin in judged]
    verdict = rules.claim_verdict([part.verdict for part in parts], entry.combine)
    unfit = [misfits[e] for e in _experiments(expanded) if e in misfits]
    if unfit:
        verdict = "not tested"
    deciding = rules.deciding_part(parts, margins, verdict, entry.combine)
    sizes = [] if unfit or papers is None else _sizes(expanded, entry, reader, papers)
    reason = "; ".join(unfit) if unfit else rules.claim_reason(parts, verdict, entry.combine, deciding)
    if not directions:
        reason = "; ".join(unfit) or "it states levels and no direction; see its sizes"
    return _claim_verdict(claim, entry, verdict, reason, parts, deciding, sizes, papers)


def _experiments(parts: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(cell.experiment for part in parts for cell in part.cells))


def _judge_part(
    part: Part, entry: ScaleClaim, claim: Sequence[Part], reader: Table, misfits: dict[str, str]
) -> tuple[PartVerdict, float]:
    """The part's verdict, and its margin (see `rules.margin`), which is infinite if the part is not tested.

    Where networks diverged, the verdict must be the same without them and with them at chance.
    """
    data = read_part(part, reader, claim)
    unfit = [misfits[e] for e in _experiments([part]) if e in misfits]
    if unfit:
        return _part_verdict(part, data, "not tested", "; ".join(unfit)), math.inf
    worst = read_part(part, reader, claim, at_chance=True) if data.diverged else data
    cases = [case for case in (data, worst) if not case.problem and case.replicates >= entry.replicates]
    if data.problem:
        return _part_verdict(part, data, "not tested", data.problem), math.inf
    if not cases:
        lacking = "; ".join(data.dropped) or "the table holds no more"
        reason = f"needs {entry.replicates} replicates, has {data.replicates}: {lacking}"
        return _part_verdict(part, data, "not tested", reason), math.inf
    found, margin = _judge_case(part, cases[0], entry.combine, len(claim))
    other = found if worst.problem else _judge_case(part, cases[-1], entry.combine, len(claim))[0]
    if worst.problem or found.verdict != other.verdict:
        at_chance = worst.problem or f"with what diverged at chance it is {other.verdict}: {other.reason}"
        found = found.model_copy(update={"verdict": "inconclusive", "reason": f"{found.reason}; {at_chance}"})
    return found, margin


def _judge_case(part: Part, data: PartData, combine: str, tests: int) -> tuple[PartVerdict, float]:
    strict = bonferroni(LEVEL, tests)
    levels = (LEVEL, strict) if combine == "all" else (strict, LEVEL)
    support, refute = (interval_of(data, level) for level in levels)
    region = data.region
    verdict = rules.part_verdict(bool(inside(support, region)), bool(disjoint(refute, region)))
    bounds = (float(support.low), float(support.high))
    shown, other = data.shown(bounds), data.shown((float(refute.low), float(refute.high)))
    if data.median:
        levels = (sign_level(data.replicates, levels[0]), sign_level(data.replicates, levels[1]))
    reason = rules.part_reason(verdict, shown, other, part.bounds, levels, tests)
    if part.statistic == "median":
        within = sum(part.bounds[0] <= value <= part.bounds[1] for value in data.values)
        reason += f"; {within} of {data.replicates} replicates are in it"
    estimate = float(support.estimate)
    if data.image:
        images = f"{abs(estimate) / data.image:.1f} of {100 / data.image:.0f} test images"
        reason += f"; the estimate is {images}, which are the same for all replicates"
    if data.dropped:
        reason += f"; {'; '.join(data.dropped)}"
    decides = (other, levels[1]) if verdict == "contradicted" else (shown, levels[0])
    return (
        _part_verdict(part, data, verdict, reason, data.shown((estimate, 0.0))[0], *decides),
        rules.margin(estimate, bounds, region),
    )


def _sizes(parts: Sequence[Part], entry: ScaleClaim, reader: Table, papers: Published) -> list[SizeVerdict]:
    """The claim's measured values beside the published ones, each at 95% for all of them together."""
    numbers = [(part, papers.part(part)) for part in parts if not part.of_median and part.statistic != "midpoint"]
    published = [(part, quantity) for part, quantity in numbers if quantity and papers.spread]
    level = bonferroni(LEVEL, len(published))
    sizes = []
    for part, quantity in published:
        data = read_part(part, reader)
        if data.problem or data.replicates < entry.replicates or papers.spread is None:
            continue
        found = prediction(data.groups, *quantity, papers.spread.replicates, level)
        bounds = (found.low, found.high)
        verdict: Size = "agrees" if found.low <= found.estimate <= found.high else "differs"
        # an equality holds no effect by itself
        sign = part.no_effect in (part.region or ())
        if verdict == "agrees" and sign and found.low <= 0.0 <= found.high:
            verdict = "unclear"
        estimate, value = data.shown((found.estimate, quantity.value))
        low, high = data.shown(bounds)
        sizes.append(
            SizeVerdict(
                name=part.name,
                statistic=part.statistic,
                measure=part.measure,
                log=part.logarithmic,
                verdict=verdict,
                estimate=estimate,
                published=value,
                expected=(finite(low), finite(high)),
                z=found.z,
                replicates=data.replicates,
            )
        )
    return sizes


def _part_verdict(
    part: Part,
    data: PartData,
    verdict: Verdict,
    reason: str,
    estimate: float | None = None,
    interval: rules.Bounds | None = None,
    level: float | None = None,
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
        level=level,
        region=part.region or (None, None),
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
    sizes: list[SizeVerdict],
    papers: Published | None,
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
        size=rules.claim_size([size.verdict for size in sizes]),
        papers_own=papers is not None,
        estimate=measured.estimate if measured else None,
        interval=measured.interval if measured else None,
        level=measured.level if measured else None,
        region=shown.region if shown else (None, None),
        replicates=shown.replicates if shown else 0,
        published=claim.published,
        runs=sorted({run for part in parts for run in part.runs}),
        parts=parts,
        sizes=sizes,
        note=claim.note,
        figure=claim.figure,
        figure_experiments=claim.figure_experiments,
        prediction=entry.prediction if entry else None,
    )


def repeated(claims: Iterable[ClaimVerdict]) -> dict[str, list[str]]:
    """The judged claims all of whose parts stand in claims before them, and these: evidence that counts once."""
    first: dict[str, str] = {}
    found = {}
    for claim in claims:
        if claim.judged:
            # the interval is moderated by the claim's other networks, so it may differ where the evidence is the same
            same = {"statistic", "measure", "log", "region", "values", "runs"}
            keys = [part.model_dump_json(include=same) for part in claim.parts]
            if keys and all(key in first for key in keys):
                found[claim.id] = list(dict.fromkeys(first[key] for key in keys))
            first = dict.fromkeys(keys, claim.id) | first
    return found


def chance_flips(claims: Iterable[ClaimVerdict]) -> float:
    """About how many claims would be supported by chance if every true value lay exactly at its region's edge.

    At most as many would be contradicted. Each judged claim counts once, at the rate of one part: under ``all`` every
    part must be inside by chance, under ``any`` the parts share one rate (Bonferroni). For a t interval the rate is
    2.5% under normal noise, but higher with skew, so the result is not a bound; for a median or onset it is the sign
    test's exact tail. If a claim's parts have different rates, the highest counts. Parts and claims that are not tested
    do not count.
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
    if statistic not in ("median", "onset", "onset_difference", "auc"):
        return rules.ONE_SIDED
    return (1 - level) / 2 if (level := sign_level(replicates)) else 0.0
