"""Judges claims on a finished run's tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from harness.base.words import finite
from harness.claims import verdicts as rules
from harness.claims.calibration import MEASURES, Bands, misfits
from harness.claims.document import FEWER_REPLICATES, ClaimVerdict, PartVerdict, Size, SizeVerdict, Verdict
from harness.claims.outlook import chance, outlook
from harness.claims.parts import PartData, interval_of, onsets, read_part
from harness.claims.statistics import (
    Interval,
    bonferroni,
    disjoint,
    inside,
    prediction,
    share_above,
    sign_level,
    standardised,
    with_images,
)
from harness.claims.table import Table, TestSet
from harness.paper.claims import LEVEL, LEVEL_OF_LOOK, LOOKS, Claim, Part, ScaleClaim, expand_parts
from harness.paper.columns import REESTIMATED
from harness.paper.published import Published


@dataclass(frozen=True)
class _Evidence:
    """What a claim is judged by at a scale.

    `misfits` says of experiments why they do not represent the paper's. `papers` are the published numbers at the
    paper's own scale. `ahead`: a verdict also says what more replicates would tell, which takes most of the time.
    """

    scale: str
    table: Table
    misfits: dict[str, str]
    papers: Published | None
    level: float = LEVEL
    ahead: bool = True

    def without(self, replicate: int) -> _Evidence:
        """All but one replicate, for its direction alone."""
        return replace(self, table=self.table.without(replicate), papers=None, ahead=False)


def judge(
    claims: Sequence[Claim],
    scale: str,
    table: pd.DataFrame,
    calibration: Bands,
    whole_replicates: Mapping[str, int] = MappingProxyType({}),
    test_sets: Mapping[str, TestSet] = MappingProxyType({}),
    papers: Published | None = None,
    looks: Sequence[int] = (),
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
        looks: the numbers of replicates of a planned design. A claim is then judged by its first replicates at each
            look that the table reaches, at a stricter level, until it is decided: what other claims' further replicates
            say comes too late. So the verdict is the same however often, and with however much more, it is judged.

    Returns:
        One verdict per claim. Missing rows give ``not tested``.

    Raises:
        ValueError: the table lacks a needed column, or a calibration band's bounds are swapped.
    """
    entries = [(claim, claim.scales.get(scale)) for claim in claims]
    measures = {measure for _, entry in entries if entry for part in entry.parts for measure in part.measures}
    measures |= {twin for measure in measures if (twin := measure + REESTIMATED) in table.columns}
    measures |= {MEASURES[name].column for bands in calibration.values() for name in bands}
    counts = replicates_of(table) if looks else {}

    @cache
    def first(replicates: int | None) -> _Evidence:
        rows = table if replicates is None else table[table["replicate"] < replicates]
        reader = Table(rows, measures, test_sets)
        return _Evidence(scale, reader, misfits(reader, calibration), papers, LEVEL_OF_LOOK if looks else LEVEL)

    def verdict_of(claim: Claim, entry: ScaleClaim | None) -> ClaimVerdict:
        if entry is None or not looks:
            return _judge_whole(claim, entry, first(None))
        reached = [look for look in looks if _reaches(entry, look, counts)]
        if not reached:  # too few for its first look
            least = next((look for look in looks if look >= entry.replicates), entry.replicates)
            whole = entry.model_copy(update={"replicates": least})
            verdict = _judge_claim(claim, whole, replace(first(None), ahead=False))
            reason = f"its first planned look needs {least} replicates of every experiment"
            if verdict.judged:
                return _claim_verdict(claim, entry, "not tested", reason, verdict.parts, None, [], papers)
            return verdict
        for look in reached:
            verdict = _judge_whole(claim, entry, first(look))
            if verdict.verdict in ("supported", "contradicted"):
                break
        plan = f"looks planned at {', '.join(map(str, looks))}, each at {LEVEL_OF_LOOK:.2%}"
        reason = f"{verdict.reason}; judged by the first {look} replicates; {plan}"
        return verdict.model_copy(update={"reason": reason}) if verdict.judged else verdict

    verdicts = [verdict_of(claim, entry) for claim, entry in entries]
    return [_of_fewer(verdict, entry, whole_replicates) for verdict, (_, entry) in zip(verdicts, entries, strict=True)]


def replicates_of(table: pd.DataFrame) -> dict[str, int]:
    """The number of replicates of each experiment in a table."""
    return {str(name): int(count) for name, count in table.groupby("experiment")["replicate"].nunique().items()}


def _reaches(entry: ScaleClaim, look: int, counts: Mapping[str, int]) -> bool:
    """Whether all experiments of a claim have the replicates of a planned look, and those that it asks for."""
    return all(entry.replicates <= look <= counts.get(experiment, 0) for experiment in experiments_of(entry))


