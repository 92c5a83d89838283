"""Nothing twice: runs trained alike are found whichever scale, paper or experiment made them, and only those."""

import shutil
from dataclasses import replace

import pytest

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.base.paths import checkout, other_results, results_folder
from harness.paper import Spec, load_spec
from harness.paper.claims import Claim
from harness.paper.models import Experiment, Scale
from harness.plan.needs import selected
from harness.plan.runs import Run, all_runs, dense_run, stages
from harness.plan.twins import snapshots
from harness.results.context import Context
from harness.results.environment import computed_with
from harness.results.fit import forget_broken, other_versions
from harness.results.folders import Folders
from harness.results.selection import as_recorded, read_selection, write_selection
from harness.results.store import Store, record_checksum
from harness.results.stored import remaining, stored, trained_as, waits
from harness.stages import train as train_module
from harness.workflow.rules import Rules
from harness.workflow.run_stage import run_stage
from tests.tiny import SETTING, tiny_spec

RUNS = 2 * (1 + 2 + 2 * 6)  # of tiny_spec, see test_plan


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, in order."""
    seen: list[str] = []
    train_stack = train_module.train_stack

    def counted(context, stack, heartbeat):
        seen.extend(run.id for run in stack)
        return train_stack(context, stack, heartbeat)

    monkeypatch.setattr(train_module, "train_stack", counted)
    return seen


def beside(tmp_path, *others) -> Folders:
    """The folders of another scale, which knows of others."""
    return Folders(tmp_path / "own", tuple(others))


def run_all(spec: Spec, folders: Folders, comparing: bool = False) -> None:
    run_stage(spec, folders, "prepare/digits", 1)
    for stage in stages(spec):
        if comparing or stage.kind != "stability":
            run_stage(spec, folders, stage.name, 1)


def sums(folders: Folders) -> dict[str, str]:
    return {
        path.relative_to(folders.runs).as_posix(): read_json(path)["sha256"] for path in folders.runs.rglob("*.json")
    }


def two_experiments(**changes) -> Spec:
    """`lenet` and `twin`, which draws as lenet and prunes faster."""
    spec = tiny_spec()
    settings = {"lenet": SETTING, "twin": {**SETTING, "pruning": {"fraction": 0.5}, **changes}}
    scale = Scale.model_validate(
        {"description": "tests", "judges_claims": False, "hardware": "any", "experiments": settings}
    )
    twin = Experiment(title="twin", network="lenet", question="?", draws="lenet")
    return Spec(spec.folder, spec.paper, {**spec.experiments, "twin": twin}, [], "two", scale)


def test_another_scales_runs_are_taken_and_nothing_is_trained(finished, tmp_path, trained):
    folders = beside(tmp_path, finished.folders.base)
    run_all(tiny_spec(), folders, comparing=True)
    assert not trained
    assert sums(folders) == sums(finished.folders)
    one = Run("lenet", 1, 5, 2, "imp", 1).id
    own, theirs = Context(tiny_spec(), folders, "lenet").store, finished.store
    record = {**theirs.read(one), "trained_as": theirs.tensors_path(one).as_posix()}
    assert own.read(one) == {**record, "checksum": record_checksum(record)}
    assert own.tensors_path(one).samefile(theirs.tensors_path(one))  # no second copy on the disk


def test_without_knowing_the_other_it_trains_all(finished, tmp_path):
    assert stored(tiny_spec(), beside(tmp_path)) == {}
    there = stored(tiny_spec(), beside(tmp_path, finished.folders.base))
    assert len(there) == RUNS
    assert all(there.values())
    assert len(stored(tiny_spec(), finished.folders)) == RUNS
    assert not any(stored(tiny_spec(), finished.folders).values())


def test_only_the_replicates_that_are_missing_are_trained(finished, tmp_path, trained):
    folders = beside(tmp_path, finished.folders.base)
    wider = tiny_spec(replicates=3, replicates_per_job=3)
    assert len(stored(wider, folders)) == RUNS
    run_all(wider, folders)
    assert sorted(trained) == sorted(run.id for run in all_runs(wider) if run.replicate == 2)
    assert len(stored(wider, folders)) == RUNS * 3 // 2


def test_another_scales_runs_of_other_package_versions_are_not_taken(finished, tmp_path):
    """They may differ in their last bits, and nothing here would say so."""
    theirs = Folders(tmp_path / "theirs")
    shutil.copytree(finished.folders.base, theirs.base)
    store, older = Store(theirs.runs), {**computed_with(), "torch": "1.0"}
    run, runs = Run("lenet", 1, 5, 2, "imp", 1), set(all_runs(tiny_spec()))
    store.write_record(run.id, {**store.read(run.id), "computed_with": older})
    assert set(stored(tiny_spec(), beside(tmp_path, theirs.base))) == runs - {run}
    assert set(stored(tiny_spec(), theirs)) == runs  # a run keeps its own, and names the versions
    assert other_versions(tiny_spec(), theirs) == ["torch 1.0"]


@pytest.mark.parametrize("changes", [{"change": {"steps": 31}}, {"pruning": {"fraction": 0.3}}])
def test_runs_with_other_settings_are_not_taken(finished, tmp_path, changes):
    there = stored(tiny_spec(**changes), beside(tmp_path, finished.folders.base))
    alike = {run for run in all_runs(tiny_spec()) if run.level == 0}  # dense runs don't know of pruning
    assert set(there) == (alike if "pruning" in changes else set())


def test_a_further_snapshot_costs_the_dense_runs_and_no_other(finished, tmp_path, trained):
    """They come out with the same bits, so what starts from them is still the other scale's."""
    folders = beside(tmp_path, finished.folders.base)
    more = tiny_spec(snapshots=[0, 7])
    run_all(more, folders)
    assert sorted(trained) == [dense_run("lenet", replicate).id for replicate in range(2)]
    assert Context(more, folders, "lenet").store.read(dense_run("lenet", 0).id)["snapshots"] == [0, 5, 7]
    differ = {name for name, checksum in sums(folders).items() if sums(finished.folders)[name] != checksum}
    assert differ == {f"{dense_run('lenet', replicate).id}.snapshots.json" for replicate in range(2)}


