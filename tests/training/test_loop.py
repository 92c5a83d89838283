"""The training loop: exact continuation, independence of replicates, exact masks, divergence, optimizers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness import kernels
from harness.lottery.criteria.snip import sensitivity
from harness.lottery.interpolation import reestimate_batch_norm
from harness.lottery.masks import dense_masks, prune_by_magnitude
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training.batches import Batches, flip_and_crop
from harness.training.loop import Trained, evaluate, samples_at_once, train, use_threads
from harness.training.recipe import learning_rate
from harness.training.state import read_network, stacked, write_network

MOMENTUM = Recipe(
    optimizer="momentum", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, batch_size=16, steps=60, drops=(40,)
)
ADAM = Recipe(optimizer="adam", learning_rate=1.2e-3, batch_size=16, steps=60)
SETTINGS = [("lenet-300-100", (1, 8, 8), ADAM), ("resnet8-1d", (1, 40), MOMENTUM)]


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def start(name, shape, recipe, replicates=2, order=0):
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(100, *shape, generator=generator), torch.arange(100) % 10
    network = build(name, replicates, shape, 10)
    initialise(network, [("t", r) for r in range(replicates)])
    orders = [("t", r, "data order", order) for r in range(replicates)]
    return network, Batches(x, y, recipe.batch_size, orders, recipe.augmentation), read_network(network, 0)


def assert_same(a, b):
    for name, value in a.tensors().items():
        assert torch.equal(value, b.tensors()[name]), name


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_continuing_from_a_snapshot_equals_the_uninterrupted_run_bit_for_bit(name, shape, recipe):
    network, batches, state = start(name, shape, recipe)
    whole = train(network, recipe, batches, state, snapshot_steps=[0, 17, 45])
    for k in (17, 45):
        network, batches, _ = start(name, shape, recipe)
        assert_same(train(network, recipe, batches, whole.snapshots[k]).final, whole.final)
    assert_same(whole.snapshots[0], state)


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_a_run_cut_off_goes_on_from_its_kept_state_to_the_same_bits(name, shape, recipe):
    recipe = recipe.model_copy(update={"steps": 250, "drops": ()})
    kept = []
    network, batches, state = start(name, shape, recipe)
    whole = train(
        network,
        recipe,
        batches,
        state,
        snapshot_steps=[0, 150],
        keep_state=lambda now, so_far: kept.append((now, Trained(now, dict(so_far.snapshots)))),
        keep_every_seconds=0.0,
    )
    assert [now.step for now, _ in kept] == [100, 200]
    for now, so_far in kept:
        network, batches, _ = start(name, shape, recipe)
        again = train(network, recipe, batches, now, snapshot_steps=[0, 150], earlier=so_far)
        assert_same(again.final, whole.final)
        assert sorted(again.snapshots) == [0, 150]
        assert_same(again.snapshots[150], whole.snapshots[150])


IMAGES = MOMENTUM.model_copy(update={"steps": 3, "drops": (), "augmentation": "flip_crop"})
BY_TORCH = [
    ("lenet-300-100", (1, 8, 8), ADAM.model_copy(update={"steps": 20})),
    ("resnet20-1d", (1, 40), MOMENTUM.model_copy(update={"steps": 10, "drops": ()})),
    ("resnet20", (3, 16, 16), IMAGES),
    ("vgg19", (3, 32, 32), IMAGES.model_copy(update={"batch_size": 8})),
    ("squeezenet", (3, 32, 32), IMAGES.model_copy(update={"batch_size": 5, "precision": "bfloat16"})),
]


@pytest.mark.parametrize(("name", "shape", "recipe"), BY_TORCH)
def test_a_replicate_of_a_stack_has_the_bits_that_it_has_alone(name, shape, recipe):
    """By torch too: in training, evaluation, SNIP and BatchNorm's statistics."""
    with kernels.without():
        network, batches, state = start(name, shape, recipe, replicates=4)
        scores = sensitivity(network, [batches.batch(0)], prunable_names(network))
        together, score = train(network, recipe, batches, state).final, evaluate(network, batches.x, batches.y)
        reestimate_batch_norm(network, batches.x, 50)
        for place in (0, 2):
            alone, own = build(name, 1, shape, 10), state.select([place])
            write_network(alone, own)
            batches = Batches(
                batches.x,
                batches.y,
                recipe.batch_size,
                start(name, shape, recipe, 4)[1].orders[place : place + 1],
                recipe.augmentation,
            )
            for weight, value in sensitivity(alone, [batches.batch(0)], prunable_names(alone)).items():
                assert torch.equal(value[0], scores[weight][place]), weight
            assert_same(train(alone, recipe, batches, own).final, together.select([place]))
            assert [part[0] for part in evaluate(alone, batches.x, batches.y)] == [part[place] for part in score]
            reestimate_batch_norm(alone, batches.x, 50)
            for one, many in zip(alone.buffers(), network.buffers(), strict=True):
                assert torch.equal(one[0], many[place])


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_kernels_compute_a_replicate_as_it_would_be_alone(name, shape, recipe):
    network, batches, state = start(name, shape, recipe, replicates=3)
    together = train(network, recipe, batches, state).final
    alone, batches = build(name, 1, shape, 10), start(name, shape, recipe, replicates=3)[1]
    batches.orders = batches.orders[1:2]
    assert_same(train(alone, recipe, batches, state.select([1])).final, together.select([1]))


