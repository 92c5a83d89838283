"""Branches that train otherwise than IMP: starts against their definitions, trainings against their schedules."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from harness.base.errors import HarnessError
from harness.lottery.branches import BRANCHES, rigl
from harness.networks import build, initialise
from harness.plan import courses
from harness.plan.kinds import KINDS
from harness.plan.runs import Run, dense_run, find_stage, stages
from harness.stages import train as train_module
from harness.stages.train import finished, starting_point, train_stacks
from harness.training import loop
from harness.training.step import take_step
from harness.workflow.run_stage import run_stage
from tests.tiny import cut_off, heartbeat, tiny_context

CHANGING = ("gradual", "ramp", "set", "rigl", "dsr", "deep_rewiring", "variational", "l0")
UNITWISE = ("group_lasso", "l0_units")
ONCE = ("lr_rewind", "scratch_b", "keep_signs", "random_reinit", "random_prune", "distilled", *UNITWISE)
AT = {"fine_tune": 2} | dict.fromkeys(ONCE, 1)
SETTING = {
    "change": {"steps": 30, "drops": [10, 20], "batch_size": 200},
    "dense_orders": [],
    "sweeps": [
        {
            "k": [5],
            "levels": 2,
            "at": {
                1: dict.fromkeys(CHANGING, 1),
                2: AT
                | {"snip": 1, "snip_shuffled": 1, "snip_reinit": 1, "erdos_renyi": 1}
                | dict.fromkeys(CHANGING, 2),
            },
        }
    ],
    "line": {"points": 3, "train_samples": 50, "test_samples": 50},
}
NAMES = ("hidden1.weight", "hidden2.weight", "output.weight")


def run(branch, level=2, replicate=0, order=0):
    return Run("lenet", replicate, 5, level, branch, order)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All networks and pairs of the setting, and the learning rate of each step by the run that took it."""
    context = tiny_context(tmp_path_factory.mktemp("branches"), **SETTING)
    rates, train_stack = {}, train_module.train_stack

    def noting(context, stack, *rest):
        def step(*args, **more):
            rates.setdefault(stack[0], []).append(args[-1])
            return take_step(*args, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "take_step", step)
            return train_stack(context, stack, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "train_stack", noting)
        for stage in stages(context.spec):
            run_stage(context.spec, context.folders, stage.name, 1)
    return context, rates


def stored(context, network, prefix="final/weights/"):
    return context.store.load_part(network.id, prefix)


def start(context, branch, level=2, order=0):
    network = build("lenet-300-100", 2, (1, 8, 8), 10)
    return starting_point(context, [run(branch, level, r, order) for r in range(2)], network)


FULL, TENTH, HUNDREDTH = 0.0012, 0.00012, 0.000012
FROM_5 = [FULL] * 5 + [TENTH] * 10 + [HUNDREDTH] * 10


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("imp", FROM_5),
        ("lr_rewind", FROM_5),
        ("fine_tune", [HUNDREDTH] * 25),
        ("keep_signs", FROM_5),
        ("snip_reinit", FROM_5),
        ("scratch_b", [FULL] * 20 + [TENTH] * 20 + [HUNDREDTH] * 20),
    ],
)
def test_each_step_has_the_learning_rate_of_its_branch(made, branch, expected):
    context, rates = made
    assert rates[run(branch)] == pytest.approx(expected)
    assert context.store.read(run(branch).id)["steps"] == len(expected)


@pytest.mark.parametrize("branch", ["fine_tune", "lr_rewind"])
def test_trained_weights_are_pruned_and_trained_on_and_not_rewound(made, branch):
    """Each level prunes the smallest of what the branch itself ended the level before with, and goes on from there."""
    context, _ = made
    for level, parent in ((1, [dense_run("lenet", r) for r in range(2)]), (2, [run(branch, 1, r) for r in range(2)])):
        state, masks = start(context, branch, level)
        assert (state.step, state.optimizer) == (5, {})  # the step of the schedule; momentum is fresh
        for r in range(2):
            ended = stored(context, parent[r])
            assert all(torch.equal(state.weights[name][r], value) for name, value in ended.items())
            sizes = np.concatenate([ended[name].abs().numpy().ravel() for name in NAMES])
            kept = np.concatenate([masks[name][r].numpy().ravel() for name in NAMES])
            due = round(50_200 * 0.64**level)
            assert set(np.flatnonzero(kept)) == set(np.argsort(-sizes, kind="stable")[:due])
            own = stored(context, run(branch, level, r), "mask/")
            assert all(torch.equal(own[name].float(), masks[name][r]) for name in NAMES)
    record = context.store.read(run(branch).id)
    assert set(record["inputs"]) == {"data", run(branch, 1).id.removeprefix("lenet/")}  # no snapshot
    assert {"start is trained weights * mask", "magnitude threshold", "optimizer is fresh"} <= set(record["invariants"])


