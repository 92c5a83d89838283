"""Sizes: the measured value beside the published one, with both errors; and the published numbers that they need."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.base.paths import checkout
from harness.claims.document import SizeVerdict, shown
from harness.claims.judge import judge
from harness.claims.statistics import auc, prediction
from harness.paper import load_spec
from harness.paper.claims import Cell, Part
from harness.paper.models import Spread
from harness.paper.published import Published, Quantity, Row
from tests.claims.tables import DENSE, DIFFERENCE, GOOD, IMP, RATIO, claim, distances

SPREAD = Spread(
    replicates=3, errors={"network": 0.846, "data_order": 1.82, "pruning": 0.846}, unstated={"distance": 2.0}
)
MEAN = {"statistic": "mean", "measure": "test_accuracy", "a": IMP}


def row(branch: str, value: float, error: float = float("nan"), rank: int = 0, **more: Any) -> Row:
    place = {"k": 0.0, "density": 1.0 if branch == "dense" else 0.8**10, "measure": "test_accuracy", "comparison": ""}
    known = {"experiment": "lenet", "branches": (branch,), "value": value, "error": error, "rank": (rank, False)}
    return Row(**(known | place | more))


def published(*rows: Row) -> Published:
    return Published(rows, SPREAD)


def sizes(table: Any, papers: Published, *parts: dict[str, Any]) -> list[SizeVerdict]:
    (found,) = judge([claim(*parts)], "mini", table, {}, papers=papers)
    assert found.papers_own
    return found.sizes


def test_a_prediction_interval_is_scipys_welch_interval_around_the_published_value() -> None:
    measured, paper = np.array([98.3, 98.1, 98.25, 98.2]), np.array([97.9, 98.1, 98.0])
    found = prediction([measured], paper.mean(), paper.std(ddof=1), 3, 0.95)
    welch = stats.ttest_ind(measured, paper, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert found.estimate == pytest.approx(measured.mean())
    assert found.z == pytest.approx(welch.statistic)
    assert found.high - found.low == pytest.approx(interval.high - interval.low)
    assert (found.low + found.high) / 2 == pytest.approx(paper.mean())


@pytest.mark.parametrize(("n", "spread"), [(3, 1.0), (5, 1.0), (5, 4.0), (9, 0.25)])
def test_a_faithful_replication_rarely_differs(n: int, spread: float) -> None:
    """Both draw from one truth; the paper, of three replicates, prints its own mean and standard deviation."""
    rng = np.random.default_rng(n)
    outside = 0
    for _ in range(2000):
        paper, measured = spread * rng.standard_normal(3), rng.standard_normal(n)
        found = prediction([measured], float(paper.mean()), float(paper.std(ddof=1)), 3, 0.95)
        outside += not found.low <= found.estimate <= found.high
    assert outside <= stats.binom.ppf(0.999, 2000, 0.06)


@pytest.mark.parametrize(("imp", "expected"), [(98.4, "agrees"), (96.0, "differs")])
def test_a_level_agrees_or_differs(imp: float, expected: str) -> None:
    (found,) = sizes(GOOD, published(row("imp", imp, 0.1)), MEAN)
    assert (found.verdict, found.published) == (expected, imp)
    measured = np.array([98.31, 98.12, 98.24])
    error = np.sqrt(measured.var(ddof=1) / 3 + (0.1 / 0.846) ** 2 / 3)
    assert found.z == pytest.approx((measured.mean() - imp) / error)


def test_a_contrast_that_could_as_well_be_none_is_unclear() -> None:
    sign = DIFFERENCE | {"region": [0, None]}
    for error, expected in ((0.05, "agrees"), (0.5, "unclear")):
        (found,) = sizes(GOOD, published(row("imp", 98.9, error), row("dense", 98.6, error)), sign)
        assert found.verdict == expected, error
        assert found.published == pytest.approx(0.3)


def test_ratios_are_compared_as_logarithms() -> None:
    pairs = {"measure": "distance", "comparison": "data_order"}
    papers = published(row("imp", 20.7, 0.6, **pairs), row("random_prune", 58.6, 4.0, **pairs))
    imp, random = [20.0, 21.5, 20.5], [57.0, 61.0, 60.0]
    (found,) = sizes(distances(imp, random), papers, RATIO)
    logs = np.log(random) - np.log(imp)
    spread = np.hypot(0.6 / 1.82 / 20.7, 4.0 / 1.82 / 58.6)
    assert found.verdict == "agrees"
    assert (found.estimate, found.published) == (pytest.approx(exp(logs.mean())), pytest.approx(58.6 / 20.7))
    assert found.z == pytest.approx((logs.mean() - log(58.6 / 20.7)) / np.sqrt(logs.var(ddof=1) / 3 + spread**2 / 3))


def test_a_claim_of_levels_alone_has_no_direction_and_its_worst_size() -> None:
    papers = published(row("imp", 98.3, 0.1), row("dense", 90.0, 0.1))
    (found,) = judge([claim(MEAN, MEAN | {"a": DENSE})], "mini", GOOD, {}, papers=papers)
    assert (found.verdict, found.size) == ("not tested", "differs")
    assert found.reason == "it states levels and no direction; see its sizes"
    assert [size.verdict for size in found.sizes] == ["agrees", "differs"]


def test_a_smaller_scale_has_no_sizes_and_other_words() -> None:
    (found,) = judge([claim(DIFFERENCE, MEAN)], "mini", GOOD, {})
    assert (found.verdict, found.word, found.size, found.sizes) == ("supported", "seen here", None, [])
    (own,) = judge([claim(DIFFERENCE)], "mini", GOOD, {}, papers=published())
    assert own.word == "supported"
    assert [shown(verdict, False) for verdict in ("contradicted", "inconclusive", "not tested")] == [
        "not seen here",
        "unclear here",
        "not tested",
    ]


def test_published_numbers_are_found_by_their_place() -> None:
    papers = published(
        row("dense", 90.9, 0.4, rank=1),
        row("dense", 90.5, 0.0),
        row("imp", 87.0, 0.4),
        row("imp", 88.0, 0.4, k=500.0),
        row("imp", 5.0, measure="distance", comparison="pruning"),
        row("imp", 0.1, measure="instability_test", comparison="data_order"),
    )
    imp, pairs = Cell.model_validate(IMP), IMP | {"comparison": "pruning"}
    assert papers.cell(Cell.model_validate(DENSE), "test_accuracy") == Quantity(90.5, 0.05)  # printed, rounded
    assert papers.cell(imp, "test_accuracy") == Quantity(87.0, pytest.approx(0.4 / 0.846))
    assert papers.cell(imp.model_copy(update={"k": 500}), "test_accuracy") == Quantity(88.0, pytest.approx(0.4 / 0.846))
    assert papers.cell(imp.model_copy(update={"density": 0.5}), "test_accuracy") is None
    assert papers.cell(Cell.model_validate(pairs), "distance") == Quantity(5.0, 2.0)  # where no error is published
    part = Part.model_validate({"name": "x"} | DIFFERENCE)
    assert papers.part(part) == Quantity(pytest.approx(-3.5), pytest.approx(np.hypot(0.05, 0.4 / 0.846)))
    assert Published().part(part) is None


@pytest.mark.parametrize("scale", ["mini", "wide", "paper"])
@pytest.mark.parametrize("paper", ["stabilizing-lth", "linear-mode-connectivity"])
def test_epochs_are_steps_and_errors_have_a_meaning(paper: str, scale: str) -> None:
    spec = load_spec(checkout(), paper, scale)
    epoch = 6 if paper == "stabilizing-lth" else 5
    cell = Cell(experiment="resnet50", branch="imp", k=1251 * epoch, density=0.3)
    found = spec.published.cell(cell, "test_accuracy")
    assert found is not None
    assert found.value == pytest.approx(76.0, abs=0.1)
    assert spec.scale.papers_own == (scale == "paper")


def test_the_area_under_the_curve_is_mann_and_whitneys() -> None:
    cells = np.random.default_rng(3).integers(0, 5, (5, 7)).astype(float)
    found = auc([1, 1, -1, -1, -1], cells)
    for replicate in range(7):
        statistic = stats.mannwhitneyu(cells[:2, replicate], cells[2:, replicate]).statistic
        assert found[replicate] == pytest.approx(statistic / 6)