def _of_fewer(verdict: ClaimVerdict, entry: ScaleClaim | None, whole_replicates: Mapping[str, int]) -> ClaimVerdict:
    """The verdict, whose reason says so where it rests on fewer replicates than the whole scale has."""
    experiments = experiments_of(entry) if entry and verdict.judged else []
    whole = max((whole_replicates.get(experiment, 0) for experiment in experiments), default=0)
    if verdict.replicates >= whole:
        return verdict
    fewer = f"at {verdict.replicates} of {whole} replicates; {FEWER_REPLICATES}"
    return verdict.model_copy(update={"reason": f"{verdict.reason}; {fewer}"})


def _judge_whole(claim: Claim, entry: ScaleClaim | None, evidence: _Evidence) -> ClaimVerdict:
    """The claim's verdict, with its `left_out` and `fragile`: it is judged without each replicate if it has more than
    its fewest."""
    whole = _judge_claim(claim, entry, evidence)
    judged = [part.replicates for part in whole.parts if part.verdict != "not tested"]
    if entry is None or not whole.judged or min(judged) <= entry.replicates:
        return whole
    others = {
        replicate: _judge_claim(claim, entry, evidence.without(replicate)).verdict
        for replicate in evidence.table.replicates(experiments_of(entry))
    }
    fragile = [replicate for replicate, other in others.items() if other != whole.verdict]
    return whole.model_copy(update={"left_out": len(others), "fragile": fragile})


def _judge_claim(claim: Claim, entry: ScaleClaim | None, evidence: _Evidence) -> ClaimVerdict:
    papers = evidence.papers
    if entry is None:
        reason = claim.not_tested or f"nothing is predicted at the {evidence.scale} scale"
        return _claim_verdict(claim, None, "not tested", reason, [], None, [], papers)
    expanded = expand_parts(entry)
    directions = [part for part in expanded if part.region is not None]
    if claim.calibrates:
        evidence = replace(evidence, misfits={})
    judged = [_judge_part(part, entry, directions, evidence) for part in directions]
    parts, margins = [one.part for one in judged], [one.margin for one in judged]
    verdict = rules.claim_verdict([part.verdict for part in parts], entry.combine)
    unfit = _unfit(expanded, evidence)
    if unfit:
        verdict = "not tested"
    deciding = rules.deciding_part(parts, margins, verdict, entry.combine)
    sizes = [] if unfit or papers is None else _sizes(expanded, entry, evidence.table, papers)
    reason = "; ".join(unfit) if unfit else rules.claim_reason(parts, verdict, entry.combine, deciding)
    if not directions:
        reason = "; ".join(unfit) or "it states levels and no direction; see its sizes"
    found = _claim_verdict(claim, entry, verdict, reason, parts, deciding, sizes, papers)
    return found.model_copy(update=_outlook(judged, entry.combine)) if verdict == "inconclusive" else found


def _outlook(judged: Sequence[_Judged], combine: str) -> dict[str, Any]:
    """What more replicates would tell of an undecided claim, from its undecided parts: see `ClaimVerdict`."""
    undecided = [one for one in judged if one.part.verdict == "inconclusive"]
    needs = [one.part.needed for one in undecided]
    known = [need for need in needs if need is not None]
    inside, outside = [one.chances[0] for one in undecided], [one.chances[1] for one in undecided]
    if combine == "all":
        return {"needed": max(known) if len(known) == len(needs) else None, "chance": max(min(inside), max(outside))}
    return {"needed": min(known, default=None), "chance": max(max(inside), min(outside))}


def experiments_of(entry: ScaleClaim) -> list[str]:
    """The experiments that a claim reads at a scale."""
    return _experiments(expand_parts(entry))


def _unfit(parts: Iterable[Part], evidence: _Evidence) -> list[str]:
    """Why experiments of the parts do not represent the paper's."""
    return [evidence.misfits[name] for name in _experiments(parts) if name in evidence.misfits]


def _experiments(parts: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(cell.experiment for part in parts for cell in part.cells))


class _Judged(NamedTuple):
    """A part's verdict, its margin (see `rules.margin`), which is infinite if it is not tested, and its chances that
    the last planned look puts it into the region or outside."""

    part: PartVerdict
    margin: float = math.inf
    chances: tuple[float, float] = (0.0, 0.0)


