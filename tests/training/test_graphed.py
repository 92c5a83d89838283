"""A step as a graph: its operations, run without one on a CPU, give the bits of the ordinary loop."""

import pytest
import torch

from harness import kernels
from harness.base.errors import HarnessError
from harness.base.variables import variables
from harness.lottery.masks import dense_masks, prune_by_magnitude
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training import graphed
from harness.training.batches import Batches
from harness.training.loop import train, use_threads
from harness.training.state import read_network

MOMENTUM = Recipe(
    optimizer="momentum",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    batch_size=8,
    steps=20,
    warmup=4,
    drops=(14,),
    augmentation="flip_crop",
)
ADAM = Recipe(optimizer="adam", learning_rate=1.2e-3, batch_size=8, steps=20)


@pytest.fixture(autouse=True)
def _torch_alone():
    use_threads(1)
    with kernels.without():
        yield


@pytest.mark.parametrize(
    ("name", "shape", "recipe"),
    [
        ("lenet-300-100", (1, 8, 8), ADAM),
        ("lenet-300-100", (1, 8, 8), MOMENTUM.model_copy(update={"augmentation": "none"})),
        ("resnet20", (3, 8, 8), MOMENTUM),
        ("resnet20-1d", (1, 40), MOMENTUM.model_copy(update={"augmentation": "none"})),
    ],
)
def test_a_training_has_the_bits_of_the_ordinary_loop(monkeypatch, name, shape, recipe):
    """Over several epochs, with masks, from the start and from a snapshot in the middle of an epoch."""
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(60, *shape, generator=generator), torch.arange(60) % 10
    network = build(name, 3, shape, 10)
    initialise(network, [("t", replicate) for replicate in range(3)])
    start = read_network(network, 0)
    masks = prune_by_magnitude(start.weights, dense_masks(start.weights, prunable_names(network)), 5000)

    def trained(state):
        batches = Batches(x, y, recipe.batch_size, [("t", replicate) for replicate in range(3)], recipe.augmentation)
        losses = []
        result = train(
            network, recipe, batches, state, masks, snapshot_steps=[11], each_check=lambda _, now: losses.append(now)
        )
        return result, losses

    ordinary, losses = trained(start)
    monkeypatch.setattr(graphed, "usable", lambda *_: True)
    for state in (start, ordinary.snapshots[11]):
        again, own = trained(state)
        assert torch.equal(own[-1], losses[-1])
        for key, value in ordinary.final.tensors().items():
            assert torch.equal(again.final.tensors()[key], value), key
        for key, value in ordinary.snapshots[11].tensors().items():
            assert torch.equal(again.snapshots[11].tensors()[key], value), key


def test_it_is_off_unless_asked_for_and_never_on_a_cpu(monkeypatch):
    assert not variables().graph
    batches = Batches(torch.zeros(10, 1, 8, 8), torch.zeros(10, dtype=torch.long), 2, [("t",)], "none")
    monkeypatch.setenv("HARNESS_GRAPH", "1")
    assert variables().graph
    assert not graphed.usable(batches, ADAM)
    monkeypatch.setenv("HARNESS_GRAPH", "perhaps")
    with pytest.raises(HarnessError, match=r"^HARNESS_GRAPH=perhaps: give 1 to train"):
        variables()
