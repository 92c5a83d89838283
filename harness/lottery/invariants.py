"""Invariants of a subnetwork's start and end, as the paper defines them, for each replicate of a stack.

They share nothing with what makes masks and states: each compares tensors alone. Masks map names to [R, ...].
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from harness.training.audit import Check
from harness.training.state import State

Tensors = dict[str, Tensor]


def _rows(tensors: Tensors, names: Iterable[str]) -> Tensor:
    """The named tensors as one row per replicate, [R, total]."""
    return torch.cat([tensors[name].flatten(1) for name in names], 1)


def _same(a: Tensors, b: Tensors) -> Tensor:
    """Whether all tensors are equal bit for bit but for the sign of 0, [R]."""
    if not b:
        return torch.tensor(True)
    if a.keys() != b.keys():
        return torch.tensor(False)
    return torch.stack([(a[name] == b[name]).flatten(1).all(1) for name in b]).all(0)


def counted(masks: Tensors, prunable: list[str], density: float) -> Iterable[Check]:
    """Exactly round(density * prunable weights) are kept, of the prunable weights alone."""
    mask = _rows(masks, masks)
    kept, due = (mask == 1).sum(1), round(density * mask.shape[1])
    whole = torch.full_like(kept, sorted(masks) == sorted(prunable), dtype=torch.bool)
    whole &= ((mask == 0) | (mask == 1)).all(1)
    yield Check("exact number of kept weights", (kept == due) & whole, kept, float(due))


def pruned(masks: Tensors, parents: Tensors | None, finals: Tensors, by_magnitude: bool) -> Iterable[Check]:
    """The mask lies within the parent's; no weight that it prunes is larger than one that it keeps (Algorithm 1)."""
    mask = _rows(masks, masks) == 1
    alive = torch.ones_like(mask) if parents is None else _rows(parents, masks) == 1
    yield Check("masks nest", ~(mask & ~alive).any(1))
    if by_magnitude:
        size = _rows(finals, masks).abs()
        smallest = torch.where(mask, size, torch.inf).amin(1)
        largest = torch.where(alive & ~mask, size, -1.0).amax(1)
        yield Check("magnitude threshold", smallest >= largest)


def related(masks: Tensors, own: Tensors, relation: str, of: str = "IMP") -> Iterable[Check]:
    """The mask is that of the branch `of` ("same"), or another with as many weights in each layer ("shuffled")."""
    if relation == "same":
        yield Check(f"{of}'s mask", _same(masks, own))
    if relation == "shuffled":
        layers = torch.stack([masks[name].flatten(1).sum(1) == own[name].flatten(1).sum(1) for name in own]).all(0)
        # of a million arrangements or more, so that a shuffle that changes nothing is no accident
        many = torch.stack([_arrangements(mask) for mask in own.values()]).sum(0) > math.log(1e6)
        yield Check(f"{of}'s mask, shuffled in each layer", layers & ~(_same(masks, own) & many))


def _arrangements(mask: Tensor) -> Tensor:
    """The logarithm of the number of masks [R, ...] of a layer with as many ones, [R]."""
    size, ones = mask[0].numel(), mask.flatten(1).double().sum(1)
    return math.lgamma(size + 1) - torch.lgamma(ones + 1) - torch.lgamma(size - ones + 1)


def started(
    start: State, step: int, masks: Tensors, before: State | None, weights: str, continues: bool
) -> Iterable[Check]:
    """Training starts at `step`, from the weights of the state `before` times the mask.

    That state is the snapshot or, of "trained" weights, the parent's end. Of "signs" only the signs of masked weights
    are its own, and "fresh" weights are others. The optimizer's memory is the state's if training `continues` it, else
    there is none.
    """
    at = torch.full((len(next(iter(start.weights.values()))),), float(start.step))
    yield Check("step of the start", at == step, at, float(step))
    if before is None or weights == "own":
        return
    own, theirs = _masked(start.weights, masks), _masked(before.weights, masks)
    kept = _same(own, theirs)
    if weights == "signs":
        signs = [_signs(tensors, masks) for tensors in (own, theirs)]
        yield Check("signs kept, magnitudes drawn anew", _same(*signs) & ~kept & _same(start.buffers, before.buffers))
    elif weights == "fresh":
        yield Check("weights drawn anew", ~kept)
    else:
        name = "trained weights" if weights == "trained" else weights
        yield Check(f"start is {name} * mask", kept & _same(start.buffers, before.buffers))
    if continues:
        yield Check("optimizer goes on", _same(start.optimizer, before.optimizer))
    elif weights != "fresh":
        yield Check("optimizer is fresh", torch.full_like(kept, not start.optimizer))


def ended(final: State, masks: Tensors) -> Iterable[Check]:
    """Pruned weights are exactly zero, but for the NaN of a network that diverged."""
    if masks:
        lost = [((final.weights[name].abs() > 0) & (mask == 0)).flatten(1).any(1) for name, mask in masks.items()]
        yield Check("pruned weights stay zero", ~torch.stack(lost).any(0))


def _signs(tensors: Tensors, masks: Tensors) -> Tensors:
    """The tensors, with those that have a mask as their signs."""
    return {name: value.sign() if name in masks else value for name, value in tensors.items()}


def _masked(weights: Tensors, masks: Tensors) -> Tensors:
    return {name: value * masks[name] if name in masks else value for name, value in weights.items()}
