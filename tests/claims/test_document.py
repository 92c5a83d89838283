"""claims.json: written as it always was, read back as it was written, and refused where it can't be right."""

import json
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.base.errors import HarnessError
from harness.base.files import read_json
from harness.claims.document import ClaimVerdict, read_claims, write_claims
from tests.claims.tables import DIFFERENCE, GOOD, ONSET, RATIO, curves, distances, judged, table

EVIL = '<script>alert("x")</script>\x1b[31m\n'
FIRST = judged(GOOD, DIFFERENCE)


def refusal(path: Path) -> str:
    """The one line that reading gives."""
    with pytest.raises(HarnessError) as caught:
        read_claims(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def altered(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A claims.json of one claim with a change."""
    claim = FIRST.model_dump(mode="json")
    change(claim)
    path.write_text(json.dumps([claim]))
    return path


def test_claims_are_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mini" / "claims.json"
    never = judged(table(*curves(*[[9, 9, 9]] * 5)), ONSET, replicates=5).model_copy(update={"id": "C14b"})
    claims = [FIRST, never]
    write_claims(path, claims)
    assert read_claims(path) == claims
    assert read_json(path)[1]["interval"] == [None, None]
    with pytest.raises(ValueError, match="JSON"):
        write_claims(path, [FIRST.model_copy(update={"estimate": float("nan")})])
    assert read_claims(path) == claims
    assert [p.name for p in path.parent.iterdir()] == ["claims.json"]


def test_the_file_is_the_fields_in_order_two_spaces_deep(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    title = "LeNet’s <ticket>"
    claim = judged(distances([0.5, 0.6, 0.7], [8.0, 7.1, 8.4]), RATIO, title=title)
    write_claims(path, [claim])
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    assert list(json.loads(text)[0]) == list(ClaimVerdict.model_fields)
    assert title in text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), True, "1", 10**400])
def test_only_finite_numbers_are_estimates(number: Any) -> None:
    with pytest.raises(ValidationError, match="estimate"):
        ClaimVerdict.model_validate({**FIRST.model_dump(mode="json"), "estimate": number})


@pytest.mark.parametrize("text", ["", "{", '{"id": 1}', "[1]", '[{"id": "C1", "verdict": "maybe", "parts": []}]'])
def test_a_damaged_claims_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "claims.json"
    path.write_text(text)
    with pytest.raises(HarnessError, match=re.escape(str(path))):
        read_claims(path)
    with pytest.raises(HarnessError, match="missing"):
        read_claims(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda claim: claim.pop("note"), "claim 1: note: this field is missing"),
        (lambda claim: claim.update(verdict="passed"), "claim 1: verdict: .*'supported'.*found 'passed'"),
        (lambda claim: claim.update(verdict=None), "claim 1: verdict: "),
        (lambda claim: claim.update(id="claim-1"), "claim 1: id: .*found 'claim-1'"),
        (lambda claim: claim.update(id=EVIL), "claim 1: id: "),
        (lambda claim: claim.update(id="C1\n"), "claim 1: id: "),
        (lambda claim: claim.update(id="C" * 41), "claim 1: id: "),
        (lambda claim: claim.update({EVIL: 1}), "claim 1: <script>.*: unknown field; remove it"),
        (lambda claim: claim.update({"k" * 10**6: 1}), "claim 1: kkk+: unknown field; remove it"),
        (lambda claim: claim.update(figure=EVIL), "claim 1: figure: "),
        (lambda claim: claim.update(title=["x" * 10**6]), "claim 1: title: .*string"),
        (lambda claim: claim.update(region=None), "claim 1: region: "),
        (lambda claim: claim.update(interval=[1]), "interval"),
        (lambda claim: claim.update(interval="12"), "interval"),
        (lambda claim: claim.update(replicates=-1), "claim 1: replicates: "),
        (lambda claim: claim.update(replicates=10**40), "claim 1: replicates: "),
        (lambda claim: claim.update(parts={}), "claim 1: parts: .*list"),
        (lambda claim: claim["parts"][0].update(values=["7"]), r"claim 1: parts\.0\.values\.0: .*number"),
        (lambda claim: claim["parts"][0].update(statistic="mode"), r"claim 1: parts\.0\.statistic: "),
        (lambda claim: claim["parts"][0].pop("log"), r"claim 1: parts\.0\.log: this field is missing"),
        (lambda claim: claim["source"].update(obtained="guessed"), r"claim 1: source\.obtained: "),
        (lambda claim: claim.update(published=[{}]), r"claim 1: published\.0\.quantity: this field is missing"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path: Path, change: Any, words: str) -> None:
    line = refusal(altered(tmp_path / "claims.json", change))
    assert re.search(words, line), line
    assert line.startswith(f"{tmp_path / 'claims.json'}: ")
    assert line.endswith("Delete the file and run `harness reproduce` again.")


def test_a_claim_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """One reader would count both, another take the last."""
    path = tmp_path / "claims.json"
    between = FIRST.model_copy(update={"id": f"{FIRST.id}0"})
    for other in (FIRST, FIRST.model_copy(update={"verdict": "contradicted"})):
        write_claims(path, [FIRST, between, other])
        assert refusal(path).startswith(f"{path}: claim {FIRST.id!r} is duplicated. Delete the file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ('[{"id": "C1", "id": "C2"}]', "a name is duplicated"),
        ('[{"estimate": NaN}]', "NaN is no JSON"),
    ],
)
def test_json_that_no_run_writes_is_refused_at_once(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "claims.json"
    path.write_text(text)
    start = time.monotonic()
    assert words in refusal(path)
    assert time.monotonic() - start < 5


def test_millions_of_wrong_values_are_refused_at_the_first(tmp_path: Path) -> None:
    path = altered(tmp_path / "claims.json", lambda claim: claim["parts"][0].update(values=["7"] * 10**6))
    tracemalloc.start()
    line = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert re.search(r"parts\.0\.values\.0: .*number", line)
    assert "more" not in line
    assert peak < 10 * path.stat().st_size


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "claims.json").open("wb") as file:
        file.truncate(2**30)
    assert "no such file of a run has over" in refusal(tmp_path / "claims.json")
