"""Numbers and words as people read them, and text that a terminal can show safely."""

import math
import re
from typing import Any

NOTHING = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def disk(size: float) -> str:
    """Bytes as 3 MB, 350 MB, 1.2 GB, 350 GB, 1.1 TB."""
    units = [("MB", 1e6), ("GB", 1e9), ("TB", 1e12)]
    unit, per = next(((unit, per) for unit, per in units[:2] if round(size / per) < 1000), units[2])
    return f"{size / per:.1f} {unit}" if unit != "MB" and size / per < 10 else f"{size / per:,.0f} {unit}"


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey; names in other people's files may hold them."""
    return "".join(character for character in text if character == "\n" or character.isprintable())


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, infinite or not a number (as in a file edited by hand)."""
    try:
        x = float(value)
    except (TypeError, ValueError):
        return None
    return x if math.isfinite(x) else None


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
    """3.2 s, 45 s, 6 min 40 s, 12 min, 1 h 04 min, 18 days 4 h, 3.2 years; an en dash where there is no value."""
    x = finite(seconds)
    if x is None:
        return NOTHING
    if x < 90:
        return f"{max(x, 0.0):.1f} s".replace(".0 s", " s") if x < 9.95 else f"{x:.0f} s"
    minutes, hours = round(x / 60), round(x / 3600)
    if x < 599.5:
        return f"{round(x) // 60} min {round(x) % 60:02d} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} days {hours % 24} h" if hours < 365 * 24 else f"{hours / 24 / 365.25:,.1f} years"


def energy(joules: Any) -> str:
    """Joules in the unit that keeps the figure short; empty if the machine does not report it."""
    x = finite(joules)
    if x is None:
        return ""
    return f"{number(x / 3.6e6)} kWh" if x >= 3.6e5 else f"{number(x / 1000)} kJ"


def natural_key(text: Any) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts C2 before C10."""
    pieces = re.findall(r"\d+|\D+", str(text))
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces)


def escape_markdown(value: Any) -> str:
    """Text escaped so that Markdown shows it literally, also inside a table cell."""
    text = clean(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)
