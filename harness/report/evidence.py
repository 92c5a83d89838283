"""One claim's evidence: a forest figure of its parts, and a glyph of its deciding interval for the overview."""

import math
from collections.abc import Sequence
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.base import words
from harness.claims.document import ClaimVerdict, PartVerdict, shown
from harness.report import formats, style

FOREST_WIDTH = 9.6  # inches
ROW = 0.34


def is_ratio(part: PartVerdict | None) -> bool:
    return formats.unit_of(part) == "×"


def forest(claim: ClaimVerdict) -> Figure | None:
    """A row per part: replicates (open dots), estimate (diamond), 95% interval, region shaded; None without parts.

    Neighbouring parts of one unit and magnitude share an axis.
    """
    parts = [part for part in claim.parts if part.estimate is not None or part.interval is not None]
    if not parts:
        return None
    groups = [list(group) for _, group in groupby(parts, key=lambda part: (formats.unit_of(part), _scale(part)))]
    tall = [len(group) * ROW for group in groups]
    height = sum(tall) + 0.39 * len(groups) + 0.05
    figure = Figure(figsize=(FOREST_WIDTH, height))
    top = height - 0.05
    for group, size in zip(groups, tall, strict=True):
        ax = figure.add_axes((0.31, (top - size) / height, 0.55, size / height))
        _draw_group(ax, group, claim.papers_own)
        top -= size + 0.39
    return figure


def _scale(part: PartVerdict) -> int:
    """The magnitude of a part's numbers, as a rounded power of thirty; parts of other magnitudes have other axes."""
    if is_ratio(part):
        return 0
    sizes = [abs(value) for value in _numbers(part) if value]
    return round(math.log(max(sizes), 30)) if sizes else 0


def _numbers(part: PartVerdict) -> list[float]:
    values = [part.estimate, *(part.interval or ()), *part.region, *part.values]
    return [value for value in values if value is not None]


def limits(numbers: Sequence[float], log: bool) -> tuple[float, float]:
    """Axis limits around all numbers (on a log axis the positive ones) and the value of no effect."""
    values = [*(value for value in numbers if not log or value > 0), 1.0 if log else 0.0]
    if log:
        low, high = math.log(min(values)), math.log(max(values))
        pad = max(high - low, 0.1) * 0.1
        return math.exp(low - pad), math.exp(high + pad)
    pad = max(max(values) - min(values), 1e-9) * 0.1
    return min(values) - pad, max(values) + pad


