"""``papers/<paper>/frozen.yaml``: the regions of all claims at a date, and what has moved since.

A claim's entry at a scale is frozen by the digest of everything that decides its direction. The regions stand beside
the digest, so that a difference can be told. An entry that moved after results existed needs an erratum in claims.yaml.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.base.files import digest, write_text
from harness.paper.claims import LEFT_OUT, Claim, Date, Region, Strict

FILE = "frozen.yaml"
HEAD = """\
# The claims' regions as they were frozen. `harness check --freeze` writes this file: it adds what is new, and changes
# nothing. sha256 covers statistic, measure, cells, region, combine, replicates, and whether calibration is asked for.
"""


class FrozenClaim(Strict):
    """What decided a claim's direction at a scale, at a date."""

    date: Date
    """When it was frozen (UTC)."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of all that decides the direction."""
    replicates: int
    """The fewest replicates, as frozen."""
    combine: Literal["all", "any"]
    """How the parts combine, as frozen."""
    regions: dict[str, Region]
    """The regions by the parts' names, as frozen."""


#: claim -> scale -> its frozen entry
Frozen = dict[str, dict[str, FrozenClaim]]


def frozen_now(claim: Claim, scale: str, date: str = "") -> FrozenClaim | None:
    """A claim's entry at a scale as it stands, by default with today's date (UTC); None if it is not judged there."""
    entry = claim.scales.get(scale)
    if entry is None:
        return None
    directions = [part for part in entry.parts if part.region is not None]
    fields = [part.model_dump(mode="json", exclude_defaults=True, exclude={"name"}) for part in directions]
    ungated = ["calibrates"] if claim.calibrates else []
    return FrozenClaim(
        date=date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        sha256=digest([entry.replicates, entry.combine, fields, *ungated]),
        replicates=entry.replicates,
        combine=entry.combine,
        regions={part.name: part.region for part in directions if part.region is not None},
    )


def moved(claims: Sequence[Claim], scale: str, frozen: Frozen) -> Iterator[tuple[str, str, str]]:
    """The ids of the claims that differ from their frozen entry at a scale: what they were, and what they are.

    A claim that a selection leaves out differs in nothing.
    """
    known = {claim.id: claim for claim in claims}
    for name in dict.fromkeys([*known, *frozen]):
        claim, before = known.get(name), frozen.get(name, {}).get(scale)
        if before is None or (claim and claim.not_tested == LEFT_OUT):
            continue
        now = frozen_now(claim, scale) if claim else None
        if now is None:
            yield name, "judged", "no longer judged" if claim else "removed"
        elif before.sha256 != now.sha256:
            yield name, *_difference(before, now)


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
    now = frozen_now(claim, scale)
    digits = now.sha256 if now else ""
    return any(erratum.scale == scale and digits.startswith(erratum.sha256) for erratum in claim.errata)


def dates(scale: str, frozen: Frozen) -> list[str]:
    """The dates at which the entries of a scale were frozen."""
    return sorted({entries[scale].date for entries in frozen.values() if scale in entries})


def moves(claims: Sequence[Claim], scale: str, frozen: Frozen) -> list[str]:
    """What moved at a scale since it was frozen, a sentence for each claim, with its errata."""
    sentences, known = [], {claim.id: claim for claim in claims}
    for name, was, now in moved(claims, scale, frozen):
        claim = known.get(name)
        errata = [f"erratum of {e.date}: {e.reason}" for e in claim.errata if e.scale == scale] if claim else []
        why = "; ".join(errata) if claim and excused(claim, scale) else "no erratum says why"
        sentences.append(f"{name} ({was}; now {now}): {why}")
    return sentences


def write_frozen(path: Path, frozen: Frozen) -> None:
    """Write the file, a line for each claim and scale."""
    lines = [HEAD]
    for claim, entries in frozen.items():
        lines.append(f"{claim}:\n")
        lines += [f"  {scale}: {json.dumps(entry.model_dump(mode='json'))}\n" for scale, entry in entries.items()]
    write_text(path, "".join(lines))


def freeze(claims: Sequence[Claim], frozen: Frozen, date: str = "") -> Frozen:
    """The frozen entries, those that there are as they are, and new ones of the claims that have none at a scale."""
    entries: Frozen = {}
    for name in dict.fromkeys([*(claim.id for claim in claims), *frozen]):
        entries[name] = dict(frozen.get(name, {}))
    for claim in claims:
        for scale in claim.scales:
            now = frozen_now(claim, scale, date)
            if now:
                entries[claim.id].setdefault(scale, now)
    return {name: dict(sorted(scales.items())) for name, scales in entries.items() if scales}
