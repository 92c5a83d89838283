"""Training stages on a tiny run: what a branch starts from, what is stored, what is found again."""

import json
import os
import signal
import threading
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.networks import build
from harness.plan.kinds import KINDS
from harness.plan.runs import Run, dense_run, find_stage, stacks, stages
from harness.results.heartbeats import Heartbeat
from harness.results.keys import stage_digest
from harness.stages import train as train_module
from harness.stages.train import starting_point, train_stack, train_stacks
from harness.training.loop import Trained
from harness.training.partial import read_partial, write_partial
from harness.training.state import State
from harness.workflow.run_stage import run_stage
from tests.tiny import cut_off, heartbeat, tiny_context


def load(context, run, prefix):
    return context.store.load_part(run.id, prefix)


def masks_of(context, run):
    return load(context, run, "mask/")


def test_final_tensors_have_the_mask_applied_and_the_exact_count(finished):
    total = 50_200
    for replicate in range(2):
        for level, branch in ((1, "imp"), (2, "imp"), (2, "random_prune"), (2, "random_reinit")):
            run = Run("lenet", replicate, 5, level, branch, 0)
            record, masks = finished.store.read(run.id), masks_of(finished, run)
            final = load(finished, run, "final/weights/")
            kept = sum(int(mask.sum()) for mask in masks.values())
            assert kept == record["remaining"] == round(total * 0.64**level)
            assert record["density"] == kept / total
            for name, mask in masks.items():
                assert not final[name][mask == 0].any()


def test_branches_start_where_the_design_says(finished):
    network = build("lenet-300-100", 2, (1, 8, 8), 10)

    def start(branch, order=0, k=5):
        return starting_point(finished, [Run("lenet", r, k, 2, branch, order) for r in range(2)], network)

    snapshot = [finished.store.load_part(f"{dense_run('lenet', r).id}.snapshots", "k5/weights/") for r in range(2)]
    imp, masks = start("imp")
    for r in range(2):
        for name, value in snapshot[r].items():
            assert torch.equal(imp.weights[name][r], value)
    assert imp.step == 5
    assert not imp.optimizer  # fresh after a rewind
    other, same_masks = start("imp", order=1)
    assert all(torch.equal(masks[name], same_masks[name]) for name in masks)
    assert torch.equal(other.weights["output.weight"], imp.weights["output.weight"])
    random, shuffled = start("random_prune")
    assert torch.equal(random.weights["output.weight"], imp.weights["output.weight"])
    for name, mask in masks.items():
        assert torch.equal(shuffled[name].flatten(1).sum(1), mask.flatten(1).sum(1))
        assert not torch.equal(shuffled[name], mask)
    fresh, kept = start("random_reinit")
    assert all(torch.equal(kept[name], masks[name]) for name in masks)
    assert fresh.step == 5
    assert not torch.equal(fresh.weights["output.weight"], imp.weights["output.weight"])
    copy, none = starting_point(finished, [Run("lenet", r, 5, 0, "dense", 1) for r in range(2)], network)
    assert not none
    assert copy.optimizer  # the dense run's whole state, only its data order differs
    assert copy.optimizer_steps == 5


def test_the_mask_is_that_of_the_parents_largest_final_weights(finished):
    run, parent = Run("lenet", 0, 5, 2, "imp", 0), Run("lenet", 0, 5, 1, "imp", 0)
    final, masks = load(finished, parent, "final/weights/"), masks_of(finished, run)
    magnitude = torch.cat([final[name].abs().flatten() for name in masks])
    kept = torch.cat([mask.flatten() for mask in masks.values()]).bool()
    assert magnitude[kept].min() >= magnitude[~kept].max()


def test_a_second_data_order_differs_and_the_first_repeats_the_dense_one(finished):
    a, b = (load(finished, Run("lenet", 0, 0, 2, "imp", order), "final/weights/") for order in (0, 1))
    assert not torch.equal(a["output.weight"], b["output.weight"])


