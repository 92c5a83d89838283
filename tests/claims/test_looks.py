"""Looks: each is kept, a judging of the same data is none, and a planned design keeps its error and its verdicts."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.looks import ONE_BY_ONE, SETTINGS, normal_error, supported, two_valued
from benchmarks.simulation import NOISES
from harness.base.errors import HarnessError
from harness.claims.judge import judge, replicates_of
from harness.claims.looks import Look, appended, look, read_looks, sentence, with_looks, write_looks
from harness.paper.claims import LEVEL, LEVEL_OF_LOOK, LOOKS
from tests.claims.tables import DIFFERENCE, accuracies, claim

CLAIM = claim(DIFFERENCE | {"region": [0.0, None]})


def rows(effect: float, replicates: int, seed: int = 0) -> pd.DataFrame:
    """IMP above the dense network by this effect, in standard deviations 1; more replicates leave the first as is."""
    noise = np.random.default_rng(seed).normal(size=40)[:replicates]
    return accuracies(list(90 + effect + noise), [90.0] * replicates)


def verdict(table: pd.DataFrame, looks=LOOKS):
    return judge([CLAIM], "mini", table, {}, looks=looks)[0]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("noise", NOISES)
def test_planned_looks_err_in_at_most_five_percent_together(name: str, noise: str) -> None:
    assert supported(SETTINGS[name], NOISES[noise], LOOKS, LEVEL_OF_LOOK, 20000)[0] <= 0.05


def test_the_boundary_is_that_of_one_look_and_unplanned_looks_are_far_from_it() -> None:
    assert 0.022 < normal_error(LEVEL_OF_LOOK) < 0.025
    assert normal_error(LEVEL, (5,)) == pytest.approx(0.025)
    assert supported(two_valued, NOISES["normal"], LOOKS, LEVEL_OF_LOOK, 4000)[0] <= 0.025
    assert supported(SETTINGS["difference"], NOISES["normal"], ONE_BY_ONE, LEVEL, 4000)[0] > 0.07


def test_a_decided_claim_stays_decided_whatever_its_further_replicates_say() -> None:
    decided = verdict(rows(3, 5))
    assert (decided.verdict, decided.replicates, decided.level) == ("supported", 5, LEVEL_OF_LOOK)
    assert "judged by the first 5 replicates; looks planned at 5, 10, 20, each at 98.04%" in decided.reason
    for more in (6, 9, 10, 20, 30):
        later = rows(3, more)
        later.loc[(later["replicate"] >= 5) & (later["branch"] == "imp"), "test_accuracy"] = 10.0
        assert verdict(later) == decided


def test_a_look_waits_for_all_its_replicates() -> None:
    undecided = verdict(rows(0.4, 5))
    assert undecided.verdict == "inconclusive"
    assert verdict(rows(0.4, 9)) == undecided
    assert verdict(rows(0.4, 10)).replicates == 10
    assert verdict(rows(0.4, 40)).replicates == 20
    assert verdict(rows(0.4, 9), looks=()).replicates == 9


def test_a_claim_that_asks_for_more_than_the_first_look_starts_at_the_next() -> None:
    later = claim(DIFFERENCE | {"region": [0.0, None]}, replicates=6)
    for there, by in ((9, "not tested"), (10, "supported")):
        assert judge([later], "mini", rows(3, there), {}, looks=LOOKS)[0].verdict == by


def seen(replicates: int, effect: float = 0.4, planned: bool = False) -> Look:
    table = rows(effect, replicates)
    found = verdict(table, LOOKS if planned else ())
    return look([found], replicates_of(table), planned, "revision").model_copy(
        update={"time": f"{replicates}:{effect}"}
    )


def test_the_same_data_judged_again_are_no_look() -> None:
    looks = appended([], seen(5))
    assert appended(looks, seen(5).model_copy(update={"time": "later", "revision": "other"})) == looks
    assert len(appended(looks, seen(6))) == 2
    assert appended([], seen(2)) == []  # nothing could be judged
    looks = [seen(5), seen(6), seen(8), seen(8, 3)]
    assert sentence(looks) == "looked at 3 times: 5, 6, 8 replicates"
    assert sentence([seen(5), seen(10, planned=True)]) == "looked at 2 times: 5, 10 replicates (planned)"
    assert sentence([]) == ""


def test_a_verdict_says_so_after_more_looks_than_planned() -> None:
    def reason(*looks: Look) -> str:
        return with_looks([verdict(rows(0.4, 8), ())], [CLAIM], "mini", looks)[0].reason

    said = "looked at more often than planned (5, 8 replicates): wrong more often than its level says"
    assert reason(seen(5), seen(8)).endswith(said)
    assert "looked" not in reason(seen(8))
    assert "looked" not in reason(seen(8), seen(8, 3))
    assert "looked" not in reason(*(seen(n, planned=True) for n in LOOKS))
    assert "looked" in reason(seen(9), *(seen(n, planned=True) for n in LOOKS))
    assert "looked" not in reason(seen(5).model_copy(update={"verdicts": {"C2": "supported"}}), seen(8))


def test_the_file_is_read_back_and_refused_where_it_can_not_be_right(tmp_path) -> None:
    path, looks = tmp_path / "looks.json", [seen(5), seen(8)]
    write_looks(path, looks)
    assert read_looks(path) == looks
    good = json.loads(path.read_text())
    for bad in (
        {},
        [{**good[0], "more": 1}],
        [{**good[0], "verdicts": {"C1": "true"}}],
        [{**good[0], "replicates": 5}],
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(HarnessError, match=r"looks\.json: .*Restore it"):
            read_looks(path)
    path.write_text("[" * 100)
    with pytest.raises(HarnessError):
        read_looks(path)
