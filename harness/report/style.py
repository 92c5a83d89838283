"""The style of every figure, and the conversion of a Matplotlib figure to one clean, deterministic SVG element.

Each branch has one colour in every figure, the first of Okabe and Ito's colour-blind safe set. A rewind iteration has
one marker.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from harness.base import words
from harness.lottery.branches import BRANCHES
from harness.lottery.branches import label as label_of

COLOURS = {
    "dense": "#3c3c3c",
    "imp": "#0072B2",
    "random_prune": "#D55E00",
    "random_reinit": "#009E73",
    "snip": "#CC79A7",
    "snip_shuffled": "#A6761D",
    "snip_reinit": "#7A4A8C",
    "fine_tune": "#B8A200",
    "lr_rewind": "#D1495B",
    "scratch_b": "#66A61E",
    "keep_signs": "#5F7A8C",
    "erdos_renyi": "#9A8F80",
    "gradual": "#1B9E9E",
    "set": "#E07B39",
    "rigl": "#3F51B5",
    "dsr": "#8E7CC3",
}
SPARE_COLOURS = ("#E69F00", "#56B4E9", "#8C564B", "#4B0082")  # in turn, of branches without an entry in COLOURS
VERDICT_COLOURS = {
    "supported": "#00734f",
    "contradicted": "#b3420a",
    "inconclusive": "#8a6400",
    "not tested": "#6b6b6b",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
# published values beneath measured ones, in the same colours
UNDER: dict[str, Any] = {"ls": ":", "lw": 1.6, "marker": "D", "ms": 4.5, "mfc": "none", "mew": 0.9, "zorder": 1.6}
PAPER = "#fdfdfb"  # the fixed light panel behind every figure, in both colour schemes
PUBLISHED_FACE = "#f6efdf"  # marks a panel of published numbers
INK, MUTED, GRID = "#222222", "#666666", "#e2e2de"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

_RC: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.parse_math": False,  # labels come from data, so a dollar sign is literal
    "text.color": INK,
    "axes.edgecolor": "#9a9a96",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": "#9a9a96",
    "ytick.color": "#9a9a96",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.2,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "harness.report",
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib settings of the report, for building and for saving a figure. Reset afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        cast(dict[str, Any], matplotlib.rcParams).update(_RC)
        yield


def marker(k: int, grid: Sequence[int]) -> str:
    """The marker of rewind iteration k among all iterations of the table: the same in every figure."""
    return MARKERS[sorted(grid).index(k) % len(MARKERS)] if k in grid else "o"


def shade(k: int, grid: Sequence[int]) -> str:
    """IMP's blue, lighter for an early k and darker for a late one."""
    stops = [to_rgb(c) for c in ("#6FBFEA", COLOURS["imp"], "#003B63")]
    position = 1.0 if len(grid) < 2 else 2 * sorted(grid).index(k) / (len(grid) - 1)
    first = int(min(position, 1))
    red, green, blue = (a + (b - a) * (position - first) for a, b in zip(stops[first], stops[first + 1], strict=True))
    return to_hex((red, green, blue))


def branch_colour(branch: str) -> str:
    """A branch's colour; grey for a published curve whose branch the paper does not name."""
    further = [name for name in BRANCHES if name not in COLOURS]
    if branch in further:
        return SPARE_COLOURS[further.index(branch) % len(SPARE_COLOURS)]
    return COLOURS.get(branch, MUTED)


def under_handle() -> Line2D:
    """The legend's entry for published values beneath measured ones."""
    return Line2D([], [], color=MUTED, label="published, same recipe", **UNDER)


def plain_ticks(axis: matplotlib.axis.Axis, ticks: Sequence[float] | None = None) -> None:
    """Plain numbers on an axis (log axes otherwise write powers in mathtext), and no minor ticks."""
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_ticks(list(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def branch_legend(figure: Figure, branches: Sequence[str], extra: Sequence[Line2D] = ()) -> None:
    """One legend above the panels, in as few rows as fit: a colour for each branch."""
    handles = [Line2D([], [], color=branch_colour(b), lw=2.6, label=label_of(b)) for b in branches]
    handles += list(extra)
    inches = sum(0.46 + 0.06 * len(str(handle.get_label())) for handle in handles)  # in letters of 7.5 points
    columns = math.ceil(len(handles) / max(1, math.ceil(inches / figure.get_figwidth())))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=1.8, columnspacing=1.6)


def mark_published(ax: Axes) -> None:
    """Tint and label a panel of published values, so that it is not read as measured."""
    ax.set_facecolor(PUBLISHED_FACE)
    ax.text(
        0.99,
        0.02,
        "published (paper's setting)",
        transform=ax.transAxes,
        ha="right",
        va="bottom",
        fontsize=7,
        color="#7a5a10",
        style="italic",
    )


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as one `<svg>` element: a title and description for screen readers, ids unique to `name`, no metadata.

    The text of labels passes through an XML parser and serialiser, so it cannot become markup.
    """
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    _rename_ids(root, name)
    for child in [c for c in root if c.tag == "metadata"]:
        root.remove(child)
    _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
    root.attrib.clear()
    root.attrib.update(
        {
            "xmlns": _SVG,
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width * 4 / 3:.0f}",
            "height": f"{height * 4 / 3:.0f}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words.clean(text)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Number the ids that are referred to, with the prefix `name`; drop other ids, and the tags' namespaces."""
    urls = (value for element in root.iter() for value in element.attrib.values())
    wanted = {reference for url in urls for reference in _REFERENCE.findall(url)}
    wanted |= {element.get(_XLINK, "#")[1:] for element in root.iter() if element.get(_XLINK)}
    short = {old: f"{name}-{number}" for number, old in enumerate(sorted(wanted))}
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
        for key, value in list(element.attrib.items()):
            if key == "id":
                del element.attrib[key]
                if value in short:
                    element.set("id", short[value])
            elif key == _XLINK:
                del element.attrib[key]
                element.set("href", f"#{short[value[1:]]}")
            elif key in ("style", "clip-path", "fill"):
                value = _REFERENCE.sub(lambda match: f"url(#{short[match[1]]})", value)
                element.set(key, value.replace("'DejaVu Sans'", _FONTS))
