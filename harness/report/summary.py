"""The verdicts in the terminal: one table, and one line."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.base import words
from harness.base.errors import HarnessError
from harness.claims.document import FEWER_REPLICATES, SIZES, VERDICTS, ClaimVerdict, Verdict, read_claims, shown
from harness.report import formats
from harness.results.folders import Folders

#: the power of a direction that can be decided
DECIDABLE = 0.8
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


def power(claims: Sequence[ClaimVerdict]) -> str:
    """How many of the judged claims this run's replicates decide in the world as published; empty without any."""
    shares = [claim.power.share for claim in claims if claim.judged and claim.power is not None and claim.power.parts]
    known = [share for share in shares if share is not None]
    if not shares:
        return ""
    enough = sum(share >= DECIDABLE for share in known)
    rest = len(shares) - len(known)
    return (
        f"If every value and spread were as published, this run's replicates would support {enough} of {len(known)} "
        f"claims in {DECIDABLE:.0%} of runs or more"
        + (f"; of {rest} {'other' if rest == 1 else 'others'} no number is published." if rest else ".")
    )


def verdict_table(claims: Sequence[ClaimVerdict]) -> Table:
    """Every claim with its verdict (symbol, word and colour), estimate and interval, region, replicates, and about how
    many an undecided one needs for support.

    Cells are `Text`, never markup, so a title with square brackets is shown as written.
    """
    claims = formats.by_id(claims)
    fewer = any(claim.reason.endswith(FEWER_REPLICATES) for claim in claims)
    caption = one_line(claims) + (f"\nWith fewer replicates than the scale has; {FEWER_REPLICATES}." if fewer else "")
    if any(claim.fragile for claim in claims):
        caption += "\nFragile: another verdict without one of its replicates."
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
            Text(
                f"{formats.SYMBOLS[claim.verdict]} {claim.word}{', fragile' if claim.fragile else ''}",
                style=COLOURS[claim.verdict],
            ),
            *(Text(cell, style=dim) for cell in cells),
        )
    return table


def verdicts_of(folders: Folders, ids: Sequence[str] = ()) -> list[ClaimVerdict]:
    """The verdicts of a finished run, of these claims or all. Raises HarnessError for an unknown claim or no run."""
    if not folders.claims.exists():
        raise HarnessError(f"{folders.claims}: missing. Run `harness reproduce` first.")
    claims = {claim.id: claim for claim in formats.by_id(read_claims(folders.claims))}
    for name in ids:
        if name not in claims:
            raise HarnessError(f"{name!r:.80}: no claim of this run; choose from {', '.join(claims)}")
    return [claims[name] for name in ids or claims]


def in_full(claim: ClaimVerdict) -> Group:
    """A claim with its words, its verdict and reason, and a table of its parts and sizes."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("part", "verdict", "estimate [interval]", "region", "n"):
        table.add_column(column, justify="left" if column in ("part", "verdict") else "right")
    for part in claim.parts:
        estimate = formats.estimate(part.estimate, part.interval, formats.unit_of(part), part.level)
        verdict = f"{formats.SYMBOLS[part.verdict]} {shown(part.verdict, claim.papers_own)}"
        table.add_row(*map(Text, (part.name, verdict, estimate, formats.region(part.region), str(part.replicates))))
    for size in claim.sizes:
        estimate = formats.estimate(size.estimate, None, formats.unit_of(size))
        published = formats.estimate(size.published, None, formats.unit_of(size))
        expected = f"published {published}, expected {formats.interval(size.expected)}"
        verdict = f"{formats.SYMBOLS[size.verdict]} {size.verdict}"
        table.add_row(*map(Text, (f"size: {size.name}", verdict, estimate, expected, str(size.replicates))))
    lines = [
        Text.assemble((claim.id, "bold"), f"  {words.clean(claim.title)}"),
        Text(f"{words.clean(claim.statement)} ({words.clean(claim.source.where)})"),
        Text.assemble(
            (f"{formats.SYMBOLS[claim.verdict]} {claim.word}", COLOURS[claim.verdict]), f": {words.clean(claim.reason)}"
        ),
        *([Text(formats.robustness(claim))] if formats.robustness(claim) else []),
    ]
    return Group(*lines, *([table] if table.row_count else [Text("")]))