def _draw_group(ax: Axes, parts: Sequence[PartVerdict], papers_own: bool) -> None:
    log = is_ratio(parts[0])
    low, high = limits([number for part in parts for number in _numbers(part)], log)
    if log:
        ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.axvline(1.0 if log else 0.0, color="#9a9a96", lw=0.8, zorder=1)
    for y, part in enumerate(parts):
        _draw_part(ax, part, y, low, high, papers_own)
    ax.grid(axis="y", visible=False)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if log:
        style.plain_ticks(ax.xaxis, _log_ticks(low, high))
    else:
        ax.locator_params(axis="x", nbins=6)
        style.plain_ticks(ax.xaxis)
    unit = formats.unit_of(parts[0])
    ax.set_xlabel(
        {"×": "ratio (log scale)", "L2": "distance (L2)", "°": "degrees", "%": "percent"}.get(unit, unit or "value"),
        labelpad=1,
    )
    ax.xaxis.label.set_color(style.MUTED)


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers inside the limits, as fine as possible with at most seven."""
    for steps in ((1, 1.2, 1.5, 2, 3, 5, 7), (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [s * 10.0**e for e in range(-6, 7) for s in steps if low <= s * 10.0**e <= high]
        if len(ticks) <= 7:
            return ticks
    return [1.0]


def _draw_part(ax: Axes, part: PartVerdict, y: int, low: float, high: float, papers_own: bool) -> None:
    _draw_region(ax, part, y, low, high)
    # an onset never reached is drawn at the right edge with an arrow
    for i, value in enumerate(part.values):
        x, mark = (high, ">") if value is None else (value, "o")
        shifted = y + 0.17 * ((i % 3) - 1)
        ax.plot(x, shifted, mark, ms=3.6, mfc="none", mec=style.MUTED, mew=0.8, zorder=3, clip_on=False)
    _draw_estimate(ax, part, y, low, high)
    name = "\n".join(wrap(shorten(words.clean(part.name), 96, placeholder=" …"), 52)[:2])
    verdict = f"{formats.SYMBOLS[part.verdict]} {shown(part.verdict, papers_own)}"
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
    ax.text(-0.02, y, name, ha="right", fontsize=7.6, linespacing=1.05, **beside)
    ax.text(1.02, y, verdict, fontsize=7.8, color=style.VERDICT_COLOURS[part.verdict], fontweight="bold", **beside)


def _draw_region(ax: Axes, part: PartVerdict, y: int, low: float, high: float) -> None:
    bottom, top = part.region
    left, right = low if bottom is None else bottom, high if top is None else top
    ax.fill_betweenx([y - 0.4, y + 0.4], left, right, color="#0072B2", alpha=0.13, lw=0, zorder=0)
    for edge in (bottom, top):
        if edge is not None:
            ax.plot([edge, edge], [y - 0.4, y + 0.4], color="#0072B2", lw=1.0, zorder=1)


def _draw_estimate(ax: Axes, part: PartVerdict, y: int, low: float, high: float) -> None:
    """The interval, with an arrow at an end without a bound, and the estimate."""
    colour = style.VERDICT_COLOURS[part.verdict]
    if part.interval is not None:
        start, end = part.interval
        span = [low if start is None else start, high if end is None else end]
        ax.plot(span, [y, y], color=colour, lw=2.0, zorder=4, solid_capstyle="butt")
        for value, edge, mark in ((start, low, "<"), (end, high, ">")):
            if value is None:
                ax.plot(edge, y, marker=mark, color=colour, ms=5, zorder=5, clip_on=False)
    estimate = high if part.estimate is None else part.estimate
    ax.plot(estimate, y, marker="D", color=colour, ms=5, mec=style.PAPER, mew=0.7, zorder=6, clip_on=False)


def glyph(claim: ClaimVerdict, width: int = 120, height: int = 14) -> str:
    """The deciding interval against its region as a small inline SVG (numbers only; classes carry the colours)."""
    if not claim.judged or claim.interval is None:
        return ""
    log = is_ratio(formats.deciding_part(claim))
    numbers = [claim.estimate, *claim.interval, *claim.region]
    low, high = limits([number for number in numbers if number is not None], log)

    def x(value: float) -> float:
        if log:
            return width * math.log(max(value, low) / low) / math.log(high / low)
        return width * (value - low) / (high - low)

    bottom, top = claim.region
    left, right = 0.0 if bottom is None else x(bottom), float(width) if top is None else x(top)
    start, end = claim.interval
    first, last = 0.0 if start is None else x(start), float(width) if end is None else x(end)
    middle = width if claim.estimate is None else x(claim.estimate)
    kind = formats.css_class(claim.verdict)
    half = height / 2
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return (
        f'<svg class="glyph {kind}" {size} aria-hidden="true">'
        f'<rect class="region" x="{left:.1f}" y="0" width="{max(right - left, 1):.1f}" height="{height}"/>'
        f'<line class="zero" x1="{x(1.0 if log else 0.0):.1f}" x2="{x(1.0 if log else 0.0):.1f}" y1="0" y2="{height}"/>'
        f'<line class="span" x1="{first:.1f}" x2="{last:.1f}" y1="{half:g}" y2="{half:g}"/>'
        f'<circle cx="{middle:.1f}" cy="{half:g}" r="3.2"/></svg>'
    )
