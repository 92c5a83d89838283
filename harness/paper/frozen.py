"""``papers/<paper>/frozen.yaml``: the regions of all claims at a date, and what has moved since.

A claim's entry at a scale is frozen by the digest of everything that decides its direction. The regions stand beside
the digest, so that a difference can be told. An entry that moved after results existed needs an erratum in claims.yaml.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.base.files import digest, write_text
from harness.paper.claims import Claim, Date, Region, ScaleClaim, Strict

FILE = "frozen.yaml"
HEAD = """\
# The claims' regions as they were frozen. `harness check --freeze` writes this file: it adds what is new, and changes
# no entry of a scale that has a baseline. sha256 covers statistic, measure, cells, region, combine and replicates.
"""


class FrozenClaim(Strict):
    """What decided a claim's direction at a scale, at a date; `regions` by the part's name."""

    date: Date
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    replicates: int
    combine: Literal["all", "any"]
    regions: dict[str, Region]


#: claim -> scale -> its frozen entry
Frozen = dict[str, dict[str, FrozenClaim]]


def frozen_now(entry: ScaleClaim, date: str = "") -> FrozenClaim:
    """A claim's entry as it stands, by default with today's date (UTC)."""
    directions = [part for part in entry.parts if part.region is not None]
    fields = [part.model_dump(mode="json", exclude_defaults=True, exclude={"name"}) for part in directions]
    return FrozenClaim(
        date=date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        sha256=digest([entry.replicates, entry.combine, fields]),
        replicates=entry.replicates,
        combine=entry.combine,
        regions={part.name: part.region for part in directions if part.region is not None},
    )


def moved(claims: Sequence[Claim], scale: str, frozen: Frozen) -> Iterator[tuple[Claim, str, str]]:
    """The claims that differ from their frozen entry at a scale: what they were, and what they are."""
    for claim in claims:
        entry, before = claim.scales.get(scale), frozen.get(claim.id, {}).get(scale)
        now = frozen_now(entry) if entry else None
        if before and now is None:
            yield claim, "judged", "no longer judged"
        elif before and now and before.sha256 != now.sha256:
            yield claim, *_difference(before, now)


def _difference(before: FrozenClaim, now: FrozenClaim) -> tuple[str, str]:
    """Both entries in words, as far as they differ."""
    were, are = (
        {f"part {name!r}": f"region {json.dumps(region)}" for name, region in entry.regions.items()}
        | {"replicates": str(entry.replicates), "combine": entry.combine}
        for entry in (before, now)
    )
    names = [name for name in {**were, **are} if were.get(name) != are.get(name)]
    texts = ["; ".join(f"{name}: {known.get(name, 'none')}" for name in names) for known in (were, are)]
    same = "the same regions"
    return (texts[0], texts[1]) if names else (same, f"{same}, of another statistic, measure or other cells")


def excused(claim: Claim, scale: str) -> bool:
    """Whether an erratum of the claim names its entry as it stands."""
    entry = claim.scales.get(scale)
    now = frozen_now(entry).sha256 if entry else ""
    return any(erratum.scale == scale and now.startswith(erratum.sha256) for erratum in claim.errata)


def dates(scale: str, frozen: Frozen) -> list[str]:
    """The dates at which the entries of a scale were frozen."""
    return sorted({entries[scale].date for entries in frozen.values() if scale in entries})


def moves(claims: Sequence[Claim], scale: str, frozen: Frozen) -> list[str]:
    """What moved at a scale since it was frozen, a sentence for each claim, with its errata."""
    sentences = []
    for claim, was, now in moved(claims, scale, frozen):
        errata = [f"erratum of {e.date}: {e.reason}" for e in claim.errata if e.scale == scale]
        why = "; ".join(errata) if excused(claim, scale) else "no erratum says why"
        sentences.append(f"{claim.id} ({was}; now {now}): {why}")
    return sentences


def write_frozen(path: Path, frozen: Frozen) -> None:
    """Write the file, a line for each claim and scale."""
    lines = [HEAD]
    for claim, entries in frozen.items():
        lines.append(f"{claim}:\n")
        lines += [f"  {scale}: {json.dumps(entry.model_dump(mode='json'))}\n" for scale, entry in entries.items()]
    write_text(path, "".join(lines))


def freeze(claims: Sequence[Claim], frozen: Frozen, fixed: Collection[str], date: str = "") -> Frozen:
    """The frozen entries of all claims. Those of the scales `fixed`, and those that did not move, stay as they are."""
    entries: Frozen = {}
    for claim in claims:
        before = frozen.get(claim.id, {})
        now = {scale: frozen_now(entry, date) for scale, entry in claim.scales.items()}
        same = {scale for scale, entry in before.items() if scale in now and entry.sha256 == now[scale].sha256}
        kept = {scale: entry for scale, entry in before.items() if scale in same or scale in fixed}
        if now or kept:
            entries[claim.id] = dict(sorted({**now, **kept}.items()))
    return entries
