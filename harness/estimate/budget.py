"""Chooses as many claims as fit a budget, although claims share trainings: an integer programme."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.plan.runs import Run


@dataclass(frozen=True)
class Prices:
    """Seconds that runs still cost; a stored run costs 0.

    `training`: by trained run; `owners` maps a run that another experiment trains to that experiment's run.
    `comparing`: by the pair's later network.
    """

    training: Mapping[Run, float]
    owners: Mapping[Run, Run] = field(default_factory=dict)
    comparing: Mapping[Run, float] = field(default_factory=dict)

    def trained(self, runs: Iterable[Run]) -> set[Run]:
        """The trainings that these runs need, without duplicates."""
        return {self.owners.get(run, run) for run in runs}

    def total(self, runs: Collection[Run]) -> float:
        """The seconds that these runs cost together."""
        return math.fsum(
            [*(self.training[run] for run in self.trained(runs)), *(self.comparing.get(run, 0.0) for run in runs)]
        )

    def alone(self, runs: Collection[Run], others: Collection[Run]) -> float:
        """The seconds that these runs cost in addition to `others`."""
        own = self.trained(runs) - self.trained(others)
        more = set(runs) - set(others)
        return math.fsum([*(self.training[run] for run in own), *(self.comparing.get(run, 0.0) for run in more)])


def together(needed: Mapping[str, Collection[Run]], claims: Iterable[str]) -> set[Run]:
    """The runs that claims need together: each experiment has the most replicates that any of the claims needs."""
    own = [run for claim in claims for run in needed[claim]]
    first, most = {replace(run, replicate=0) for run in own}, _most(own)
    return {replace(run, replicate=replicate) for run in first for replicate in range(most[run.experiment])}


def _most(runs: Iterable[Run]) -> dict[str, int]:
    """The number of replicates of each experiment."""
    most: dict[str, int] = {}
    for run in runs:
        most[run.experiment] = max(most.get(run.experiment, 0), run.replicate + 1)
    return most


@dataclass(frozen=True)
class Choice:
    """Claims chosen for a budget, what they cost together, and what each of the others would add."""

    claims: list[str]
    seconds: float
    left_out: dict[str, float]


def choose(needed: Mapping[str, Collection[Run]], prices: Prices, budget: float) -> Choice:
    """The largest set of claims whose runs cost at most `budget` seconds; among equally large sets, the cheapest.

    A run that several claims need counts once. Choosing claims with shared costs is the set-union knapsack, which is
    hard in general but small here: runs that the same claims need are one item, a paper has a few dozen claims, and
    an integer programme solves it exactly. With x a claim chosen (0 or 1) and y an item paid: maximise the claims less
    half of the budget's share that they cost, so that cost only breaks ties, with every chosen claim's items paid and
    the cost within the budget. The solver is deterministic, so the same costs give the same choice.
    """
    affordable = [claim for claim in needed if prices.total(needed[claim]) <= budget]
    chosen = _solve(affordable, _items(needed, prices), budget)
    names = [claim for claim in needed if claim in chosen]
    spent = prices.total(together(needed, names))
    others = [claim for claim in needed if claim not in chosen]
    return Choice(names, spent, {claim: prices.total(together(needed, [*names, claim])) - spent for claim in others})


# a run is due if a claim of the first set (users of the run) and one of the second (users of its replicate) is chosen
Need = tuple[frozenset[str], frozenset[str]]


def _items(needed: Mapping[str, Collection[Run]], prices: Prices) -> dict[frozenset[Need], float]:
    """Seconds of each item, by its needs: the item is due if any of them holds."""
    users: dict[Run, set[str]] = {}
    most = {claim: _most(runs) for claim, runs in needed.items()}
    for claim, runs in needed.items():
        for run in runs:
            users.setdefault(replace(run, replicate=0), set()).add(claim)
    due: dict[tuple[str, Run], set[Need]] = {}  # item: a training, or the comparison of a run's pairs
    for run in together(needed, needed):
        asking = frozenset(claim for claim in needed if most[claim].get(run.experiment, 0) > run.replicate)
        need = (frozenset(users[replace(run, replicate=0)]), asking)
        due.setdefault(("training", prices.owners.get(run, run)), set()).add(need)
        due.setdefault(("comparing", run), set()).add(need)
    items: dict[frozenset[Need], list[float]] = {}
    for (work, run), item_needs in due.items():
        seconds = prices.training[run] if work == "training" else prices.comparing.get(run, 0.0)
        if seconds > 0:
            items.setdefault(frozenset(item_needs), []).append(seconds)
    return {item: math.fsum(parts) for item, parts in items.items()}


def _makers(item: frozenset[Need], claims: Collection[str]) -> set[tuple[str, ...]]:
    """The claims and pairs of claims that make an item due: choosing any one of them is enough."""
    alone = {claim for users, asking in item for claim in users & asking if claim in claims}
    both = {
        (a, b)
        for users, asking in item
        for a in (users & set(claims)) - alone
        for b in (asking & set(claims)) - alone
        if a != b
    }
    return {(claim,) for claim in alone} | both


def _solve(claims: list[str], items: Mapping[frozenset[Need], float], budget: float) -> set[str]:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    costs = sorted((sorted(_makers(item, claims)), cost / budget) for item, cost in items.items())
    used = [(makers, cost) for makers, cost in costs if makers]
    if not used:
        return set(claims)
    size = len(claims) + len(used)
    share = np.zeros(size)
    share[len(claims) :] = [cost for _, cost in used]
    paid, least = [], []
    for column, (makers, _) in enumerate(used, len(claims)):
        for maker in makers:  # y >= x of a claim, y >= x + x' - 1 of two
            row = np.zeros(size)
            row[column] = 1
            row[[claims.index(claim) for claim in maker]] = -1
            paid.append(row)
            least.append(1 - len(maker))
    value = share / 2
    value[: len(claims)] = -1
    solved = milp(
        value,
        integrality=np.arange(size) < len(claims),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(share, ub=1), LinearConstraint(np.array(paid), lb=least)],
        options={"mip_rel_gap": 0},
    )
    return {claim for claim, chosen in zip(claims, solved.x, strict=False) if chosen > 0.5}
