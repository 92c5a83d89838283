"""Whole units: the outputs of one layer that only one other layer reads, pruned with all weights of both.

A unit is a neuron or a filter: its incoming weights are an output of the first layer, its outgoing ones an input of the
second. `Stack.units` says which layers follow each other like this. A pruned unit costs nothing on the kernels by kept
weights, since nothing of it is kept.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.lottery.masks import Masks
from harness.networks.layers import Stack, connections

Units = Mapping[str, str]  # the weight that feeds units -> the weight that reads them


def surviving(masks: Masks, units: Units) -> Masks:
    """1 for each unit with an incoming and an outgoing weight left, else 0: [R, units] by its incoming weight."""
    return {
        into: torch.stack([_alive(*pair) for pair in zip(masks[into], masks[out], strict=True)])
        for into, out in units.items()
    }


def _alive(into: Tensor, out: Tensor) -> Tensor:
    alive = connections(into).any((0, 1)) & connections(out).any((1, 2))
    return alive.to(into.dtype)


def of_units(masks: Masks, units: Units, kept: Masks) -> Masks:
    """The masks without the weights of the units that are 0 in `kept` [R, units]."""
    result = {name: mask.clone() for name, mask in masks.items()}
    for into, out in units.items():
        for place, own in enumerate(kept[into]):
            pruned = own == 0
            connections(result[into][place])[:, :, pruned] = 0
            connections(result[out][place])[pruned] = 0
    return result


def keep_units(scores: Masks, masks: Masks, units: Units, keep: int) -> Masks:
    """Keep whole units in the order of their scores [R, units], by incoming weight: as many as `keep` weights allow.

    The order is over all layers together. The next unit of it would keep more than `keep` weights; weights that belong
    to no unit all stay. A layer's best unit comes first, because a layer without any makes the network constant.
    Equal scores are ranked by position, and a pruned unit never comes back. Raises ValueError if one unit of each layer
    is too many already, or if a surviving unit's score is not finite.
    """
    alive, rows = surviving(masks, units), []
    for place in range(len(next(iter(masks.values())))):
        own = [{name: part[place : place + 1] for name, part in parts.items()} for parts in (scores, alive, masks)]
        rows.append(_keep_units(own[0], own[1], own[2], units, keep))
    return {name: torch.cat([row[name] for row in rows]) for name in masks}


def _keep_units(scores: Masks, alive: Masks, masks: Masks, units: Units, keep: int) -> Masks:
    """`keep_units` of one replicate, all tensors [1, ...]."""
    order: list[tuple[bool, float, int, int]] = []
    for layer, into in enumerate(units):
        places = alive[into][0].nonzero().flatten()
        own = scores[into][0, places].double()
        if not torch.isfinite(own).all():
            raise ValueError("units whose scores are not finite can't be ranked")
        best = int(own.argmax()) if len(own) else -1
        order += [
            (at != best, -score, layer, place)
            for at, (score, place) in enumerate(zip(own.tolist(), places.tolist(), strict=True))
        ]
    order.sort()
    names = list(units)

    def first(count: int) -> Masks:
        kept = {into: torch.zeros_like(alive[into]) for into in units}
        for _, _, layer, place in order[:count]:
            kept[names[layer]][0, place] = 1
        return of_units(masks, units, kept)

    fewest, most = sum(not later for later, *_ in order), len(order)
    if (least := _size(first(fewest))) > keep:
        raise ValueError(f"can't keep {keep} weights in whole units: with one unit of each layer, {least} are left")
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if _size(first(middle)) <= keep else (fewest, middle - 1)
    return first(fewest)


def _size(masks: Masks) -> int:
    return sum(int(mask.sum(dtype=torch.float64)) for mask in masks.values())


def fewest_kept(network: Stack) -> int:
    """The prunable weights that one unit of each layer leaves of one network: no level can keep fewer."""
    masks = {name: torch.ones(1, *network.get_parameter(name).shape[1:]) for name in network.prunable()}
    first = surviving(masks, network.units())
    for part in first.values():
        part[:, 1:] = 0
    return _size(of_units(masks, network.units(), first))