def test_finished_runs_are_found_again_and_not_trained(finished, monkeypatch):
    monkeypatch.setattr(train_module, "train_stack", lambda *_: pytest.fail("trained again"))
    for stage in stages(finished.spec):
        if KINDS[stage.kind].trains:
            done = train_stacks(finished, stage, heartbeat(finished.folders.base))
            assert done["steps"] == 0


def test_a_level_is_evaluated_on_what_is_read_and_no_more(tmp_path, monkeypatch):
    """On the training and the test split, once each: nothing reads the validation split of the digits."""
    context, seen = tiny_context(tmp_path), []
    whole = train_module.evaluate

    def noting(network, x, y, *rest):
        seen.append(len(y))
        return whole(network, x, y, *rest)

    monkeypatch.setattr(train_module, "evaluate", noting)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    assert seen == [1197, 540]
    record = context.store.read(dense_run("lenet", 0).id)
    assert not [name for name in record if name.startswith("validation")]


def test_a_run_made_with_other_settings_is_not_taken(finished):
    run = dense_run("lenet", 0)
    assert finished.store.find(run.id, finished.key(run)) is not None
    assert finished.store.find(run.id, "another key") is None


def test_a_stage_refuses_other_code_or_settings_than_the_workflows(tmp_path):
    context = tiny_context(tmp_path)
    digest = stage_digest(context.spec, context.folders, "lenet/c0/dense")[:16]
    for other in (tiny_context(tmp_path, change={"steps": 250}), context):
        expected = digest if other is not context else "0" * 16
        with pytest.raises(HarnessError, match="are not those of the checkout that started the workflow"):
            run_stage(other.spec, other.folders, "lenet/c0/dense", 1, expected)
    assert not context.folders.runs.exists()
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1, digest)
    assert context.folders.stage("lenet/c0/dense").exists()


def test_a_stage_cut_off_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    """Kill at a kept state in mid-training, then run the stage again."""
    context = tiny_context(tmp_path, change={"steps": 250})
    reference = tiny_context(tmp_path / "reference", change={"steps": 250})
    dense = find_stage(context.spec, "lenet/c0/dense")
    run_stage(reference.spec, reference.folders, dense.name, 1)

    cut_off(context, "lenet/c0/dense", monkeypatch)
    assert len(list(context.folders.state.iterdir())) == 1
    assert not context.folders.stage(dense.name).exists()
    run_stage(context.spec, context.folders, dense.name, 1)
    assert not list(context.folders.state.iterdir())
    for replicate in range(2):
        for suffix in ("", ".snapshots"):
            name = dense_run("lenet", replicate).id + suffix
            assert context.store.read(name)["sha256"] == reference.store.read(name)["sha256"]


def test_a_stage_records_cpu_time_with_that_of_a_pass_that_was_stopped(tmp_path, monkeypatch):
    context = tiny_context(tmp_path, change={"steps": 250})
    cut_off(context, "lenet/c0/dense", monkeypatch)
    left = context.folders.progress / "lenet.c0.dense.cpu"
    earlier, began = read_json(left)["cpu_seconds"], time.process_time()
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    own = time.process_time() - began
    assert 0 < earlier < read_json(context.folders.stage("lenet/c0/dense"))["cpu_seconds"] <= earlier + own
    assert not left.exists()
    write_json(left, {"digest": "of other settings", "cpu_seconds": 1e6})
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    assert read_json(context.folders.stage("lenet/c0/dense"))["cpu_seconds"] < 1e6


def test_sigterm_keeps_the_state_and_the_next_run_ends_with_the_same_bits(tmp_path, monkeypatch, capsys):
    """What a cluster sends before it takes a machine back, at the first sign of life of a long stage."""
    context = tiny_context(tmp_path, change={"steps": 450})
    reference = tiny_context(tmp_path / "reference", change={"steps": 450})
    run_stage(reference.spec, reference.folders, "lenet/c0/dense", 1)

    monkeypatch.setattr(train_module, "_terminated", threading.Event())
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Heartbeat, "beat", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as ended:
            run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert "stopped by SIGTERM after step" in capsys.readouterr().err
    kept = read_partial(next(context.folders.state.iterdir()))
    assert kept is not None
    assert 0 < kept[0].step < 450

    monkeypatch.setattr(train_module, "_terminated", threading.Event())
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    for replicate in range(2):
        name = dense_run("lenet", replicate).id
        assert context.store.read(name)["sha256"] == reference.store.read(name)["sha256"]