def altered_copy(finished, tmp_path, run: str) -> Folders:
    """The finished run in a folder of its own, with one byte of a file changed."""
    folders = Folders(tmp_path / "theirs")
    shutil.copytree(finished.folders.base, folders.base)
    path = folders.runs / f"{run}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return folders


def test_an_altered_file_is_not_taken_but_trained_anew(finished, tmp_path, trained):
    run = Run("lenet", 0, 5, 1, "imp", 0)
    theirs = altered_copy(finished, tmp_path, run.id)
    before = (theirs.runs / f"{run.id}.safetensors").read_bytes()
    run_all(tiny_spec(), beside(tmp_path, theirs.base))
    # alone in its stack it may end in other last bits, and then what starts from it is trained again too
    assert trained[0] == run.id
    assert all(name.startswith("lenet/r0/k5/") for name in trained)
    assert (theirs.runs / f"{run.id}.safetensors").read_bytes() == before


def test_a_broken_record_elsewhere_is_passed_over(finished, tmp_path):
    theirs = Folders(tmp_path / "theirs")
    shutil.copytree(finished.folders.base, theirs.base)
    run = Run("lenet", 0, 5, 2, "random_reinit", 0)
    (theirs.runs / f"{run.id}.json").write_text("{")
    assert set(all_runs(tiny_spec())) - set(stored(tiny_spec(), beside(tmp_path, theirs.base))) == {run}


def test_a_run_that_started_from_other_bits_is_not_taken(finished, tmp_path):
    theirs = Folders(tmp_path / "theirs")
    shutil.copytree(finished.folders.base, theirs.base)
    parent = theirs.runs / f"{Run('lenet', 0, 5, 1, 'imp', 0).id}.json"
    write_json(parent, {**read_json(parent), "sha256": "0" * 64})
    lost = set(all_runs(tiny_spec())) - set(stored(tiny_spec(), beside(tmp_path, theirs.base)))
    # the altered record is no record; level 2 of IMP started from level 1, its other branches from that
    assert lost == {run for run in all_runs(tiny_spec()) if (run.replicate, run.k) == (0, 5) and run.level}


