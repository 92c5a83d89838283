"""The interfaces of branches and criteria, and the inputs that they may use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

from torch import Tensor

from harness.base.seeds import CRITERION
from harness.lottery.masks import Masks, dense_masks, keep_count, keep_largest
from harness.lottery.units import keep_units
from harness.networks.layers import Stack
from harness.training.changes import Changes
from harness.training.objective import Objective
from harness.training.recipe import Rates
from harness.training.state import State, write_network

Minibatches = Sequence[tuple[Tensor, Tensor]]  # x [R, N, C, *S] and y [R, N] each


@dataclass(frozen=True)
class Subject:
    """The stack of networks that a criterion scores.

    `weights` are the prunable weights, [R, ...] by name, `masks` say which of them survive, and `keep` is how many will
    be kept. `network` returns the stack with these weights in it, which may be overwritten, `minibatches` some
    minibatches in a random order that only the criterion uses, and `seeds` the name of each replicate's random draw of
    a purpose.
    """

    weights: dict[str, Tensor]
    masks: Masks
    keep: int
    network: Callable[[], Stack]
    minibatches: Callable[[], Minibatches]
    seeds: Callable[[str], list[tuple[str | int, ...]]]


@dataclass(frozen=True)
class Criterion:
    """A ranking of weights, or of whole units, over all layers together.

    `score` gives each weight a score [R, ...] by name, and pruning keeps exactly the level's number of the largest.
    With `units` it scores units instead, [R, units] by the weight that feeds them: the largest are kept as long as they
    hold no more weights than the level's, see `harness.lottery.units.keep_units`. `refit` returns new values of what
    masks keep, [R, ...] by name, for branches that train on from the weights that were pruned.
    """

    score: Callable[[Subject], dict[str, Tensor]]
    units: bool = False
    refit: Callable[[Subject, Masks], dict[str, Tensor]] | None = None


@dataclass(frozen=True)
class Origin:
    """The inputs from which a branch makes the starting point of a stack, which has one run per replicate.

    `network` is the stack, whose weights a branch may overwrite. `snapshots` reads the dense runs' states at step `k`,
    `dense` their final ones, `parent` the parents' final states and masks, `stored_masks` the masks of the level's runs
    of the branch `of` (by default of IMP). `minibatches` draws from the training data in the order of a name.
    """

    network: Stack
    prunable: Sequence[str]
    k: int
    level: int
    density: float
    first_order: bool  # whether this is the first data order, which makes the mask that the others reuse
    criterion: Criterion
    snapshots: Callable[[], State]
    dense: Callable[[], State]
    parent: Callable[[], tuple[State, Masks]]
    stored_masks: Callable[[], Masks]
    minibatches: Callable[[str], Minibatches]
    names: Callable[[str], list[tuple[str | int, ...]]]

    def keep(self) -> int:
        """The prunable weights that the level keeps."""
        return keep_count(sum(self.network.get_parameter(name)[0].numel() for name in self.prunable), self.density)

    def seeds(self, purpose: str) -> list[tuple[str | int, ...]]:
        """The name of each replicate's random draw of a purpose at this k and level."""
        return [(*name, self.k, self.level) for name in self.names(purpose)]

    def pruned(self, criterion: Criterion, state: State, masks: Masks, order: str) -> Masks:
        """Masks that keep the surviving weights of highest score, exactly as many as the level's density says.

        Of a criterion of whole units, as many as do not exceed it. `order` names the order in which the criterion sees
        minibatches.
        """
        subject = self._subject(state, masks, order)
        scores = {name: score.cpu() for name, score in criterion.score(subject).items()}
        if criterion.units:
            return keep_units(scores, masks, self.network.units(), subject.keep)
        return keep_largest(scores, masks, subject.keep)

    def refitted(self, criterion: Criterion, state: State, masks: Masks, order: str) -> State:
        """The state that `masks` were made from, with the criterion's new values of the weights that they keep."""
        if criterion.refit is None:
            return state
        values = criterion.refit(self._subject(state, masks, order), masks)
        own = {name: value.to(state.weights[name]) for name, value in values.items()}
        return replace(state, weights=state.weights | own)

    def _subject(self, state: State, masks: Masks, order: str) -> Subject:
        return Subject(
            {name: state.weights[name] for name in self.prunable},
            masks,
            self.keep(),
            lambda: self._holding(state),
            lambda: self.minibatches(order),
            self.seeds,
        )

    def pruned_parent(self) -> tuple[State, Masks]:
        """The parents' final weights at step `k` of the schedule, with a fresh optimizer, pruned to the level.

        A criterion's new values of what it keeps take the place of the trained ones.
        """
        finals, alive = self.parent()
        masks = self.pruned(self.criterion, finals, alive, order=CRITERION)
        refitted = self.refitted(self.criterion, finals, masks, order=CRITERION)
        return replace(refitted.rewound(), step=self.k), masks

    def pruned_snapshot(self, criterion: Criterion, order: str) -> tuple[State, Masks]:
        """The snapshot's weights with a fresh optimizer, pruned to the level by a criterion that is not the level's."""
        snapshots = self.snapshots()
        masks = self.pruned(criterion, snapshots, dense_masks(snapshots.weights, self.prunable), order)
        return snapshots.rewound(), masks

    def _holding(self, state: State) -> Stack:
        write_network(self.network, state)
        return self.network


