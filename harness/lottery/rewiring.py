"""Dropping connections and growing others: what the schedules of sparse training share.

A layer's row [n] is its prunable weights in one network; which of them are kept, dropped or grown are rows of bools.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from harness.base.seeds import numpy_generator
from harness.lottery.masks import Masks, largest

#: of a layer in one replicate, its name, place in the stack, weights [n], and which are kept [n]: which are kept now
Rewire = Callable[[str, int, Tensor, Tensor], Tensor]


def each_layer(weights: Masks, masks: Masks, rewire: Rewire) -> Masks:
    """New masks [R, ...]: `rewire` of each layer of each replicate."""
    rewired = {}
    for name, mask in masks.items():
        rows = zip(weights[name].flatten(1), mask.flatten(1) != 0, strict=True)
        kept = [rewire(name, replicate, weight, on) for replicate, (weight, on) in enumerate(rows)]
        rewired[name] = torch.stack(kept).view_as(mask).to(mask)
    return rewired


def highest(score: Tensor, among: Tensor, count: int) -> Tensor:
    """Which `count` entries of a row have the largest scores [n] among some [n]; of equal ones the earlier.

    Raises ValueError where fewer are there.
    """
    if count > int(among.sum()):
        raise ValueError(f"can't choose {count} of {int(among.sum())}")
    return largest(torch.where(among, score.double(), -torch.inf), count) != 0


def smallest(weight: Tensor, among: Tensor, count: int) -> Tensor:
    """Which `count` entries of a row have the smallest magnitudes among some [n]."""
    return highest(-weight.abs(), among, count)


def at_random(among: Tensor, count: int, seed: Sequence[str | int]) -> Tensor:
    """Which `count` entries of a row are drawn among some [n], all alike."""
    return highest(torch.from_numpy(numpy_generator(*seed).random(len(among))), among, count)


def shared_out(count: int, shares: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """`count` things shared out in proportion to `shares`, to none more than its `room`, which is enough in all.

    What is left after rounding down, or after a room is full, goes one by one to the largest remainder with room.
    """
    total = sum(shares.values())
    due = {name: count * share / total if total else 0.0 for name, share in shares.items()}
    shared = {name: min(int(due[name]), room[name]) for name in shares}
    for _ in range(count - sum(shared.values())):
        name = max((name for name in shares if shared[name] < room[name]), key=lambda name: due[name] - shared[name])
        shared[name] += 1
    return shared
