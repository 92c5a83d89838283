"""What of a finished run fits, what is needed of it, and what is made again, with and without the networks at hand."""

import os
import random
import shutil

import pytest
from rich.console import Console

from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_json
from harness.data import checksum
from harness.plan.kinds import WHOLE
from harness.plan.runs import all_runs, stages
from harness.report.card import read_card
from harness.results import fit as mend
from harness.results.context import Context, Work
from harness.results.fit import fitting, forget_broken
from harness.results.folders import Folders
from harness.results.store import PULLED, Store
from harness.results.stored import stored
from harness.stages import collect
from harness.workflow.adopt import forget_altered, is_new, refuse_altered, remember
from harness.workflow.reproduce import _settle
from harness.workflow.rules import Rules
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context

CARD = {"data": {"digits": checksum("digits")}}
SMALL = {"sweeps": [{"k": [5], "levels": 2, "at": {2: {"imp": 2}}}], "dense_orders": [5], "change": {"steps": 20}}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Context:
    """A run with its networks, collected."""
    context = tiny_context(tmp_path_factory.mktemp("done") / "tiny", **SMALL)
    for name in [*(stage.name for stage in stages(context.spec)), "collect"]:
        run_stage(context.spec, context.folders, name, 1)
    return context


@pytest.fixture
def run(done, tmp_path) -> Context:
    """A copy of it that a test may alter."""
    shutil.copytree(done.folders.base, tmp_path / "tiny")
    return Context(done.spec, Folders(tmp_path / "tiny"), "lenet")


@pytest.fixture
def pulled(run) -> Context:
    """The same as a reader has it: no networks, no arrays."""
    shutil.rmtree(run.folders.runs)
    shutil.rmtree(run.folders.base / "data")
    return run


def names(context: Context) -> set[str]:
    return {"prepare/digits", *(stage.name for stage in stages(context.spec))}


def finished(context: Context) -> set[str]:
    return {name for name in names(context) if context.folders.stage(name).exists()}


def again(context: Context) -> None:
    """Run what has no record, as the workflow would."""
    for stage in stages(context.spec):
        if not context.folders.stage(stage.name).exists():
            run_stage(context.spec, context.folders, stage.name, 1)


def test_a_finished_run_fits_wherever_its_networks_are(pulled):
    assert fitting(pulled.spec, pulled.folders, CARD) == names(pulled)


def test_a_stage_fits_only_with_what_it_was_made_from(run):
    kept = names(run)
    path = run.folders.stage("lenet/c0/k5-L1-2")
    write_json(path, {**read_json(path), "seconds": 1.0})  # what follows was made from another record
    after = {"lenet/c0/k5-L2-branches", "lenet/c0/k5-stability", "lenet/c0/tickets"}
    assert fitting(run.spec, run.folders, CARD) == kept - after
    write_json(path, {**read_json(path), "digest": "another"})
    assert fitting(run.spec, run.folders, CARD) == kept - after - {"lenet/c0/k5-L1-2"}


def test_an_altered_table_or_ticket_file_or_data_set_does_not_fit(run):
    run.folders.pairs("lenet/c0/k5-stability").write_bytes(b"x")
    assert fitting(run.spec, run.folders, CARD) == names(run) - {"lenet/c0/k5-stability"}
    record = run.folders.stage("prepare/digits")
    write_json(record, {**read_json(record), "digest": "another"})
    assert fitting(run.spec, run.folders, CARD) == set()


def test_other_settings_do_not_fit(run, tmp_path):
    other = tiny_context(tmp_path / "other", **{**SMALL, "change": {"steps": 25}})
    assert fitting(other.spec, run.folders, CARD) == {"prepare/digits"}


def test_results_are_new_until_they_are_remembered(run, tmp_path):
    assert not is_new(tmp_path, run.folders)  # no card: not a finished run
    write_json(run.folders.card, {})
    assert is_new(tmp_path, run.folders)
    remember(tmp_path, run.folders)
    assert not is_new(tmp_path, run.folders)
    write_json(run.folders.card, {"another": 1})
    assert is_new(tmp_path, run.folders)


def test_without_networks_and_arrays_nothing_is_run_again(pulled, done):
    assert forget_broken(pulled.spec, pulled.folders) == []
    assert finished(pulled) == names(pulled)
    assert not (pulled.folders.base / "data").exists()
    for run in all_runs(done.spec):
        assert pulled.store.read(run.id) == {**done.store.read(run.id), PULLED: True}