def test_operations_are_those_of_the_kept_weights_and_accuracy_is_taken_before_training(made):
    """LeNet needs one multiply-add for each weight and sample; accuracy by NumPy in float64."""
    context, _ = made
    dense = context.store.read(dense_run("lenet", 0).id)
    assert (dense["operations"], dense["start_test_accuracy"]) == (30 * 200 * 50_200, None)
    for branch, steps in (("imp", 25), ("fine_tune", 25), ("scratch_b", 60), ("erdos_renyi", 25)):
        record = context.store.read(run(branch).id)
        assert record["operations"] == steps * 200 * record["remaining"]
        assert (record["start_test_accuracy"] is None) == (branch != "fine_tune")
    for branch in ("gradual", "l0"):  # dense at first, then less
        record = context.store.read(run(branch).id)
        assert 25 * 200 * record["remaining"] < record["operations"] < 25 * 200 * 50_200
    l0 = context.store.read(run("l0").id)  # of its 25 steps the first 18 are dense
    assert l0["operations"] == 200 * (18 * 50_200 + 7 * l0["remaining"])
    state, masks = start(context, "fine_tune")
    h = context.data.x["test"].flatten(1).double().numpy()
    for name in ("hidden1", "hidden2", "output"):
        weight = (state.weights[f"{name}.weight"] * masks[f"{name}.weight"])[1].double().numpy()
        h = h @ weight + state.weights[f"{name}.bias"][1].double().numpy()
        h = np.maximum(h, 0) if name != "output" else h
    right = 100 * np.mean(h.argmax(1) == context.data.y["test"].numpy())
    assert context.store.read(run("fine_tune", replicate=1).id)["start_test_accuracy"] == pytest.approx(right)


def test_iterated_fine_tuning_has_other_masks_than_imp(made):
    """From the second level on: the first one prunes the same dense network."""
    context, _ = made
    for branch in ("fine_tune", "lr_rewind"):
        for level, same in ((1, True), (2, False)):
            own, imp = (stored(context, run(name, level), "mask/") for name in (branch, "imp"))
            assert all(torch.equal(own[name], imp[name]) for name in NAMES) == same


def test_a_further_data_order_of_fine_tuning_has_its_mask_and_start(made):
    context, _ = made
    (one, masks), (other, again) = (start(context, "fine_tune", order=order) for order in (0, 1))
    for name in NAMES:
        assert torch.equal(masks[name], again[name])
        assert torch.equal(one.weights[name], other.weights[name])
    ends = [stored(context, run("fine_tune", order=order))["output.weight"] for order in (0, 1)]
    assert not torch.equal(*ends)


def test_signs_are_the_snapshots_and_magnitudes_those_of_a_new_draw(made):
    context, _ = made
    state, masks = start(context, "keep_signs")
    fresh, _ = start(context, "random_reinit")
    for r in range(2):
        snapshot = context.store.load_part(f"{dense_run('lenet', r).id}.snapshots", "k5/weights/")
        for name in NAMES:
            np.testing.assert_array_equal(np.sign(state.weights[name][r]), np.sign(snapshot[name]))
            np.testing.assert_array_equal(np.abs(state.weights[name][r]), np.abs(fresh.weights[name][r]))
        assert torch.equal(state.weights["output.bias"][r], snapshot["output.bias"])
        imp = stored(context, run("imp", replicate=r), "mask/")
        assert all(torch.equal(masks[name][r], imp[name].float()) for name in NAMES)


def test_scratch_b_is_the_new_draw_of_scratch_e_from_step_0(made):
    context, _ = made
    (long, masks), (equal, same) = start(context, "scratch_b"), start(context, "random_reinit")
    assert (long.step, equal.step) == (0, 5)
    assert all(torch.equal(value, equal.weights[name]) for name, value in long.weights.items())
    assert all(torch.equal(mask, same[name]) for name, mask in masks.items())


