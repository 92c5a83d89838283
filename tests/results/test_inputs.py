"""What a network is taken for besides its key: its data as training reads it, its record, and the compiled kernels."""

import shutil

import pytest
import torch

from harness import data, kernels
from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.data import base
from harness.plan.runs import all_runs, dense_run, stages
from harness.results.context import Work
from harness.results.fit import forget_broken
from harness.results.folders import Folders
from harness.results.store import Store
from harness.results.stored import stored
from harness.stages.collect import collect_stage
from harness.stages.train import finished
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context


def negated(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**x, "train": -x["train"]}


def validation_for_test(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**x, "test": x["validation"][:1].expand_as(x["test"])}


def halved(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {split: part / 2 for split, part in x.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    context = tiny_context(tmp_path_factory.mktemp("trained"))
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    return context


@pytest.mark.parametrize("change", [negated, validation_for_test, halved])
def test_data_that_is_read_differently_is_another_input_of_every_network(trained, monkeypatch, change, tmp_path):
    original = base.in_memory

    def changed(details, arrays):
        data_set = original(details, arrays)
        return base.DataSet(data_set.name, data_set.classes, change(data_set.x), data_set.y, data_set.checksum)

    record = trained.folders.data("digits")
    kept = {path: path.read_bytes() for path in (record, trained.folders.stage("prepare/digits"))}
    assert all(finished(trained, run) for run in all_runs(trained.spec))
    before = read_json(trained.folders.stage("prepare/digits"))["outputs"]["content"]
    monkeypatch.setattr(data, "in_memory", changed)
    try:
        run_stage(trained.spec, trained.folders, "prepare/digits", 1)
        assert read_json(trained.folders.stage("prepare/digits"))["outputs"]["content"] != before
        fresh = type(trained)(trained.spec, trained.folders, "lenet")
        assert not any(finished(fresh, run) for run in all_runs(fresh.spec))
        assert not stored(fresh.spec, fresh.folders)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_the_same_data_made_again_is_the_same_input(trained):
    record = trained.folders.data("digits")
    before = data.content(record)
    run_stage(trained.spec, trained.folders, "prepare/digits", 1)
    assert data.content(record) == before
    fresh = type(trained)(trained.spec, trained.folders, "lenet")
    assert all(finished(fresh, run) for run in all_runs(fresh.spec))


def test_an_edited_record_reaches_no_table(tmp_path, trained):

    shutil.copytree(trained.folders.base, tmp_path / "copy")
    context = type(trained)(trained.spec, Folders(tmp_path / "copy"), "lenet")
    run = dense_run("lenet", 1).id
    path = context.store.record_path(run)
    write_json(path, {**read_json(path), "test_accuracy": 99.9})
    with pytest.raises(HarnessError, match="checksum: the record was altered") as refused:
        context.store.read(run)
    assert "\n" not in str(refused.value)

    with pytest.raises(HarnessError, match="the record was altered"):
        collect_stage(Work(context.spec, context.folders, "collect"))
    assert not context.folders.table.exists()
    lines = forget_broken(context.spec, context.folders)
    assert any(line.startswith("lenet/c0/dense: ") for line in lines)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    assert context.store.read(run)["test_accuracy"] == trained.store.read(run)["test_accuracy"]


def test_a_record_that_is_written_again_keeps_its_checksum(tmp_path):
    store = Store(tmp_path)
    store.write("lenet/r0", {"id": "lenet/r0", "test_accuracy": 90.0}, {"x": torch.zeros(2)})
    record = store.read("lenet/r0")
    store.write_record("lenet/r0", {**record, "pulled": True})  # where its tensors are is not what it says
    assert store.read("lenet/r0")["checksum"] == record["checksum"]


@pytest.mark.skipif(not kernels.available(), reason="no kernels are compiled here")
def test_kernels_of_other_sources_are_refused(monkeypatch):
    kernels._load.cache_clear()
    monkeypatch.setattr(kernels, "source_digest", lambda: "0" * 64)
    with pytest.raises(
        HarnessError, match=r"was not compiled from the sources beside it\. Compile them with"
    ) as refused:
        kernels.available()
    assert "\n" not in str(refused.value)
    monkeypatch.setenv(kernels.CHOICE, "torch")
    assert kernels.available() == ""
    kernels._load.cache_clear()