def test_collecting_needs_no_networks(pulled, done):
    forget_broken(pulled.spec, pulled.folders)
    for path in (pulled.folders.table, pulled.folders.networks):
        path.unlink()
    collect.collect_stage(Work(pulled.spec, pulled.folders, "collect"))
    assert file_sha256(pulled.folders.table) == file_sha256(done.folders.table)
    assert read_json(pulled.folders.networks) == read_json(done.folders.networks)


def test_what_a_stage_that_has_to_run_needs_is_made_again_to_the_same_bits(pulled, done):
    pulled.folders.stage("lenet/c0/k5-stability").unlink()
    lines = forget_broken(pulled.spec, pulled.folders)
    lost = "lenet/c0/dense, lenet/c0/orders, lenet/c0/k5-L1-2 and 1 more"
    assert [line.partition(":")[0] for line in lines] == ["prepare/digits", lost]
    assert "10 networks" in lines[1]
    assert "`harness pull --networks`" in lines[1]
    assert finished(pulled) == {"prepare/digits", "lenet/c0/dense-stability", "lenet/c0/tickets"}
    again(pulled)
    for run in all_runs(done.spec):
        assert pulled.store.read(run.id)["sha256"] == done.store.read(run.id)["sha256"]
        assert PULLED not in pulled.store.read(run.id)


def test_networks_at_hand_are_not_trained_again(run):
    """The arrays alone are gone, and a comparison has to run."""
    shutil.rmtree(run.folders.base / "data")
    run.folders.stage("lenet/c0/k5-stability").unlink()
    lines = forget_broken(run.spec, run.folders)
    assert len(lines) == 1
    assert lines[0].startswith("prepare/digits: its arrays are not here")
    assert finished(run) == names(run) - {"lenet/c0/k5-stability"}


def test_networks_of_another_training_under_the_same_names_are_left_alone(run, tmp_path):
    """As after `dvc checkout` of an older revision: its records are finished, the networks here are a newer run's."""
    newer = tiny_context(tmp_path / "newer", **{**SMALL, "change": {"steps": 25}})
    for stage in stages(newer.spec):
        if stage.kind not in ("stability", "tickets"):
            run_stage(newer.spec, newer.folders, stage.name, 1)
    shutil.rmtree(run.folders.runs)
    shutil.copytree(newer.folders.runs, run.folders.runs)
    bits = {path: file_sha256(path) for path in run.folders.runs.rglob("*.safetensors")}
    assert forget_broken(run.spec, run.folders) == []
    assert {path: file_sha256(path) for path in bits} == bits

    run.folders.stage("lenet/c0/k5-stability").unlink()
    assert "10 networks" in forget_broken(run.spec, run.folders)[0]
    again(run)
    assert Store(run.folders.runs).read("lenet/r0/k0/L0-dense-o0")["steps"] == 20
    assert forget_broken(run.spec, run.folders) == []


def test_a_lost_file_of_ones_own_is_made_again(run):
    """Without the mark of results that came from elsewhere, a missing file is a loss."""
    run.store.tensors_path("lenet/r1/k5/L2-imp-o0").unlink()
    lines = forget_broken(run.spec, run.folders)
    assert len(lines) == 1
    assert lines[0].startswith("lenet/c0/k5-L1-2: ")
    assert lines[0].endswith("is missing or altered")


@pytest.mark.parametrize("outputs", [{"../../../victim": "0"}, {"lenet/r0/k0/L0-dense-o9": "0"}, {}, ["x"], None])
def test_a_record_that_names_other_outputs_is_broken_and_touches_nothing_else(run, tmp_path, outputs):
    victim = tmp_path / "victim.json"
    victim.write_text("{}")
    path = run.folders.stage("lenet/c0/dense")
    write_json(path, {**read_json(path), "outputs": outputs})
    assert "lenet/c0/dense: its record is broken" in forget_broken(run.spec, run.folders)
    assert victim.exists()


def test_networks_json_of_somebody_is_believed_only_with_the_stages_checksums(pulled):
    known = read_json(pulled.folders.networks)
    known["lenet/r0/k0/L0-dense-o0"]["sha256"] = "0" * 64
    known["../../evil"] = {"sha256": "0" * 64}
    write_json(pulled.folders.networks, known)
    mend.restore_records(pulled.spec, pulled.folders)
    assert not pulled.store.record_path("lenet/r0/k0/L0-dense-o0").exists()
    assert not list(pulled.folders.base.parent.rglob("evil*"))


