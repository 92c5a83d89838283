"""The verdicts in the terminal: one table, and one line."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.base import words
from harness.base.errors import HarnessError
from harness.claims.document import FEWER_REPLICATES, SIZES, VERDICTS, ClaimVerdict, Verdict, read_claims, shown
from harness.report import formats
from harness.results.folders import Folders

COLOURS: dict[Verdict, str] = {
    "supported": "green",
    "contradicted": "red",
    "inconclusive": "yellow",
    "not tested": "bright_black",
}


def counts(claims: Sequence[ClaimVerdict]) -> dict[str, int]:
    """How many claims have each verdict, in the fixed order of `VERDICTS`."""
    count = Counter(claim.verdict for claim in claims)
    return {verdict: count[verdict] for verdict in VERDICTS}


def one_line(claims: Sequence[ClaimVerdict]) -> str:
    """`12 supported, 1 contradicted, 3 inconclusive, 17 not tested`, in the words of the scale; sizes, if any."""
    papers_own = all(claim.papers_own for claim in claims)
    count = Counter(claim.verdict for claim in claims)
    directions = ", ".join(f"{count[verdict]} {shown(verdict, papers_own)}" for verdict in VERDICTS)
    sizes = Counter(claim.size for claim in claims if claim.size)
    return directions + (
        f"; sizes: {', '.join(f'{sizes[size]} {size}' for size in SIZES if sizes[size])}" if sizes else ""
    )


def verdict_table(claims: Sequence[ClaimVerdict]) -> Table:
    """Every claim with its verdict (symbol, word and colour), estimate and interval, region, replicates, and about how
    many an undecided one needs for support.

    Cells are `Text`, never markup, so a title with square brackets is shown as written.
    """
    claims = formats.by_id(claims)
    fewer = any(claim.reason.endswith(FEWER_REPLICATES) for claim in claims)
    caption = one_line(claims) + (f"\nWith fewer replicates than the scale has; {FEWER_REPLICATES}." if fewer else "")
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    columns: tuple[tuple[str, dict[str, Any]], ...] = (
        ("claim", {"no_wrap": True}),
        ("", {"ratio": 1}),
        ("verdict", {"no_wrap": True}),
        ("estimate [interval]", {"justify": "right"}),
        ("region", {"justify": "right"}),
        ("n", {"justify": "right"}),
        ("needs", {"justify": "right"}),
    )
    for name, options in columns:
        table.add_column(name, **options)
    for claim in claims:
        dim = "" if claim.judged else "bright_black"
        cells = (words.NOTHING,) * 4
        if claim.judged:
            replicates = str(claim.replicates or words.NOTHING)
            cells = (formats.headline(claim), formats.region(claim.region), replicates, formats.needs(claim))
        table.add_row(
            Text(claim.id, style="bold"),
            Text(words.clean(claim.title), style=dim),
            Text(f"{formats.SYMBOLS[claim.verdict]} {claim.word}", style=COLOURS[claim.verdict]),
            *(Text(cell, style=dim) for cell in cells),
        )
    return table


def verdicts_of(folders: Folders) -> Table:
    """The verdicts of a finished run. Raises HarnessError if there are none yet."""
    if not folders.claims.exists():
        raise HarnessError(f"{folders.claims}: missing. Run `harness reproduce` first.")
    return verdict_table(read_claims(folders.claims))
