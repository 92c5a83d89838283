"""Pruning: exact counts, deterministic ties, global ranking, SNIP against its closed form, branches."""

import numpy as np
import pytest
import torch

from harness.lottery.criteria.snip import sensitivity
from harness.lottery.masks import dense_masks, keep_count, keep_largest, prune_by_magnitude, remaining, shuffled
from harness.networks import build, initialise, prunable_names
from harness.networks.layers import BatchNorm, Linear, Stack


def weights(replicates=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(replicates, 10, 7, generator=generator),
        "b": 3 * torch.randn(replicates, 5, 4, 3, generator=generator),
    }


def test_levels_keep_exactly_the_published_shares():
    """LMC's labels 16.8, 8.6, 5.5, 3.5, 1.5% are 0.8 ** 8, 11, 13, 15, 19 of ResNet-20's 267,696 weights."""
    shares = [100 * keep_count(267_696, 0.8**level) / 267_696 for level in (8, 11, 13, 15, 19)]
    assert np.round(shares, 1).tolist() == [16.8, 8.6, 5.5, 3.5, 1.4]


def test_every_level_has_its_exact_count():
    values = weights()
    masks = dense_masks(values, list(values))
    total = 70 + 60
    for level in range(1, 12):
        masks = prune_by_magnitude(values, masks, keep_count(total, 0.8**level))
        assert remaining(masks) == [keep_count(total, 0.8**level)] * 2


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


@pytest.mark.parametrize("keep", [0, 1, 37, 129, 130])
def test_the_kept_are_the_first_of_a_stable_sort(keep):
    generator = torch.Generator().manual_seed(3)
    scores = {name: (value.abs() * 2).round() for name, value in weights(replicates=3).items()}  # many ties
    alive = {name: (torch.rand(value.shape, generator=generator) < 0.999).float() for name, value in scores.items()}
    flat = {r: torch.cat([scores[name][r].flatten() for name in scores]).numpy() for r in range(3)}
    there = {r: torch.cat([alive[name][r].flatten() for name in scores]).numpy() > 0 for r in range(3)}
    keep = min(keep, *(int(one.sum()) for one in there.values()))
    masks = keep_largest(scores, alive, keep)
    for r in range(3):
        order = sorted(np.flatnonzero(there[r]), key=lambda place: -flat[r][place])  # Python's sort is stable
        found = torch.cat([masks[name][r].flatten() for name in masks]).numpy()
        assert np.flatnonzero(found).tolist() == sorted(order[:keep])


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


class OneLayer(Stack):
    """Logits x W + b of R replicates, on inputs that a BatchNorm may normalise first."""

    def __init__(self, replicates, inputs, classes, norm=False):
        super().__init__()
        self.norm = BatchNorm(replicates, inputs, dims=1) if norm else None
        self.layer = Linear(replicates, inputs, classes)

    def alone(self, x):
        if self.norm:
            x = self.norm(x.T[..., None].contiguous())[..., 0].T
        return self.layer(x)


def minibatches(replicates=2, inputs=5, classes=3, count=1, samples=12):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, replicates, samples, inputs, generator=generator)
    y = torch.randint(classes, (count, replicates, samples), generator=generator)
    return list(zip(x, y, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_the_sensitivity_of_a_linear_model_has_its_closed_form(count):
    """|w x^T (softmax(x W + b) - onehot(y)) / N|, in double precision, the gradients of minibatches summed."""
    network = OneLayer(2, 5, 3)
    initialise(network, [("snip", r) for r in range(2)])
    batches = minibatches(count=count)
    (found,) = sensitivity(network, batches, ["layer.weight"]).values()
    for r in range(2):
        weight = network.layer.weight[r].detach().double().numpy()
        gradient = np.zeros_like(weight)
        for x, y in batches:
            inputs = x[r].double().numpy()
            logits = inputs @ weight
            share = np.exp(logits - logits.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            gradient += inputs.T @ (share - np.eye(3)[y[r].numpy()]) / len(inputs)
        np.testing.assert_allclose(found[r].numpy(), np.abs(gradient * weight), rtol=1e-5, atol=1e-7)


def test_the_sensitivity_leaves_the_network_as_it_was():
    network = OneLayer(2, 5, 3, norm=True)
    initialise(network, [("snip", r) for r in range(2)])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    (x, y) = minibatches()[0]
    (found,) = sensitivity(network, [(x, y)], ["layer.weight"]).values()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    (shifted,) = sensitivity(network, [(3 * x + 1, y)], ["layer.weight"]).values()
    torch.testing.assert_close(found, shifted, rtol=1e-3, atol=1e-5)  # normalised by each minibatch's own statistics


def test_replicates_do_not_see_each_other_in_the_sensitivity():
    (x, y) = minibatches()[0]
    both, alone = OneLayer(2, 5, 3), OneLayer(1, 5, 3)
    initialise(both, [("snip", r) for r in range(2)])
    initialise(alone, [("snip", 1)])
    (found,) = sensitivity(both, [(x, y)], ["layer.weight"]).values()
    (own,) = sensitivity(alone, [(x[1:], y[1:])], ["layer.weight"]).values()
    torch.testing.assert_close(found[1:], own)


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet8-1d"])
def test_snip_keeps_exact_counts_and_its_levels_are_nested(name):
    shape = (1, 8, 8) if name.startswith("lenet") else (1, 40)
    network = build(name, 2, shape, 10)
    initialise(network, [("snip", r) for r in range(2)])
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 16, *shape, generator=generator), torch.arange(16).expand(2, 16) % 10
    scores = sensitivity(network, [(x, y)], prunable_names(network))
    dense = dense_masks(scores, list(scores))
    total = sum(mask[0].numel() for mask in dense.values())
    before = None
    for density in (0.8, 0.3, 0.05, 0.01):
        masks = keep_largest(scores, dense, keep_count(total, density))
        assert remaining(masks) == [round(total * density)] * 2
        if before:
            assert all((masks[name] <= before[name]).all() for name in masks)
        before = masks
