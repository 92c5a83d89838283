"""Pruning of whole units, one layer after another, each on the network as the layers before it left it.

A layer keeps as many units as the rule of equal shares says (`by_layer`): which ones, and the new values of the weights
that read them, is up to the criterion.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from harness.lottery.activations import Tensors, batches_of, in_double, products
from harness.lottery.branch import Criterion, Minibatches, Subject
from harness.lottery.masks import Masks, by_layer
from harness.lottery.units import keep_units, surviving
from harness.networks.layers import Stack, connections


@dataclass(frozen=True)
class Junction:
    """One replicate's units between two layers, in float64: in `tensors` the layers before are pruned already.

    `alive` [units] says which units there are, `keep` is how many will be kept.
    """

    network: Stack
    tensors: Tensors
    original: Tensors
    samples: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    into: str
    out: str
    alive: Tensor
    keep: int

    @property
    def incoming(self) -> Tensor:
        """The weights that feed the units, a view [inputs, taps, units]."""
        return connections(self.tensors[self.into])

    @property
    def bias(self) -> Tensor:
        """What is added to the units, [units]; 0 for a convolution."""
        bias = self.tensors.get(f"{self.into.removesuffix('weight')}bias")
        return self.incoming.new_zeros(self.incoming.shape[2]) if bias is None else bias.flatten()

    @property
    def outgoing(self) -> Tensor:
        """The weights that read the units, a view [units, taps, outputs]."""
        return connections(self.tensors[self.out])

    def products(self) -> tuple[Tensor, Tensor]:
        """Mean products of what the units give to each tap, with itself and with the original network's.

        Both [units * taps, units * taps].
        """
        own, both = products(self.network, self.tensors, self.original, self.samples(), self.out)
        return own[:-1, :-1], both[:-1, :-1]

    def remove(self, kept: Tensor) -> None:
        """Set the weights of all other units than `kept` [units] to 0."""
        self.incoming[:, :, ~kept] = 0
        self.outgoing[~kept] = 0


#: The scores of a junction's units [units], of which the largest `keep` of those alive are kept.
Choose = Callable[[Junction], Tensor]
#: Changes the weights that read the units, in place, given which are kept [units]; all are there still.
Refit = Callable[[Junction, Tensor], None]


def criterion(choose: Choose, refit: Refit) -> Criterion:
    """The criterion that removes units layer by layer, all layers to one share of their units."""
    return Criterion(partial(_scores, choose, refit), units=True, refit=partial(_values, refit))


def _scores(choose: Choose, refit: Refit, subject: Subject) -> Masks:
    network, minibatches = subject.network(), cache(subject.minibatches)
    units = network.units()
    alive = surviving(subject.masks, units)
    counted = surviving(keep_units(by_layer(alive, alive), subject.masks, units, subject.keep), units)
    scores = {name: torch.zeros_like(part, dtype=torch.float64) for name, part in alive.items()}
    for place, own in enumerate(network.replicates()):
        for junction in _junctions(minibatches, network, place, own, alive, counted):
            score = torch.where(junction.alive, choose(junction).cpu(), -torch.inf)
            kept = torch.zeros_like(junction.alive)
            kept[score.argsort(descending=True, stable=True)[: junction.keep]] = True
            refit(junction, kept)
            junction.remove(kept)
            scores[junction.into][place] = torch.where(junction.alive, score, 0)
    return by_layer(scores, alive)


def _values(refit: Refit, subject: Subject, masks: Masks) -> Masks:
    network, minibatches, values = subject.network(), cache(subject.minibatches), []
    units = network.units()
    # before the level that made `masks`: a weight that was pruned then is 0
    alive = surviving({name: (weight != 0).float() for name, weight in subject.weights.items()}, units)
    left = surviving(masks, units)
    for place, own in enumerate(network.replicates()):
        tensors = own
        for junction in _junctions(minibatches, network, place, own, alive, left):
            kept = left[junction.into][place] != 0
            refit(junction, kept)
            junction.remove(kept)
            tensors = junction.tensors
        values.append(tensors)
    return {name: torch.stack([tensors[name] for tensors in values]) for name in subject.weights}


def _junctions(
    minibatches: Callable[[], Minibatches], network: Stack, place: int, own: Tensors, alive: Masks, counted: Masks
) -> Iterator[Junction]:
    """The junctions of one replicate, in the order of the forward pass, on one copy of its tensors."""
    tensors, original = in_double(own), in_double(own)
    for into, out in network.units().items():
        yield Junction(
            network,
            tensors,
            original,
            lambda: batches_of(minibatches(), place),
            into,
            out,
            alive[into][place] != 0,
            int(counted[into][place].sum()),
        )