def test_snips_mask_is_shuffled_within_layers_or_kept_under_a_new_draw(made):
    context, _ = made
    _, snip = start(context, "snip")
    weights, shuffled = start(context, "snip_shuffled")
    drawn, kept = start(context, "snip_reinit")
    network = build("lenet-300-100", 2, (1, 8, 8), 10)
    initialise(network, [("lenet", r, "reinitialisation", 5, 2) for r in range(2)])
    for name in NAMES:
        assert torch.equal(kept[name], snip[name])
        assert torch.equal(shuffled[name].flatten(1).sum(1), snip[name].flatten(1).sum(1))
        assert not torch.equal(shuffled[name], snip[name])
        assert torch.equal(drawn.weights[name], network.get_parameter(name).detach())
    for r in range(2):
        snapshot = context.store.load_part(f"{dense_run('lenet', r).id}.snapshots", "k5/weights/")
        assert all(torch.equal(weights.weights[name][r], snapshot[name]) for name in NAMES)
    for branch in ("snip_shuffled", "snip_reinit"):
        assert run("snip").id.removeprefix("lenet/") in context.store.read(run(branch).id)["inputs"]


def test_every_network_is_found_again_and_pairs_of_all_chains_are_compared(made):
    context, _ = made
    for stage in stages(context.spec):
        if KINDS[stage.kind].trains:
            assert train_stacks(context, stage, heartbeat(context.folders.base))["steps"] == 0
    table = pd.read_parquet(context.folders.pairs("lenet/c0/k5-stability"))
    assert set(table[table["comparison"] == "data_order"]["run_b"]) == {
        run(branch, 2, r, 1).id for r in range(2) for branch in ("fine_tune", *CHANGING)
    }


def wrong_start(branch, other):
    return lambda patch: patch.setitem(BRANCHES, branch, replace(BRANCHES[branch], start=BRANCHES[other].start))


def not_stretched(patch):
    patch.setattr(courses, "stretched", lambda recipe, steps: recipe.model_copy(update={"steps": steps}))


def identity(name):
    return lambda patch: patch.setattr(courses, name, lambda recipe, *_: recipe)


def only_dropped(patch):
    """RigL that grows nothing."""
    patch.setattr(rigl, "highest", lambda score, among, count: torch.zeros_like(among))


def never_pruned(branch):
    return lambda patch: patch.setitem(BRANCHES, branch, replace(BRANCHES[branch], changes=None))


def not_the_loss(patch):
    """A step that minimises something else than the objective, which the audit asks."""
    patch.setattr(loop, "take_step", lambda *args, step, objective: take_step(*args))


WRONG = [
    ("rigl", only_dropped, "exact number of kept weights"),
    ("l0_units", never_pruned("l0_units"), "kept weights in whole units"),
    ("l0", never_pruned("l0"), "exact number of kept weights"),
    ("distilled", not_the_loss, "loss"),
    ("variational", not_the_loss, "loss"),
    ("distilled", wrong_start("distilled", "random_reinit"), r"start is snapshot \* mask"),
    ("gradual", never_pruned("gradual"), "exact number of kept weights"),
    ("set", wrong_start("set", "snip_reinit"), r"start is snapshot \* mask"),
    ("fine_tune", identity("at_last_rate"), "learning rate of every step"),
    ("scratch_b", not_stretched, "learning rate of every step"),
    ("fine_tune", wrong_start("fine_tune", "imp"), r"start is trained weights \* mask"),
    ("lr_rewind", wrong_start("lr_rewind", "imp"), r"start is trained weights \* mask"),
    ("scratch_b", wrong_start("scratch_b", "random_reinit"), r"step of the start \(5, not 0\)"),
    ("keep_signs", wrong_start("keep_signs", "random_reinit"), "signs kept, magnitudes drawn anew"),
    ("keep_signs", wrong_start("keep_signs", "imp"), "signs kept, magnitudes drawn anew"),
    ("snip_shuffled", wrong_start("snip_shuffled", "snip"), "SNIP's mask, shuffled in each layer"),
    ("snip_reinit", wrong_start("snip_reinit", "snip"), "weights drawn anew"),
    ("snip_reinit", wrong_start("snip_reinit", "scratch_b"), "step of the start"),
    ("imp", wrong_start("imp", "random_reinit"), r"start is snapshot \* mask"),
    ("snip", wrong_start("snip", "snip_reinit"), r"start is snapshot \* mask"),
]


@pytest.mark.parametrize(("branch", "mistake", "invariant"), WRONG)
def test_a_wrong_variant_breaks_an_invariant(made, tmp_path, monkeypatch, branch, mistake, invariant):
    context, _ = made
    courses._course.cache_clear()
    mistake(monkeypatch)
    stack = [run(branch, replicate=r) for r in range(2)]
    try:
        with pytest.raises(HarnessError, match=f"broken invariant: {invariant}"):
            train_module.train_stack(context, stack, heartbeat(tmp_path))
    finally:
        monkeypatch.undo()
        courses._course.cache_clear()
    assert all(finished(context, network) for network in stack)  # what was right is still there


