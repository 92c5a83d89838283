"""What more replicates would tell of an undecided part, if its estimate and spread stayed as they are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from harness.claims.parts import PartData
from harness.claims.statistics import sign_rank, variance_of_sum
from harness.claims.verdicts import number

#: chance of a verdict that is asked of a number of replicates
POWER = 0.8
#: more replicates than this count as never
MOST = 100_000


class Outlook(NamedTuple):
    """``needed``: replicates that would put the interval into the region with a chance of POWER, None for never;
    ``against``: that would put it outside; ``seen``: the smallest effect that POWER of such runs see, in words."""

    needed: int | None
    against: int | None
    seen: str

    def sentence(self, replicates: int) -> str:
        """The outlook in words, for the reason of an undecided part."""
        if self.needed is not None:
            more = f"about {self.needed:,} replicates would put it inside"
        else:
            more = "no number of replicates would put it inside at this estimate"
            more += f", about {self.against:,} would put it outside" if self.against is not None else ""
        return f"; {more}; {replicates} see {self.seen} in {POWER:.0%} of runs" if self.seen else f"; {more}"


def outlook(data: PartData, levels: tuple[float, float]) -> Outlook:
    """The outlook of an undecided part. ``levels``: confidences of the supporting and the refuting interval."""
    needed, against = (_needed(data, level, outside) for level, outside in zip(levels, (False, True), strict=True))
    return Outlook(needed, against, _seen(data, levels[0]))


def chance(data: PartData, replicates: int, level: float, outside: bool) -> float:
    """How often so many replicates put the interval into the region, or outside of it, at the estimate and spread."""
    low, high = data.region
    if data.median:
        first, last = data.groups
        shares = (
            (np.mean(last < low), np.mean(first > high)) if outside else (np.mean(first >= low), np.mean(last <= high))
        )
        share = float(max(shares) if outside else min(shares))
        rank = sign_rank(replicates, level)
        return float(stats.binom.sf(replicates - rank, replicates, share)) if rank else 0.0
    error, freedom = _error(data, replicates)
    estimate = sum(float(group.mean()) for group in data.groups)
    distance = max(low - estimate, estimate - high) if outside else min(estimate - low, high - estimate)
    if error == 0:
        return 0.0  # replicates that agree tell nothing of their spread
    return float(stats.t.cdf(distance / error - stats.t.isf((1 - level) / 2, freedom), freedom))


def _error(data: PartData, replicates: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of so many replicates that spread as those that are there."""
    variance, freedom = variance_of_sum(data.groups, data.spare)
    scale = replicates / data.replicates
    return math.sqrt(float(variance) / scale), float(freedom) * (replicates - 1) / (data.replicates - 1)


def _needed(data: PartData, level: float, outside: bool) -> int | None:
    """The fewest replicates with a chance of POWER, to two digits; None for never."""
    few, many = data.replicates, MOST
    if chance(data, many, level, outside) < POWER:
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if chance(data, middle, level, outside) >= POWER else (middle, many)
    digits = 10 ** max(0, len(str(many)) - 2)
    return -(-many // digits) * digits


def _seen(data: PartData, level: float) -> str:
    """The smallest effect, beyond the region's edge, that POWER of runs with these replicates see."""
    if data.median:
        rank = sign_rank(data.replicates, level)
        share = stats.beta.ppf(POWER, data.replicates - rank + 1, rank) if rank else math.nan
        return f"a share of {share:.0%} of replicates in the region" if rank else ""
    error, freedom = _error(data, data.replicates)
    effect = error * float(stats.t.isf((1 - level) / 2, freedom) + stats.t.isf(1 - POWER, freedom))
    if effect == 0:
        return ""
    return f"a factor of {number(math.exp(min(effect, 700)))}" if data.log else f"an effect of {number(effect)}"
