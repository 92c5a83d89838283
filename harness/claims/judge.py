"""Judges claims on a finished table: the objects of ``results/<scale>/claims.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harness.claims import verdicts as rules
from harness.claims.parts import PartData, interval_of, read_part
from harness.claims.statistics import LEVEL, bonferroni, disjoint, inside, sign_rank
from harness.claims.table import Table
from harness.claims.verdicts import PartResult, Verdict
from harness.errors import HarnessError
from harness.files import read_json, write_text
from harness.spec.claims import Cell, Claim, Part, ScaleClaim, expand_parts

Calibration = Mapping[str, tuple[float, float]]


def judge(claims: Sequence[Claim], scale: str, table: pd.DataFrame, calibration: Calibration) -> list[dict[str, Any]]:
    """Judge every claim at one scale.

    Args:
        claims: in the order of the result.
        scale: name of the scale; a claim without an entry for it is not tested.
        table: the tidy table, a row per trained network and per compared pair.
        calibration: per experiment the band in percent for the mean dense test accuracy, outside which its runs do not
            stand for the paper's and no claim that uses it is tested.

    Returns:
        One object of claims.json per claim. Missing rows give ``not tested``; a table without a column that is needed,
        or a calibration band with its bounds swapped, raises ValueError.
    """
    entries = [(claim, claim.scales.get(scale)) for claim in claims]
    measures = {measure for _, entry in entries if entry for part in entry.parts for measure in part.measures}
    reader = Table(table, measures | ({"test_accuracy"} if calibration else set()))
    misfits = calibration_misfits(reader, calibration)
    return [_judge_claim(claim, entry, scale, reader, misfits) for claim, entry in entries]


def calibration_misfits(reader: Table, calibration: Calibration) -> dict[str, str]:
    """Reason for each experiment whose mean dense test accuracy (over replicates) is outside its band or unknown."""
    misfits = {}
    for experiment, (low, high) in calibration.items():
        if not low <= high:
            raise ValueError(f"calibration of {experiment}: [{low}, {high}] is no band, give [lowest, highest] percent")
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
) -> dict[str, Any]:
    if entry is None:
        reason = claim.not_tested or f"nothing is predicted at the {scale} scale"
        return _claim_json(claim, None, "not tested", reason, [], None)
    expanded = expand_parts(entry)
    if claim.calibrates:
        misfits = {}
    results = [_judge_part(part, entry, len(expanded), reader, misfits) for part in expanded]
    verdict = rules.claim_verdict([r.verdict for r in results], entry.combine)
    unfit = [misfits[e] for e in _experiments(expanded) if e in misfits]
    if unfit:
        verdict = "not tested"
    deciding = rules.deciding_part(results, verdict, entry.combine)
    reason = "; ".join(unfit) if unfit else rules.claim_reason(results, verdict, entry.combine, deciding)
    return _claim_json(claim, entry, verdict, reason, results, deciding)


def _experiments(parts: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(cell.experiment for part in parts for cell in part.cells))


def _judge_part(part: Part, entry: ScaleClaim, tests: int, reader: Table, misfits: dict[str, str]) -> PartResult:
    data = read_part(part, reader)
    unfit = [misfits[e] for e in _experiments([part]) if e in misfits]
    if unfit:
        return _untested(part, data, "; ".join(unfit))
    if data.problem:
        return _untested(part, data, data.problem)
    if data.replicates < entry.replicates:
        lacking = "; ".join(data.dropped) or "the table holds no more"
        return _untested(part, data, f"needs {entry.replicates} replicates, has {data.replicates}: {lacking}")
    strict = bonferroni(LEVEL, tests)
    levels = (LEVEL, strict) if entry.combine == "all" else (strict, LEVEL)
    support, refute = (interval_of(data, level) for level in levels)
    region = data.region
    verdict = rules.part_verdict(bool(inside(support, region)), bool(disjoint(refute, region)))
    bounds = (float(support.low), float(support.high))
    shown, other = data.shown(bounds), data.shown((float(refute.low), float(refute.high)))
    reason = rules.part_reason(verdict, shown, other, part.bounds, levels, tests)
    if data.dropped:
        reason += f"; {'; '.join(data.dropped)}"
    return PartResult(
        name=part.name,
        statistic=part.statistic,
        measure=part.measure,
        log=part.logarithmic,
        region=part.bounds,
        verdict=verdict,
        reason=reason,
        estimate=data.shown((float(support.estimate), 0.0))[0],
        interval=shown,
        replicates=data.replicates,
        values=data.values,
        runs=data.runs,
        margin=rules.margin(float(support.estimate), bounds, region),
    )


def _untested(part: Part, data: PartData, reason: str) -> PartResult:
    return PartResult(
        name=part.name,
        statistic=part.statistic,
        measure=part.measure,
        log=part.logarithmic,
        region=part.bounds,
        verdict="not tested",
        reason=reason,
        replicates=data.replicates,
        values=data.values,
        runs=data.runs,
    )


def _claim_json(
    claim: Claim,
    entry: ScaleClaim | None,
    verdict: Verdict,
    reason: str,
    parts: list[PartResult],
    deciding: PartResult | None,
) -> dict[str, Any]:
    shown = deciding or next(iter(parts), None)
    tested = verdict != "not tested" and deciding is not None
    part = None if shown is None else shown.to_json()
    return {
        "id": claim.id,
        "title": claim.title,
        "statement": claim.statement.strip(),
        "source": claim.source.model_dump(),
        "verdict": verdict,
        "reason": reason,
        "estimate": part["estimate"] if part and tested else None,
        "interval": part["interval"] if part and tested else None,
        "region": part["region"] if part else [None, None],
        "replicates": part["replicates"] if part else 0,
        "published": [value.model_dump() for value in claim.published],
        "runs": sorted({run for p in parts for run in p.runs}),
        "parts": [p.to_json() for p in parts],
        "note": claim.note,
        "figure": claim.figure,
        "figure_experiments": list(claim.figure_experiments),
        "prediction": entry.prediction if entry else None,
    }


def chance_flips(verdicts: Iterable[Mapping[str, Any]]) -> float:
    """About how many claims chance alone would support if every truth sat exactly at its region's edge.

    Each judged claim counts once, at the rate of one part: under ``all`` every part must be inside by chance, under
    ``any`` the parts share one rate (Bonferroni). A part's rate is 2.5% for a t interval under normal noise, more with
    skew, so this is no bound; for an onset it is the sign test's exact tail. Of unlike parts the highest rate counts.
    Takes the objects of claims.json; parts and claims that are not tested do not count.
    """
    return math.fsum(
        max(
            (_edge_rate(p["statistic"], p["replicates"]) for p in claim["parts"] if p["verdict"] != "not tested"),
            default=0,
        )
        for claim in verdicts
        if claim["verdict"] != "not tested"
    )


def _edge_rate(statistic: str, replicates: int) -> float:
    if not statistic.startswith("onset"):
        return rules.ONE_SIDED
    rank = sign_rank(replicates)
    return float(stats.binom.cdf(rank - 1, replicates, 0.5)) if rank else 0.0


def write_claims(path: str | os.PathLike[str], verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Write claims.json whole or not at all; HarnessError where the disk is full or the place can't be written."""
    write_text(Path(path), json.dumps(list(verdicts), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_claims(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read claims.json; HarnessError naming file and fix where it is missing or damaged, or has a claim twice."""
    content = read_json(Path(path))
    if not isinstance(content, list) or not all(isinstance(claim, dict) for claim in content):
        raise HarnessError(f"{path}: holds no list of claims. Delete it and run `harness reproduce` again.")
    seen: set[str] = set()
    for claim in content:
        name = str(claim.get("id"))
        if name in seen:
            fix = "Delete the file and run `harness reproduce` again."
            raise HarnessError(f"{path}: claim {name!r:.80} stands there twice. {fix}")
        seen.add(name)
        if claim.get("verdict") not in rules.VERDICTS or not isinstance(claim.get("parts"), list):
            raise HarnessError(
                f"{path}: claim {claim.get('id')!r} has verdict {claim.get('verdict')!r} (one of "
                f"{', '.join(rules.VERDICTS)}) or no parts. Delete it and run `harness reproduce` again."
            )
    return content