def test_a_broken_kept_state_is_as_good_as_none(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 100)
    assert read_partial(path) is None
    weights = {"w": torch.ones(2, 3)}
    earlier = {3: State(3, {"w": torch.zeros(2, 3)}, {})}
    write_partial(path, State(5, weights, {}), Trained(State(5, weights, {}), earlier, {1: 4}, 2.0))
    state, so_far = read_partial(path)
    assert (state.step, so_far.seconds, so_far.diverged, list(so_far.snapshots)) == (5, 2.0, {1: 4}, [3])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read_partial(path) is None


def test_a_run_from_other_inputs_is_not_taken(finished, tmp_path):
    """The same settings, but the dense run has other bits (another machine or PyTorch): its children are retrained."""
    context = tiny_context(tmp_path)
    for name in ("lenet/c0/dense", "lenet/c0/k0-L1-2"):
        run_stage(context.spec, context.folders, name, 1)
    level = Run("lenet", 0, 0, 1, "imp", 0)
    assert train_module.finished(context, level) is not None
    dense = dense_run("lenet", 0).id
    tensors = context.store.load(dense)
    tensors["final/weights/output.bias"] += 1e-6
    context.store.write(dense, context.store.read(dense), tensors)
    assert train_module.finished(context, level) is None
    assert train_module.finished(context, Run("lenet", 1, 0, 1, "imp", 0)) is not None


def test_a_further_rewind_iteration_retrains_the_dense_run_to_the_same_bits(tmp_path):
    context = tiny_context(tmp_path)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    dense = dense_run("lenet", 0)
    before = context.store.read(dense.id)["sha256"]
    more = tiny_context(tmp_path, dense_orders=[0, 5, 7])
    assert more.key(dense) == context.key(dense)
    assert train_module.finished(more, dense) is None
    run_stage(more.spec, more.folders, "lenet/c0/dense", 1)
    assert more.store.read(dense.id)["sha256"] == before
    assert more.store.read(dense.id)["snapshots"] == [0, 5, 7]


def test_divergence_is_recorded_and_its_children_are_skipped(tmp_path):
    context = tiny_context(tmp_path, change={"steps": 30, "learning_rate": 1e30}, replicates=1, replicates_per_job=1)
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    dense = context.store.read(dense_run("lenet", 0).id)
    assert dense["status"] == "diverged"
    assert dense["test_accuracy"] is None
    child = context.store.read(Run("lenet", 0, 0, 1, "imp", 0).id)
    assert child["status"] == "ancestor_diverged"
    run_stage(context.spec, context.folders, "collect", 1)
    run_stage(context.spec, context.folders, "claims", 1)
    verdicts = json.loads(context.folders.claims.read_text())
    assert {verdict["verdict"] for verdict in verdicts} == {"not tested"}


def test_one_diverged_replicate_does_not_stop_the_other(finished, tmp_path, monkeypatch):
    context = tiny_context(tmp_path)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    dense = dense_run("lenet", 0).id
    record = context.store.read(dense)
    context.store.write(dense, {**record, "status": "diverged"}, context.store.load(dense))
    levels = find_stage(context.spec, "lenet/c0/k0-L1-2")
    for stack in stacks(context.spec, levels):
        statuses = [record["status"] for record in train_stack(context, stack, heartbeat(tmp_path))]
        assert sorted(statuses) == ["ancestor_diverged", "ok"]
    healthy = Run("lenet", 1, 0, 2, "imp", 0)
    for name, value in load(context, healthy, "final/weights/").items():
        torch.testing.assert_close(value, load(finished, healthy, "final/weights/")[name], rtol=1e-3, atol=1e-4)