def test_mending_a_taken_run_leaves_the_others_file_alone(finished, tmp_path, trained):
    folders = beside(tmp_path, finished.folders.base)
    run_all(tiny_spec(), folders)
    store = Context(tiny_spec(), folders, "lenet").store
    run = Run("lenet", 0, 0, 2, "random_reinit", 0).id
    before = finished.store.tensors_path(run).read_bytes()
    store.write(run, store.read(run), {"final/x": store.load(run)["final/weights/output.bias"]})
    assert finished.store.tensors_path(run).read_bytes() == before


def test_experiments_that_draw_alike_train_their_dense_runs_once(tmp_path, trained):
    spec, folders = two_experiments(sweeps=[{"k": [0, 9], "levels": 1}], dense_orders=[0]), beside(tmp_path)
    owners = trained_as(spec, folders)
    shared = {run.id for run, owner in owners.items() if run != owner}
    assert shared == {f"twin/r{r}/k0/L0-dense-o{order}" for r in range(2) for order in range(2)}
    assert {owners[dense_run("twin", 1)], owners[dense_run("lenet", 1)]} == {dense_run("lenet", 1)}
    assert snapshots(spec, "lenet") == snapshots(spec, "twin") == (0, 5, 9)
    found = {name: [stage.name for stage in before] for name, before in waits(spec, folders).items()}
    assert found == {"twin/c0/dense": ["lenet/c0/dense"], "twin/c0/orders": ["lenet/c0/orders"]}
    assert len(remaining(all_runs(spec), owners, {})) == len(all_runs(spec)) - 4

    run_all(spec, folders)
    assert sorted(trained) == sorted(run.id for run in all_runs(spec) if run.id not in shared)
    store = Context(spec, folders, "twin").store
    record = store.read(dense_run("twin", 0).id)
    assert (record["experiment"], record["id"]) == ("twin", dense_run("twin", 0).id)
    assert len(stored(spec, folders)) == len(all_runs(spec))
    assert not remaining(all_runs(spec), owners, stored(spec, folders))


def test_experiments_that_draw_alike_but_train_otherwise_share_nothing(tmp_path):
    spec = two_experiments(change={"steps": 40})
    assert all(run == owner for run, owner in trained_as(spec, beside(tmp_path)).items())
    assert not waits(spec, beside(tmp_path))
    alone = tiny_spec()
    assert not waits(alone, beside(tmp_path))


def test_a_selection_keeps_the_snapshots_that_a_twin_outside_it_will_ask_for():
    spec = two_experiments(sweeps=[{"k": [9], "levels": 1}])
    part = {"name": "x", "statistic": "mean", "measure": "test_accuracy", "region": None}
    part["a"] = {"experiment": "lenet", "branch": "dense", "data_order": 0}
    claim = {"id": "C1", "title": "t", "statement": "s", "source": {"where": "here", "obtained": "text"}}
    claim["scales"] = {"two": {"replicates": 3, "prediction": "p", "parts": [part]}}
    small = selected(replace(spec, claims=[Claim.model_validate(claim)]), ["C1"])
    assert list(small.scale.experiments) == ["lenet"]
    assert snapshots(small, "lenet") == snapshots(spec, "lenet") == (0, 5, 9)


def test_both_papers_mini_scales_ask_for_the_same_trainings_where_they_overlap(tmp_path):
    """Equal keys mean equal ids: what overlaps is asked for under the same names."""
    keys = []
    for paper in ("stabilizing-lth", "linear-mode-connectivity"):
        spec = load_spec(checkout(), paper, "mini")
        found = {name: Context(spec, Folders(tmp_path), name) for name in spec.scale.experiments}
        keys.append({found[run.experiment].key(run): run.id for run in all_runs(spec)})
    ours, theirs = keys
    both = set(ours) & set(theirs)
    assert {ours[key] for key in both} == {theirs[key] for key in both}
    assert len(both) > 200


