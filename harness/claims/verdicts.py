"""Verdicts of parts and claims from intervals, the part that decides, and the reasons in plain English.

The rules. ``all``: each part is supported when its 95% interval lies inside its region, and the claim when all are;
since all must hold, no correction is needed. One part wholly outside refutes the claim, so there the intervals are
corrected for the number of parts (Bonferroni). ``any`` turns this around: support is corrected, refutation not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.claims.statistics import LEVEL

Verdict = Literal["supported", "contradicted", "inconclusive", "not tested"]
Bounds = tuple[float, float]
VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "inconclusive", "not tested")
#: supported part verdicts that rest on the t interval go wrong this often at a region's edge, under normal noise
ONE_SIDED = (1 - LEVEL) / 2


@dataclass(frozen=True)
class PartResult:
    """One judged part. Infinite bounds stay infinite here; ``margin`` is the estimate's distance from the nearest edge
    of its region in half-widths of the interval, on the analysed scale."""

    name: str
    statistic: str
    measure: str
    region: Bounds
    verdict: Verdict
    reason: str
    estimate: float | None = None
    interval: Bounds | None = None
    replicates: int = 0
    values: list[float] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    margin: float = math.inf
    log: bool = False  # whether the logarithm was analysed, so that estimate and interval are factors

    def to_json(self) -> dict[str, Any]:
        """The part as an object of claims.json; infinite numbers are null."""
        return {
            "name": self.name,
            "statistic": self.statistic,
            "measure": self.measure,
            "log": self.log,
            "verdict": self.verdict,
            "reason": self.reason,
            "estimate": finite(self.estimate),
            "interval": None if self.interval is None else [finite(v) for v in self.interval],
            "region": [finite(v) for v in self.region],
            "replicates": self.replicates,
            "values": [finite(v) for v in self.values],
            "runs": self.runs,
        }


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has none."""
    return None if value is None or not math.isfinite(value) else float(value)


def part_verdict(inside: bool, disjoint: bool) -> Verdict:
    """``inside``: the supporting interval in the region; ``disjoint``: the refuting interval wholly outside it."""
    return "supported" if inside else "contradicted" if disjoint else "inconclusive"


def claim_verdict(parts: list[Verdict], combine: str) -> Verdict:
    """The claim's verdict from its parts'; a claim without parts is not tested.

    A part that settles the claim does so whatever else is missing: a contradicted one under ``all``, a supported one
    under ``any``. Otherwise one part that is not tested leaves the claim not tested.
    """
    settling: Verdict = "contradicted" if combine == "all" else "supported"
    unanimous: Verdict = "supported" if combine == "all" else "contradicted"
    if settling in parts:
        return settling
    if not parts or "not tested" in parts:
        return "not tested"
    return unanimous if set(parts) == {unanimous} else "inconclusive"


def deciding_part(parts: list[PartResult], verdict: Verdict, combine: str) -> PartResult | None:
    """The part that a claim's headline numbers are taken from.

    Not tested and inconclusive: the first such part. Otherwise, of the parts with the claim's verdict, the one nearest
    to its region's edge where all had to agree, and the one farthest where a single one settled it.
    """
    same = [p for p in parts if p.verdict == verdict]
    if not same:
        return None
    if verdict in ("not tested", "inconclusive"):
        return same[0]
    alone = (verdict == "contradicted") == (combine == "all")
    return max(same, key=lambda p: p.margin) if alone else min(same, key=lambda p: p.margin)


def margin(estimate: float, interval: Bounds, region: Bounds) -> float:
    """Distance from the estimate to the nearest finite edge of the region, in half-widths of the interval."""
    edges = [e for e in region if math.isfinite(e)]
    arms = [abs(b - estimate) for b in interval if math.isfinite(b)]
    if not edges or not arms or not math.isfinite(estimate):
        return math.inf
    distance = min(abs(estimate - e) for e in edges)
    half = max(arms)
    return distance / half if half > 0 else math.inf if distance > 0 else 0.0


def number(value: float) -> str:
    """Four significant digits; words for the infinities."""
    if math.isinf(value):
        return "no bound"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def span(bounds: Bounds) -> str:
    """``0.2 to 0.5``, ``at least 0.2``, ``at most 0.5`` or ``anything``."""
    low, high = bounds
    if math.isinf(low) and math.isinf(high):
        return "anything"
    if math.isinf(high):
        return f"at least {number(low)}"
    if math.isinf(low):
        return f"at most {number(high)}"
    return f"{number(low)} to {number(high)}"


def part_reason(verdict: Verdict, support: Bounds, refute: Bounds, region: Bounds, levels: Bounds, tests: int) -> str:
    """One sentence for a judged part: ``levels`` are the confidences of the supporting and the refuting interval."""
    wanted = f"the region ({span(region)})"
    first, second = (f"{100 * level:.4g}% interval" for level in levels)
    if verdict == "supported":
        return f"the {first}, {span(support)}, lies inside {wanted}"
    if verdict == "contradicted":
        return f"the {second}, {span(refute)}, lies wholly outside {wanted}"
    if support == (-math.inf, math.inf):
        return "all replicates gave the same value, so nothing tells how far replicates differ"
    if support[1] < region[0] or support[0] > region[1]:
        return (
            f"the {first}, {span(support)}, lies outside {wanted}, but not when corrected for the claim's "
            f"{tests} parts ({second}: {span(refute)})"
        )
    over = [
        f"reaches {'below its lower' if i == 0 else 'above its upper'} edge {number(region[i])}"
        for i in (0, 1)
        if (support[0] < region[0] if i == 0 else support[1] > region[1])
    ]
    return f"the {first}, {span(support)}, {' and '.join(over)}"


def claim_reason(parts: list[PartResult], verdict: Verdict, combine: str, deciding: PartResult | None) -> str:
    """Why the claim has its verdict: the deciding part's reason, and how the other parts stand."""
    if deciding is None:
        return "no part could be judged"
    if len(parts) == 1:
        return deciding.reason
    count = {v: sum(p.verdict == v for p in parts) for v in VERDICTS}
    told = ", ".join(f"{n} {v}" for v, n in count.items() if n)
    if verdict == "not tested":
        missing = [p for p in parts if p.verdict == "not tested"]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return f"'{deciding.name}'{more}: {deciding.reason}; of {len(parts)} parts {told}"
    role = {
        ("supported", "all"): "all parts hold; the closest is",
        ("supported", "any"): "one part is enough, and this one holds:",
        ("contradicted", "all"): "all parts must hold, and this one fails:",
        ("contradicted", "any"): "every part fails; the closest is",
        ("inconclusive", "all"): "undecided:",
        ("inconclusive", "any"): "no part holds for certain; undecided:",
    }[verdict, combine]
    return f"{role} '{deciding.name}': {deciding.reason}; of {len(parts)} parts {told}"
