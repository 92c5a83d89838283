"""What a branch and a criterion are, and what they may use: the protocol of harness/lottery/branches and criteria."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from harness.lottery.masks import Masks, keep_count, keep_largest
from harness.training.state import State, write_network

Minibatches = Sequence[tuple[Tensor, Tensor]]  # x [R, N, C, *S] and y [R, N] each


@dataclass(frozen=True)
class Subject:
    """What a criterion scores: a stack of networks.

    `weights` are the prunable weights, [R, ...] by name. `network` returns the stack with these weights in it, and
    `minibatches` some minibatches in a random order of their own.
    """

    weights: dict[str, Tensor]
    network: Callable[[], nn.Module]
    minibatches: Callable[[], Minibatches]


@dataclass(frozen=True)
class Criterion:
    """How much a weight matters. `score` gives a score of 0 or more for each weight; the largest are kept."""

    score: Callable[[Subject], dict[str, Tensor]]


@dataclass(frozen=True)
class Origin:
    """What a branch may use to make the starting point of a stack, which has one run per replicate.

    `network` is the stack, whose weights a branch may overwrite. `snapshots` reads the dense runs' states at step `k`,
    `parent` the parents' final states and masks, `stored_masks` the masks that the level's
    IMP runs stored. `minibatches` draws from the training data in an order of the given name.
    """

    network: nn.Module
    prunable: Sequence[str]
    k: int
    level: int
    density: float
    first_order: bool  # whether this is the branch's first data order, which makes the mask that others take
    criterion: Criterion
    snapshots: Callable[[], State]
    parent: Callable[[], tuple[State, Masks]]
    stored_masks: Callable[[], Masks]
    minibatches: Callable[[str], Minibatches]
    names: Callable[[str], list[tuple[str | int, ...]]]

    def seeds(self, purpose: str) -> list[tuple[str | int, ...]]:
        """The name of each replicate's random draw of a purpose at this k and level."""
        return [(*name, self.k, self.level) for name in self.names(purpose)]

    def pruned(self, criterion: Criterion, state: State, masks: Masks, order: str) -> Masks:
        """Masks of the level's exact number of weights: those of a state that score highest, of those that survive.

        `order` names the order in which the criterion sees minibatches.
        """
        subject = Subject(
            {name: state.weights[name] for name in self.prunable},
            lambda: self._holding(state),
            lambda: self.minibatches(order),
        )
        total = sum(mask[0].numel() for mask in masks.values())
        scores = {name: score.cpu() for name, score in criterion.score(subject).items()}
        return keep_largest(scores, masks, keep_count(total, self.density))

    def _holding(self, state: State) -> nn.Module:
        write_network(self.network, state)
        return self.network


@dataclass(frozen=True)
class Branch:
    """How a subnetwork is made at a level.

    `start` gives the state and the masks that it trains from. `source` says what it is made from: the dense run alone,
    the mask of the level's IMP run, or, of a branch that prunes level by level, the level before.
    """

    label: str  # as pages write it
    start: Callable[[Origin], tuple[State, Masks]]
    source: Literal["dense", "mask", "level"]
    rewinds: bool = True  # whether it reads the dense run's snapshot, whose checksum is then in the record
    packed: bool = False  # whether its masks are tickets that a run shares
    near_dense: bool = False  # whether its distance from the dense network is measured
