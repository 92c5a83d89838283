"""`harness reproduce --until-decided` from outside: its networks are those of a scale with as many replicates."""

import shutil

import pandas as pd
import pytest
import yaml

from harness.base.files import read_json, write_json
from tests.end_to_end.conftest import TINY, make_checkout
from tests.end_to_end.test_selection import DENSE, PART

# of 400 steps, level 1 is as accurate as the dense network: a sign that five replicates hardly tell
ENTRY = {"replicates": 3, "prediction": "it differs by something"}
EDGE = {**PART, "region": [0.0, None], "a": {"experiment": "lenet", "k": 40, "density": 0.64, "branch": "imp"}}
CLEAR = {**EDGE, "name": "level 2", "region": [None, 0.0], "b": DENSE}
CLEAR["a"] = {**EDGE["a"], "density": 0.4096, "branch": "random_reinit"}


@pytest.mark.slow
@pytest.mark.long
def test_looks_until_decided_then_a_scale_of_as_many(tmp_path):
    made = make_checkout(tmp_path / "checkout")
    paper = made.root / "papers" / "stabilizing-lth"
    claims = yaml.safe_load((paper / "claims.yaml").read_text())
    claims[0]["scales"]["tiny"] = {**ENTRY, "parts": [EDGE]}
    claims[1]["scales"]["tiny"] = {**ENTRY, "parts": [CLEAR]}
    (paper / "claims.yaml").write_text(yaml.safe_dump(claims))
    (paper / "scales" / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "judges_claims": True}))

    run = ("reproduce", "--scale", "tiny", "--cores", "2")
    status, out, err = made.run(*run, "--until-decided", timeout=900)
    assert status == 0, out + err
    assert "C1 at 5, C2 at 5 replicates" in out
    looks = read_json(made.results / "looks.json")
    most = [max(look["replicates"].values()) for look in looks]
    assert most == sorted(set(most))
    assert set(most) <= {5, 10, 20}
    assert all(look["planned"] for look in looks)
    verdicts = {claim["id"]: claim for claim in read_json(made.results / "claims.json")}
    for name in ("C1", "C2"):
        assert "looks planned at 5, 10, 20, each at 98.04%" in verdicts[name]["reason"]
        assert "more often than planned" not in verdicts[name]["reason"]
    assert f"looked at {'once' if len(most) == 1 else f'{len(most)} times'}: " in (
        (made.results / "report" / "report.md").read_text()
    )
    assert read_json(made.results / "card.json")["looks"] == looks
    assert made.run("report", "--scale", "tiny")[0] == 0  # judged again, on the same data
    assert read_json(made.results / "looks.json") == looks

    # what a run leaves that was stopped in its second look
    first, selection = made.checksums(), read_json(made.results / "stages" / "selection.json")
    write_json(
        made.results / "stages" / "selection.json",
        {**selection, "finished": False, "looks": {"C1": max(10, most[-1]), "C2": 5}},
    )
    status, out, err = made.run(*run, "--until-decided", timeout=900)
    assert status == 0, out + err
    assert {name: made.checksums()[name] for name in first} == first
    looks = read_json(made.results / "looks.json")
    most = [max(look["replicates"].values()) for look in looks]
    assert most[:2] == [5, 10]
    assert {claim["id"]: claim for claim in read_json(made.results / "claims.json")}["C2"] == verdicts["C2"]
    assert made.run("verify", "--scale", "tiny", "--sample", "1")[0] == 0
    planned = pd.read_parquet(made.results / "table.parquet")

    experiment = {**TINY["experiments"]["lenet"], "replicates": most[-1], "replicates_per_job": 3}
    scale = {**TINY, "judges_claims": True, "experiments": {"lenet": experiment}}
    (paper / "scales" / "tiny.yaml").write_text(yaml.safe_dump(scale))
    shutil.rmtree(made.results)
    status, out, err = made.run(*run, "--claims", "C1,C2", "--every-replicate", timeout=900)
    assert status == 0, out + err
    whole = pd.read_parquet(made.results / "table.parquet")
    pd.testing.assert_frame_equal(planned.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