def test_a_plan_counts_what_stayed_elsewhere_as_trained(pulled):
    runs = set(all_runs(pulled.spec))
    assert stored(pulled.spec, pulled.folders) == {}
    mend.restore_records(pulled.spec, pulled.folders)
    assert stored(pulled.spec, pulled.folders) == dict.fromkeys(runs, False)
    lost = "lenet/r1/k5/L1-imp-o0"
    pulled.store.write_record(lost, {**pulled.store.read(lost), "key": "another"})
    assert {run.id for run in runs - set(stored(pulled.spec, pulled.folders))} >= {"lenet/r1/k5/L1-imp-o0"}


def test_the_parts_of_the_whole_run_fit_as_far_as_their_files_are_those_of_the_card(copy):
    spec, folders = copy.context.spec, copy.folders
    card = read_card(folders)
    everything = fitting(spec, folders, card)
    assert everything == names(copy.context) | set(WHOLE)
    other = {**card, "parts": {**card["parts"], "report": "other code"}}
    assert fitting(spec, folders, other) == everything - {"report", "card"}
    folders.metrics.write_text("{}")
    assert fitting(spec, folders, card) == everything - {"claims", "report", "card"}
    folders.stage("lenet/c0/orders").unlink()
    assert fitting(spec, folders, card).isdisjoint(WHOLE)


SUMMARY = ("table.parquet", "curves.parquet", "networks.json", "provenance.json", "claims.json", "metrics.json")
PAGE = ("report/index.html", "report/report.md")


def cut(path, seed: int = 0) -> None:
    """Cut a file at a random place."""
    os.truncate(path, random.Random(f"{path.name} {seed}").randrange(path.stat().st_size - 1))


def checksums(folder) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [*SUMMARY, *PAGE, "ro-crate-metadata.json"])
def test_a_file_of_the_whole_run_that_was_cut_short_is_made_again(copy, name):
    cut(copy.base / name)
    expected = {name, "report/index.html"} if name in PAGE else {name}
    assert set(forget_altered(copy.context.spec, copy.folders)) == expected
    assert not any((copy.base / gone).exists() for gone in expected)
    assert forget_altered(copy.context.spec, copy.folders) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_card_that_was_cut_short_goes_with_the_page_and_what_cant_be_read(copy, tmp_path, seed):
    """It is the card of the run that was made here, so no adoption and no advice to pull it."""
    root, before = tmp_path / "checkout", checksums(copy.base)
    remember(root, copy.folders)
    cut(copy.folders.card, seed)
    cut(copy.folders.metrics, seed)
    cut(copy.folders.table, seed)
    assert not is_new(root, copy.folders)
    forgotten = forget_altered(copy.context.spec, copy.folders)
    assert set(forgotten) == {"card.json", "report/index.html", "metrics.json", "table.parquet"}
    assert checksums(copy.base) == {name: value for name, value in before.items() if name not in forgotten}
    assert not is_new(root, copy.folders)
    copy.stage("collect")
    assert file_sha256(copy.folders.table) == before["table.parquet"]


def test_a_card_that_was_cut_short_elsewhere_is_refused(copy, tmp_path):
    cut(copy.folders.card)
    assert is_new(tmp_path / "checkout", copy.folders)
    with pytest.raises(HarnessError, match=r"card.json: [^\n]*$"):
        refuse_altered(copy.folders)


def test_a_network_with_a_broken_record_is_trained_again_by_a_stage_with_a_broken_record(run, done):
    cut(run.store.record_path("lenet/r1/k5/L1-imp-o0"))
    cut(run.store.record_path("lenet/r0/k0/L0-dense-o0.snapshots"))
    for stage in ("lenet/c0/k5-L1-2", "lenet/c0/dense"):
        cut(run.folders.stage(stage))
    lines = forget_broken(run.spec, run.folders)
    assert lines == [f"{stage}: its record is broken" for stage in ("lenet/c0/dense", "lenet/c0/k5-L1-2")]
    again(run)
    for network in all_runs(done.spec):
        assert run.store.read(network.id)["sha256"] == done.store.read(network.id)["sha256"]


