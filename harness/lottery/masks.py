"""Pruning: masks by magnitude or another score with exact counts, and shuffled masks.

Masks map the name of a prunable weight to a float tensor [R, ...] of ones (keep) and zeros (prune). With floats,
applying a mask is a multiplication, which is exact for 0 and 1.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.base.seeds import numpy_generator

Masks = dict[str, Tensor]


def keep_count(total: int, density: float) -> int:
    """Weights that remain at a level's density: round(total * density).

    The count is taken of the total, not of the previous level, so rounding errors do not add up.
    """
    return round(total * density)


def dense_masks(weights: dict[str, Tensor], prunable: Sequence[str]) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones_like(weights[name]) for name in prunable}


def prune_by_magnitude(weights: dict[str, Tensor], masks: Masks, keep: int) -> Masks:
    """Keep the `keep` largest of the surviving weights by magnitude, over all masked tensors together (global).

    STAB Algorithm 1, step 4; LMC section 4.2 for "global". See `keep_largest` for ties and errors.
    """
    return keep_largest({name: weights[name].abs() for name in masks}, masks, keep)


def keep_largest(scores: dict[str, Tensor], masks: Masks, keep: int) -> Masks:
    """Keep the `keep` surviving weights of the largest scores, over all masked tensors together.

    Exactly `keep` survive in each replicate: equal scores are ranked by position, the earlier one is kept. A pruned
    weight never comes back. Raises ValueError when fewer than `keep` survive already, or when a surviving
    weight's score is not finite.
    """
    score = torch.cat([scores[name].flatten(1) for name in masks], 1)
    alive = torch.cat([mask.flatten(1) for mask in masks.values()], 1) != 0
    if not (torch.isfinite(score) | ~alive).all():
        raise ValueError("weights whose scores are not finite can't be ranked")
    if keep > int(alive.sum(1).min()):
        raise ValueError(f"can't keep {keep} weights: only {int(alive.sum(1).min())} survive")
    ranked = torch.where(alive, score, torch.full_like(score, -torch.inf))
    return _split(torch.stack([largest(row, keep) for row in ranked]), masks)


def largest(row: Tensor, keep: int) -> Tensor:
    """1 for the `keep` largest of a row [total], else 0; ties keep the earliest. A selection is faster than a sort."""
    if keep == 0:
        return torch.zeros_like(row)
    edge = row.kthvalue(row.numel() - keep + 1).values
    kept = row > edge
    ties = (row == edge).nonzero().flatten()
    kept[ties[: keep - int(kept.sum())]] = True
    return kept.to(row.dtype)


def by_layer(scores: Masks, masks: Masks, shares: Mapping[str, float] | None = None) -> Masks:
    """Scores by which the kept share of each layer is the same, or in proportion to its entry in `shares`.

    Over all layers together, pruning then keeps the same entries of a layer as by `scores` [R, ...], and an exact
    number: a layer's entries are scored by how many survivors of their layer are above them, over the layer's size and
    its share, in double precision. A layer whose share would be more than 1 is kept whole. `masks` say what survives.
    """
    result = {}
    for name, score in scores.items():
        alive = torch.where(masks[name] != 0, score.double(), -torch.inf).flatten(1)
        above = alive.sort(dim=1, descending=True, stable=True).indices.argsort(1)
        of = alive.shape[1] * (shares[name] if shares else 1.0)
        result[name] = (-(above + 0.5) / of).view_as(score)
    return result


def erdos_renyi(weights: Masks) -> dict[str, float]:
    """A layer's share of its connections in an Erdos-Renyi graph: (inputs + outputs) / (inputs outputs) (SET).

    `weights` [R, inputs, outputs] of linear layers, [R, outputs, inputs, ...] of convolutions, by name.
    """
    return {name: sum(weight.shape[1:3]) / math.prod(weight.shape[1:3]) for name, weight in weights.items()}


def shuffled(masks: Masks, seeds: Sequence[tuple[str | int, ...]]) -> Masks:
    """`random_prune`: each layer's mask with its positions shuffled, so every layer keeps its share (STAB section 3).

    `seeds` has one name per replicate.
    """
    result = {}
    for name, mask in masks.items():
        rows = []
        for row, seed in zip(mask.flatten(1), seeds, strict=True):
            order = numpy_generator(*seed, name).permutation(row.numel())
            rows.append(row[torch.from_numpy(order).to(row.device)])
        result[name] = torch.stack(rows).view_as(mask)
    return result


def remaining(masks: Masks) -> list[int]:
    """The number of weights that each replicate keeps."""
    return [int(count) for count in torch.stack([mask.flatten(1).sum(1) for mask in masks.values()]).double().sum(0)]


def _split(rows: Tensor, like: Masks) -> Masks:
    """Split [R, total] into one tensor per name."""
    pieces = rows.split([mask[0].numel() for mask in like.values()], dim=1)
    pairs = zip(like.items(), pieces, strict=True)
    return {name: piece.view_as(mask).to(mask).contiguous() for (name, mask), piece in pairs}
