"""What cannot be judged is not tested, and the reason names what is missing."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from harness.claims.judge import judge
from tests.claims.tables import (
    DENSE,
    DIFFERENCE,
    GOOD,
    IMP,
    MEDIAN,
    ONSET,
    RATIO,
    TREND,
    accuracies,
    claim,
    pair,
    table,
    verdict,
)


def test_a_missing_scale_is_not_tested() -> None:
    found = judge([claim(DIFFERENCE, scale="paper", not_tested="needs a GPU")], "mini", GOOD, {})[0]
    assert (found.verdict, found.reason, found.estimate, found.interval) == (
        "not tested",
        "needs a GPU",
        None,
        None,
    )
    assert found.parts == []
    plain = judge([claim(DIFFERENCE, scale="paper")], "mini", GOOD, {})[0]
    assert plain.reason == "nothing is predicted at the mini scale"


def test_too_few_replicates_are_not_tested_and_the_dropped_are_named() -> None:
    rows = GOOD.copy()
    rows.loc[(rows["branch"] == "imp") & (rows["replicate"] == 1), "status"] = "diverged"
    found = verdict(rows, DIFFERENCE)
    assert found["verdict"] == "not tested"
    assert found["reason"] == (
        "needs 3 replicates, has 2: replicate 1 dropped (diverged for lenet imp at k = 0, density 0.107)"
    )
    assert (found["estimate"], found["interval"], found["replicates"]) == (None, None, 2)


@pytest.mark.parametrize("region", [[-0.5, None], [None, 0.5]])
def test_networks_that_diverged_are_never_ignored(region: list[float | None]) -> None:
    """Without two of five the difference is clear; at chance, 10%, they make it anything."""
    rows = accuracies([98.3, 98.1, 98.2, 98.2, 98.2], [98.3, 98.1, 98.1, 98.25, 98.15])
    assert verdict(rows, DIFFERENCE | {"region": region}, tested=540)["verdict"] == "supported"
    rows.loc[(rows["branch"] == "imp") & (rows["replicate"] >= 3), "status"] = "diverged"
    found = verdict(rows, DIFFERENCE | {"region": region}, tested=540)
    assert found["verdict"] == "inconclusive"
    assert "2 replicates (3, 4) dropped (diverged for lenet imp" in found["reason"]
    assert "with what diverged at chance it is inconclusive" in found["reason"]


def test_a_prediction_that_networks_diverge_can_be_supported() -> None:
    rows = accuracies([50.0] * 3, [98.3, 98.1, 98.1])
    rows.loc[rows["branch"] == "imp", "status"] = "diverged"
    found = verdict(rows, DIFFERENCE | {"region": [None, 0]}, tested=540)
    assert (found["verdict"], found["estimate"]) == ("supported", pytest.approx(10 - 98.1667, abs=1e-3))
    assert verdict(rows, DIFFERENCE | {"region": [None, 0]})["verdict"] == "not tested"  # of how many classes?


def test_what_diverged_may_have_any_distance_and_any_instability() -> None:
    def measured(**lost: str) -> pd.DataFrame:
        imp, random = [0.5, 0.52, 0.51, 0.53, 0.5], [8.0, 8.4, 8.1, 7.9, 8.2]
        return table(
            *(pair("imp", r, distance=v, **(lost if r == 4 else {})) for r, v in enumerate(imp)),
            *(pair("random_prune", r, distance=v) for r, v in enumerate(random)),
            *(pair("dense", r, instability_test=0.1, **(lost if r == 4 else {})) for r in range(6)),
        )

    assert verdict(measured(), RATIO)["verdict"] == verdict(measured(), MEDIAN, replicates=5)["verdict"] == "supported"
    ratio = verdict(measured(status="diverged"), RATIO)
    assert ratio["verdict"] == "inconclusive"
    assert "the distance of what diverged is unknown, and may be any" in ratio["reason"]
    median = verdict(measured(status="diverged"), MEDIAN, replicates=5)
    assert median["verdict"] == "inconclusive"  # five of six: the sign test needs all


def test_dropped_replicates_are_named_beside_a_verdict() -> None:
    rows = accuracies([98.3, 98.1, 98.2, 97.9, 98.25, 98.4], [98.0, 98.05, 98.1, 98.0, 98.0, 98.1])
    rows.loc[(rows["branch"] == "imp") & (rows["replicate"] == 3), "status"] = "ancestor_diverged"
    rows.loc[(rows["branch"] == "dense") & (rows["replicate"] == 4), "test_accuracy"] = np.nan
    rows = rows[~((rows["branch"] == "imp") & (rows["replicate"] == 5))]
    found = verdict(rows, DIFFERENCE)
    assert found["replicates"] == 3
    assert "replicate 3 dropped (a run it starts from diverged for lenet imp" in found["reason"]
    assert "replicate 4 dropped (no test_accuracy recorded for lenet dense)" in found["reason"]
    assert "replicate 5 dropped (no row for lenet imp" in found["reason"]
    assert not any("/r3/" in run or "/r4/" in run or "/r5/" in run for run in found["runs"])


@pytest.mark.parametrize("rows", [table(), accuracies([], []), accuracies([98.0], [98.0], "other")])
def test_an_empty_table_is_not_tested(rows: pd.DataFrame) -> None:
    found = verdict(rows, DIFFERENCE, RATIO, TREND)
    assert found["verdict"] == "not tested"
    assert "the table has no experiment lenet" in found["reason"]
    assert verdict(rows, ONSET, replicates=5)["verdict"] == "not tested"


def test_absent_levels_are_named() -> None:
    found = verdict(GOOD, DIFFERENCE | {"a": IMP | {"k": 150, "density": 0.168}})
    assert "3 replicates (0, 1, 2) dropped (no row for lenet imp at k = 150, density 0.168)" in found["reason"]


def test_a_part_that_settles_the_claim_does_so_whatever_else_is_missing() -> None:
    missing = DIFFERENCE | {"a": IMP | {"k": 150}}
    better = GOOD.assign(test_accuracy=GOOD["test_accuracy"] + (GOOD["branch"] == "imp"))
    fails, holds = DIFFERENCE | {"region": [None, 0]}, DIFFERENCE
    assert verdict(better, missing, fails)["verdict"] == "contradicted"
    assert verdict(GOOD, missing, holds)["verdict"] == "not tested"
    assert verdict(GOOD, missing, holds, combine="any")["verdict"] == "supported"
    assert verdict(GOOD, missing, fails, combine="any")["verdict"] == "not tested"


def test_an_experiment_outside_its_band_tests_nothing() -> None:
    found = verdict(GOOD, DIFFERENCE, bands={"lenet": {"test_accuracy": (98.5, 99.0)}})
    assert found["verdict"] == "not tested"
    assert found["reason"] == (
        "lenet's dense networks have a test accuracy of 98.06% on average, outside its calibration band 98.5 to 99%"
    )
    assert found["parts"][0]["verdict"] == "not tested"
    assert verdict(GOOD, DIFFERENCE, bands={"lenet": {"test_accuracy": (97.5, 98.5)}})["verdict"] == "supported"
    assert verdict(GOOD, DIFFERENCE, bands={"other": {"test_accuracy": (10, 20)}})["verdict"] == "supported"
    only_imp = GOOD[GOOD["branch"] == "imp"]
    alone = DIFFERENCE | {"b": IMP | {"k": 20}}
    assert (
        "dense networks have no test accuracy"
        in verdict(only_imp, alone, bands={"lenet": {"test_accuracy": (97, 99)}})["reason"]
    )
    with pytest.raises(ValueError, match=re.escape("lenet: [99, 98] is not a band")):
        verdict(GOOD, DIFFERENCE, bands={"lenet": {"test_accuracy": (99, 98)}})


def test_a_band_overrules_a_part_of_another_experiment() -> None:
    rows = pd.concat([GOOD, accuracies([90.1, 90.3, 90.2], [95.0, 95.2, 95.2], "low")])
    other = DIFFERENCE | {"a": IMP | {"experiment": "low"}, "b": DENSE | {"experiment": "low"}}
    found = verdict(rows, DIFFERENCE, other, bands={"lenet": {"test_accuracy": (10, 20)}})
    assert found["verdict"] == "not tested"
    assert [p["verdict"] for p in found["parts"]] == ["not tested", "contradicted"]


@pytest.mark.parametrize("column", ["branch", "k", "status", "test_accuracy", "replicate"])
def test_a_table_without_a_column_names_it(column: str) -> None:
    with pytest.raises(ValueError, match=f"no column '{column}'"):
        verdict(GOOD.drop(columns=column), DIFFERENCE)


def test_a_table_with_text_for_numbers_names_the_column() -> None:
    with pytest.raises(ValueError, match="'test_accuracy' holds"):
        verdict(GOOD.assign(test_accuracy="98"), DIFFERENCE)


def test_a_table_with_a_nameless_replicate_names_the_column() -> None:
    with pytest.raises(ValueError, match="'replicate' has missing values"):
        verdict(GOOD.assign(replicate=[0, 1, np.nan, 0, 1, 2]), DIFFERENCE)


def test_a_table_needs_only_the_measures_that_are_used() -> None:
    assert verdict(GOOD.drop(columns=["distance", "angle"]), DIFFERENCE)["verdict"] == "supported"