def _judge_part(
    part: Part,
    entry: ScaleClaim,
    claim: Sequence[Part],
    evidence: _Evidence,
) -> _Judged:
    """The part's verdict.

    Where networks diverged, the verdict must be the same without them and with them at chance.
    """
    data = read_part(part, evidence.table, claim)
    if unfit := _unfit([part], evidence):
        return _Judged(_part_verdict(part, data, "not tested", "; ".join(unfit)))
    worst = read_part(part, evidence.table, claim, at_chance=True) if data.diverged else data
    cases = [case for case in (data, worst) if not case.problem and case.replicates >= entry.replicates]
    if data.problem:
        return _Judged(_part_verdict(part, data, "not tested", data.problem))
    if not cases:
        lacking = "; ".join(data.dropped) or "the table holds no more"
        reason = f"needs {entry.replicates} replicates, has {data.replicates}: {lacking}"
        return _Judged(_part_verdict(part, data, "not tested", reason))
    judged = _judge_case(part, cases[0], entry.combine, len(claim), evidence)
    if worst is data:
        return judged
    if cases == [worst]:
        at_chance = "too few replicates have none that diverged, so all are judged, with what diverged at chance"
        reason = f"{judged.part.reason}; {at_chance}"
        return judged._replace(part=judged.part.model_copy(update={"reason": reason}))
    found, problem, other = judged.part, worst.problem, judged
    if not problem and len(cases) > 1:
        other = _judge_case(part, worst, entry.combine, len(claim), evidence)
    if problem or found.verdict != other.part.verdict:
        at_chance = problem or f"with what diverged at chance it is {other.part.verdict}: {other.part.reason}"
        reason, needed = f"{found.reason}; {at_chance}", other.part.needed
        found = found.model_copy(update={"verdict": "inconclusive", "reason": reason, "needed": needed})
        judged = judged._replace(chances=other.chances)
    return judged._replace(part=found)


def _judge_case(part: Part, data: PartData, combine: str, tests: int, evidence: _Evidence) -> _Judged:
    level, strict = evidence.level, bonferroni(evidence.level, tests)
    levels = (level, strict) if combine == "all" else (strict, level)
    support, refute = (interval_of(data, level) for level in levels)
    region = data.region
    verdict = rules.part_verdict(bool(inside(support, region)), bool(disjoint(refute, region)))
    bounds = (float(support.low), float(support.high))
    shown, other = data.shown(bounds), data.shown((float(refute.low), float(refute.high)))
    asked = levels
    if data.median:
        levels = (sign_level(data.replicates, levels[0]), sign_level(data.replicates, levels[1]))
    reason = rules.part_reason(verdict, shown, other, part.bounds, levels, tests)
    if data.exact:
        reason = f"{float(support.estimate):.7g} is counted, and the region is {region[0]:.7g} to {region[1]:.7g}"
    if part.statistic in ("median", "exact"):
        within = sum(part.bounds[0] <= value <= part.bounds[1] for value in data.values)
        reason += f"; {within} of {data.replicates} replicates are in it"
    estimate = float(support.estimate)
    if data.image:
        images = f"{abs(estimate) / data.image:.1f} of {100 / data.image:.0f} test images"
        reason += f"; the estimate is {images}, which are the same for all replicates"
    for more in (*onsets(part, evidence.table), *data.dropped):
        reason += f"; {more}"
    needed, chances = None, (0.0, 0.0)
    if verdict == "inconclusive" and evidence.ahead:
        view = outlook(data, asked)
        reason, needed = reason + view.sentence(data.replicates), view.needed
        chances = (chance(data, LOOKS[-1], asked[0], False), chance(data, LOOKS[-1], asked[1], True))
    deciding, span, held = (refute, other, levels[1]) if verdict == "contradicted" else (support, shown, levels[0])
    shown_level = None if data.exact else held
    found = _part_verdict(part, data, verdict, reason, data.shown((estimate, 0.0))[0], span, shown_level)
    beside = _beside(part, data, deciding, held) | {"needed": needed}
    return _Judged(found.model_copy(update=beside), rules.margin(estimate, bounds, region), chances)


def _beside(part: Part, data: PartData, interval: Interval, level: float) -> dict[str, Any]:
    """What a reader wants beside a part's verdict, and no verdict depends on."""
    beside: dict[str, Any] = {}
    if data.image_variance:
        low, high = with_images(interval, data.image_variance, level)[1:]
        beside["with_images"] = (finite(float(low)), finite(float(high)))
    if part.no_effect is not None:
        beside |= {"standardised": finite(standardised(data.groups)), "above": share_above(data.groups)}
    return beside


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
        with_images=None,
        standardised=None,
        above=None,
        needed=None,
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
        needed=None,
        chance=None,
        region=shown.region if shown else (None, None),
        replicates=shown.replicates if shown else 0,
        left_out=0,
        fragile=[],
        power=None,
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
    if statistic == "exact":
        return 0.0
    if statistic not in ("median", "onset", "onset_difference", "auc"):
        return rules.ONE_SIDED
    return (1 - level) / 2 if (level := sign_level(replicates)) else 0.0
