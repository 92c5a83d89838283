"""What is a regression, what is only listed, and the conclusion when nothing changed."""

import pytest

from harness.check.decide import Report, Whole, compare, conclusion, unchanged
from tests.check.results import ELSEWHERE, calibration, claim, results, rows

WHOLE = Whole(("C1", "C2", "C10"), ("lenet", "resnet"))


def outcome(kind, name, before=None, now=None, whole=WHOLE, partial=False) -> tuple[str, str]:
    """Outcome and text of one finding, when `now` differs from the usual results."""
    report = compare(results(**before or {}), results(**now or {}), whole, partial)
    (finding,) = [finding for finding in report.findings if (finding.kind, finding.name) == (kind, name)]
    assert report.failed == any(finding.outcome == "failed" for finding in report.findings)
    return finding.outcome, finding.text


def claims(**verdicts) -> dict:
    return {"claims": {**results().claims, **{name: claim(verdict) for name, verdict in verdicts.items()}}}


@pytest.mark.parametrize("verdict", ["inconclusive", "contradicted", "not tested"])
def test_a_supported_claim_that_is_supported_no_longer_fails(verdict):
    assert outcome("claim", "C1", now=claims(C1=verdict)) == ("failed", f"supported in the baseline, now {verdict}")


@pytest.mark.parametrize(("was", "verdict"), [("inconclusive", "supported"), ("contradicted", "inconclusive")])
def test_any_other_change_of_a_verdict_is_listed_and_fails_nothing(was, verdict):
    report = compare(results(**claims(C2=was)), results(**claims(C2=verdict)), WHOLE, False)
    assert [finding.name for finding in report.of("changed")] == ["C2"]
    assert not report.failed


def test_a_claim_that_was_never_supported_can_get_worse_without_failing():
    assert outcome("claim", "C2", now=claims(C2="contradicted"))[0] == "changed"


def test_a_supported_claim_can_not_be_dropped_from_the_scale_unseen():
    without = {"claims": {name: result for name, result in results().claims.items() if name != "C1"}}
    dropped = Whole(("C2", "C10"), WHOLE.experiments)
    assert outcome("claim", "C1", now=without, whole=dropped)[0] == "failed"
    assert outcome("claim", "C1", now=without, partial=True)[0] == "not compared"


def test_a_prediction_that_was_changed_is_named_even_if_the_verdict_holds():
    eased = {"claims": {**results().claims, "C1": claim(prediction="a wider region")}}
    result, text = outcome("claim", "C1", now=eased)
    assert result == "changed"
    assert text == "supported as in the baseline; its prediction has changed since the baseline"
    better = {"claims": {**results().claims, "C2": claim("supported", prediction="a wider region")}}
    assert outcome("claim", "C2", now=better) == (
        "changed",
        "inconclusive in the baseline, now supported; its prediction has changed since the baseline",
    )


def test_numbers_that_change_on_the_same_machine_are_listed_and_on_another_are_not():
    moved = {"claims": {**results().claims, "C1": claim(numbers="moved")}}
    assert outcome("claim", "C1", now=moved) == ("changed", "supported as in the baseline; its numbers changed")
    assert outcome("claim", "C1", now={**moved, "machines": ELSEWHERE})[0] == "same"


def test_a_value_that_leaves_its_band_fails_and_one_that_was_outside_does_not():
    inside, outside = ({"calibration": {"lenet.test_accuracy": calibration(value)}} for value in (96.0, 95.9))
    assert outcome("calibration", "lenet.test_accuracy", inside, outside) == ("failed", "has left its calibration band")
    assert outcome("calibration", "lenet.test_accuracy", outside, outside)[0] == "same"
    assert outcome("calibration", "lenet.test_accuracy", outside, inside)[0] == "changed"
    nothing = {"calibration": {"lenet.test_accuracy": calibration(None)}}
    assert outcome("calibration", "lenet.test_accuracy", inside, nothing)[0] == "failed"


