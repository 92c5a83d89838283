"""Pruning: exact counts, deterministic ties, global ranking, branches."""

import numpy as np
import pytest
import torch

from harness.pruning import dense_masks, keep_count, prune_by_magnitude, remaining, shuffled


def weights(replicates=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(replicates, 10, 7, generator=generator),
        "b": 3 * torch.randn(replicates, 5, 4, 3, generator=generator),
    }


def test_levels_keep_exactly_the_published_shares():
    """LMC's labels 16.8, 8.6, 5.5, 3.5, 1.5% are 0.8 ** 8, 11, 13, 15, 19 of ResNet-20's 267,696 weights."""
    shares = [100 * keep_count(267_696, 0.2, level) / 267_696 for level in (8, 11, 13, 15, 19)]
    assert np.round(shares, 1).tolist() == [16.8, 8.6, 5.5, 3.5, 1.4]


def test_every_level_has_its_exact_count():
    values = weights()
    masks = dense_masks(values, list(values))
    total = 70 + 60
    for level in range(1, 12):
        masks = prune_by_magnitude(values, masks, keep_count(total, 0.2, level))
        assert remaining(masks) == [keep_count(total, 0.2, level)] * 2


def test_ranking_is_global_and_by_magnitude():
    values = weights()
    masks = prune_by_magnitude(values, dense_masks(values, ["a", "b"]), 40)
    for r in range(2):
        flat = np.concatenate([values[name][r].numpy().ravel() for name in ("a", "b")])
        kept = np.concatenate([masks[name][r].numpy().ravel() for name in ("a", "b")]).astype(bool)
        assert np.abs(flat)[kept].min() >= np.abs(flat)[~kept].max()
        assert (flat[kept] < 0).any()  # a large negative weight is large


def test_iterative_pruning_of_fixed_weights_equals_one_shot():
    values = weights()
    dense = dense_masks(values, ["a", "b"])
    step = prune_by_magnitude(values, prune_by_magnitude(values, dense, 80), 30)
    once = prune_by_magnitude(values, dense, 30)
    assert all(torch.equal(step[name], once[name]) for name in step)


def test_pruned_weights_never_come_back():
    masks = prune_by_magnitude(weights(), dense_masks(weights(), ["a", "b"]), 60)
    later = prune_by_magnitude(weights(seed=1), masks, 40)
    for name, mask in masks.items():
        assert not (later[name] * (1 - mask)).any()


def test_ties_are_broken_by_position_and_no_weight_too_many_goes():
    values = {"a": torch.ones(1, 3, 4), "b": torch.ones(1, 5)}
    masks = prune_by_magnitude(values, dense_masks(values, ["a", "b"]), 7)
    assert masks["a"].flatten().tolist() == [1] * 7 + [0] * 5
    assert masks["b"].flatten().tolist() == [0] * 5
    alive_zero = {"a": torch.zeros(1, 3, 4), "b": torch.zeros(1, 5)}
    kept = prune_by_magnitude(alive_zero, {"a": torch.zeros(1, 3, 4), "b": torch.ones(1, 5)}, 2)
    assert kept["b"].flatten().tolist() == [1, 1, 0, 0, 0]
    assert not kept["a"].any()


def test_impossible_requests_are_refused():
    values = weights()
    masks = prune_by_magnitude(values, dense_masks(values, ["a", "b"]), 10)
    with pytest.raises(ValueError, match="only 10 survive"):
        prune_by_magnitude(values, masks, 11)
    values["a"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        prune_by_magnitude(values, dense_masks(values, ["a", "b"]), 10)


def test_random_pruning_keeps_each_layers_share_and_is_seeded():
    masks = prune_by_magnitude(weights(), dense_masks(weights(), ["a", "b"]), 45)
    random = shuffled(masks, [("x", 0), ("x", 1)])
    for name, mask in masks.items():
        assert torch.equal(random[name].flatten(1).sum(1), mask.flatten(1).sum(1))
        assert not torch.equal(random[name], mask)
    again = shuffled(masks, [("x", 0), ("x", 1)])
    assert all(torch.equal(random[name], again[name]) for name in random)
    other = shuffled({name: mask.flip(0) for name, mask in masks.items()}, [("x", 1), ("x", 0)])
    assert all(torch.equal(random[name][0], other[name][1]) for name in random)
