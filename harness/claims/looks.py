"""``looks.json``: every look at a run's claims, a judging of a table with so many replicates, since it began.

Adding replicates until a claim is supported errs more often than its interval says (``benchmarks/looks.py``), so no
look is forgotten: the file is only appended to.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.base.errors import HarnessError
from harness.base.files import write_json
from harness.base.untrusted import read_checked_json
from harness.claims.document import ClaimVerdict, Count, Verdict
from harness.claims.judge import experiments_of
from harness.paper.claims import Claim, ClaimId, Strict
from harness.paper.load import describe

LARGEST = 2**20  # bytes; a look has about one kilobyte


class Look(Strict):
    """One look: when, by which revision of the code ("" where git can't tell), the replicates of each experiment, and
    the verdicts of the claims that could be judged. `planned`: whether it was one of a planned design."""

    time: str
    revision: str
    planned: bool
    replicates: dict[str, Count]
    verdicts: dict[ClaimId, Verdict]


def look(claims: Sequence[ClaimVerdict], replicates: Mapping[str, int], planned: bool, revision: str) -> Look:
    """The look that these verdicts are, now."""
    return Look(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        revision=revision,
        planned=planned,
        replicates=dict(replicates),
        verdicts={claim.id: claim.verdict for claim in claims if claim.judged},
    )


def appended(looks: Sequence[Look], new: Look) -> list[Look]:
    """The looks with a new one, unless it says what the last one said, or no claim could be judged."""
    seen = {"planned", "replicates", "verdicts"}
    same = looks and looks[-1].model_dump(include=seen) == new.model_dump(include=seen)
    return [*looks] if same or not new.verdicts else [*looks, new]


def sentence(looks: Sequence[Look]) -> str:
    """How often the run was looked at, "looked at 3 times: 5, 6, 8 replicates"; the same data again are no look."""
    different = _different(looks, None)
    if not different:
        return ""
    times = "once" if len(different) == 1 else f"{len(different)} times"
    return f"looked at {times}: {', '.join(different)} replicates" + (" (planned)" if looks[-1].planned else "")


def with_looks(
    verdicts: Sequence[ClaimVerdict], claims: Sequence[Claim], scale: str, looks: Sequence[Look]
) -> list[ClaimVerdict]:
    """The verdicts; the reason of a claim says so where it was looked at more often than planned."""
    told = []
    for verdict, claim in zip(verdicts, claims, strict=True):
        entry = claim.scales.get(scale)
        own = [one for one in looks if claim.id in one.verdicts] if entry and verdict.judged else []
        experiments = experiments_of(entry) if entry else []
        planned, unplanned = (
            set(_different([one for one in own if one.planned is of_plan], experiments)) for of_plan in (True, False)
        )
        if len(unplanned - planned) + bool(planned) > 1:
            all_looks = ", ".join(_different(own, experiments))
            more = f"looked at more often than planned ({all_looks} replicates): wrong more often than its level says"
            verdict = verdict.model_copy(update={"reason": f"{verdict.reason}; {more}"})
        told.append(verdict)
    return told


def _different(looks: Sequence[Look], experiments: Sequence[str] | None) -> list[str]:
    """The numbers of replicates of the looks at different data, in order: 5, or 5/9 where experiments differ."""
    keys = dict.fromkeys(
        tuple(one.replicates.get(name, 0) for name in (sorted(one.replicates) if experiments is None else experiments))
        for one in looks
    )
    return ["/".join(map(str, sorted(set(key)))) for key in keys]


def write_looks(path: Path, looks: Sequence[Look]) -> None:
    """Write looks.json atomically."""
    write_json(path, [one.model_dump(mode="json") for one in looks])


def read_looks(path: Path) -> list[Look]:
    """Read looks.json, which may be untrusted. Raises HarnessError if it is missing, far too large or malformed."""
    try:
        return TypeAdapter(list[Look]).validate_python(read_checked_json(path, LARGEST))
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, list[Look])}. Restore it: it says how often was looked") from None
