"""A selection's replicates, then the whole's, in one folder: the chunk that grows trains the further ones alone."""

from dataclasses import replace

from harness.base.files import read_json
from harness.paper.claims import Claim
from harness.plan.needs import selected
from harness.plan.runs import all_runs, stages
from harness.results.fit import forget_broken
from harness.results.folders import Folders
from harness.results.stored import stored
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_spec

CELL = {"experiment": "lenet", "branch": "imp", "k": 0, "density": 0.64, "comparison": "data_order"}
PRUNING = CELL | {"comparison": "pruning"}
PART = {"name": "x", "statistic": "ratio", "measure": "distance", "region": [0.001, 1000], "a": CELL, "b": PRUNING}
CLAIM = {
    "id": "C1",
    "title": "t",
    "statement": "s",
    "source": {"where": "here", "obtained": "text"},
    "scales": {"tiny": {"replicates": 3, "prediction": "p", "parts": [PART]}},
}


def test_a_chunk_that_grows_trains_the_missing_replicates_alone(tmp_path):
    sweeps = [{"k": [0], "levels": 1, "at": {1: {"imp": 2}}}]
    whole = tiny_spec(
        change={"steps": 6},
        replicates=5,
        replicates_per_job=4,
        dense_orders=[],
        pruning={"fraction": 0.36},
        sweeps=sweeps,
    )
    whole = replace(whole, claims=[Claim.model_validate(CLAIM)])
    small, folders = selected(whole, ["C1"]), Folders(tmp_path)

    def run(spec):
        for name in ("prepare/digits", *(stage.name for stage in stages(spec)), "collect", "claims"):
            run_stage(spec, folders, name, 1)
        (claim,) = read_json(folders.claims)
        return claim["parts"][0]["replicates"], claim["verdict"]

    assert len(all_runs(small)) == 3 * 3
    assert run(small)[0] == 3
    assert run(small)[1] != "not tested"
    first = {path: read_json(path)["sha256"] for path in folders.runs.rglob("*.json")}
    times = {path: path.stat().st_mtime_ns for path in first}
    assert set(stored(whole, folders)) == set(all_runs(small))

    forgotten = forget_broken(whole, folders)
    assert {line.partition(":")[0] for line in forgotten} >= {"lenet/c0/dense", "lenet/c0/k0-stability"}
    assert run(whole)[0] == 5
    steps = {stage.name: read_json(folders.stage(stage.name))["steps"] for stage in stages(whole)}
    assert (steps["lenet/c0/dense"], steps["lenet/c1/dense"]) == (6, 6)  # one more of three and one; six steps each
    assert {path: read_json(path)["sha256"] for path in first} == first
    assert {path: path.stat().st_mtime_ns for path in first} == times
    assert set(stored(whole, folders)) == set(all_runs(whole))

    assert forget_broken(small, folders)  # and back: nothing is trained
    assert run(small)[0] == 3
    assert {read_json(folders.stage(stage.name))["steps"] for stage in stages(small)} == {0}
