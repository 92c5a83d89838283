"""What a check writes, with names and titles that try to be more than text."""

import io
import json
from xml.etree import ElementTree

import pytest
from junitparser import Failure, JUnitXml, Skipped
from rich.console import Console

from harness.check.decide import Finding, Report, Whole, compare
from harness.check.outputs import Check, badge, junit, show, summary
from tests.check.results import ELSEWHERE, calibration, claim, results, rows

HOSTILE = '<script>alert("x")</script> & ]]> | [a](javascript:x) `b` **c** \x00\x1b[31m\ud800 [red]d[/red]\n# e'


def check(before=None, now=None, partial=False, **more) -> Check:
    baseline, current = results(**before or {}), results(**now or {})
    report = compare(baseline, current, Whole(("C1", "C2", "C10"), ("lenet", "resnet")), partial)
    fields = {"paper": "stabilizing-lth", "scale": "mini", "titles": {"C1": "A title"}, "where": "a file"}
    return Check(**fields | {"before": baseline, "now": current, "report": report} | more)


REGRESSION = {
    "claims": {"C1": claim("inconclusive"), "C2": claim("supported")},
    "calibration": {"lenet.test_accuracy": calibration(50.0)},
}


def terminal(finished: Check) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    show(finished, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_junit_has_a_testcase_for_each_thing_compared():
    finished = check(now=REGRESSION, partial=True)
    (suite,) = JUnitXml.fromstring(junit(finished))
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (5, 2, 1, 0)
    cases = {case.name: case for case in suite}
    assert [case.classname.rpartition(".")[2] for case in suite] == ["claim"] * 3 + ["calibration", "table"]
    (failure,) = cases["C1 A title"].result
    assert isinstance(failure, Failure)
    assert failure.message == "supported in the baseline, now inconclusive"
    assert failure.text == "baseline: supported 1.50 [1.25, ∞]; now: inconclusive 1.50 [1.25, ∞]"
    assert cases["C2"].system_out == "inconclusive in the baseline, now supported"
    assert isinstance(cases["C10"].result[0], Skipped)
    assert cases["C1 A title"].classname == "stabilizing-lth.mini.claim"


def test_an_error_is_an_error_in_every_file():
    finished = Check("stabilizing-lth", "mini", error="the run did not finish")
    (suite,) = JUnitXml.fromstring(junit(finished))
    assert (suite.tests, suite.errors) == (1, 1)
    assert next(iter(suite)).result[0].message == "the run did not finish"
    assert "❌" in summary(finished)
    assert "the run did not finish" in summary(finished)
    assert badge(finished)["message"] == "unknown"


def hostile() -> Check:
    report = Report([Finding("claim", HOSTILE, "failed", HOSTILE, HOSTILE, HOSTILE)], False, True)
    return check(report=report, titles={HOSTILE: HOSTILE}, where=HOSTILE, paper=HOSTILE, scale=HOSTILE)


def test_hostile_labels_are_text_in_xml():
    root = ElementTree.fromstring(junit(hostile()))
    assert [node.tag for node in root.iter()] == ["testsuites", "testsuite", "testcase", "failure"]
    text = next(root.iter("failure")).get("message")
    assert text is not None
    assert text.startswith('<script>alert("x")</script> & ]]> | [a](javascript:x)')
    assert "\x00" not in text


def test_hostile_labels_are_text_in_markdown():
    lines = summary(hostile()).splitlines()
    assert sum(line.startswith("#") for line in lines) == 1
    for line in lines:
        assert "<script" not in line
        assert "](" not in line.replace("\\]\\(", "")
    (row,) = [line for line in lines if line.startswith("| failed")]
    assert row.replace("\\|", "").count("|") == 6  # five cells


def test_hostile_labels_are_text_in_the_terminal_and_in_the_badge():
    text = terminal(hostile())
    assert "[red]d[/red]" in text
    assert "\x1b[31m" not in text
    assert "\x00" not in text
    assert json.loads(json.dumps(badge(hostile())))["message"] == "1 regression"


def test_the_summary_names_what_failed_and_what_changed_and_counts_the_rest():
    text = summary(check(now=REGRESSION))
    assert "**Regression: 1 claim, 1 calibration value.**" in text
    assert (
        "| failed | claim C1 A title | supported 1.50 \\[1.25, ∞\\] | inconclusive 1.50 \\[1.25, ∞\\] | supported in"
        in text
    )
    assert "| changed | claim C2 | inconclusive 1.50" in text
    assert "50 of 96 to 100" in text
    assert "2 failed, 1 changed, 1 same, 1 not compared." in text


def test_a_scale_that_judges_nothing_says_so_everywhere():
    smoke = {"judges_claims": False, "claims": {}, "calibration": {}}
    finished = check(smoke, smoke, scale="smoke")
    for text in (terminal(finished), summary(finished)):
        assert "This scale judges no claim" in text
        assert "not that its numbers are right" in text
    assert badge(finished) == {"schemaVersion": 1, "label": "smoke", "message": "runs", "color": "green"}


def test_another_kind_of_machine_and_changed_code_are_named():
    text = summary(check(now={"machines": ELSEWHERE, "code": {"training": "0" * 64}}))
    assert "on one kind of processor, avx2 kernels, torch 2.14, numpy 2.4, this run on another kind" in text
    assert "changed since then: training" in text
    assert "No result changed" in text


@pytest.mark.parametrize(
    ("now", "message", "colour"),
    [
        ({}, "1 supported", "brightgreen"),
        ({"claims": {**results().claims, "C2": claim()}}, "2 supported", "brightgreen"),
        (REGRESSION, "2 regressions", "red"),
        ({"tables": {"lenet": rows("other")}}, "1 supported", "brightgreen"),
    ],
)
def test_the_badge(now, message, colour):
    assert badge(check(now=now)) == {"schemaVersion": 1, "label": "claims (mini)", "message": message, "color": colour}
