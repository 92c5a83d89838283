"""Simulation: with the truth exactly at a region's edge, at most 5% of tables give a (wrong) ``supported``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.simulation import (
    NOISES,
    SETTINGS,
    STRONG_NOISES,
    among,
    bootstrap_interval,
    pooled_interval,
    wrong_support,
)
from harness.claims.judge import judge
from harness.paper.claims import Claim
from tests.claims.tables import DENSE, DIFFERENCE, IMP, ONSET, RATIO, claim, network, pair, table

TABLES = 4000
CELLS = [
    (setting, noise, n)
    for setting, (_, fewest) in SETTINGS.items()
    for noise in (NOISES if not setting.startswith(("onset", "a step", "two-valued")) else ("normal",))
    for n in (3, 5, 9)
    if n >= fewest
]


@pytest.mark.parametrize(("setting", "noise", "n"), CELLS)
def test_wrong_support_stays_below_five_percent(
    setting: str, noise: str, n: int, record_property: Callable[[str, object], None]
) -> None:
    rate = wrong_support(SETTINGS[setting][0], n, NOISES[noise], TABLES)
    record_property("wrong_support", rate)
    assert rate <= 0.05


@pytest.mark.parametrize("n", [3, 5, 9])
@pytest.mark.parametrize("setting", ["mean", "difference", "ratio, lognormal", "trend over 4 k"])
def test_near_normal_values_have_the_nominal_level(setting: str, n: int) -> None:
    """Not only below 5%: an interval that never supported anything would pass that."""
    low, high = stats.binom.interval(0.9999, TABLES, 0.025)
    assert low <= TABLES * wrong_support(SETTINGS[setting][0], n, NOISES["normal"], TABLES) <= high


@pytest.mark.parametrize("n", [3, 5, 9])
@pytest.mark.parametrize("cells", [3, 6])
@pytest.mark.parametrize("noise", STRONG_NOISES)
def test_paired_networks_keep_the_level_at_strong_skew(noise: str, cells: int, n: int) -> None:
    """5% as far as 20,000 tables tell, where one cell spreads twice as widely; plain pooling errs more often."""
    high = stats.binom.ppf(0.9995, 20_000, 0.05)
    assert 20_000 * wrong_support(among(cells, 2), n, STRONG_NOISES[noise], 20_000) <= high
    if noise == "strong skew down":
        assert 20_000 * wrong_support(among(cells, 2), n, STRONG_NOISES[noise], 20_000, method=pooled_interval) > high


def test_other_cells_add_power() -> None:
    """Up to that of twice the degrees of freedom, by the noncentral t distribution."""
    alone, more = (wrong_support(among(cells, 1, 2.0), 3, NOISES["normal"], 20_000) for cells in (2, 6))
    twice = stats.nct.sf(stats.t.isf(0.025, 4), 4, 2 * 3**0.5)
    assert alone == pytest.approx(stats.nct.sf(stats.t.isf(0.025, 2), 2, 2 * 3**0.5), abs=0.01)
    assert alone + 0.15 < more <= twice


def test_a_percentile_bootstrap_of_three_replicates_is_too_narrow() -> None:
    assert wrong_support(SETTINGS["difference"][0], 3, NOISES["normal"], TABLES, method=bootstrap_interval) > 0.1


def drawn(kind: str, name: str, n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, Claim]:
    """One table of experiment ``name`` with its truth at the edge, and the claim about it."""
    here = {"experiment": name}
    shared = 3 * rng.standard_normal(n)
    if kind == "ratio":
        a, b = np.exp(0.1 * rng.standard_normal(n)), np.exp(0.1 * rng.standard_normal(n))
        pairs = [pair("random_prune", r, name, distance=v) for r, v in enumerate(a)]
        pairs += [pair("imp", r, name, distance=v) for r, v in enumerate(b)]
        return table(*pairs), claim(RATIO | {"a": RATIO["a"] | here, "b": RATIO["b"] | here}, id=name.upper())
    if kind == "onset":
        late = rng.random(n) < 0.5
        curves = {0: np.full(n, 20.0), 20: np.where(late, 20.0, 0.5), 100: np.full(n, 0.5)}
        pairs = [pair("dense", r, name, k=k, instability_test=v) for k, vs in curves.items() for r, v in enumerate(vs)]
        return table(*pairs), claim(ONSET | {"a": ONSET["a"] | here}, id=name.upper(), replicates=n)
    grid = (0, 20, 100) if kind == "any" else (0,)
    rows = [network("dense", r, name, test_accuracy=90 + v) for r, v in enumerate(shared + rng.standard_normal(n))]
    for k in grid:
        values = 89.5 + shared + rng.standard_normal(n)
        rows += [network("imp", r, name, k=k, test_accuracy=v) for r, v in enumerate(values)]
    parts = [DIFFERENCE | {"a": IMP | here | {"k": k}, "b": DENSE | here} for k in grid]
    return table(*rows), claim(*parts, id=name.upper(), combine="any" if kind == "any" else "all")


def whole_judge(kind: str, n: int, tables: int) -> float:
    """The rate through tables and claims: each simulated table is one experiment of a large one."""
    rng = np.random.default_rng(n)
    simulated = [drawn(kind, f"e{i}", n, rng) for i in range(tables)]
    found = judge([c for _, c in simulated], "mini", pd.concat([t for t, _ in simulated], ignore_index=True), {})
    assert all(f.verdict != "not tested" and f.replicates == n for f in found)
    return float(np.mean([f.verdict == "supported" for f in found]))


WHOLE = [("difference", 3), ("ratio", 3), ("any", 3), ("onset", 5)]


@pytest.mark.parametrize(("kind", "n"), WHOLE)
def test_the_whole_judge_keeps_the_level(kind: str, n: int) -> None:
    # in 100 tables at 2.5% more than 8 wrong ones have a chance of 1 in 900
    assert whole_judge(kind, n, 100) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n"), [*WHOLE, ("difference", 5), ("ratio", 9), ("any", 9), ("onset", 9)])
def test_the_whole_judge_keeps_the_level_in_many_tables(kind: str, n: int) -> None:
    assert whole_judge(kind, n, 1500) <= 0.05