def test_the_order_of_replicates_in_a_stack_does_not_matter():
    network, batches, state = start("resnet8-1d", (1, 40), MOMENTUM, replicates=3)
    forward = train(network, MOMENTUM, batches, state).final
    network, batches, _ = start("resnet8-1d", (1, 40), MOMENTUM, replicates=3)
    batches.orders = batches.orders[::-1]
    backward = train(network, MOMENTUM, batches, state.select([2, 1, 0])).final
    for name, value in backward.select([2, 1, 0]).weights.items():
        torch.testing.assert_close(value, forward.weights[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_pruned_weights_are_exactly_zero_after_every_step(name, shape, recipe):
    recipe = recipe.model_copy(update={"weight_decay": 0.1, "drops": ()})
    network, batches, state = start(name, shape, recipe)
    masks = prune_by_magnitude(state.weights, dense_masks(state.weights, prunable_names(network)), 500)
    network, batches, _ = start(name, shape, recipe)
    for steps in (1, 2, 30):
        final = train(network, recipe.model_copy(update={"steps": steps}), batches, state, masks).final
        for weight, mask in masks.items():
            assert not final.weights[weight][mask == 0].any()
            assert final.weights[weight][mask == 1].ne(0).float().mean() > 0.99


def test_optimizers_follow_their_textbook_updates():
    """Against hand-written updates: momentum with L2 decay as PyTorch documents it, Adam as published."""
    for recipe in (MOMENTUM.model_copy(update={"steps": 5, "drops": (3,)}), ADAM.model_copy(update={"steps": 5})):
        network, batches, state = start("lenet-300-100", (1, 8, 8), recipe, replicates=1)
        final = train(network, recipe, batches, state).final
        weights = {name: value.clone().double().requires_grad_() for name, value in state.weights.items()}
        first = {name: torch.zeros_like(value) for name, value in weights.items()}
        second = {name: torch.zeros_like(value) for name, value in weights.items()}
        batches._epoch = -1
        for step in range(5):
            x, y = batches.batch(step)
            hidden = x[0].double().flatten(1)
            for layer in ("hidden1", "hidden2", "output"):
                hidden = hidden @ weights[f"{layer}.weight"][0] + weights[f"{layer}.bias"][0]
                hidden = F.relu(hidden) if layer != "output" else hidden
            gradients = torch.autograd.grad(F.cross_entropy(hidden, y[0]), list(weights.values()))
            rate = recipe.learning_rate * (0.1 if recipe.optimizer == "momentum" and step >= 3 else 1.0)
            with torch.no_grad():
                for (name, value), gradient in zip(weights.items(), gradients, strict=True):
                    gradient = gradient + recipe.weight_decay * value
                    if recipe.optimizer == "momentum":
                        first[name] = recipe.momentum * first[name] + gradient
                        value -= rate * first[name]
                    else:
                        first[name] = 0.9 * first[name] + 0.1 * gradient
                        second[name] = 0.999 * second[name] + 0.001 * gradient**2
                        corrected = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                        value -= rate * first[name] / (1 - 0.9 ** (step + 1)) / corrected
        for name, value in weights.items():
            torch.testing.assert_close(final.weights[name].double(), value.detach(), rtol=1e-4, atol=1e-5)


def test_a_diverging_replicate_is_noted_and_harms_no_other():
    network, batches, state = start("resnet8-1d", (1, 40), MOMENTUM, replicates=2)
    healthy = train(network, MOMENTUM, batches, state).final
    network, batches, _ = start("resnet8-1d", (1, 40), MOMENTUM, replicates=2)
    state.weights["conv.weight"][0] = math.nan
    trained = train(network, MOMENTUM, batches, state)
    assert list(trained.diverged) == [0]
    for name, value in trained.final.weights.items():
        assert torch.equal(value[1], healthy.weights[name][1])


def test_data_order_and_initialisation_are_seeded_apart():
    _, batches, state = start("lenet-300-100", (1, 8, 8), ADAM, order=0)
    _, other, other_state = start("lenet-300-100", (1, 8, 8), ADAM, order=1)
    assert_same(state, other_state)
    assert not torch.equal(batches.batch(0)[0], other.batch(0)[0])
    assert torch.equal(batches.batch(5)[0], start("lenet-300-100", (1, 8, 8), ADAM)[1].batch(5)[0])


def test_an_epoch_visits_every_sample_at_most_once():
    x = torch.arange(50.0)[:, None]
    batches = Batches(x, torch.zeros(50, dtype=torch.long), 8, [("a",), ("b",)], "none")
    assert batches.steps_per_epoch == 6
    seen = torch.cat([batches.batch(step)[0] for step in range(6)], 1).squeeze(-1)
    for replicate in seen:
        assert len(set(replicate.tolist())) == 48
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen, torch.cat([batches.batch(step)[0] for step in range(6, 12)], 1).squeeze(-1))


def test_flip_and_crop_is_numpys():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 3, 9, 9)).astype(np.float32)
    flip, shift = generator.random(6) < 0.5, generator.integers(0, 9, (6, 2))
    got = flip_and_crop(torch.from_numpy(x), torch.from_numpy(flip), torch.from_numpy(shift)).numpy()
    for i in range(6):
        image = x[i, :, :, ::-1] if flip[i] else x[i]
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        row, column = shift[i]
        np.testing.assert_array_equal(got[i], padded[:, row : row + 9, column : column + 9])


