"""Numbers, regions, units and verdicts as text. Nothing here knows HTML; `escape_markdown` knows Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.claims import verdicts
from harness.claims.verdicts import VERDICTS

SYMBOLS = {"supported": "✓", "contradicted": "✗", "inconclusive": "≈", "not tested": "–"}
BRANCHES = {
    "dense": "dense",
    "imp": "IMP",
    "random_prune": "random prune",
    "random_reinit": "random reinit",
    "snip": "SNIP",
}
NOTHING = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, infinite, or no number at all (files edited by hand)."""
    try:
        return verdicts.finite(float(value))
    except (TypeError, ValueError):
        return None


def clean(text: Any) -> str:
    """One line of text without control characters: XML cannot hold them, and a terminal would obey them."""
    return " ".join(_CONTROL.sub("", "" if text is None else str(text)).split())


def number(value: Any, strip: bool = True) -> str:
    """Three significant digits or so, a true minus sign, an en dash where there is no value."""
    x = finite(value)
    if x is None:
        return NOTHING
    size = abs(x)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{x:,.{digits}f}" if size == 0 or size >= 0.005 else f"{x:.1g}"
    if "." in text and "e" not in text and (strip or x == round(x)):
        text = text.rstrip("0").rstrip(".")
    return ("0" if text == "-0" else text).replace("-", "−")


def percent(share: Any) -> str:
    """A share as a percentage: 0.168 -> 16.8%."""
    x = finite(share)
    return NOTHING if x is None else f"{x * 100:.3g}%"


def duration(seconds: Any) -> str:
    """Seconds as the two largest units that matter."""
    x = finite(seconds)
    if x is None:
        return NOTHING
    if x < 60:
        return f"{x:.1f} s" if x < 10 else f"{x:.0f} s"
    minutes, rest = divmod(round(x), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def energy(joules: Any) -> str:
    """Joules in the unit that keeps the figure short; nothing where the machine does not tell."""
    x = finite(joules)
    if x is None:
        return ""
    return f"{number(x / 3.6e6)} kWh" if x >= 3.6e5 else f"{number(x / 1000)} kJ"


def unit(part: Mapping[str, Any]) -> str:
    """Unit of a part's estimate: from its statistic and measure ("×" for ratios)."""
    statistic, measure = str(part.get("statistic") or ""), str(part.get("measure") or "")
    if statistic == "ratio" or part.get("log"):
        return "×"
    if statistic == "onset":
        return "steps"
    if statistic == "onset_difference":
        return "grid positions"
    if measure.endswith("accuracy"):
        return "%" if statistic == "mean" else "points"
    if measure.startswith("instability"):
        return "points"
    return {"angle": "°", "distance": "L2"}.get(measure, "")


def with_unit(text: str, unit_text: str) -> str:
    """`98.3%`, `0.8 points`; nothing is added where there is no value."""
    if text == NOTHING or not unit_text:
        return text
    return f"{text}{unit_text}" if unit_text in ("%", "°", "×") else f"{text} {unit_text}"


def bounds(pair: Any) -> tuple[float | None, float | None]:
    """A JSON interval or region as (low, high); None is unbounded (or no interval at all)."""
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return None, None
    return finite(pair[0]), finite(pair[1])


def region(pair: Any) -> str:
    """A claim's region in words: `≥ −0.5`, `≤ 2`, `−0.5 to 0.5`."""
    low, high = bounds(pair)
    if low is None and high is None:
        return NOTHING
    if low is None:
        return f"≤ {number(high)}"
    if high is None:
        return f"≥ {number(low)}"
    return f"{number(low)} to {number(high)}"


def interval(pair: Any) -> str:
    """A measured interval: `[0.2, 0.9]`; an unbounded end is written as infinity."""
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return ""
    low, high = bounds(pair)
    return f"[{'−∞' if low is None else number(low, False)}, {'∞' if high is None else number(high, False)}]"


def estimate(part: Mapping[str, Any]) -> str:
    """Estimate with its unit and interval: `0.8 points [0.4, 1.2]`; an onset never reached is `never`."""
    value = finite(part.get("estimate"))
    span = interval(part.get("interval"))
    if value is None and not span:
        return NOTHING
    shown = "never" if value is None else with_unit(number(value, False), unit(part))
    return f"{shown} {span}".strip()


def deciding_part(claim: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part whose numbers the claim shows, found by equality; an empty mapping where none matches."""
    parts = [part for part in claim.get("parts") or [] if isinstance(part, Mapping)]
    keys = ("estimate", "interval", "region")
    same = [part for part in parts if all(part.get(key) == claim.get(key) for key in keys)]
    return same[0] if same else parts[0] if len(parts) == 1 else {}


def headline(claim: Mapping[str, Any]) -> str:
    """The claim's own estimate and interval, with the unit of the part that decided it."""
    part = deciding_part(claim)
    keys = ("statistic", "measure", "log")
    return estimate({**{k: part.get(k) for k in keys}, **{k: claim.get(k) for k in ("estimate", "interval")}})


def natural_key(text: Any) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts C2 before C10."""
    pieces = re.findall(r"\d+|\D+", str(text))
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces)


def by_id(claims: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return sorted((dict(claim) for claim in claims), key=lambda claim: natural_key(claim.get("id")))


def verdict_of(item: Mapping[str, Any]) -> str:
    """The verdict; anything unknown counts as not tested, never as a pass."""
    verdict = str(item.get("verdict"))
    return verdict if verdict in VERDICTS else "not tested"


def escape_markdown(value: Any) -> str:
    """Text that Markdown shows as written, also inside a table cell."""
    text = clean(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)
