"""Verdicts on small tables: each rule, each reason, and what judging must not depend on."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.claims.judge import chance_flips, judge, repeated
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
    curves,
    distances,
    judged,
    network,
    pair,
    table,
    verdict,
)

KEYS = [
    "id",
    "title",
    "statement",
    "source",
    "verdict",
    "reason",
    "size",
    "papers_own",
    "estimate",
    "interval",
    "level",
    "needed",
    "chance",
    "region",
    "replicates",
    "left_out",
    "fragile",
    "power",
    "published",
    "runs",
    "parts",
    "sizes",
    "note",
    "figure",
    "figure_experiments",
    "prediction",
]
PART_KEYS = [
    "name",
    "statistic",
    "measure",
    "log",
    "verdict",
    "reason",
    "estimate",
    "interval",
    "level",
    "with_images",
    "standardised",
    "above",
    "needed",
    "region",
    "replicates",
    "values",
    "runs",
]


def better(more: float) -> pd.DataFrame:
    """GOOD with IMP that much better: the interval is -0.10 to 0.42 at 95% and -0.38 to 0.69 at 98.75%, and more."""
    return GOOD.assign(test_accuracy=GOOD["test_accuracy"] + more * (GOOD["branch"] == "imp"))


def test_a_difference_is_scipys_paired_interval() -> None:
    found = verdict(GOOD, DIFFERENCE)
    values = np.array([98.31, 98.12, 98.24]) - np.array([98.03, 98.05, 98.11])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["verdict"] == "supported"
    assert found["estimate"] == pytest.approx(values.mean())
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert found["region"] == [-0.5, None]
    assert found["parts"][0]["values"] == pytest.approx(values)
    assert found["replicates"] == 3
    assert len(found["runs"]) == 6
    assert "95% interval" in found["reason"]
    assert "inside the region (at least -0.5)" in found["reason"]


def test_the_object_has_the_contracts_keys() -> None:
    found = verdict(
        GOOD, DIFFERENCE, note="a note", published=[{"quantity": "q", "value": 98.3, "obtained": "printed"}]
    )
    assert list(found) == KEYS
    assert list(found["parts"][0]) == PART_KEYS
    assert found["source"] == {"where": "Fig. 2", "obtained": "printed", "quotation": None}
    assert found["published"][0]["value"] == 98.3


@pytest.mark.parametrize(
    ("more", "region", "expected", "words"),
    [
        (0, [-0.5, None], "supported", "lies inside"),
        (1, [0, None], "supported", "lies inside"),
        (1, [None, 0], "contradicted", "lies wholly outside"),
        (0, [0, None], "inconclusive", "reaches below its lower edge 0"),
        (0, [None, 0.2], "inconclusive", "reaches above its upper edge 0.2"),
        (0, [-0.05, 0.2], "inconclusive", "reaches below its lower edge -0.05 and reaches above its upper edge 0.2"),
    ],
)
def test_verdicts_follow_the_interval(more: float, region: list[float | None], expected: str, words: str) -> None:
    found = verdict(better(more), DIFFERENCE | {"region": region})
    assert found["verdict"] == expected
    assert words in found["reason"]


def test_a_ratio_is_analysed_as_logarithms_and_shown_as_a_ratio() -> None:
    imp, random = [0.56, 0.61, 0.52], [8.0, 7.1, 8.4]
    found = verdict(distances(imp, random), RATIO)
    logs = np.log(random) - np.log(imp)
    expected = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert found["estimate"] == pytest.approx(exp(logs.mean()))
    assert found["interval"] == pytest.approx([exp(expected.low), exp(expected.high)])
    assert found["parts"][0]["values"] == pytest.approx(np.exp(logs))
    assert "lenet/r0/k0/L5/imp/o1" in found["runs"]


def test_a_ratio_of_zero_is_not_tested_rather_than_left_out() -> None:
    found = verdict(distances([0.5, 0.0, 0.6], [8.0, 7.0, 8.0]), RATIO)
    assert found["verdict"] == "not tested"
    assert "a ratio needs values above 0, and distance is 0 in replicate 1 of lenet" in found["reason"]


@pytest.mark.parametrize("logarithms", [False, True])
def test_a_trend_is_the_fitted_change(logarithms: bool) -> None:
    rng = np.random.default_rng(1)
    drawn = np.exp(rng.normal(2, 0.1, (3, 4))) * np.array([[3.0], [2.0], [1.0]])
    rows = [pair("imp", r, k=k, distance=drawn[i, r]) for i, k in enumerate((0, 20, 100)) for r in range(4)]
    found = verdict(table(*rows), TREND | {"log": logarithms, "region": [None, 1.0 if logarithms else 0]})
    values = np.log(drawn) if logarithms else drawn
    slopes = 2 * np.polyfit([0, 1, 2], values, 1)[0]
    # the bend of each replicate's line tells of the spread too: 3 degrees of freedom, as many as the slopes have
    bend = 2 * np.polyfit([0, 1, 2], values, 2)[0]
    variance = max(slopes.var(ddof=1), (slopes.var(ddof=1) + bend.var(ddof=1) / 3) / 2)
    half = stats.t.isf(0.025, 6) * np.sqrt(variance / 4)
    shown = np.exp if logarithms else np.asarray
    assert found["interval"] == pytest.approx(shown([slopes.mean() - half, slopes.mean() + half]))
    assert found["estimate"] == pytest.approx(shown(slopes.mean()))


def test_experiments_are_compared_by_welch() -> None:
    a, b = [90.11, 90.52, 89.93], [86.74, 87.01, 86.22, 86.93, 87.14]
    low = IMP | {"experiment": "low"}
    rows = pd.concat([accuracies(a, a), accuracies(b, b, "low")])
    found = verdict(rows, DIFFERENCE | {"b": low, "region": [0, None]})
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert found["replicates"] == 3
    values = found["parts"][0]["values"]
    assert len(values) == 8
    assert np.mean(values) == pytest.approx(found["estimate"])
    terms = [{"weight": 1} | IMP, {"weight": -1} | low]
    contrast = {"statistic": "contrast", "measure": "test_accuracy", "terms": terms, "region": [0, None]}
    assert verdict(rows, contrast)["interval"] == pytest.approx(found["interval"])


def test_an_onset_is_the_sign_tests() -> None:
    rows = table(*curves([9, 1, 1], [9, 1, 0.5], [9, 1, 1], [8, 1.9, 1], [1, 1, 1]))
    found = verdict(rows, ONSET, replicates=5)
    assert (found["verdict"], found["estimate"], found["interval"]) == ("supported", 20, [0, 20])
    assert found["parts"][0]["values"] == [20, 20, 20, 20, 0]


def test_an_onset_that_never_comes_is_infinite_and_null_in_json() -> None:
    rows = table(*curves([9, 1, 1], [9, 1, 9], [9, 1, 1], [9, 9, 1], [9, 1, 1]))
    found = verdict(rows, ONSET, replicates=5)
    assert (found["verdict"], found["estimate"], found["interval"]) == ("inconclusive", 20, [20, None])
    assert found["parts"][0]["values"] == [20, None, 20, 100, 20]
    late = verdict(table(*curves(*[[9, 9, 9]] * 5)), ONSET, replicates=5)
    assert (late["verdict"], late["estimate"], late["interval"]) == ("contradicted", None, [None, None])


def test_an_onset_difference_counts_grid_positions() -> None:
    rows = curves(*[[9, 1, 1]] * 6, branch="imp") + curves(*[[9, 9, 1]] * 5, [9, 9, 9])
    part = ONSET | {"statistic": "onset_difference", "a": IMP | {"comparison": "data_order"}, "b": ONSET["a"]}
    found = verdict(table(*rows), part | {"region": [None, 0]}, replicates=5)
    assert (found["verdict"], found["estimate"], found["interval"]) == ("supported", -1, [None, -1])
    assert found["parts"][0]["values"] == [-1, -1, -1, -1, -1, -2]


def test_an_onset_difference_may_compare_two_measures_of_one_cell() -> None:
    rows = [row | {"instability_train": row["instability_test"] + 1.5} for row in curves(*[[9, 1, 0.1]] * 5)]
    part = ONSET | {"statistic": "onset_difference", "region": [1, 1]}
    found = verdict(
        table(*rows), part | {"a": ONSET["a"] | {"measure": "instability_train"}, "b": ONSET["a"]}, replicates=5
    )
    assert (found["verdict"], found["parts"][0]["values"]) == ("supported", [1.0] * 5)
    no_column = table(*rows).drop(columns="instability_train")
    with pytest.raises(ValueError, match="no column 'instability_train'"):
        verdict(no_column, part | {"a": ONSET["a"] | {"measure": "instability_train"}, "b": ONSET["a"]}, replicates=5)


def test_all_needs_every_part_and_any_needs_one() -> None:
    miss = DIFFERENCE | {"region": [None, 0]}
    every = verdict(better(1), DIFFERENCE, miss)
    assert every["verdict"] == "contradicted"
    assert every["region"] == [None, 0]
    assert "all parts must hold, and this one fails: 'part 1'" in every["reason"]
    assert "of 2 parts 1 supported, 1 contradicted" in every["reason"]
    one = verdict(better(1), miss, DIFFERENCE, combine="any")
    assert (one["verdict"], one["region"]) == ("supported", [-0.5, None])
    none = verdict(better(1), miss, DIFFERENCE | {"region": [None, 0.1]}, combine="any")
    assert none["verdict"] == "contradicted"


def test_refuting_one_of_many_parts_is_corrected_and_so_is_supporting_any() -> None:
    rows, outside = better(0.2), DIFFERENCE | {"region": [None, 0]}
    alone = verdict(rows, outside)
    assert (alone["verdict"], alone["level"]) == ("contradicted", 0.95)
    many = verdict(rows, *[outside] * 4)
    assert many["verdict"] == "inconclusive"
    assert "outside the region (at most 0), but not when corrected for the claim's 4 parts" in many["reason"]
    inside = DIFFERENCE | {"region": [0, None]}
    assert verdict(rows, *[inside] * 4)["verdict"] == "supported"
    assert verdict(rows, *[inside] * 4, combine="any")["verdict"] == "inconclusive"


def test_the_interval_that_is_shown_is_the_one_that_decides() -> None:
    refuted = verdict(better(1), *[DIFFERENCE | {"region": [None, 0]}] * 4)
    held = verdict(better(1), *[DIFFERENCE | {"region": [0, None]}] * 4)
    assert (refuted["level"], held["level"]) == (pytest.approx(0.9875), 0.95)
    assert refuted["interval"] == pytest.approx([0.607, 1.713], abs=0.01)
    assert held["interval"] == pytest.approx([0.90, 1.42], abs=0.02)
    rows = table(*(pair("dense", r, instability_test=0.1) for r in range(5)))
    assert verdict(rows, MEDIAN, replicates=5)["level"] == 0.9375


def test_the_deciding_part_is_the_supported_one_nearest_to_its_edge() -> None:
    parts = [DIFFERENCE | {"region": [low, None]} for low in (-5, -0.5, -1)]
    assert verdict(GOOD, *parts)["region"] == [-0.5, None]


def test_densities_match_a_level_within_two_percent() -> None:
    rows = GOOD.copy()
    for density, expected in ((0.64**5, "supported"), (0.8**10, "supported"), (0.11, "not tested")):
        rows.loc[rows["branch"] == "imp", "density"] = density
        assert verdict(rows, DIFFERENCE)["verdict"] == expected


def test_replicates_and_rows_in_any_order_judge_alike() -> None:
    rng = np.random.default_rng(0)
    rows = pd.concat([GOOD, distances([0.56, 0.61, 0.52], [8.0, 7.1, 8.4])], ignore_index=True)
    base = verdict(rows, DIFFERENCE, RATIO)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    renamed = rows.assign(replicate=rows["replicate"].map({0: 7, 1: 0, 2: 3}))
    for changed in (shuffled, renamed):
        found = verdict(changed, DIFFERENCE, RATIO)
        assert found["verdict"] == base["verdict"]
        assert found["interval"] == pytest.approx(base["interval"])
        assert [p["estimate"] for p in found["parts"]] == pytest.approx([p["estimate"] for p in base["parts"]])


def test_more_pairs_of_one_replicate_do_not_narrow_the_interval() -> None:
    rows = distances([0.56, 0.61, 0.52], [8.0, 7.1, 8.4])
    base = verdict(rows, RATIO)
    everywhere = verdict(pd.concat([rows] * 50), RATIO)
    first = verdict(pd.concat([rows, *[rows[rows["replicate"] == 0]] * 50]), RATIO)
    for found in (everywhere, first):
        assert found["interval"] == pytest.approx(base["interval"])
        assert found["replicates"] == 3


def test_widening_the_region_never_takes_support_away() -> None:
    rng = np.random.default_rng(3)
    order = ["contradicted", "inconclusive", "supported"]
    for _ in range(60):
        rows = accuracies(rng.normal(98, 0.3, 3).tolist(), rng.normal(98, 0.3, 3).tolist())
        steps = np.cumsum(rng.exponential(0.4, (4, 2)), axis=0)
        regions = [[-low, high] for low, high in steps]
        found = [order.index(verdict(rows, DIFFERENCE | {"region": region})["verdict"]) for region in regions]
        assert found == sorted(found)


def test_replicates_that_agree_exactly_are_not_certain() -> None:
    # a continuous measure that agrees to the last digit says that something is wrong with the replicates
    same = verdict(distances([0.5] * 3, [8.0] * 3), RATIO)
    assert (same["verdict"], same["interval"]) == ("inconclusive", [None, None])
    assert same["estimate"] == pytest.approx(16)
    assert "all replicates gave the same value" in same["reason"]
    # three equal counts on 540 images: a step of 0.185 points could still hide in most replicates
    step = 100 / 540
    tied = accuracies([530 * step, 529 * step, 531 * step], [530 * step, 529 * step, 531 * step])
    found = verdict(tied, DIFFERENCE | {"region": [-0.1, 0.1]}, tested=540)
    assert found["verdict"] == "inconclusive"
    assert found["interval"] == pytest.approx([-step * (1 - 0.025 ** (1 / 3)), step * (1 - 0.025 ** (1 / 3))], rel=1e-4)
    assert verdict(tied, DIFFERENCE, tested=540)["verdict"] == "supported"
    assert verdict(tied, DIFFERENCE)["verdict"] == "inconclusive"


def test_a_difference_is_told_in_test_images() -> None:
    found = verdict(better(0.31), DIFFERENCE, tested=540)  # 0.47 points
    assert "the estimate is 2.5 of 540 test images" in found["reason"]
    assert "test images" not in verdict(GOOD, DIFFERENCE)["reason"]


@pytest.mark.parametrize("n", [5, 6, 9, 20])
def test_a_median_is_below_a_bound_where_most_replicates_are_by_clopper_and_pearson(n: int) -> None:
    for stable in range(n + 1):
        rows = table(*(pair("dense", r, instability_test=0.0 if r < stable else 40.0) for r in range(n)))
        found = verdict(rows, MEDIAN, replicates=5)
        share = stats.binomtest(stable, n).proportion_ci(0.95 if n > 5 else 1 - 2 / 2**5, method="exact")
        expected = (
            "supported" if share.low > 0.5 - 1e-9 else "contradicted" if share.high < 0.5 + 1e-9 else "inconclusive"
        )
        assert found["verdict"] == expected, stable
        assert f"{stable} of {n} replicates are in it" in found["reason"]


def test_five_replicates_refute_a_median_alone_but_not_as_one_of_two() -> None:
    rows = table(*(pair("dense", r, instability_test=40.0) for r in range(5)))
    assert verdict(rows, MEDIAN, replicates=5)["verdict"] == "contradicted"
    two = verdict(rows, MEDIAN, MEDIAN, replicates=5)
    assert two["verdict"] == "inconclusive"
    assert (
        "outside the region (at most 2), but so few replicates cannot refute one of the claim's 2 parts"
        in two["reason"]
    )


def test_five_replicates_without_any_instability_are_stable_whatever_else_was_measured() -> None:
    zeros = [pair("dense", r, instability_test=0.0) for r in range(5)]
    others = [pair("imp", r, instability_test=v) for r, v in enumerate([0.185, 0.55, 7.9, 40.0, 0.4])]
    alone, together = (
        verdict(table(*zeros), MEDIAN, replicates=5),
        verdict(table(*zeros, *others), MEDIAN, replicates=5),
    )
    assert (alone["verdict"], alone["interval"]) == ("supported", [0, 0])
    assert "93.75% interval" in alone["reason"]
    assert together == alone


def test_support_comes_from_data_alone() -> None:
    """Each part that is supported by one table is contradicted by another."""
    ups = [9.0, 9.4, 8.8, 9.1, 9.3]
    downs = [0.50, 0.52, 0.47, 0.51, 0.49]

    def falling(drops: tuple[int, int, int]) -> pd.DataFrame:
        points = [(r, k, v * (1 + d)) for r, v in enumerate(downs) for k, d in zip((0, 20, 100), drops, strict=True)]
        return table(*(pair("imp", r, k=k, distance=v) for r, k, v in points))

    dense = [98.0, 98.1, 98.05]
    cases: list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]] = [
        (DIFFERENCE, accuracies([98.3, 98.1, 98.2], dense), accuracies([90.3, 90.1, 90.2], dense)),
        (RATIO, distances(downs, ups), distances(ups, downs)),
        (TREND, falling((3, 1, 0)), falling((0, 1, 3))),
        (ONSET, table(*curves(*[[9, 1, 1]] * 5)), table(*curves(*[[9, 9, 1]] * 5))),
    ]
    for part, holding, failing in cases:
        replicates = 5 if part is ONSET else 3
        assert verdict(holding, part, replicates=replicates)["verdict"] == "supported"
        assert verdict(failing, part, replicates=replicates)["verdict"] == "contradicted"
        assert verdict(table(), part, replicates=replicates)["verdict"] == "not tested"


def test_chance_flips_counts_each_judged_claim_once() -> None:
    onset = judged(table(*curves(*[[9, 1, 1]] * 5)), ONSET, replicates=5)
    two = judged(GOOD, DIFFERENCE, DIFFERENCE | {"region": [None, 0]})
    missing = judged(table(), DIFFERENCE)
    assert chance_flips([]) == 0
    assert chance_flips([missing]) == 0
    assert chance_flips([two]) == pytest.approx(0.025)
    assert chance_flips([two, missing, onset]) == pytest.approx(0.025 + 1 / 32)
    parts = [*two.parts, *onset.parts, *missing.parts]
    both = two.model_copy(update={"verdict": "supported", "parts": parts})
    assert chance_flips([both]) == pytest.approx(1 / 32)


def test_a_claim_of_parts_that_stand_elsewhere_repeats_them() -> None:
    extra = table(*(network("random_prune", r, test_accuracy=v) for r, v in enumerate([97.1, 97.5, 97.3])))
    rows = pd.concat([better(1), extra], ignore_index=True)
    above = DIFFERENCE | {"region": [0, None], "b": IMP | {"branch": "random_prune"}}
    claims = [claim(DIFFERENCE, id="A"), claim(above, id="B"), claim(DIFFERENCE, above, id="C"), claim(RATIO, id="D")]
    found = judge(claims, "mini", rows, {})
    assert found[0].parts[0].interval != found[2].parts[0].interval  # moderated by the third network
    assert repeated(found) == {"C": ["A", "B"]}


def test_logarithmic_regions_keep_their_edges() -> None:
    rows = distances([1.0, 1.1, 0.9], [2.0, 2.3, 1.9])
    found = verdict(rows, RATIO | {"region": [None, 3]})
    assert found["region"] == [None, 3]
    assert log(found["interval"][1]) < log(3)
    assert found["verdict"] == "supported"


def test_a_dense_cell_without_k_takes_every_dense_network() -> None:
    extra = table(*(network("dense", r, k=20, data_order=1, test_accuracy=97.0) for r in range(3)))
    found = verdict(pd.concat([GOOD, extra]), DIFFERENCE | {"b": DENSE | {"k": 0}})
    assert found["estimate"] == pytest.approx(verdict(GOOD, DIFFERENCE)["estimate"])
    assert verdict(pd.concat([GOOD, extra]), DIFFERENCE)["estimate"] > found["estimate"]
