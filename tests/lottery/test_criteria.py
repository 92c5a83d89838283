"""Every criterion: exact counts, replicates that never mix, and layers pruned to the shares that it says."""

import numpy as np
import pytest
import torch

from harness.lottery import invariants
from harness.lottery.criteria import CRITERIA
from harness.lottery.criteria.snip import sensitivity
from harness.lottery.masks import by_layer, dense_masks, erdos_renyi, keep_count, keep_largest, remaining
from harness.lottery.units import keep_units
from harness.training.audit import require
from harness.training.loop import use_threads
from tests.lottery.subjects import minibatches, only, stack, subject

SMALL = (8, 12, 10, 4)


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def pruned(criterion, network, of):
    scores = criterion.score(of)
    if criterion.units:
        return keep_units(scores, of.masks, network.units(), of.keep)
    return keep_largest(scores, of.masks, of.keep)


@pytest.mark.parametrize("kind", [SMALL, "plain-1d", "plain-2d"], ids=str)
@pytest.mark.parametrize("name", CRITERIA)
def test_a_replicates_scores_and_new_values_have_the_same_bits_alone(name, kind):
    criterion, network, batches = CRITERIA[name], stack(kind, 3), minibatches(kind, 3)
    whole = subject(network, batches)
    scores, masks = criterion.score(whole), pruned(criterion, network, whole)
    values = criterion.refit(whole, masks) if criterion.refit else {}
    alone = only(kind, network, 2)
    own = subject(alone, [(x[[2]], y[[2]]) for x, y in batches], places=[2])
    for weight, score in criterion.score(own).items():
        assert torch.equal(score[0], scores[weight][2]), weight
    own_masks = {weight: mask[[2]] for weight, mask in masks.items()}
    for weight, value in criterion.refit(own, own_masks).items() if values else ():
        assert torch.equal(value[0], values[weight][2]), weight


@pytest.mark.parametrize("kind", [SMALL, "resnet8-1d"], ids=str)
@pytest.mark.parametrize("name", CRITERIA)
def test_every_level_has_its_count_and_lies_within_the_one_before(name, kind):
    criterion, network, batches = CRITERIA[name], stack(kind, 2), minibatches(kind, 2)
    names, units, masks = network.prunable(), network.units(), None
    total = sum(network.get_parameter(weight)[0].numel() for weight in names)
    for density in (0.6, 0.35):
        before, of = masks, subject(network, batches, density, masks)
        masks = pruned(criterion, network, of)
        assert all(mask.dtype == torch.float32 for mask in masks.values())
        if criterion.units:
            require(invariants.counted_units(masks, names, density, units))
        else:
            assert remaining(masks) == [keep_count(total, density)] * 2
            require(invariants.counted(masks, names, density))
        require(invariants.pruned(masks, before, {}, by_magnitude=False))
        with torch.no_grad():
            for weight in names:
                network.get_parameter(weight).mul_(masks[weight])


def scores_of(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, *shape, generator=generator) for name, shape in sizes.items()}


def counts(masks):
    return {name: mask.flatten(1).sum(1).tolist() for name, mask in masks.items()}


@pytest.mark.parametrize("density", [0.5, 0.107, 0.015])
def test_equal_shares_differ_by_less_than_one_weight(density):
    scores = scores_of({"a": (64, 300), "b": (300, 100), "c": (100, 10)})
    dense = dense_masks(scores, list(scores))
    keep = keep_count(50_200, density)
    masks = keep_largest(by_layer(scores, dense), dense, keep)
    assert remaining(masks) == [keep] * 2
    for name, mask in masks.items():
        size = mask[0].numel()
        assert all(abs(kept - density * size) <= 1 for kept in counts(masks)[name])
        for own, score in zip(mask, scores[name], strict=True):
            assert score[own == 1].min() > score[own == 0].max()


@pytest.mark.parametrize("density", [0.107, 0.015])
def test_erdos_renyi_layers_follow_sets_formula_and_full_ones_stay_full(density):
    sizes = {"a": (64, 300), "b": (300, 100), "c": (100, 10)}
    scores = scores_of(sizes)
    dense = dense_masks(scores, list(scores))
    keep = keep_count(50_200, density)
    masks = keep_largest(by_layer(scores, dense, erdos_renyi(scores)), dense, keep)
    assert remaining(masks) == [keep] * 2

    def expected(epsilon):
        return {name: min(n * m, epsilon * (n + m)) for name, (n, m) in sizes.items()}

    low, high = 0.0, 1000.0
    for _ in range(60):  # SET's epsilon, by bisection
        middle = (low + high) / 2
        low, high = (middle, high) if sum(expected(middle).values()) < keep else (low, middle)
    for name, size in expected(low).items():
        assert counts(masks)[name] == pytest.approx([size] * 2, abs=1.5)
    assert expected(1e9) == {name: n * m for name, (n, m) in sizes.items()}


