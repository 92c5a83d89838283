"""The regions that ship are the frozen ones, and whatever decides a direction is noticed when it moves."""

import json

import pytest

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.paper import load_spec
from harness.paper.claims import LEFT_OUT, Claim
from harness.paper.frozen import FILE, excused, freeze, frozen_now, moved, moves
from harness.plan.needs import judged, selected
from tests.paper.test_load import edit, papers  # noqa: F401  a fixture

PAPERS = [path.parent.name for path in sorted((checkout() / "papers").glob("*/paper.yaml"))]


@pytest.mark.parametrize("paper", PAPERS)
def test_what_ships_is_frozen(paper):
    """After a deliberate change: an erratum; for what is new `harness check --freeze`."""
    for path in sorted((checkout() / "papers" / paper / "scales").glob("*.yaml")):
        spec = load_spec(checkout(), paper, path.stem)
        assert [
            name
            for name, _, _ in moved(spec.claims, path.stem, spec.frozen)
            if not any(claim.id == name and excused(claim, path.stem) for claim in spec.claims)
        ] == []
        assert {c.id for c in spec.claims if path.stem in c.scales} == {
            c for c, e in spec.frozen.items() if path.stem in e
        }


PART = {
    "name": "a part",
    "statistic": "difference",
    "measure": "test_accuracy",
    "a": {"experiment": "lenet", "branch": "imp", "k": 0, "density": 0.107},
    "b": {"experiment": "lenet", "branch": "dense", "k": 0},
    "region": [-0.5, 0.5],
}
SIZE = {"name": "a size", "statistic": "mean", "measure": "test_accuracy", "a": PART["a"]}


def claim(part=(), entry=(), parts=(), **fields) -> Claim:
    """A claim at the mini scale, with these changes."""
    scale = {"replicates": 5, "prediction": "so", "parts": [PART | dict(part), *parts], **dict(entry)}
    base = {"id": "C1", "title": "t", "statement": "s", "source": {"where": "w", "obtained": "text"}}
    return Claim.model_validate_json(json.dumps({**base, "scales": {"mini": scale}, **fields}))


FROZEN = freeze([claim()], {}, "2026-11-30")


@pytest.mark.parametrize(
    ("changed", "was", "now"),
    [
        (claim({"region": [-1, 0.5]}), "region [-0.5, 0.5]", "region [-1.0, 0.5]"),
        (claim(entry={"replicates": 4}), "replicates: 5", "replicates: 4"),
        (claim(entry={"combine": "any"}), "combine: all", "combine: any"),
        (claim(parts=[PART | {"name": "more"}]), "part 'more': none", "part 'more': region [-0.5, 0.5]"),
        (claim({"measure": "train_accuracy"}), "the same regions", "of another statistic, measure or other cells"),
        (
            claim({"a": PART["a"] | {"density": 0.2}}),
            "the same regions",
            "of another statistic, measure or other cells",
        ),
        (claim(scales={}), "judged", "no longer judged"),
    ],
)
def test_a_move_is_told(changed, was, now):
    ((found, before, after),) = moved([changed], "mini", FROZEN)
    assert found == "C1"
    assert was in before
    assert now in after
    assert not excused(changed, "mini")
    assert moves([changed], "mini", FROZEN)[0].endswith("no erratum says why")


@pytest.mark.parametrize(
    "same",
    [claim(title="another"), claim(entry={"prediction": "anew"}), claim({"name": "renamed"}), claim(parts=[SIZE])],
)
def test_what_decides_no_direction_may_change(same):
    assert list(moved([same], "mini", FROZEN)) == []


def test_an_erratum_excuses_one_change():
    wider = {"region": [-1, 0.5]}
    digits = frozen_now(claim(wider), "mini").sha256[:12]
    erratum = {"date": "2026-12-01", "scale": "mini", "sha256": digits, "reason": "the unit was wrong"}
    assert excused(claim(wider, errata=[erratum]), "mini")
    assert not excused(claim({"region": [-2, 0.5]}, errata=[erratum]), "mini")
    assert "erratum of 2026-12-01: the unit was wrong" in moves([claim(wider, errata=[erratum])], "mini", FROZEN)[0]


def test_freezing_again_adds_what_is_new_and_changes_nothing():
    wider = claim({"region": [-1, 0.5]})
    assert freeze([wider], FROZEN, "2026-12-01") == FROZEN
    assert freeze([], FROZEN, "2026-12-01") == FROZEN
    both = freeze([claim(), claim(id="C2")], FROZEN, "2026-12-01")
    assert both["C1"] == FROZEN["C1"]
    assert both["C2"]["mini"].date == "2026-12-01"


def test_a_removed_claim_moved_and_one_that_is_not_selected_did_not():
    assert list(moved([], "mini", FROZEN)) == [("C1", "judged", "removed")]
    assert moves([], "mini", FROZEN) == ["C1 (judged; now removed): no erratum says why"]
    assert list(moved([claim(scales={}, not_tested=LEFT_OUT)], "mini", FROZEN)) == []
    assert list(moved([claim(calibrates=True)], "mini", FROZEN)) != []


@pytest.mark.parametrize("paper", [paper for paper in PAPERS if paper != "pruning-methods"])  # claims nothing
def test_a_selection_of_claims_moves_none(paper):
    spec = load_spec(checkout(), paper, "mini")
    before = moves(spec.claims, "mini", spec.frozen)  # those with errata
    assert set(moves(selected(spec, [judged(spec)[0]]).claims, "mini", spec.frozen)) <= set(before)


def test_a_damaged_file_and_an_erratum_of_no_scale_are_one_line(papers):  # noqa: F811
    edit(
        papers,
        "claims.yaml",
        lambda content: content[0].update(
            errata=[{"date": "2026-12-01", "scale": "smoke", "sha256": "0" * 12, "reason": "r"}]
        ),
    )
    with pytest.raises(HarnessError, match=r"C1\.errata: it is not judged at scale smoke"):
        load_spec(papers, "stabilizing-lth", "mini")
    path = papers / "papers" / "stabilizing-lth" / FILE
    path.write_text(path.read_text().replace('"combine": "all"', '"combine": "most"', 1))
    with pytest.raises(HarnessError, match=r"frozen.yaml: C1.mini.combine: .*'all' or 'any'"):
        load_spec(papers, "stabilizing-lth", "mini")