def test_the_folders_of_other_scales_are_those_of_papers(tmp_path):
    for place in ("stabilizing-lth/scales/mini", "stabilizing-lth/scales/paper", "other/scales/mini"):
        (tmp_path / "papers" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "papers" / f"{place}.yaml").touch()
        (tmp_path / "papers" / place).parents[1].joinpath("paper.yaml").touch()
    results = tmp_path / "results"
    found = other_results(results, tmp_path, "stabilizing-lth", "mini")
    assert set(found) == {
        results / "stabilizing-lth" / "paper",
        results / "other" / "mini",
        results / ".check" / "stabilizing-lth" / "mini",  # what a check of this run trained
    }
    own = other_results(results / ".check", tmp_path, "stabilizing-lth", "mini")
    assert set(own) == {results / ".check" / "stabilizing-lth" / "paper", results / ".check" / "other" / "mini"}
    assert results_folder(results, "other", "mini") in found


# selections and the workflow


def test_the_workflows_targets_are_those_of_the_recorded_selection(tmp_path):
    rules = Rules("stabilizing-lth", "mini", str(tmp_path))
    whole = rules.targets()
    folders = Folders(tmp_path / "stabilizing-lth" / "mini")
    write_selection(folders, ["C6"])
    fewer = Rules("stabilizing-lth", "mini", str(tmp_path)).targets()
    assert f"{tmp_path}/stabilizing-lth/mini/claims.json" in fewer
    assert not any("/lenet/" in target or "-low/" in target for target in fewer)
    assert 0 < len(fewer) < len(whole) / 2
    write_selection(folders, None)
    assert Rules("stabilizing-lth", "mini", str(tmp_path)).targets() == whole


def test_a_selection_is_read_back_and_a_broken_one_named(tmp_path):
    folders, spec = Folders(tmp_path), load_spec(checkout(), "stabilizing-lth", "mini")
    assert read_selection(folders) is None
    assert as_recorded(spec, folders) is spec
    write_selection(folders, ["C6"], "2h", finished=True)
    assert read_selection(folders) == {"claims": ["C6"], "budget": "2h", "every_replicate": False, "finished": True}
    few = as_recorded(spec, folders).scale.experiments
    assert list(few) == ["resnet20-standard"]
    write_selection(folders, ["C6"], every_replicate=True)
    every = as_recorded(spec, folders).scale.experiments["resnet20-standard"]
    assert few["resnet20-standard"].replicates < every.replicates
    assert every.replicates == spec.scale.experiments["resnet20-standard"].replicates
    for content, message in (
        ({"claims": ["C6", "C99"]}, "C99: scale mini judges no such claim"),
        ({"claims": [1]}, "has no list of claims. Delete it"),
        ([], "has no list of claims. Delete it"),
    ):
        write_json(folders.selection, content)
        with pytest.raises(HarnessError, match=message):
            as_recorded(spec, folders)


def test_going_on_to_the_whole_trains_the_rest_alone(tmp_path, trained):
    """A selection first, then the whole: no network twice, and finished stages are passed over."""
    spec, folders = tiny_spec(), beside(tmp_path)
    small = tiny_spec(
        dense_orders=[5], snapshots=[0, 5], sweeps=[{"k": [5], "levels": 1, "at": {1: {"random_prune": 1}}}]
    )
    run_all(small, folders, comparing=True)
    first = list(trained)
    assert forget_broken(spec, folders)  # the stability stages, whose pairs are more now
    assert (folders.base / "stages/lenet/c0/dense.json").exists()
    run_all(spec, folders, comparing=True)
    assert len(trained) == len(set(trained))
    assert set(trained) == {run.id for run in (*all_runs(small), *all_runs(spec))}
    assert len(first) == len(all_runs(small))