@pytest.mark.parametrize("branch", CHANGING)
@pytest.mark.parametrize("level", [1, 2])
def test_masks_that_change_end_with_the_levels_number_of_weights_and_differ_between_orders(made, branch, level):
    context, _ = made
    for r in range(2):
        own = stored(context, run(branch, level, r), "mask/")
        final = stored(context, run(branch, level, r))
        assert sum(int(own[name].sum()) for name in NAMES) == round(50_200 * 0.64**level)
        assert not any(final[name][own[name] == 0].any() for name in NAMES)
        record = context.store.read(run(branch, level, r).id)
        assert record["density"] == pytest.approx(0.64**level, abs=1e-5)
        assert {"exact number of kept weights", "pruned weights stay zero", "start is snapshot * mask"} <= set(
            record["invariants"]
        )
        assert not [name for name in context.store.load(run(branch, level, r).id) if "masks/" in name]
    orders = [stored(context, run(branch, 2, 0, order), "mask/") for order in (0, 1)]
    assert not all(torch.equal(orders[0][name], orders[1][name]) for name in NAMES)


@pytest.mark.parametrize("branch", UNITWISE)
def test_whole_units_are_left_and_no_more_weights_than_the_level_has(made, branch):
    """A unit has weights on both sides or none on either; the next of 300 and 100 would have been too many."""
    context, _ = made
    for r in range(2):
        masks = {name: stored(context, run(branch, 2, r), "mask/")[name].numpy() for name in NAMES}
        one = masks["hidden1.weight"].any(0)
        two = masks["hidden2.weight"].any(0)
        assert (masks["hidden1.weight"] == one[None]).all()
        assert (masks["hidden2.weight"] == one[:, None] * two[None]).all()
        assert (masks["output.weight"] == two[:, None]).all()
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert kept == context.store.read(run(branch, 2, r).id)["remaining"]
        limit = round(50_200 * 0.64**2)
        assert limit - max(64 + two.sum(), one.sum() + 10) < kept <= limit


def test_networks_with_masks_of_their_own_are_compared_over_what_either_keeps(made):
    context, _ = made
    pairs = pd.read_parquet(context.folders.pairs("lenet/c0/k5-stability"))
    for branch in CHANGING:
        (row,) = pairs[(pairs["branch"] == branch) & (pairs["replicate"] == 1)].to_dict("records")
        a, b = (
            np.concatenate([stored(context, run(branch, 2, 1, order))[name].double().numpy().ravel() for name in NAMES])
            for order in (0, 1)
        )  # pruned weights are 0, so that nothing is lost by taking all
        assert row["distance"] == pytest.approx(np.linalg.norm(a - b), rel=1e-6)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row["angle"] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-6)


def test_set_and_rigl_start_as_the_static_network_and_end_elsewhere(made):
    context, _ = made
    ends = [stored(context, run(branch)) for branch in ("set", "erdos_renyi")]
    assert not all(torch.equal(ends[0][name], ends[1][name]) for name in NAMES)
    starts = [start(context, branch) for branch in ("set", "erdos_renyi", "rigl")]
    for state, masks in starts[1:]:
        assert all(torch.equal(masks[name], starts[0][1][name]) for name in NAMES)
        assert all(torch.equal(state.weights[name], starts[0][0].weights[name]) for name in NAMES)


@pytest.mark.parametrize("branch", ["fine_tune", "scratch_b", "distilled", *CHANGING, *UNITWISE])
def test_a_stage_cut_off_ends_with_the_same_bits(tmp_path, monkeypatch, branch):
    """On from trained weights, longer than dense, or between masks: killed at a kept state, then run again."""
    setting = SETTING | {"change": {"steps": 250, "drops": [100]}}
    at, name = {branch: 1}, f"lenet/c0/k5-L{'1-2-fine_tune' if branch == 'fine_tune' else '2-branches'}"
    setting |= {"sweeps": [{"k": [5], "levels": 2, "at": {2: at}}]}
    contexts = [tiny_context(tmp_path / folder, **setting) for folder in ("cut", "whole")]
    for context in contexts:
        for stage in stages(context.spec):
            if stage.name != name and stage.kind in ("dense", "levels") and stage.branch == "imp":
                run_stage(context.spec, context.folders, stage.name, 1)

    cut_off(contexts[0], name, monkeypatch)
    assert list(contexts[0].folders.state.iterdir())
    for context in contexts:
        run_stage(context.spec, context.folders, name, 1)
    stage = find_stage(contexts[0].spec, name)
    for network in train_module.stacks(contexts[0].spec, stage)[-1]:
        for name in ("sha256", "operations"):
            assert len({context.store.read(network.id)[name] for context in contexts}) == 1
