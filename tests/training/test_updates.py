"""RMSProp against PyTorch's and against its formula; it goes on from a snapshot to the same bits."""

import pytest
import torch
from torch import nn

from harness.lottery.masks import dense_masks, prune_by_magnitude
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.loop import train, use_threads
from harness.training.state import read_network
from harness.training.updates import Updater

RECIPE = Recipe(
    optimizer="rmsprop",
    learning_rate=0.05,
    momentum=0.9,
    rms_decay=0.9,
    rms_epsilon=0.1,
    weight_decay=1e-3,
    batch_size=4,
    steps=8,
    decay="exponential",
    final_learning_rate=5e-3,
)
RATES = [0.1, 0.1, 0.03, 0.02, 0.01]


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def gradients(count=5):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 4, generator=generator) for _ in range(count)]


def moved(recipe, tensors=None, steps=0, start=None, rates=RATES, stream=None):
    """A parameter of ones after steps with given gradients, and the optimizer's memory then."""
    parameter = nn.Parameter(torch.ones(2, 3, 4) if start is None else start.clone())
    updater = Updater(recipe, {"w": parameter}, {}, tensors, steps)
    for rate, gradient in zip(rates, stream or gradients(), strict=True):
        for replicate, own in zip(updater.replicates, gradient, strict=True):
            replicate["w"].grad = own.clone()
        updater.begin(rate)
        updater.step_by_torch()
    return parameter.detach(), updater


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_is_pytorchs_bit_for_bit(momentum):
    recipe = RECIPE.model_copy(update={"momentum": momentum})
    parameter = nn.Parameter(torch.ones(2, 3, 4))
    optimizer = torch.optim.RMSprop([parameter], lr=1.0, alpha=0.9, eps=0.1, weight_decay=1e-3, momentum=momentum)
    for rate, gradient in zip(RATES, gradients(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(moved(recipe)[0], parameter.detach())


def test_rmsprop_follows_its_formula():
    weight = torch.ones(2, 3, 4, dtype=torch.float64)
    square, memory = torch.zeros_like(weight), torch.zeros_like(weight)
    for rate, gradient in zip(RATES, gradients(), strict=True):
        gradient = gradient.double() + 1e-3 * weight
        square = 0.9 * square + 0.1 * gradient**2
        memory = 0.9 * memory + gradient / (square.sqrt() + 0.1)
        weight = weight - rate * memory
    torch.testing.assert_close(moved(RECIPE)[0].double(), weight, rtol=1e-5, atol=1e-6)


def test_rmsprop_goes_on_from_its_memory_to_the_same_bits():
    whole, updater = moved(RECIPE)
    half, before = moved(RECIPE, rates=RATES[:2], stream=gradients()[:2])
    assert sorted(before.tensors()) == ["momentum_buffer/w", "square_avg/w"]
    again, after = moved(RECIPE, before.tensors(), before.steps, half, RATES[2:], gradients()[2:])
    assert torch.equal(again, whole)
    assert all(torch.equal(value, after.tensors()[name]) for name, value in updater.tensors().items())


def test_the_kernels_refuse_what_they_do_not_know():
    parameter = nn.Parameter(torch.ones(1, 2))
    updater = Updater(RECIPE, {"w": parameter}, {})
    assert not updater.in_kernels
    with pytest.raises(ValueError, match="the kernels have no optimizer rmsprop"):
        updater.of(parameter)
    momentum = Recipe(optimizer="momentum", learning_rate=0.1, batch_size=1, steps=1)
    assert Updater(momentum, {"w": parameter}, {}).in_kernels


def test_a_training_with_rmsprop_goes_on_from_a_snapshot_with_its_masks():
    """The smallest ImageNet network, a few steps: the same bits as uninterrupted, and exact zeros."""
    x, y = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(3)), torch.arange(20) % 10
    network = build("squeezenet", 2, (3, 32, 32), 10)
    initialise(network, [("t", replicate) for replicate in range(2)])
    start = read_network(network, 0)
    masks = prune_by_magnitude(start.weights, dense_masks(start.weights, prunable_names(network)), 300_000)

    def trained(state):
        batches = Batches(x, y, RECIPE.batch_size, [("t", replicate) for replicate in range(2)], "none")
        return train(network, RECIPE, batches, state, masks, snapshot_steps=[3])

    whole = trained(start)
    again = trained(whole.snapshots[3])
    assert not whole.diverged
    for name, value in whole.final.weights.items():
        assert torch.equal(again.final.weights[name], value), name
        assert not (name in masks and value[masks[name] == 0].any())
        assert not torch.equal(value, start.weights[name]), name
