"""Regions, estimates, units and verdicts as text. Nothing here knows HTML."""

import math
from collections.abc import Iterable

from harness.base.words import NOTHING, finite, natural_key, number
from harness.claims.document import Bounds, ClaimVerdict, PartVerdict, SizeVerdict
from harness.paper.claims import LEVEL

#: of directions and of sizes
SYMBOLS = {
    "supported": "✓",
    "contradicted": "✗",
    "inconclusive": "≈",
    "not tested": "–",
    "agrees": "=",
    "differs": "≠",
    "unclear": "~",
}


def unit(statistic: str, measure: str, log: bool = False) -> str:
    """Unit of an estimate ("×" for ratios, and where the logarithm was analysed)."""
    if statistic == "ratio" or log:
        return "×"
    if statistic == "onset":
        return "steps"
    if statistic == "onset_difference":
        return "grid positions"
    if statistic == "auc":
        return ""
    if statistic == "exact":
        return "%"
    if measure.endswith("accuracy"):
        return "%" if statistic in ("mean", "median") else "points"
    if measure.startswith("instability"):
        return "points"
    return {"angle": "°", "distance": "L2"}.get(measure, "")


def unit_of(part: PartVerdict | SizeVerdict | None) -> str:
    """Unit of a part's estimate; none without a part."""
    return "" if part is None else unit(part.statistic, part.measure, part.log)


def with_unit(text: str, unit_text: str) -> str:
    """`98.3%`, `0.8 points`; nothing is added without a value."""
    if text == NOTHING or not unit_text:
        return text
    return f"{text}{unit_text}" if unit_text in ("%", "°", "×") else f"{text} {unit_text}"


def region(pair: Bounds | None) -> str:
    """A claim's region in words: `≥ −0.5`, `≤ 2`, `−0.5 to 0.5`."""
    low, high = pair or (None, None)
    if low is None and high is None:
        return NOTHING
    if low is None:
        return f"≤ {number(high)}"
    if high is None:
        return f"≥ {number(low)}"
    if number(low) == number(high) and low != high:  # a count to half a weight
        return f"{low:.7g} to {high:.7g}"
    return f"{number(low)} to {number(high)}"


def interval(pair: Bounds | None) -> str:
    """A measured interval: `[0.2, 0.9]`; an unbounded end is infinity, no interval is ""."""
    if pair is None:
        return ""
    low, high = finite(pair[0]), finite(pair[1])
    return f"[{'−∞' if low is None else number(low, False)}, {'∞' if high is None else number(high, False)}]"


def estimate(value: float | None, span: Bounds | None, unit_text: str, level: float | None = None) -> str:
    """Estimate with its unit and interval: `0.8 points [0.4, 1.2]`; an onset never reached is `never`.

    The interval's level is told where it is not the usual 95%. A count has neither interval nor level.
    """
    if value is None and span is None:
        return NOTHING
    shown = "never" if value is None else with_unit(number(value, False), unit_text)
    if level is None and span is not None and span[0] is not None and span[0] == span[1]:
        return f"{shown} counted"
    at = "" if level is None or math.isclose(level, LEVEL) else f" at {100 * level:.4g}%"
    return f"{shown} {interval(span)}{at}".strip()


def beside(part: PartVerdict) -> list[str]:
    """What a reader wants beside a part's estimate: its standard deviations, its share, other test images."""
    texts = []
    if part.standardised is not None:
        texts.append(f"{number(part.standardised, False)} SD from no effect")
    if part.above is not None:
        texts.append(f"above {1 if unit_of(part) == '×' else 0} in {part.above:.0%}")
    if part.with_images is not None:
        texts.append(f"other images {interval(part.with_images)}")
    return texts


def robustness(claim: ClaimVerdict) -> str:
    """Whether a judged claim's verdict hangs on one replicate, and the claim's power."""
    texts = []
    if claim.fragile:
        texts.append(f"Fragile: another verdict without replicate {' or '.join(map(str, claim.fragile))}.")
    elif claim.left_out:
        texts.append("The same verdict without any one replicate.")
    elif claim.judged:
        texts.append("At its fewest replicates, so that none can be left out.")
    if claim.power is not None and claim.power.parts:
        texts.append(f"Power in the world as published: {claim.power}.")
    return " ".join(texts)


def deciding_part(claim: ClaimVerdict) -> PartVerdict | None:
    """The part whose numbers the claim shows, found by equality; None if none matches."""
    shown = (claim.estimate, claim.interval, claim.region)
    same = [part for part in claim.parts if (part.estimate, part.interval, part.region) == shown]
    return same[0] if same else claim.parts[0] if len(claim.parts) == 1 else None


def headline(claim: ClaimVerdict) -> str:
    """The claim's own estimate and interval, with the unit of the part that decided it."""
    return estimate(claim.estimate, claim.interval, unit_of(deciding_part(claim)), claim.level)


def needs(claim: ClaimVerdict) -> str:
    """About how many replicates would support an undecided claim: "about 40", "never"; nothing for another."""
    if claim.verdict != "inconclusive":
        return ""
    return "never" if claim.needed is None else f"about {claim.needed:,}"


def by_id(claims: Iterable[ClaimVerdict]) -> list[ClaimVerdict]:
    """The claims in the paper's order."""
    return sorted(claims, key=lambda claim: natural_key(claim.id))


def css_class(verdict: str) -> str:
    """A verdict as the name of a style: `not-tested`."""
    return verdict.replace(" ", "-")
