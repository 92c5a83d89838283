"""What a training step has to do: the operations of its products, counted while one is taken on shapes alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from harness.bench.engine import torch_alone
from harness.networks import build, parameter_count
from harness.spec.models import Recipe

MOMENTS = {"momentum": 1, "adam": 2, "rmsprop": 2}  # numbers that an optimizer remembers of each weight


@dataclass(frozen=True)
class Work:
    """One network's training step.

    `flops`: two for a multiply-add; every convolution and linear layer forward, its weights' gradient and its inputs'
    gradient (the first layer's inputs need none). `update_bytes`: the optimizer reads weights, gradients and moments
    and writes weights and moments. `layer_bytes`: what those layers read and write, had all between them no cost.
    """

    flops: int
    update_bytes: int
    layer_bytes: int

    def seconds(self, flop_rate: float, byte_rate: float) -> float:
        """The machine's limit: products at the matrix rate, then the update at the copy rate."""
        return self.flops / flop_rate + self.update_bytes / byte_rate


class _Counter(TorchDispatchMode):
    """Counts the products that pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.bytes = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
            tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def step_work(network: str, shape: tuple[int, ...], classes: int, recipe: Recipe) -> Work:
    """The work of one network's training step."""
    with torch_alone(), torch.device("meta"):
        stack = build(network, 1, shape, classes).train()
        x, y = torch.empty(1, recipe.batch_size, *shape), torch.empty(1, recipe.batch_size, dtype=torch.long)
        with _Counter() as counter:
            F.cross_entropy(stack(x).transpose(1, 2), y).backward()
    passes = 3 + 2 * MOMENTS[recipe.optimizer]
    return Work(counter.flops, 4 * passes * parameter_count(stack), counter.bytes)
