"""Verdicts of parts and claims from intervals, the part that decides, and the reasons in plain English.

The rules. ``all``: a part is supported if its 95% interval lies inside its region, and the claim if all parts are;
since all must hold, this needs no correction. One part wholly outside its region refutes the claim, so the refuting
intervals are corrected for the number of parts (Bonferroni). ``any`` is the reverse: only support is corrected.
"""

from __future__ import annotations

import math

from harness.claims.document import VERDICTS, PartVerdict, Size, Verdict
from harness.paper.claims import LEVEL

Bounds = tuple[float, float]
#: error rate of a supported verdict from a t interval, for a true value at the region's edge and normal noise
ONE_SIDED = (1 - LEVEL) / 2


def part_verdict(inside: bool, disjoint: bool) -> Verdict:
    """``inside``: the supporting interval lies in the region; ``disjoint``: the refuting interval lies outside it."""
    return "supported" if inside else "contradicted" if disjoint else "inconclusive"


def claim_verdict(parts: list[Verdict], combine: str) -> Verdict:
    """The claim's verdict from its parts'; a claim without parts is not tested.

    A contradicted part under ``all``, and a supported part under ``any``, settles the claim even if other parts are not
    tested. Otherwise the claim is not tested if one of its parts is not tested.
    """
    settling: Verdict = "contradicted" if combine == "all" else "supported"
    unanimous: Verdict = "supported" if combine == "all" else "contradicted"
    if settling in parts:
        return settling
    if not parts or "not tested" in parts:
        return "not tested"
    return unanimous if set(parts) == {unanimous} else "inconclusive"


def claim_size(sizes: list[Size]) -> Size | None:
    """The claim's size from its parts': it agrees if all do; None without any."""
    return next((size for size in ("differs", "unclear", "agrees") if size in sizes), None)


def deciding_part(parts: list[PartVerdict], margins: list[float], verdict: Verdict, combine: str) -> PartVerdict | None:
    """The part that provides a claim's headline numbers; `margins` has each part's `margin`.

    For a claim not tested or inconclusive: the first such part. Otherwise, of the parts with the claim's verdict: if
    all had to agree, the part nearest to its region's edge; if one part settled it, the part farthest from the edge.
    """
    same = [(part, size) for part, size in zip(parts, margins, strict=True) if part.verdict == verdict]
    if not same:
        return None
    if verdict in ("not tested", "inconclusive"):
        return same[0][0]
    alone = (verdict == "contradicted") == (combine == "all")
    choose = max if alone else min
    return choose(same, key=lambda pair: pair[1])[0]


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
    """The reason of a judged part's verdict. ``levels``: confidences of the supporting and the refuting interval."""
    wanted = f"the region ({span(region)})"
    first, second = (f"{100 * level:.4g}% interval" for level in levels)
    if verdict == "supported":
        return f"the {first}, {span(support)}, lies inside {wanted}"
    if verdict == "contradicted":
        return f"the {second}, {span(refute)}, lies wholly outside {wanted}"
    if support == (-math.inf, math.inf):
        return "all replicates gave the same value, so nothing tells how far replicates differ"
    if support[1] < region[0] or support[0] > region[1]:
        if refute == (-math.inf, math.inf):
            few = f"so few replicates cannot refute one of the claim's {tests} parts"
            return f"the {first}, {span(support)}, lies outside {wanted}, but {few}"
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


def claim_reason(parts: list[PartVerdict], verdict: Verdict, combine: str, deciding: PartVerdict | None) -> str:
    """The reason of the claim's verdict: the deciding part's reason, and the number of parts by verdict."""
    if deciding is None:
        return "no part could be judged"
    if len(parts) == 1:
        return deciding.reason
    count = {v: sum(p.verdict == v for p in parts) for v in VERDICTS}
    summary = ", ".join(f"{n} {v}" for v, n in count.items() if n)
    if verdict == "not tested":
        missing = [p for p in parts if p.verdict == "not tested"]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return f"'{deciding.name}'{more}: {deciding.reason}; of {len(parts)} parts {summary}"
    role = {
        ("supported", "all"): "all parts hold; the closest is",
        ("supported", "any"): "one part is enough, and this one holds:",
        ("contradicted", "all"): "all parts must hold, and this one fails:",
        ("contradicted", "any"): "every part fails; the closest is",
        ("inconclusive", "all"): "undecided:",
        ("inconclusive", "any"): "no part holds for certain; undecided:",
    }[verdict, combine]
    return f"{role} '{deciding.name}': {deciding.reason}; of {len(parts)} parts {summary}"
