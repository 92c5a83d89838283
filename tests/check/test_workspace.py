"""A check works in a folder of its own: it takes what is valid of a run, and never modifies the run's files."""

import shutil
from pathlib import Path

import pytest

from harness.base.files import read_json, write_json
from harness.check.workspace import check_results, lay_out
from harness.plan.kinds import prepares
from harness.plan.runs import all_runs, stages
from harness.results.environment import computed_with
from harness.results.fit import forget_broken, other_versions
from harness.results.folders import Folders
from harness.results.store import Store
from harness.results.stored import stored
from harness.workflow.run_stage import run_stage
from tests.tiny import SWEEPS, TinyRun, tiny_spec


def state(base: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a folder: its inode, its modification time and its content."""
    paths = [path for path in sorted(base.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture
def workspace(tmp_path) -> Folders:
    return Folders(check_results(tmp_path / "results") / "stabilizing-lth" / "tiny")


def test_everything_valid_is_taken_from_a_run_and_nothing_is_trained(tiny_run: TinyRun, workspace):
    spec = tiny_run.context.spec
    lay_out(spec, tiny_run.folders, workspace)
    assert set(stored(spec, workspace)) == set(all_runs(spec))
    assert not forget_broken(spec, workspace)
    for name in (*[stage.name for stage in stages(spec)], prepares("digits")):
        assert workspace.stage(name).read_bytes() == tiny_run.folders.stage(name).read_bytes()
    assert workspace.claims.read_bytes() == tiny_run.folders.claims.read_bytes()


def test_a_check_that_trains_again_and_selects_less_leaves_the_run_unchanged(copy: TinyRun, workspace):
    before = state(copy.base)
    changed = tiny_spec(change={"steps": 20}, sweeps=SWEEPS)
    lay_out(changed, copy.folders, workspace)
    assert not stored(changed, workspace)
    smaller = tiny_spec(change={"steps": 20}, sweeps=[], dense_orders=[])
    for stage in stages(smaller):
        run_stage(smaller, workspace, stage.name, 1)
    shutil.rmtree(workspace.base)
    assert state(copy.base) == before


def test_networks_of_another_package_version_are_trained_again(copy: TinyRun, workspace):
    """In a check. A run keeps the networks and names the versions."""
    spec, store = copy.context.spec, Store(copy.folders.runs)
    runs = all_runs(spec)
    for run in runs[:2]:
        store.write_record(run.id, {**store.read(run.id), "computed_with": {**computed_with(), "torch": "1.0"}})
    record = copy.folders.stage("lenet/c0/dense")
    write_json(record, {**read_json(record), "packages": {**read_json(record)["packages"], "torch": "1.0"}})
    assert set(stored(spec, copy.folders)) == set(runs)
    assert other_versions(spec, copy.folders) == ["torch 1.0"]
    lay_out(spec, copy.folders, workspace)
    assert not Store(workspace.runs).record_path(runs[0].id).exists()
    assert Store(workspace.runs).record_path(runs[2].id).exists()
    assert not workspace.stage("lenet/c0/dense").exists()


def test_the_networks_of_an_earlier_check_are_kept(copy: TinyRun, workspace):
    changed = tiny_spec(change={"steps": 20}, sweeps=[], dense_orders=[])
    lay_out(changed, copy.folders, workspace)
    run_stage(changed, workspace, "lenet/c0/dense", 1)
    lay_out(changed, copy.folders, workspace)
    assert set(stored(changed, workspace)) == set(all_runs(changed))
    assert workspace.stage("lenet/c0/dense").exists()
    other = computed_with() | {"numpy": "0.1"}
    store = Store(workspace.runs)
    for run in all_runs(changed):
        store.write_record(run.id, {**store.read(run.id), "computed_with": other})
    lay_out(changed, copy.folders, workspace)
    assert not stored(changed, workspace)


def test_an_unfinished_run_can_be_checked(copy: TinyRun, workspace):
    for path in (copy.folders.card, copy.folders.table, copy.folders.claims, copy.folders.stage("lenet/c0/tickets")):
        path.unlink()
    spec = copy.context.spec
    lay_out(spec, copy.folders, workspace)
    assert set(stored(spec, workspace)) == set(all_runs(spec))
    assert not workspace.table.exists()
    lay_out(spec, Folders(copy.base.parent / "no-such-run"), workspace)  # without a run, the check keeps what it has
    assert set(stored(spec, workspace)) == set(all_runs(spec))