class Span(NamedTuple):
    """A training from step `first` to the recipe's last of `steps`, in epochs of `epoch` steps."""

    first: int
    steps: int
    epoch: int

    def at(self, share: float | Fraction) -> int:
        """The step at which a share of the training is done."""
        return self.first + int(share * (self.steps - self.first))

    def after_epochs(self) -> range:
        """The steps that follow an epoch, but for the training's last one."""
        begin = (self.first // self.epoch + 1) * self.epoch
        return range(begin, self.steps - self.epoch + 1, self.epoch)


@dataclass(frozen=True)
class Branch:
    """How a subnetwork is made at a level, and how it is trained.

    `start` gives the state and the masks that training starts from. `source` is the run that must exist first: "dense",
    the dense run; "mask", the level's run of the branch `of`, for its mask; "level", the branch's own run of the
    previous level, so that it is pruned and trained level by level.

    Training goes from step k to the recipe's last one. `rates` "last": every step has the learning rate of the recipe's
    last one. `steps` "operations": training begins at step 0 and takes as many steps as cost the dense training's
    operations, at most twice as many, its schedule stretched (`harness.plan.courses`).

    `changes`: of a branch whose masks change while it trains, what changes them. The masks of `start` are then those of
    the beginning, and the last ones have the level's exact number of weights.

    `objective`: what the training minimises instead of the mean cross-entropy, up to a step. `reads_dense`: whether it
    is made from `Origin.dense`; then the record has the checksum of the dense run's final state. `units`: whether it
    keeps whole units whatever the level's criterion, as many as do not exceed the level's number of weights.

    `mask` and `weights` say what every training checks of its start: that the mask is that of `of`, or that mask
    shuffled in each layer; that the weights are the snapshot's, the snapshot's in sign only, the parent's trained ones,
    or drawn anew. What is a branch's "own" is not checked.
    """

    label: str  # its name on pages
    start: Callable[[Origin], tuple[State, Masks]]
    source: Literal["dense", "mask", "level"]
    rewinds: bool = True  # whether it reads the dense run's snapshot; if so, the record has the snapshot's checksum
    packed: bool = False  # whether its masks are shared as tickets
    near_dense: bool = False  # whether its distance from the dense network is measured
    mask: Literal["same", "shuffled", "own"] = "own"
    weights: Literal["snapshot", "signs", "trained", "fresh", "own"] = "own"
    of: str = "imp"
    rates: Rates = "schedule"
    steps: Literal["rest", "operations"] = "rest"
    changes: Callable[[Origin, Span], Changes] | None = None
    objective: Callable[[Origin, Span], Objective] | None = None
    reads_dense: bool = False
    units: bool = False
