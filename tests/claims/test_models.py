"""The claim schema: what it takes, and the message for each thing that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.paper.claims import Cell, Claim, Part, PublishedValue, ScaleClaim, expand_parts
from tests.claims.tables import DENSE, DIFFERENCE, IMP, MEDIAN, ONSET, RATIO, TREND, claim

PAIR = {"comparison": "data_order"}
ACROSS = {
    "statistic": "contrast",
    "measure": "test_accuracy",
    "terms": [{"weight": 1} | IMP, {"weight": -0.5} | DENSE],
    "region": [0, None],
}
MIDPOINT = DIFFERENCE | {"statistic": "midpoint", "c": IMP | {"branch": "random_prune"}, "region": [0, None]}
AUC = {
    "statistic": "auc",
    "measure": "distance",
    "terms": [{"weight": 1, "comparison": "data_order"} | IMP | {"branch": "random_prune"}],
    "region": [None, 0.75],
}
AUC["terms"].append({"weight": -1, "comparison": "data_order"} | IMP)
SHARE = {"statistic": "exact", "measure": "density", "a": IMP, "region": [10.7, 10.8]}
ORDER = ONSET | {
    "statistic": "onset_difference",
    "b": ONSET["a"] | {"measure": "instability_train"},
    "region": [-1, 1],
}


def part(base: dict[str, Any], **changes: Any) -> Part:
    kept = {k: v for k, v in (base | changes).items() if v != "remove"}
    return Part.model_validate({"name": "a part"} | kept)


@pytest.mark.parametrize("base", [DIFFERENCE, RATIO, TREND, ONSET, ORDER, ACROSS, MEDIAN, MIDPOINT, AUC, SHARE])
def test_every_statistic_has_a_valid_form(base: dict[str, Any]) -> None:
    assert part(base).region == tuple(base["region"])


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (RATIO, {"b": "remove"}, "ratio without b: add b"),
        (DIFFERENCE, {"a": "remove"}, "difference without a: add a"),
        (DIFFERENCE, {"threshold": 2.0}, "difference with threshold: remove threshold"),
        (DIFFERENCE, {"log": True}, "difference with log: remove log"),
        (ACROSS, {"terms": "remove"}, "contrast without terms"),
        (ONSET, {"threshold": "remove"}, "onset without threshold"),
        (MEDIAN, {"statistic": "mean"}, "mean of instability_test: it has two values.*use median"),
        (TREND, {"over": "remove"}, "exactly one of over .* and over_density"),
        (TREND, {"over": [20, 0]}, r"over \[20, 0\]: needs at least two values of k, each larger"),
        (TREND, {"over": [20]}, "at least two values of k"),
        (TREND, {"over": "remove", "over_density": [0.5, 0.6, 0.4]}, "all rising or all falling"),
        (DIFFERENCE, {"region": [0.5, -0.5]}, r"region \[0.5, -0.5\]: the lower bound is above the upper, swap"),
        (DIFFERENCE, {"region": [None, None]}, "bound at least one side"),
        (DIFFERENCE, {"region": [1, 2, 3]}, "region has 3 numbers, needs two"),
        (DIFFERENCE, {"region": [-100, 100]}, "holds every possible difference of test_accuracy: narrow"),
        (RATIO, {"region": [-1, 2]}, "a ratio is above 0"),
        (RATIO, {"region": [0, None]}, "holds every possible ratio"),
        (ONSET, {"region": [0, None]}, "holds every possible onset"),
        (
            DIFFERENCE,
            {"region": [0.4, 1.2]},
            r"region \[0.4, 1.2\]: a direction is a sign, so bound it by 0, or a margin",
        ),
        (DIFFERENCE, {"region": [None, -0.5]}, r"region \[None, -0.5\]: a direction is a sign"),
        (RATIO, {"region": [1.5, None]}, "a direction is a sign, so bound it by 1"),
        (TREND, {"region": [None, 0.9], "log": True}, "a direction is a sign, so bound it by 1"),
        (MIDPOINT, {"region": [-0.5, None]}, "a direction is a sign, so bound it by 0"),
        (MIDPOINT, {"c": "remove"}, "midpoint without c: add c"),
        (
            DIFFERENCE,
            {"statistic": "mean", "b": "remove", "region": [98, None]},
            "mean with region: a level is a size, not a direction",
        ),
        (MEDIAN, {"region": None}, "median without region: add"),
        (AUC, {"region": [0, 1]}, "holds every possible auc"),
        (DIFFERENCE, {"measure": "acuracy"}, "unknown measure 'acuracy'.*of networks test_accuracy.*of pairs distance"),
        (DIFFERENCE, {"measure": "test_acuracy"}, "did you mean test_accuracy"),
        (DIFFERENCE, {"measure": "distance"}, "compares two networks: add comparison"),
        (RATIO, {"measure": "test_accuracy"}, "belongs to one network: remove comparison 'data_order'"),
        (DIFFERENCE, {"b": IMP}, "a and b are the same cell"),
        (DIFFERENCE, {"a": IMP | {"k": None}}, "lenet imp at density 0.107 has no k: add k"),
        (DIFFERENCE, {"a": IMP | {"density": None}}, "has no density: add the share"),
        (DIFFERENCE, {"a": DENSE | {"density": 0.5}}, "a dense network has density 1, remove it"),
        (RATIO, {"a": DENSE | {"comparison": "pruning"}}, "comparison 'pruning' on a dense cell"),
        (RATIO, {"a": DENSE | PAIR}, "lenet dense.* has no k: add k"),
        (ONSET, {"a": ONSET["a"] | {"measure": "distance"}}, "only the cells of an onset_difference may measure"),
        (ORDER, {"b": ONSET["a"] | {"measure": "instability"}}, "unknown measure 'instability'"),
        (ORDER, {"b": ONSET["a"] | {"measure": "train_loss"}}, "belongs to one network: remove comparison"),
        (ORDER, {"b": ONSET["a"] | {"measure": "instability_test"}}, "a and b are the same cell"),
        (ACROSS, {"terms": [{"weight": 0} | IMP]}, "weight 0 leaves the term out"),
        (DIFFERENCE, {"a": IMP | {"branch": "IMP"}}, "(?s)branch.*should match pattern"),
        (DIFFERENCE, {"a": IMP | {"k": "0"}}, "valid integer"),
        (DIFFERENCE, {"a": IMP | {"k": -1}}, "greater than or equal to 0"),
        (DIFFERENCE, {"a": IMP | {"density": 10.7}}, "less than or equal to 1"),
        (DIFFERENCE, {"a": IMP | {"density": True}}, "valid number"),
        (DIFFERENCE, {"a": IMP | {"densty": 0.1}}, r"(?s)a\.densty.*Extra inputs"),
        (DIFFERENCE, {"regon": [0, 1]}, "(?s)regon.*Extra inputs"),
        (DIFFERENCE, {"region": [float("nan"), None]}, "finite number"),
        (SHARE, {"region": "remove"}, "exact without region"),
        (SHARE, {"region": [10.7, None]}, r"exact with region \[10.7, None\]: bound a count at both sides"),
        (SHARE, {"measure": "test_accuracy"}, "exact of test_accuracy: exact is the statistic of density, alone"),
        (MEDIAN, {"measure": "density"}, "median of density: exact is the statistic of density, alone"),
        (DIFFERENCE, {"for_each": {}}, "exactly one of density and k"),
        (DIFFERENCE, {"for_each": {"density": [0.4, 0.4]}}, "repeats a value"),
        (DIFFERENCE, {"for_each": {"density": [0.4]}}, "changes no cell"),
        (TREND, {"for_each": {"k": [0]}}, "for_each.k and over both set k"),
        (
            TREND,
            {"over": "remove", "over_density": [1, 0.5], "a": DENSE | PAIR | {"k": 0}},
            "over_density with a dense",
        ),
    ],
)
def test_wrong_parts_are_met_with_field_value_and_fix(
    base: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        part(base, **changes)


def test_an_onset_difference_stays_in_one_experiment() -> None:
    other = ONSET["a"] | {"experiment": "resnet20-low"}
    with pytest.raises(ValidationError, match=r"'lenet' and 'resnet20-low'.*name one in both cells"):
        part(ONSET, statistic="onset_difference", b=other, region=[None, 0])


@pytest.mark.parametrize(
    ("parts", "replicates", "message"),
    [
        ([DIFFERENCE], 2, "replicates 2: an interval needs at least 3"),
        ([DIFFERENCE, MEDIAN], 4, "replicates 4: a median's sign test needs at least 5"),
        ([DIFFERENCE, ONSET], 4, "replicates 4: a median's sign test needs at least 5"),
        ([DIFFERENCE | {"name": "x"}, RATIO | {"name": "x"}], 3, "two parts are named 'x'"),
        ([], 3, "at least 1 item"),
    ],
)
def test_wrong_scale_entries(parts: list[dict[str, Any]], replicates: int, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        claim(*parts, replicates=replicates)


def test_a_claim_may_have_no_scale() -> None:
    bare = {"id": "C27", "title": "t", "statement": "s", "source": {"where": "Fig. 7", "obtained": "text"}}
    assert Claim.model_validate(bare | {"not_tested": "needs ImageNet"}).scales == {}
    with pytest.raises(ValidationError, match="obtained"):
        Claim.model_validate(bare | {"source": {"where": "Fig. 7", "obtained": "guessed"}})
    with pytest.raises(ValidationError, match="pattern"):
        Claim.model_validate(bare | {"id": "27 !"})
    # the id is the anchor on the page, where other anchors begin with a small letter
    for name in ("c27", "C27.b", "C27_b", "C27 b", "C27\n", ""):
        with pytest.raises(ValidationError, match="id"):
            Claim.model_validate(bare | {"id": name})


def test_published_values() -> None:
    assert (
        PublishedValue.model_validate({"quantity": "q", "value": 98, "unit": "%", "obtained": "printed"}).error is None
    )
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        PublishedValue.model_validate({"quantity": "q", "value": 98, "error": -1, "obtained": "printed"})


def entry(*parts: dict[str, Any]) -> ScaleClaim:
    return claim(*parts).scales["mini"]


def test_for_each_fills_the_cells_that_do_not_set_the_key() -> None:
    free = {k: v for k, v in IMP.items() if k != "density"}
    fixed = IMP | {"branch": "random_prune", "density": 0.168}
    expanded = expand_parts(entry(DIFFERENCE | {"a": free, "b": fixed, "for_each": {"density": [0.41, 0.26]}}))
    assert [p.name for p in expanded] == ["part 0 (density 0.41)", "part 0 (density 0.26)"]
    assert [p.a.density for p in expanded if p.a] == [0.41, 0.26]
    assert [p.b.density for p in expanded if p.b] == [0.168, 0.168]
    assert all(p.for_each is None for p in expanded)


def test_for_each_leaves_the_dense_network_alone_but_not_its_pairs() -> None:
    free = {k: v for k, v in IMP.items() if k != "k"}
    (one,) = expand_parts(entry(DIFFERENCE | {"a": free, "for_each": {"k": [20]}}))
    assert one.a == Cell.model_validate(IMP | {"k": 20})
    assert one.b == Cell.model_validate(DENSE)
    ratio = RATIO | {"a": DENSE | PAIR, "b": free | PAIR, "for_each": {"k": [20]}}
    (two,) = expand_parts(entry(ratio))
    assert two.a is not None
    assert two.a.k == 20


def test_cells_and_grids_name_where_a_part_is_read() -> None:
    ((cell, k, densities),) = part(TREND).cells_and_grids()
    assert (cell.branch, k, densities) == ("imp", [0, 20, 100], [0.107])
    (_, (_, k, densities)) = part(DIFFERENCE).cells_and_grids()
    assert (k, densities) == ([], [])