def test_a_layer_whose_share_would_be_more_than_all_is_kept_whole():
    scores = scores_of({"a": (64, 300), "c": (4, 3)})
    dense = dense_masks(scores, list(scores))
    masks = keep_largest(by_layer(scores, dense, erdos_renyi(scores)), dense, 9600)
    assert counts(masks) == {"a": [9588.0] * 2, "c": [12.0] * 2}


def test_shares_are_those_of_the_layers_and_not_of_the_survivors():
    scores = scores_of({"a": (10, 10), "b": (10, 10)})
    dense = dense_masks(scores, list(scores))
    first = {"a": keep_largest({"a": scores["a"]}, {"a": dense["a"]}, 30)["a"], "b": dense["b"]}
    assert counts(keep_largest(by_layer(scores, first), first, 50)) == {"a": [25.0] * 2, "b": [25.0] * 2}


@pytest.mark.parametrize("name", ["random_uniform", "random_erdos_renyi"])
def test_random_scores_are_seeded_by_replicate_and_layer_and_know_no_weights(name):
    network, other = stack(SMALL, 2), stack(SMALL, 2, seed=1)
    first, again = CRITERIA[name].score(subject(network)), CRITERIA[name].score(subject(other))
    assert all(torch.equal(first[weight], again[weight]) for weight in first)
    assert not torch.equal(*first["layers.0.weight"])
    twin = stack((8, 8, 8, 4), 1)
    a, b = (CRITERIA[name].score(subject(twin))[f"layers.{layer}.weight"] for layer in (0, 1))
    assert not torch.equal(a, b)


def test_random_masks_are_uniform_over_a_layers_weights():
    network = stack((20, 10, 4), 400)
    kept = pruned(CRITERIA["random_uniform"], network, subject(network, density=0.25))["layers.0.weight"].mean(0)
    # each weight is kept in a quarter of 400 masks, with a standard deviation of 0.022
    assert abs(float(kept.mean()) - 0.25) < 0.005
    assert float((kept - 0.25).abs().max()) < 5 * 0.0217
    assert 0.017 < float(kept.std()) < 0.026


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_han_drops_what_is_below_one_multiple_of_each_layers_deviation(density):
    network = stack(SMALL, 2)
    with torch.no_grad():
        network.get_parameter("layers.1.weight").mul_(5)
    of = subject(network, density=density)
    masks = pruned(CRITERIA["han"], network, of)
    for place in range(2):
        kept, dropped = [], []
        for name, mask in masks.items():
            weight = of.weights[name][place].double().numpy()
            multiples = np.abs(weight) / np.std(weight)
            kept.append(multiples[mask[place].numpy() == 1].min())
            dropped.append(multiples[mask[place].numpy() == 0].max())
        assert min(kept) > max(dropped)  # any q between the two drops exactly these
    by_magnitude = pruned(CRITERIA["magnitude"], network, of)
    assert counts(masks)["layers.1.weight"] < counts(by_magnitude)["layers.1.weight"]


def test_hans_deviation_is_that_of_the_survivors():
    network = stack(SMALL, 1)
    masks = pruned(CRITERIA["magnitude"], network, subject(network, density=0.5))
    of = subject(network, density=0.2, masks=masks)
    name = "layers.0.weight"
    found = CRITERIA["han"].score(of)[name]
    weight = of.weights[name].double().numpy()
    expected = np.abs(weight) / np.std(weight[masks[name].numpy() == 1])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_layer_of_equal_weights_has_finite_scores():
    network = stack(SMALL, 1)
    with torch.no_grad():
        network.get_parameter("layers.0.weight").fill_(0.1)
    assert torch.isfinite(CRITERIA["han"].score(subject(network))["layers.0.weight"]).all()


def test_biases_in_snips_ranking_score_0_at_initialisation_and_are_all_pruned():
    """SNIP's official code ranks them: they begin at 0, so |g w| = 0. They are no loss to weights, but untrainable."""
    network, batches = stack(SMALL, 2), minibatches(SMALL, 2)
    biases = [f"layers.{layer}.bias" for layer in range(3)]
    with torch.no_grad():
        for name in biases:
            network.get_parameter(name).zero_()
    ranked = sensitivity(network, batches, [*network.prunable(), *biases])
    assert not any(ranked[name].any() for name in biases)
    dense = dense_masks(ranked, list(ranked))
    total = sum(mask[0].numel() for mask in dense.values())
    alive = min(int((torch.cat([score[place].flatten() for score in ranked.values()]) > 0).sum()) for place in range(2))
    keep = round(0.5 * total)
    assert keep < alive
    official = keep_largest(ranked, dense, keep)
    assert not any(official[name].any() for name in biases)
    weights = {name: ranked[name] for name in network.prunable()}
    as_published = keep_largest(weights, {name: dense[name] for name in weights}, keep)
    assert all(torch.equal(official[name], mask) for name, mask in as_published.items())