def test_learning_rate_schedule():
    recipe = Recipe(optimizer="momentum", learning_rate=0.03, batch_size=1, steps=100, warmup=10, drops=(50, 75))
    rates = [learning_rate(recipe, step) for step in (0, 4, 9, 10, 49, 50, 74, 75, 99)]
    assert rates == pytest.approx([0.003, 0.015, 0.03, 0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


def test_evaluation_counts_by_hand():
    network, batches, _ = start("lenet-300-100", (1, 8, 8), ADAM, replicates=2)
    accuracy, loss = evaluate(network, batches.x, batches.y, batch_size=33)
    for r in range(2):
        logits = network(batches.x.expand(2, *batches.x.shape))[r]
        right = (logits.argmax(1) == batches.y).double().mean()
        assert accuracy[r].item() == pytest.approx(100 * right.item())
        assert loss[r].item() == pytest.approx(F.cross_entropy(logits, batches.y).item(), rel=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("resnet20-1d", (1, 40)), ("lenet-300-100", (1, 8, 8))])
def test_a_logit_does_not_depend_on_how_many_samples_are_evaluated_at_once(name, shape):
    """So that accuracies keep their bits with any number: 200 samples by their number for a CPU and all at once."""
    network = build(name, 3, shape, 10)
    initialise(network, [("a", replicate) for replicate in range(3)])
    network.eval()
    x = torch.randn(3, 200, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        apart = torch.cat([network(part) for part in x.split(samples_at_once(network), 1)], 1)
        assert torch.equal(network(x), apart)


def test_feature_maps_are_evaluated_in_parts_on_a_cpu_alone():
    networks = {
        name: build(name, 1, shape, 10) for name, shape in (("resnet20", (3, 8, 8)), ("lenet-300-100", (1, 8, 8)))
    }
    assert {name: samples_at_once(network) for name, network in networks.items()} == {
        "resnet20": 64,
        "lenet-300-100": 512,
    }
    assert samples_at_once(networks["resnet20"].to("meta")) == 512


@pytest.mark.parametrize(("name", "parts"), [("resnet20-1d", [64, 64, 22]), ("lenet-300-100", [150])])
def test_every_evaluation_takes_as_many_samples_at_once_as_suit_the_network(name, parts):
    network = build(name, 2, (1, 40), 10)
    initialise(network, [("a", replicate) for replicate in range(2)])
    seen = []
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    x, y = torch.randn(150, 1, 40, generator=torch.Generator().manual_seed(1)), torch.arange(150) % 10
    accuracy, loss = evaluate(network, x, y)
    assert seen == parts
    whole = evaluate(network, x, y, batch_size=150)
    assert torch.equal(accuracy, whole[0])
    torch.testing.assert_close(loss, whole[1])


def test_states_of_different_steps_are_not_stacked():
    _, _, state = start("lenet-300-100", (1, 8, 8), ADAM)
    later = read_network(build("lenet-300-100", 2, (1, 8, 8), 10), 5)
    with pytest.raises(ValueError, match="different steps"):
        stacked([state, later])


@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_bfloat16_products_keep_float32_weights_and_exact_zeros(name, shape, recipe):
    """Off by default; three digits of a product are lost, the weights' own are not."""
    recipe = recipe.model_copy(update={"steps": 4, "drops": (), "learning_rate": recipe.learning_rate / 10})
    network, batches, state = start(name, shape, recipe)
    half = torch.Generator().manual_seed(0)
    names = prunable_names(network)
    masks = {key: (torch.rand(state.weights[key].shape, generator=half) < 0.5).float() for key in names}
    exact = train(network, recipe, batches, state, masks).final
    rounded = train(network, recipe.model_copy(update={"precision": "bfloat16"}), batches, state, masks).final
    apart = moved = 0.0
    for key, value in rounded.weights.items():
        assert value.dtype == torch.float32
        assert not value[masks[key] == 0].any() if key in masks else True
        apart += float((value - exact.weights[key]).square().sum())
        moved += float((exact.weights[key] - state.weights[key] * masks.get(key, torch.ones(()))).square().sum())
    assert 0 < apart < 0.1 * moved
