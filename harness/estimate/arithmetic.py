"""The work of a training step: the operations of its matrix products, counted in a step on tensors without data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from harness import kernels
from harness.networks import build, parameter_count
from harness.paper.models import Recipe

MOMENTS = {"momentum": 1, "adam": 2, "rmsprop": 2}  # numbers that an optimizer remembers of each weight


@dataclass(frozen=True)
class Work:
    """One network's training step.

    `flops` counts a multiply-add as two: every convolution and linear layer forward, its weights' gradient and its
    inputs' gradient (not needed in the first layer). `update_bytes`: the optimizer reads weights, gradients and moments
    and writes weights and moments. `layer_bytes`: what those layers read and write, if all between them were free.
    `all_bytes`: what all operations of both passes read and write.
    """

    flops: int
    update_bytes: int
    layer_bytes: int
    all_bytes: int

    def seconds(self, flop_rate: float, byte_rate: float) -> float:
        """The time of a step at the machine's limit: products at the matrix rate, the update at the copy rate."""
        return self.flops / flop_rate + self.update_bytes / byte_rate


class _Counter(TorchDispatchMode):
    """Counts the operations of matrix products, and the bytes that they and all operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.bytes, self.all_bytes = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if count:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
            self.bytes += size
        if not func.is_view and "empty" not in func._schema.name:
            self.all_bytes += size
        return out


def step_work(network: str, shape: tuple[int, ...], classes: int, recipe: Recipe) -> Work:
    """The work of one network's training step."""
    with kernels.without(), torch.device("meta"):
        stack = build(network, 1, shape, classes).train()
        x, y = torch.empty(1, recipe.batch_size, *shape), torch.empty(1, recipe.batch_size, dtype=torch.long)
        with _Counter() as counter:
            F.cross_entropy(stack(x).transpose(1, 2), y).backward()
    passes = 3 + 2 * MOMENTS[recipe.optimizer]
    return Work(counter.flops, 4 * passes * parameter_count(stack), counter.bytes, counter.all_bytes)
