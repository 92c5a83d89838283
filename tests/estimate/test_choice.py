"""The most claims for a budget: against brute force, with shared trainings and unequal numbers of replicates."""

import itertools
import random

import pytest

from harness.estimate.budget import Prices, choose, together
from harness.plan.runs import Run


def brute_force(needed: dict, prices: Prices, budget: float) -> tuple[int, float]:
    best = (0, 0.0)
    for size in range(len(needed) + 1):
        for names in itertools.combinations(needed, size):
            cost = prices.total(together(needed, names))
            if cost <= budget and (size, -cost) > (best[0], -best[1]):
                best = (size, cost)
    return best


def check(needed: dict, prices: Prices, budget: float) -> None:
    found = choose(needed, prices, budget)
    assert (len(found.claims), found.seconds) == brute_force(needed, prices, budget)
    for name in needed.keys() - set(found.claims):
        more = prices.total(together(needed, [*found.claims, name]))
        assert found.left_out[name] == pytest.approx(more - found.seconds)
    assert choose(needed, prices, budget) == found


@pytest.mark.parametrize("seed", range(40))
def test_the_choice_is_the_best_there_is(seed):
    draw = random.Random(seed)
    everything = [Run("x", 0, 0, level, "imp", 0) for level in range(draw.randint(1, 12))]
    prices = Prices({run: float(draw.choice([0, 1, 1, 2, 5, 13])) for run in everything})
    needed = {
        f"C{number}": set(draw.sample(everything, draw.randint(1, len(everything))))
        for number in range(draw.randint(1, 8))
    }
    for budget in (0.5, 3.0, 9.0, 21.0, 1000.0):
        check(needed, prices, budget)


@pytest.mark.parametrize("seed", range(40))
def test_it_is_with_replicates_twins_and_comparisons_too(seed):
    """Two experiments, of which the second's first levels are the first's; claims ask for 1 to 4 replicates."""
    draw = random.Random(seed)
    places = [(experiment, level) for experiment in "xy" for level in range(4)]
    everything = [Run(name, at, 0, level, "imp", 0) for name, level in places for at in range(4)]
    owners = {run: Run("x", run.replicate, 0, run.level, "imp", 0) if run.level < 2 else run for run in everything}
    cost = {run: float(draw.choice([0, 1, 2, 5])) for run in everything}
    prices = Prices(cost, owners, {run: float(draw.choice([0, 0, 1])) for run in everything})
    needed = {}
    for number in range(draw.randint(1, 6)):
        replicates = {name: draw.randint(1, 4) for name in "xy"}
        chosen = draw.sample(places, draw.randint(1, 5))
        needed[f"C{number}"] = {Run(n, r, 0, level, "imp", 0) for n, level in chosen for r in range(replicates[n])}
    for budget in (4.0, 15.0, 40.0, 1000.0):
        check(needed, prices, budget)


def test_what_is_shared_is_paid_once():
    dense, a, b, alone = (Run("x", 0, 0, level, "imp", 0) for level in range(4))
    seconds = {dense: 10.0, a: 1.0, b: 1.5, alone: 11.55}
    needed = {"A": {dense, a}, "B": {dense, b}, "C": {alone}}
    assert choose(needed, Prices(seconds), 12.5).claims == ["A", "B"]
    assert choose(needed, Prices(seconds), 11.6).claims == ["A"]  # one, and A is the cheapest
    assert choose(needed, Prices(seconds), 11.6).left_out == pytest.approx({"B": 1.5, "C": 11.55})
    there = Prices({**seconds, dense: 0.0, a: 0.0})  # what is there costs nothing
    assert choose(needed, there, 1.5).claims == ["A", "B"]


def test_a_claim_that_asks_for_more_replicates_makes_the_others_dearer():
    """A needs level 1 three times, B level 2 five times: together both levels are trained five times."""
    needed = {
        "A": {Run("x", at, 0, 1, "imp", 0) for at in range(3)},
        "B": {Run("x", at, 0, 2, "imp", 0) for at in range(5)},
    }
    prices = Prices({Run("x", at, 0, level, "imp", 0): 1.0 for level in (1, 2) for at in range(5)})
    assert len(together(needed, "AB")) == 10
    assert choose(needed, prices, 9.0).claims == ["A"]
    assert choose(needed, prices, 9.0).left_out == {"B": 7.0}
    assert choose(needed, prices, 10.0).claims == ["A", "B"]