def test_altered_tensors_are_named_with_the_fix(tmp_path):
    context = tiny_context(tmp_path)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    path = context.store.tensors_path(dense_run("lenet", 1).id)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=r"L0-dense-o0\.safetensors: its checksum is not the one .* Delete .*\.json"):
        run_stage(context.spec, context.folders, "lenet/c0/k0-L1-2", 1)


def test_a_broken_invariant_ends_the_stage_and_stores_nothing(tmp_path, monkeypatch):
    context = tiny_context(tmp_path)
    run_stage(context.spec, context.folders, "lenet/c0/dense", 1)
    snapshot = train_module._snapshot

    def other(context, run):  # replicate 1 goes back to step 0
        return replace(snapshot(context, replace(run, k=0 if run.replicate else run.k)).rewound(), step=run.k)

    monkeypatch.setattr(train_module, "_snapshot", other)
    told = (
        r"^lenet/r1/k5/L1-imp-o0: broken invariant: start is snapshot \* mask\. .* nothing of it was stored\. [^\n]*$"
    )
    with pytest.raises(HarnessError, match=told):
        run_stage(context.spec, context.folders, "lenet/c0/k5-L1-2", 1)
    assert not context.store.record_path("lenet/r0/k5/L1-imp-o0").exists()
    monkeypatch.undo()
    run_stage(context.spec, context.folders, "lenet/c0/k5-L1-2", 1)
    names = read_json(context.folders.stage("lenet/c0/k5-L1-2"))["invariants"]
    assert {"masks nest", "magnitude threshold", "start is snapshot * mask", "pruned weights stay zero"} <= set(names)


def test_no_pickle_is_written(finished):
    kinds = {path.suffix for path in finished.folders.base.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".parquet", ".lock"}


def test_a_kept_state_without_a_snapshot_now_asked_for_is_not_taken(tmp_path, monkeypatch):
    """A state kept past step 7 has no snapshot of it: with k = 7 asked for, the dense run starts over."""
    context = tiny_context(tmp_path, change={"steps": 250})

    cut_off(context, "lenet/c0/dense", monkeypatch)
    more = tiny_context(tmp_path, change={"steps": 250}, dense_orders=[0, 5, 7])
    run_stage(more.spec, more.folders, "lenet/c0/dense", 1)
    assert more.store.read(dense_run("lenet", 0).id)["snapshots"] == [0, 5, 7]


def test_restarted_copies_train_the_whole_schedule_from_the_snapshots_weights(tmp_path, monkeypatch):
    context = tiny_context(tmp_path, restart=True, dense_copies=2, sweeps=[])
    begun = []
    whole = train_module.train

    def noting(network, recipe, batches, start, *rest, **more):
        begun.append(start)
        return whole(network, recipe, batches, start, *rest, **more)

    monkeypatch.setattr(train_module, "train", noting)
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    assert [start.step for start in begun] == [0] * 5
    assert not begun[-1].optimizer
    snapshot = context.store.load_part(f"{dense_run('lenet', 0).id}.snapshots", "k5/weights/")
    assert torch.equal(begun[-1].weights["output.weight"][0], snapshot["output.weight"])
    copies = [Run("lenet", 0, k, 0, "dense", order) for k in (0, 5) for order in (1, 2)]
    assert [context.store.read(run.id)["steps"] for run in copies] == [30] * 4
    table = pd.read_parquet(context.folders.pairs("lenet/c0/dense-stability"))
    assert set(zip(table["run"], table["run_b"], strict=True)) == {
        (Run("lenet", r, k, 0, "dense", 1).id, Run("lenet", r, k, 0, "dense", 2).id) for r in range(2) for k in (0, 5)
    }


