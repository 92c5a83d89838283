"""Masks that change inside a training: when, and to what."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.networks.fused import Samples, Selected
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.objective import Pass, further
from harness.training.state import State
from harness.training.step import one_loss

Tensors = dict[str, Tensor]  # prunable weight -> [R, ...]


@dataclass(frozen=True)
class Moment:
    """A stack between two steps of its training, on the CPU: what a change of masks may look at.

    `step` steps of the recipe's `steps` are done. `weights` [R, ...] are the prunable ones, `masks` say which are kept.
    `gradients` gives the gradient of the next step's batch for every prunable weight, the pruned ones too. `further`
    are the further parameters of an objective. What is not finite, in a replicate that has diverged, is 0 here.
    """

    step: int
    steps: int
    weights: Tensors
    masks: Tensors
    gradients: Callable[[], Tensors]
    further: Tensors


@dataclass(frozen=True)
class Change:
    """New masks [R, ...], and the values of the weights that they bring back where those are not 0.

    `stayed`: new values of the weights that were kept and still are, where they change.
    """

    masks: Tensors
    values: Tensors | None = None
    stayed: Tensors | None = None


@dataclass(frozen=True)
class Changes:
    """The changes of masks of one training: `change` is called before each of the steps `before`.

    It depends on its Moment alone, and names its random draws by the step, so that a training goes on from a kept state
    with the same bits: the masks are all that the state needs.
    """

    before: Collection[int]
    change: Callable[[Moment], Change]


def changed(changes: Changes, network: Stack, recipe: Recipe, state: State, x: Samples, y: Tensor) -> State:
    """The state with the masks of the next step, whose batch is x [R, N, *sample], y [R, N].

    A weight is 0 from the step that prunes it on. One that comes back has the value that the change gives it, and the
    optimizer remembers nothing of either. One that stays keeps what the optimizer remembers of it.
    """
    names = list(state.masks)

    def gradients() -> Tensors:
        slopes = _gradients(network, x.tensor() if isinstance(x, Selected) else x, y, recipe, names)
        return {name: slope.nan_to_num(0, 0, 0) for name, slope in slopes.items()}

    weights = {name: state.weights[name].nan_to_num(0, 0, 0) for name in names}
    own = {name: value.nan_to_num(0, 0, 0) for name, value in further(state).items()}
    change = changes.change(Moment(state.step, recipe.steps, weights, state.masks, gradients, own))
    masks = {name: change.masks[name].to(state.masks[name]) for name in names}
    stayed = {name: masks[name] * state.masks[name] for name in names}
    values, kept = change.values or {}, state.weights | (change.stayed or {})
    moved = {name: torch.where(stayed[name] != 0, kept[name], masks[name] * values.get(name, 0.0)) for name in names}
    optimizer = {
        slot: torch.where(stayed[name] != 0, value, 0.0) if (name := slot.partition("/")[2]) in masks else value
        for slot, value in state.optimizer.items()
    }
    return replace(state, weights=state.weights | moved, optimizer=optimizer, masks=masks)


def _gradients(network: Stack, x: Tensor, y: Tensor, recipe: Recipe, names: Sequence[str]) -> Tensors:
    """PyTorch's gradient [R, ...] of a batch's loss, for the weights of these names. Buffers stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    learned = {name for name, _ in network.named_parameters()}
    slopes: dict[str, list[Tensor]] = {name: [] for name in names}
    for place, (whole, own_x, own_y) in enumerate(zip(network.replicates(), x, y, strict=True)):
        leaves = {
            name: value.detach().clone().requires_grad_() if name in learned else value for name, value in whole.items()
        }
        one_loss(Pass(network, leaves, own_x, own_y, 0, place), recipe)
        for name, parts in slopes.items():
            slope = leaves[name].grad
            assert slope is not None
            parts.append(slope)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
    return {name: torch.stack(parts).cpu() for name, parts in slopes.items()}
