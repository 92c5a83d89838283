"""Published numbers beside the run's: ratios of the pairs of one replicate, medians of instabilities, and no others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.report.figures import Data
from harness.report.published_points import Point, points
from tests.report import synthetic

COMMON = {"figure": "fig3", "experiment": "lenet", "k": 0, "k_unit": "step", "density": 0.1074, "obtained": "printed"}
RATIO = {**COMMON, "branch": "random_prune/imp", "measure": "distance_ratio", "comparison": "data_order", "value": 2.8}
UNSTABLE = {
    **COMMON,
    "experiment": "resnet20-standard",
    "branch": "imp",
    "density": 0.1678,
    "measure": "instability_test",
    "comparison": "data_order",
    "value": 78.7,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return synthetic.make(0, 6)[0]


def only(table: pd.DataFrame, **row) -> Point | None:
    """The point of one published number."""
    found = points(Data.of(table, published=pd.DataFrame([row])))
    assert len(found) <= 1
    return found[0] if found else None


def pairs(table: pd.DataFrame, experiment: str, branch: str, level: int, measure: str) -> np.ndarray:
    rows = table[(table["experiment"] == experiment) & (table["branch"] == branch) & (table["level"] == level)]
    rows = rows[(rows["comparison"] == "data_order") & (rows["k"] == 0)]
    return rows.groupby("replicate")[measure].mean().to_numpy()


def test_a_ratio_is_of_the_pairs_of_one_replicate_on_the_logarithm(table):
    point = only(table, **RATIO)
    logs = np.log(pairs(table, "lenet", "random_prune", 5, "distance") / pairs(table, "lenet", "imp", 5, "distance"))
    half = stats.t.isf(0.025, 5) * logs.std(ddof=1) / 6**0.5
    assert (point.estimate, point.replicates) == (pytest.approx(np.exp(logs.mean())), 6)
    assert (point.low, point.high) == pytest.approx((np.exp(logs.mean() - half), np.exp(logs.mean() + half)))
    assert (point.branch, point.measure) == ("random prune / IMP", "ratio of distances (data order)")


def test_an_instability_is_the_median_with_the_sign_tests_interval(table):
    point = only(table, **UNSTABLE)
    values = pairs(table, "resnet20-standard", "imp", 4, "instability_test")
    # six replicates: the lowest and the highest hold the median in 1 - 2 / 2^6 of runs
    assert (point.estimate, point.low, point.high) == pytest.approx((np.median(values), values.min(), values.max()))


@pytest.mark.parametrize(
    "change",
    [
        {"branch": "imp/random_prune"},  # no such ratio is made
        {"k": 20},
        {"density": 0.2},
        {"experiment": "vgg19"},
        {"measure": "distance_lowest"},
        {"value": float("nan")},
        {"comparison": "other"},
    ],
)
def test_a_number_that_the_run_does_not_have_is_no_point(table, change):
    assert only(table, **RATIO | change) is None