@pytest.mark.parametrize("record", ["whole", "of other code", "cut", "lost"])
def test_all_broken_networks_of_a_stage_are_trained_again_at_once(run, done, record):
    stage = run.folders.stage("lenet/c0/dense")
    if record == "of other code":
        write_json(stage, {**read_json(stage), "digest": "another"})
    elif record == "cut":
        cut(stage)
    elif record == "lost":
        stage.unlink()
    broken = ("lenet/r0/k0/L0-dense-o0.snapshots", "lenet/r1/k0/L0-dense-o0", "lenet/r1/k0/L0-dense-o0.snapshots")
    for network in broken:
        cut(run.store.tensors_path(network))
    assert len(forget_broken(run.spec, run.folders)) == (0 if record == "lost" else 1)
    again(run)
    for network in broken:
        assert file_sha256(run.store.checked(network)) == done.store.read(network)["sha256"]
    assert forget_broken(run.spec, run.folders) == []


@pytest.mark.parametrize("lost", ["lenet/c0/k5-stability", "prepare/digits", ""])
def test_a_data_set_with_a_broken_record_is_made_again_where_it_is_needed(run, done, lost):
    record = run.folders.data("digits")
    cut(record)
    if lost:
        run.folders.stage(lost).unlink()
    lines = forget_broken(run.spec, run.folders)
    assert len(stored(run.spec, run.folders)) == len(set(all_runs(run.spec)))  # as the plan of the run asks
    if lost == "lenet/c0/k5-stability":
        assert lines == ["prepare/digits: its arrays are not here and lenet/c0/k5-stability needs them"]
        assert file_sha256(record) == file_sha256(done.folders.data("digits"))
    else:
        assert lines == []
        assert not record.exists()


def test_a_broken_record_of_a_network_that_stayed_elsewhere_is_restored(pulled):
    assert forget_broken(pulled.spec, pulled.folders) == []
    before = checksums(pulled.folders.runs)
    for path in pulled.folders.runs.rglob("*.json"):
        cut(path)
    assert forget_broken(pulled.spec, pulled.folders) == []
    assert checksums(pulled.folders.runs) == before


@pytest.fixture
def elsewhere(copy):
    """A pulled run with its card; somebody altered the record of one network and left that of another away."""
    shutil.rmtree(copy.folders.runs)
    shutil.rmtree(copy.base / "data")
    networks = read_json(copy.folders.networks)
    networks["lenet/r0/k5/L1-imp-o0"]["steps"] += 1
    del networks["lenet/r1/k5/L1-imp-o0"]
    write_json(copy.base.parent / "altered.json", networks)
    return copy


def alter(run) -> None:
    (run.base.parent / "altered.json").replace(run.folders.networks)


def settle(root, run) -> None:
    spec = run.context.spec
    _settle(root, spec, run.folders, Rules(spec.paper.id, "tiny", str(run.base)), Console(quiet=True), adopts=False)


def test_somebodys_altered_file_is_refused_and_nothing_of_theirs_is_made_again(elsewhere, tmp_path):
    alter(elsewhere)
    before = checksums(elsewhere.base)
    with pytest.raises(HarnessError, match=r"/tiny: networks.json: not what card.json says, and this [^\n]*$"):
        settle(tmp_path / "checkout", elsewhere)
    assert checksums(elsewhere.base) == before
    cut(elsewhere.folders.table)
    with pytest.raises(HarnessError, match=r": networks.json, table.parquet: not what card\.json"):
        settle(tmp_path / "checkout", elsewhere)


def test_after_adoption_an_altered_networks_json_is_made_again_as_it_was(elsewhere, tmp_path):
    """From the records that the adoption kept."""
    root, folders, before = tmp_path / "checkout", elsewhere.folders, elsewhere.folders.networks.read_bytes()
    mend.restore_records(elsewhere.context.spec, folders)
    remember(root, folders)
    alter(elsewhere)
    settle(root, elsewhere)
    assert not folders.networks.exists()
    assert finished(elsewhere.context) == names(elsewhere.context)
    elsewhere.stage("collect")
    assert folders.networks.read_bytes() == before


def test_of_an_altered_networks_json_what_its_other_records_prove_is_kept(elsewhere, tmp_path):
    """Adopted, but the records that the adoption kept are gone."""
    root, folders, before = tmp_path / "checkout", elsewhere.folders, read_json(elsewhere.folders.networks)
    remember(root, folders)
    alter(elsewhere)
    assert forget_altered(elsewhere.context.spec, folders) == ["networks.json"]
    kept = {path.relative_to(folders.runs).as_posix() for path in folders.runs.rglob("*.json")}
    assert kept == {f"{run}.json" for run in before} - {f"lenet/{r}/k5/L1-imp-o0.json" for r in ("r0", "r1")}
