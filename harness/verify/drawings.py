"""Drawings of somebody's page: each has to be a drawing alone, nothing that a browser would run, fetch or lay over it.

How figures are drawn differs between versions of Matplotlib, so they can't be compared as text everywhere.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from harness.verify.shared_run import SharedRun

DRAWN = re.compile(r"<svg xmlns=.*?</svg>", re.DOTALL)  # Matplotlib's; the page's own glyphs are the same everywhere
ELEMENTS = {
    *("svg", "title", "desc", "defs", "style", "g", "path", "use", "text", "tspan"),
    *("clippath", "rect", "line", "circle", "polyline", "polygon"),
}
ATTRIBUTES = {
    *("xmlns", "xmlns:xlink", "version", "viewbox", "role", "aria-labelledby", "aria-hidden", "type", "class", "id"),
    *("href", "xlink:href", "clip-path", "transform", "style", "d", "points"),
    *("x", "y", "dx", "dy", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"),
}
PROPERTIES = re.compile(r"(?:fill|stroke|font|text-anchor|opacity|clip)[a-z-]*")
STYLE = "*{stroke-linejoin: round; stroke-linecap: butt}"  # Matplotlib's own rule, in each of its figures


class _Reader(HTMLParser):
    """Reads one <svg> and notes what is no part of a drawing. It expands no entities."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ELEMENTS:
            self.faults.append(f"element {tag!r:.60}")
        for name, value in attrs:
            if name not in ATTRIBUTES or not _harmless(name, value or ""):
                self.faults.append(f"attribute {name}={value!r:.60}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"a stray </{tag:.60}>")

    def handle_data(self, data: str) -> None:
        if "<" in data or (self.open[-1:] == ["style"] and data.strip() != STYLE) or (not self.open and data.strip()):
            self.faults.append(f"text {data!r:.60}")

    def handle_comment(self, data: str, /) -> None:
        self.faults.append(f"comment or declaration {data!r:.60}")

    handle_decl = handle_pi = unknown_decl = handle_comment  # type: ignore[assignment]


def _harmless(name: str, value: str) -> bool:
    """Whether an attribute points nowhere but into its own drawing, and sets nothing but how shapes are painted."""
    if name.endswith("href"):
        return value.startswith("#")
    if name == "style":
        names = [part.partition(":")[0].strip() for part in value.split(";") if part.strip()]
        if "\\" in value or "/*" in value or not all(PROPERTIES.fullmatch(name) for name in names):
            return False
    return all(place.startswith("#") for place in re.split(r"url\s*\(", value, flags=re.IGNORECASE)[1:])


def fault(svg: str) -> str:
    """What in the text of an <svg> is no part of a drawing, or ""."""
    reader = _Reader()
    reader.feed(svg)
    reader.close()
    if reader.open:
        reader.faults.append(f"<{reader.open[-1]:.60}> without an end")
    return reader.faults[0] if reader.faults else ""


def drawings(shared: SharedRun) -> Iterator[str]:
    """The drawings in the page and those beside it."""
    report = shared.folders.report
    for name in ("index.html", "report.md"):
        for place, svg in enumerate(DRAWN.findall((report / name).read_text(encoding="utf-8")), 1):
            if more := fault(svg):
                yield f"report/{name}: figure {place}: {more} is no part of a drawing"
    for path in sorted((report / "figures").glob("*.svg")):
        if more := fault(path.read_text(encoding="utf-8")):
            yield f"report/figures/{path.name}: {more} is no part of a drawing"
