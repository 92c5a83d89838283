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
    """One judged part of a claim.

    ``estimate``, ``interval``, ``region`` and ``values`` (one per replicate) are on the reported scale: the measure's
    unit, or factors if the logarithm was analysed (``log``). None in ``values`` means that the onset was never reached.
    ``interval`` is the one that decides, and holds at ``level``. ``needed``: of an inconclusive part, about how many
    replicates would support it at this estimate and spread; None for never.
    """

    name: Text
    statistic: Statistic
    measure: Text
    log: bool
    verdict: Verdict
    reason: str
    estimate: Number | None
    interval: Bounds | None
    level: Number | None
    needed: Count | None
    region: Bounds
    replicates: Count
    values: Annotated[list[Number | None], FailFast()]
    runs: Texts


class SizeVerdict(Strict):
    """A measured value beside the published one, at the paper's own scale, on the reported scale.

    ``expected``: the prediction interval for ``estimate``, which carries both errors; ``z``: their distance in standard
    errors, on the analysed scale.
    """

    name: Text
    statistic: Statistic
    measure: Text
    log: bool
    verdict: Size
    estimate: Number
    published: Number
    expected: Bounds
    z: Number
    replicates: Count


#: how the reason of a verdict ends that rests on fewer replicates than the whole scale has
FEWER_REPLICATES = "--every-replicate runs all"


class ClaimVerdict(Strict):
    """One claim with its verdicts at a scale: of its direction, with the deciding part's numbers, and of its size.

    ``needed``: of an inconclusive claim, as of its parts together. ``chance``: how often a planned design's last look
    would decide it, either way, at the measured estimates and spreads. ``papers_own``: whether the scale is the paper's
    own, the only one at which a size is judged.
    """

    id: ClaimId
    title: str
    statement: str
    source: Source
    verdict: Verdict
    reason: str
    size: Size | None
    papers_own: bool
    estimate: Number | None
    interval: Bounds | None
    level: Number | None
    needed: Count | None
    chance: Number | None
    region: Bounds
    replicates: Count
    published: Annotated[list[PublishedValue], FailFast()]
    runs: Texts
    parts: Annotated[list[PartVerdict], FailFast()]
    sizes: Annotated[list[SizeVerdict], FailFast()]
    note: str | None
    figure: Figure
    figure_experiments: Texts
    prediction: str | None

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