def test_a_restarted_run_is_not_taken_for_a_continued_one(tmp_path):
    continued, restarted = tiny_context(tmp_path), tiny_context(tmp_path, restart=True, dense_copies=2)
    dense, copy = dense_run("lenet", 0), Run("lenet", 0, 5, 0, "dense", 1)
    assert continued.key(dense) == restarted.key(dense)
    assert continued.key(copy) != restarted.key(copy)


def test_restarted_from_k_0_is_the_ordinary_training(tmp_path):
    contexts = {
        name: tiny_context(tmp_path / name, restart=name == "restarted", dense_copies=2)
        for name in ("continued", "restarted")
    }
    runs = [Run("lenet", 0, 0, 0, "dense", 1), Run("lenet", 0, 0, 1, "imp", 0), Run("lenet", 0, 0, 2, "imp", 1)]
    for context in contexts.values():
        for name in ("dense", "orders", "k0-L1-2", "k0-L2-branches"):
            run_stage(context.spec, context.folders, f"lenet/c0/{name}", 1)
    for run in runs:
        keys = {context.key(run) for context in contexts.values()}
        sums = {context.store.read(run.id)["sha256"] for context in contexts.values()}
        assert (len(keys), len(sums)) == (1, 1), run.id


def test_snip_prunes_the_snapshot_by_sensitivity_before_training(tmp_path):
    """Exact counts; one mask for all data orders of a level; larger levels keep less of the same ranking."""
    at = {1: {"snip": 2}, 2: {"snip": 1}}
    context = tiny_context(tmp_path, sweeps=[{"k": [0], "levels": 2, "at": at}], dense_orders=[])
    for stage in stages(context.spec):
        if KINDS[stage.kind].trains:
            train_stacks(context, stage, heartbeat(tmp_path))
    for replicate in range(2):
        runs = [Run("lenet", replicate, 0, level, "snip", order) for level, order in ((1, 0), (1, 1), (2, 0))]
        first, again, deeper = (masks_of(context, run) for run in runs)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert all((deeper[name] <= first[name]).all() for name in first)
        imp = masks_of(context, Run("lenet", replicate, 0, 1, "imp", 0))
        assert any(not torch.equal(first[name], imp[name]) for name in first)
        for run in runs:
            record = context.store.read(run.id)
            assert record["remaining"] == round(50_200 * 0.64**run.level)
            assert record["steps"] == 30
            assert set(record["inputs"]) >= {dense_run("lenet", replicate).id.removeprefix("lenet/")}
    network = build("lenet-300-100", 2, (1, 8, 8), 10)
    start, _ = starting_point(context, [Run("lenet", r, 0, 1, "snip", 0) for r in range(2)], network)
    snapshot = context.store.load_part(f"{dense_run('lenet', 1).id}.snapshots", "k0/weights/")
    assert all(torch.equal(start.weights[name][1], value) for name, value in snapshot.items())


def test_one_shot_levels_have_the_densities_listed(tmp_path):
    sweeps = [{"k": [5], "levels": 3, "first_level": 2, "at": {3: {"random_prune": 1}}}]
    pruning = {"style": "one_shot", "densities": [0.7, 0.5, 0.1]}
    context = tiny_context(tmp_path, pruning=pruning, sweeps=sweeps, dense_orders=[])
    for stage in stages(context.spec):
        if KINDS[stage.kind].trains:
            train_stacks(context, stage, heartbeat(tmp_path))
    final = load(context, dense_run("lenet", 0), "final/weights/")
    for level, density in ((2, 0.5), (3, 0.1)):
        run = Run("lenet", 0, 5, level, "imp", 0)
        masks, record = masks_of(context, run), context.store.read(run.id)
        assert record["remaining"] == round(50_200 * density)
        magnitude = torch.cat([final[name].abs().flatten() for name in masks])
        kept = torch.cat([mask.flatten() for mask in masks.values()]).bool()
        assert magnitude[kept].min() >= magnitude[~kept].max()  # the dense network's, at every level
    random = context.store.read(Run("lenet", 0, 5, 3, "random_prune", 0).id)
    assert random["remaining"] == round(50_200 * 0.1)
