"""What a GPU would be asked to do, checked without one: the operations of a training step."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness import kernels
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.loop import take_step, use_threads
from harness.training.updates import Updater

MOMENTUM = Recipe(optimizer="momentum", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, batch_size=8, steps=100)


@pytest.fixture(autouse=True)
def _torch_alone():
    use_threads(1)
    with kernels.without():
        yield


class Operations(TorchDispatchMode):
    """Counts the operations that compute or move something, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not func.is_view and not name.startswith(("empty", "new_empty")):
            self.count[name] += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


class Training:
    """A stack in training on random samples."""

    def __init__(self, network: str, replicates: int, recipe: Recipe, shape: tuple[int, ...] = (3, 32, 32)):
        names = [("t", replicate) for replicate in range(replicates)]
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(64, *shape, generator=generator), torch.arange(64) % 10
        self.network = build(network, replicates, shape, 10).train()
        initialise(self.network, names)
        masks = {name: torch.ones_like(self.network.get_parameter(name)) for name in prunable_names(self.network)}
        self.updater = Updater(recipe, dict(self.network.named_parameters()), masks)
        self.batches = Batches(x, y, recipe.batch_size, names, recipe.augmentation)

    def step(self, number: int) -> Tensor:
        return take_step(self.network, *self.batches.batch(number), self.updater, 0.1)


def test_a_step_of_resnet20_takes_few_operations():
    """Nothing is copied on the way back; with a copy for each addition and ReLU in place there were 314."""
    training = Training("resnet20", 1, MOMENTUM.model_copy(update={"augmentation": "flip_crop"}))
    training.step(0)
    with Operations() as operations:
        training.step(1)
    assert sum(operations.count.values()) <= 200, operations.count
