"""The verdicts in the terminal: one table, and one line."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report import formats

COLOURS = {"supported": "green", "contradicted": "red", "inconclusive": "yellow", "not tested": "bright_black"}


def counts(claims: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many claims have each verdict, in the fixed order of `formats.VERDICTS`."""
    found = Counter(formats.verdict_of(claim) for claim in claims)
    return {verdict: found[verdict] for verdict in formats.VERDICTS}


def one_line(claims: Iterable[Mapping[str, Any]]) -> str:
    """`12 supported, 1 contradicted, 3 inconclusive, 17 not tested`."""
    return ", ".join(f"{n} {verdict}" for verdict, n in counts(claims).items())


def verdict_table(claims: Iterable[Mapping[str, Any]]) -> Table:
    """Every claim with its verdict (symbol, word and colour), estimate and interval, region, replicates.

    Cells are `Text`, never markup, so a title with square brackets is shown as written.
    """
    claims = formats.by_id(claims)
    table = Table(box=box.SIMPLE_HEAD, caption=one_line(claims), caption_justify="left", pad_edge=False)
    columns: tuple[tuple[str, dict[str, Any]], ...] = (
        ("claim", {"no_wrap": True}),
        ("", {"ratio": 1}),
        ("verdict", {"no_wrap": True}),
        ("estimate [95% interval]", {"justify": "right"}),
        ("region", {"justify": "right"}),
        ("n", {"justify": "right"}),
    )
    for name, options in columns:
        table.add_column(name, **options)
    for claim in claims:
        verdict = formats.verdict_of(claim)
        dim = "bright_black" if verdict == "not tested" else ""
        judged = verdict != "not tested"
        cells = (
            formats.headline(claim) if judged else formats.NOTHING,
            formats.region(claim.get("region")) if judged else formats.NOTHING,
            formats.clean(claim.get("replicates") or formats.NOTHING) if judged else formats.NOTHING,
        )
        table.add_row(
            Text(formats.clean(claim.get("id")), style="bold"),
            Text(formats.clean(claim.get("title")), style=dim),
            Text(f"{formats.SYMBOLS[verdict]} {verdict}", style=COLOURS[verdict]),
            *(Text(cell, style=dim) for cell in cells),
        )
    return table
