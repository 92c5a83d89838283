"""The objects of ``claims.json``, and the only reader and writer of that file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import FailFast, Field, ValidationError

from harness.base.errors import HarnessError
from harness.base.files import write_text
from harness.base.untrusted import read_checked_json
from harness.paper.claims import ClaimId, Figure, Number, PublishedValue, Region, Source, Statistic, Strict, Text
from harness.paper.load import describe

Verdict = Literal["supported", "contradicted", "inconclusive", "not tested"]
VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "inconclusive", "not tested")
#: a pair [lowest, highest]; None stands for an infinite bound
Bounds = Region
#: validation stops at the first wrong element, since an untrusted list may have millions
Texts = Annotated[list[str], FailFast()]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Size = Literal["agrees", "differs", "unclear"]
SIZES: tuple[Size, ...] = ("agrees", "differs", "unclear")
#: the verdicts' words on page and badge where the scale is not the paper's own: it can't contradict the paper
HERE: dict[Verdict, str] = {"supported": "seen here", "contradicted": "not seen here", "inconclusive": "unclear here"}
REMAKE = "Delete the file and run `harness reproduce` again."


class PartVerdict(Strict):
    """One judged part of a claim. Numbers are on the reported scale: the measure's unit, or factors (`log`)."""

    name: Text
    """The part's name in `claims.yaml`."""
    statistic: Statistic
    """Its statistic."""
    measure: Text
    """Its measure."""
    log: bool
    """Whether the logarithm was analysed, and factors are reported."""
    verdict: Verdict
    """The part's own verdict."""
    reason: str
    """Why, in words."""
    estimate: Number | None
    """The statistic's value."""
    interval: Bounds | None
    """The interval that decides."""
    level: Number | None
    """The confidence that it holds at."""
    with_images: Bounds | None
    """What the interval would be at most if the test images had been drawn too."""
    standardised: Number | None
    """The estimate's distance from no effect over the standard deviation between replicates, on the analysed scale.
    None for a level and for a median."""
    above: Number | None
    """The share of replicates above no effect, where a tie counts half: the probability of improvement. None for a
    level and for a median."""
    needed: Count | None
    """Of an inconclusive part, about how many replicates would support it at this estimate and spread. None for never.
    """
    region: Bounds
    """The values that support it."""
    replicates: Count
    """How many replicates it rests on."""
    values: Annotated[list[Number | None], FailFast()]
    """One value for each replicate. None where an onset was never reached."""
    runs: Texts
    """The networks behind it."""


class SizeVerdict(Strict):
    """A measured value beside the published one, at the paper's own scale, on the reported scale."""

    name: Text
    """The part's name."""
    statistic: Statistic
    """Its statistic."""
    measure: Text
    """Its measure."""
    log: bool
    """Whether the logarithm was analysed, and factors are reported."""
    verdict: Size
    """Whether measured and published value agree."""
    estimate: Number
    """The measured value."""
    published: Number
    """The published value."""
    expected: Bounds
    """The prediction interval for `estimate`, which carries both errors."""
    z: Number
    """Their distance in standard errors, on the analysed scale."""
    replicates: Count
    """How many replicates were measured."""


class Power(Strict):
    """The share of simulated runs of the world as published that support a claim's parts with published numbers."""

    share: Number | None
    """The share. None if no part has a published number."""
    known: Count
    """How many parts have published numbers, counts left out."""
    parts: Count
    """How many parts there are."""

    def __str__(self) -> str:
        """`94%`, or `94% (2 of 3 parts)` if only so many parts have published numbers."""
        if self.share is None:
            return "not known"
        return f"{self.share:.0%}" + (f" ({self.known} of {self.parts} parts)" if self.known < self.parts else "")


#: how the reason of a verdict ends that rests on fewer replicates than the whole scale has
FEWER_REPLICATES = "--every-replicate runs all"


class ClaimVerdict(Strict):
    """One claim with its verdicts at a scale: of its direction, with the deciding part's numbers, and of its size."""

    id: ClaimId
    """The claim's id."""
    title: str
    """Its title."""
    statement: str
    """What the paper says."""
    source: Source
    """Where the paper says it."""
    verdict: Verdict
    """The verdict on its direction."""
    reason: str
    """Why, in words."""
    size: Size | None
    """The verdict on its size, at the paper's own scale alone."""
    papers_own: bool
    """Whether the scale is the paper's own, the only one at which a size is judged."""
    estimate: Number | None
    """The deciding part's estimate."""
    interval: Bounds | None
    """The deciding part's interval."""
    level: Number | None
    """The confidence that the interval holds at."""
    needed: Count | None
    """Of an inconclusive claim, about how many replicates would support all its parts. None for never."""
    chance: Number | None
    """How often a planned design's last look would decide it, either way, at the measured estimates and spreads."""
    region: Bounds
    """The deciding part's region."""
    replicates: Count
    """How many replicates the deciding part rests on."""
    left_out: Count
    """How many replicates were left out in turn. 0 where the claim has its fewest."""
    fragile: Annotated[list[Count], FailFast()]
    """The replicates without each of which the direction has another verdict."""
    power: Power | None
    """Its power with this run's replicates. None if the scale states nothing."""
    published: Annotated[list[PublishedValue], FailFast()]
    """The paper's numbers."""
    runs: Texts
    """The networks behind it."""
    parts: Annotated[list[PartVerdict], FailFast()]
    """Its parts."""
    sizes: Annotated[list[SizeVerdict], FailFast()]
    """Its sizes."""
    note: str | None
    """What to know about it."""
    figure: Figure
    """The kind of its figure on the page."""
    figure_experiments: Texts
    """The experiments in that figure."""
    prediction: str | None
    """What it predicts at this scale, in words."""

    @property
    def judged(self) -> bool:
        """Whether the claim could be judged at this scale."""
        return self.verdict != "not tested"

    @property
    def word(self) -> str:
        """The verdict as it is shown."""
        return shown(self.verdict, self.papers_own)


def shown(verdict: Verdict, papers_own: bool) -> str:
    """A verdict's word: only the paper's own scale contradicts a paper, a smaller one says what is seen there."""
    return verdict if papers_own else HERE.get(verdict, verdict)


def write_claims(path: Path, claims: Sequence[ClaimVerdict]) -> None:
    """Write claims.json atomically. Raises HarnessError if the disk is full or the path is not writable."""
    objects = [claim.model_dump(mode="json") for claim in claims]
    write_text(path, json.dumps(objects, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_claims(path: Path) -> list[ClaimVerdict]:
    """Read claims.json, which may be untrusted.

    Raises HarnessError if the file is missing, broken, far too large or nested too deep, if a claim has a missing or
    unknown field or a wrong value, and if an id is duplicated.
    """
    content = read_checked_json(path)
    if not isinstance(content, list):
        raise HarnessError(f"{path}: is not a list of claims. {REMAKE}")
    claims: dict[str, ClaimVerdict] = {}
    for number, item in enumerate(content, 1):
        try:
            claim = ClaimVerdict.model_validate(item)
        except ValidationError as error:
            fault = " ".join(describe(error, ClaimVerdict).split())
            raise HarnessError(f"{path}: claim {number}: {fault:.300}. {REMAKE}") from None
        if claim.id in claims:
            raise HarnessError(f"{path}: claim {claim.id!r:.80} is duplicated. {REMAKE}")
        claims[claim.id] = claim
    return list(claims.values())