def test_a_band_can_not_be_removed_or_moved_unseen():
    unbanded = {"calibration": {"lenet.test_accuracy": calibration(band=None)}}
    assert outcome("calibration", "lenet.test_accuracy", now=unbanded)[0] == "failed"
    assert (
        outcome("calibration", "lenet.test_accuracy", now={"calibration": {}}, whole=Whole(WHOLE.claims, ()))[0]
        == "failed"
    )
    assert outcome("calibration", "lenet.test_accuracy", now={"calibration": {}}, partial=True)[0] == "not compared"
    wider = {"calibration": {"lenet.test_accuracy": calibration(band=(0.0, 100.0))}}
    assert outcome("calibration", "lenet.test_accuracy", now=wider) == (
        "changed",
        "its calibration band has changed since the baseline",
    )
    # the band in the checkout counts
    elsewhere = {"calibration": {"lenet.test_accuracy": calibration(band=(99.0, 100.0))}}
    assert outcome("calibration", "lenet.test_accuracy", now=elsewhere)[0] == "failed"
    assert not compare(results(**unbanded), results(**unbanded), WHOLE, False).of("failed")


def test_a_value_and_its_band_can_not_move_together():
    """The baseline's band holds until a new one is written."""
    before = {"calibration": {"lenet.test_accuracy": calibration(95.0, (94.0, 96.0))}}
    both = {"calibration": {"lenet.test_accuracy": calibration(80.0, (70.0, 99.0))}}
    result, text = outcome("calibration", "lenet.test_accuracy", before, both)
    assert result == "failed"
    assert "has left the baseline's band, 94 to 96" in text
    assert "write a new baseline" in text
    assert outcome("calibration", "lenet.test_accuracy", both, both)[0] == "same"
    inside = {"calibration": {"lenet.test_accuracy": calibration(94.5, (70.0, 99.0))}}
    assert outcome("calibration", "lenet.test_accuracy", before, inside)[0] == "changed"
    # a value that was never in its band can not leave it
    outside = {"calibration": {"lenet.test_accuracy": calibration(90.0, (94.0, 96.0))}}
    assert outcome("calibration", "lenet.test_accuracy", outside, both) == (
        "changed",
        "its calibration band has changed since the baseline",
    )


def test_other_rows_fail_only_where_no_claim_is_judged():
    other = {"tables": {"lenet": rows("other", networks=9)}}
    assert outcome("table", "lenet", now=other)[0] == "changed"
    smoke = {"judges_claims": False, "claims": {}}
    result, text = outcome("table", "lenet", smoke, {**smoke, **other})
    assert result == "failed"
    assert "10 networks, 4 pairs; now 9 networks, 4 pairs" in text
    assert outcome("table", "lenet", smoke, {**smoke, "tables": {}})[0] == "failed"
    assert outcome("table", "lenet", now=other, partial=True)[0] == "not compared"


def test_numbers_at_a_scale_that_judges_nothing_fail_nothing():
    smoke = {"judges_claims": False, "claims": {}, "calibration": {}}
    moved = {**smoke, "tables": {"lenet": rows(values="moved")}}
    assert outcome("table", "lenet", smoke, moved) == ("changed", "the same rows; its numbers changed")
    assert outcome("table", "lenet", smoke, {**moved, "machines": ELSEWHERE})[0] == "same"
    report = compare(results(**smoke), results(**moved, machines=ELSEWHERE), WHOLE, False)
    assert not unchanged(report)
    assert conclusion(report) == "All rows match; no other changes to look at."


def conclusion_of(before=None, now=None, partial=False) -> str:
    return conclusion(compare(results(**before or {}), results(**now or {}), WHOLE, partial))


def test_the_conclusion_says_what_was_found():
    assert conclusion_of().startswith("No result changed: the table and every curve")
    assert conclusion_of(now={"machines": ELSEWHERE}).startswith("No result changed")  # equal bits are equal anywhere
    without = {"claims": {"C1": claim()}}
    assert (
        conclusion_of(now=without, partial=True) == "No result changed: what was run is bit-identical to the baseline."
    )
    assert conclusion_of(now=claims(C2="supported")) == (
        "No regression: 1 claim is still supported; 1 other change to look at."
    )
    two = {**claims(C1="inconclusive"), "calibration": {"lenet.test_accuracy": calibration(10.0)}}
    assert conclusion_of(now=two) == "Regression: 1 claim, 1 calibration value."


def test_curves_alone_are_a_change():
    assert outcome("table", "lenet", now={"tables": {"lenet": rows(curves="moved")}})[0] == "changed"


def test_nothing_compared_is_not_nothing_changed():
    assert not unchanged(Report([], True, True))
    assert outcome("claim", "C10")[0] == "same"


def test_claims_come_in_the_papers_order():
    report = compare(results(), results(), WHOLE, False)
    assert [finding.name for finding in report.findings if finding.kind == "claim"] == ["C1", "C2", "C10"]
