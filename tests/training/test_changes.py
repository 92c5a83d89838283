"""Masks that change inside a training: exact zeros, fresh memory, the gradient of pruned weights, the same bits."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.base.seeds import numpy_generator
from harness.networks import fused, prunable_names
from harness.training.changes import Change, Changes
from harness.training.loop import Trained, train
from harness.training.partial import read_partial, write_partial
from tests.training.test_loop import ADAM, MOMENTUM, SETTINGS, _threads, assert_same, start  # noqa: F401

KEEP = 0.5


def random_masks(weights, step, replicates=(0, 1)):
    """A mask drawn for a step, another for each replicate."""
    return {
        name: torch.stack(
            [torch.from_numpy(numpy_generator(name, step, r).random(w.shape[1:]) < KEEP).float() for r in replicates]
        )
        for name, w in weights.items()
    }


def rewiring(before, replicates=(0, 1), values=None, seen=None):
    def change(moment):
        if seen is not None:
            seen.append(moment)
        return Change(random_masks(moment.weights, moment.step, replicates), values)

    return Changes(before, change)


def begin(name, shape, recipe):
    network, batches, state = start(name, shape, recipe)
    weights = {name: state.weights[name] for name in prunable_names(network)}
    return network, batches, state, random_masks(weights, 0)


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_after_a_change_what_is_pruned_is_0_and_what_comes_back_starts_afresh(name, shape, recipe):
    """By the states just before and just after the change, and by one step of the optimizer from an empty memory."""
    network, batches, state, masks = begin(name, shape, recipe)
    seen, values = [], {n: torch.full_like(m, 0.25) for n, m in masks.items()}
    changes = rewiring((30,), values=values, seen=seen)
    until = train(network, recipe.model_copy(update={"steps": 30, "drops": ()}), batches, state, masks).final
    network, batches, *_ = begin(name, shape, recipe)
    whole = train(network, recipe, batches, state, masks, changes=changes, snapshot_steps=[31]).snapshots[31]
    (moment,) = seen
    assert (moment.step, moment.steps) == (30, recipe.steps)
    for weight, mask in masks.items():
        assert torch.equal(moment.masks[weight], mask)
        assert torch.equal(moment.weights[weight], until.weights[weight])
        now = whole.masks[weight]
        assert torch.equal(now, random_masks({weight: mask}, 30)[weight])
        assert not whole.weights[weight][now == 0].any()
        back = (now == 1) & (mask == 0)
        assert back.any()
        first = whole.optimizer[f"{'exp_avg' if recipe.optimizer == 'adam' else 'momentum_buffer'}/{weight}"]
        if recipe.optimizer == "adam":
            second = whole.optimizer[f"exp_avg_sq/{weight}"][back]
            torch.testing.assert_close(second, 0.1 * first[back] ** 2, rtol=1e-4, atol=1e-20)  # 0.001 / 0.1^2
        else:
            moved = whole.weights[weight][back] - 0.25
            torch.testing.assert_close(moved, -recipe.learning_rate * first[back], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_the_gradient_of_pruned_weights_is_autograds(name, shape, recipe):
    """Against PyTorch on one replicate's tensors, of the batch that the next step takes; nothing is left changed."""
    network, batches, state, masks = begin(name, shape, recipe)
    found = {}

    def change(moment):
        before = {n: b.clone() for n, b in network.named_buffers()}
        found.update(moment.gradients())
        assert all(torch.equal(b, before[n]) for n, b in network.named_buffers())
        return Change(moment.masks)

    start_of = {n: w * masks[n] if n in masks else w for n, w in state.weights.items()}
    train(network, recipe, batches, state, masks, changes=Changes((0,), change))
    network, batches, *_ = start(name, shape, recipe)
    x, y = batches.batch(0)
    for r in range(2):
        tensors = {n: v[r].clone() for n, v in {**start_of, **dict(network.named_buffers())}.items()}
        leaves = {n: tensors[n].requires_grad_() for n in masks}
        F.cross_entropy(network.heads(tensors, x[r])[0], y[r]).backward()
        for n, leaf in leaves.items():
            torch.testing.assert_close(found[n][r], leaf.grad, rtol=1e-4, atol=1e-6)
        assert any(leaf.grad[masks[n][r] == 0].any() for n, leaf in leaves.items())


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_a_training_cut_off_goes_on_with_the_same_masks_and_bits(name, shape, recipe, tmp_path):
    """Kept just before a change, just after one, and between; through the file of a checkpoint."""
    recipe = recipe.model_copy(update={"steps": 330, "drops": ()})
    kept, changes = [], rewiring((20, 100, 199, 250, 300))
    network, batches, state, masks = begin(name, shape, recipe)
    keep = {"keep_state": lambda now, so_far: kept.append((now, Trained(now))), "keep_every_seconds": 0.0}
    whole = train(network, recipe, batches, state, masks, changes=changes, **keep)
    assert [now.step for now, _ in kept] == [100, 200, 300]
    for now, so_far in kept:
        write_partial(tmp_path / "kept.safetensors", now, so_far)
        again, _ = read_partial(tmp_path / "kept.safetensors")
        network, batches, *_ = start(name, shape, recipe)
        other = {n: torch.ones_like(m) for n, m in masks.items()}  # those of the beginning play no part any more
        assert_same(train(network, recipe, batches, again, other, changes=changes).final, whole.final)
    assert all(torch.equal(m, random_masks(masks, 300)[n]) for n, m in whole.final.masks.items())


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_a_replicate_has_the_same_bits_alone_and_the_same_by_torch_to_a_tolerance(name, shape, recipe, monkeypatch):
    recipe = recipe.model_copy(update={"steps": 10, "drops": ()})
    network, batches, state, masks = begin(name, shape, recipe)
    both = train(network, recipe, batches, state, masks, changes=rewiring((3, 7))).final
    network, batches, _ = start(name, shape, recipe, replicates=1)
    own = {n: m[:1] for n, m in masks.items()}
    alone = train(network, recipe, batches, state.select([0]), own, changes=rewiring((3, 7), (0,))).final
    assert_same(alone, both.select([0]))
    monkeypatch.setattr(fused, "usable", lambda *_: False)
    network, batches, *_ = begin(name, shape, recipe)
    by_torch = train(network, recipe, batches, state, masks, changes=rewiring((3, 7))).final
    for n, weight in by_torch.weights.items():
        torch.testing.assert_close(weight, both.weights[n], rtol=0.01, atol=0.003)


def test_a_replicate_that_has_diverged_changes_masks_of_zeros():
    """Its numbers that are not finite are 0 to a change, which can rank them."""
    name, shape, recipe = SETTINGS[0]
    network, batches, state, masks = begin(name, shape, recipe)
    state.weights["hidden1.weight"][1] = np.nan
    seen = []

    def change(moment):
        seen.append((moment, moment.gradients()))
        return Change(moment.masks)

    trained = train(network, recipe, batches, state, masks, changes=Changes((50,), change))
    assert list(trained.diverged) == [1]
    ((moment, gradients),) = seen
    assert all(torch.isfinite(w).all() for w in [*moment.weights.values(), *gradients.values()])


def test_without_changes_a_state_has_no_masks():
    for name, shape, recipe in ((SETTINGS[0][0], SETTINGS[0][1], ADAM), (SETTINGS[1][0], SETTINGS[1][1], MOMENTUM)):
        network, batches, state, masks = begin(name, shape, recipe)
        assert not train(network, recipe, batches, state, masks).final.masks
