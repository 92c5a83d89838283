"""`harness reproduce --claims` from outside, then the whole, then another scale that asks for the same trainings."""

import shutil

import pytest
import yaml

from harness.base.files import read_json
from tests.end_to_end.conftest import TINY, make_checkout

CELL = {"experiment": "lenet", "k": 40, "density": 0.64}
DENSE = {"experiment": "lenet", "branch": "dense", "k": 0}
PART = {"name": "level 1", "statistic": "difference", "measure": "test_accuracy", "region": [-99, 99], "b": DENSE}
ENTRY = {"replicates": 3, "prediction": "it differs by something", "parts": [{**PART, "a": {**CELL, "branch": "imp"}}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkout whose tiny scale has three replicates and judges two claims."""
    made = make_checkout(tmp_path_factory.mktemp("selection") / "checkout")
    paper = made.root / "papers" / "stabilizing-lth"
    experiment = {**TINY["experiments"]["lenet"], "replicates": 3, "replicates_per_job": 3}
    scale = {**TINY, "judges_claims": True, "experiments": {"lenet": experiment}}
    (paper / "scales" / "tiny.yaml").write_text(yaml.safe_dump(scale))
    claims = yaml.safe_load((paper / "claims.yaml").read_text())
    random = {**PART, "a": {**CELL, "density": 0.4096, "branch": "random_prune"}}
    claims[0]["scales"]["tiny"] = ENTRY
    claims[1]["scales"]["tiny"] = {**ENTRY, "parts": [random]}
    (paper / "claims.yaml").write_text(yaml.safe_dump(claims))
    return made


def verdicts(made) -> dict[str, tuple[str, str]]:
    return {claim["id"]: (claim["verdict"], claim["reason"]) for claim in read_json(made.results / "claims.json")}


def networks(made) -> set[str]:
    return {name for name in made.checksums() if ".snapshots" not in name}


@pytest.mark.slow
@pytest.mark.long
def test_a_claim_then_the_whole_then_another_scale(made):
    run = ("reproduce", "--scale", "tiny", "--cores", "2")
    status, out, err = made.run(*run, "--claims", "C1")
    assert status == 0, out + err
    first = made.checksums()
    places = ("k0/L0-dense-o0", "k40/L1-imp-o0")
    assert networks(made) == {f"lenet/r{r}/{place}.json" for r in range(3) for place in places}
    assert verdicts(made)["C1"][0] == "supported"
    assert verdicts(made)["C2"] == ("not tested", "not selected: its runs were not asked for")
    assert read_json(made.results / "stages" / "selection.json") == {
        "budget": "",
        "claims": ["C1"],
        "every_replicate": False,
        "finished": True,
    }
    assert made.run("report", "--scale", "tiny")[0] == 0
    assert "not selected" in (made.results / "report" / "report.md").read_text()

    status, out, err = made.run(*run, "--budget", "5h")
    assert status == 0, out + err
    assert "--budget 5h: 2 of 2 claims" in out
    assert {verdicts(made)[name][0] for name in ("C1", "C2")} == {"supported"}

    status, out, err = made.run(*run)
    assert status == 0, out + err
    assert not (made.results / "stages" / "selection.json").exists()
    assert len(networks(made)) == 3 * (1 + 1 + 2 + 1 + 2 + 1)
    assert {name: made.checksums()[name] for name in first} == first
    assert {verdicts(made)[name][0] for name in ("C1", "C2")} == {"supported"}

    scales = made.root / "papers" / "stabilizing-lth" / "scales"
    shutil.copy(scales / "tiny.yaml", scales / "again.yaml")
    assert (
        f"{len(networks(made))} are stored already ({len(networks(made))} from another scale"
        in made.run("plan", "--scale", "again")[1]
    )
    status, out, err = made.run("reproduce", "--scale", "again", "--cores", "2")
    assert status == 0, out + err
    stages = read_json(made.root / "results" / "stabilizing-lth" / "again" / "provenance.json")["stages"]
    assert sum(stage["steps"] for stage in stages) == 0
