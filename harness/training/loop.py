"""The training loop: one stack of replicates from a state to the end of its recipe."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import kernels
from harness.data.feed import Feed
from harness.networks import fused
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.recipe import learning_rate
from harness.training.state import State, read_network, write_network
from harness.training.updates import Updater

CHECK_EVERY = 100  # steps between looks at the loss: each look waits for the device

Masks = dict[str, Tensor]  # prunable weight -> keep-mask [R, ...], 1 keeps, 0 prunes


class Stopped(Exception):
    """Training was asked to stop and has kept its state; the argument is the step."""


@dataclass
class Trained:
    """What a training leaves: the final state, the snapshots asked for, and who diverged when."""

    final: State
    snapshots: dict[int, State] = field(default_factory=dict)
    diverged: dict[int, int] = field(default_factory=dict)  # position in the stack -> step at which it was seen
    seconds: float = 0.0


def use_threads(threads: int) -> None:
    """Fix the number of threads and ask for deterministic kernels: small steps lose 15-fold on oversubscribed cores."""
    torch.set_num_threads(threads)
    kernels.use_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) without its second of imports
    # that mode fills new memory before it is written: a tenth of a step, and it changes no number
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[R, N, classes], [R, N] -> [R, N]. Samples in one row: a GPU has no deterministic kernel for the other form."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)


def take_step(network: nn.Module, x: Tensor, y: Tensor, updater: Updater, rate: float) -> Tensor:
    """One step on a batch x [R, N, *sample], y [R, N] at a learning rate; mean cross-entropy [R] before it.

    A network with several heads has the sum of their cross-entropies, weighted as it says.
    """
    updater.begin(rate)
    rounded = updater.recipe.precision == "bfloat16"
    if updater.in_kernels and not rounded and fused.usable(network, x):
        return fused.step(network, x, y, updater)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
        heads = network.heads(x) if hasattr(network, "heads") else [(1.0, network(x))]  # type: ignore[operator]
    losses = torch.stack([weight * cross_entropy(logits.float(), y).mean(1) for weight, logits in heads]).sum(0)
    network.zero_grad()
    losses.sum().backward()
    updater.step_by_torch()
    return losses.detach()


def train(
    network: nn.Module,
    recipe: Recipe,
    batches: Batches | Feed,
    start: State,
    masks: Masks | None = None,
    *,
    snapshot_steps: Collection[int] = (),
    each_check: Callable[[int, Tensor], None] | None = None,
    keep_state: Callable[[State, Trained], None] | None = None,
    keep_every_seconds: float = 120.0,
    stopping: Callable[[], bool] = lambda: False,
    earlier: Trained | None = None,
) -> Trained:
    """Train `network` from `start` to `recipe.steps` and leave it there.

    The schedule and the place within the epoch follow `start.step`; the optimizer continues if the state has its
    memory, else it is fresh. Pruned weights are exactly zero before the first and after every step. `each_check` gets
    the step and the losses [R] every CHECK_EVERY steps; `keep_state` gets the state and what there is so far every
    `keep_every_seconds`, and `earlier` is that of a run cut off. When `stopping` says so, the state is kept and
    Stopped raised. A replicate whose loss stops being finite is noted in `diverged`; the others go on, for no operation
    mixes replicates.
    """
    write_network(network, start)
    network.train()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = recipe.precision == "tf32"
    named = dict(network.named_parameters())
    updater = Updater(recipe, named, masks or {}, start.optimizer, start.optimizer_steps)
    trained = earlier or Trained(start)
    first = start.step

    def state(step: int) -> State:
        now = read_network(network, step)
        now.optimizer = updater.tensors()
        now.optimizer_steps = start.optimizer_steps + step - first
        return now

    last_kept = time.perf_counter()
    began = last_kept - trained.seconds
    for step in range(first, recipe.steps):
        if step in snapshot_steps:
            trained.snapshots[step] = state(step)
        x, y = batches.batch(step)
        losses = take_step(network, x, y, updater, learning_rate(recipe, step))
        stop = stopping()  # at every step: a hundred of a large network take longer than a cluster waits
        if stop or (step + 1) % CHECK_EVERY == 0 or step + 1 == recipe.steps:
            for position in torch.nonzero(~torch.isfinite(losses)).flatten().tolist():
                trained.diverged.setdefault(position, step)
            if each_check:
                each_check(step + 1, losses)
            now = time.perf_counter()
            if keep_state and step + 1 < recipe.steps and (stop or now - last_kept > keep_every_seconds):
                last_kept, trained.seconds = now, now - began
                keep_state(state(step + 1), trained)
                if stop:
                    raise Stopped(step + 1)
    trained.final = read_network(network, recipe.steps)
    trained.seconds = time.perf_counter() - began
    for position in _not_finite(trained.final):
        trained.diverged.setdefault(position, recipe.steps)
    return trained


def _not_finite(state: State) -> list[int]:
    """Positions in the stack that hold a NaN or an infinity (a last step can break what a finite loss hid)."""
    bad: set[int] = set()
    for value in state.weights.values():
        bad.update(torch.nonzero(~torch.isfinite(value.flatten(1)).all(1)).flatten().tolist())
    return sorted(bad)


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor, batch_size: int = 512) -> tuple[Tensor, Tensor]:
    """Accuracy in percent [R] and mean cross-entropy [R] of each replicate, with BatchNorm's stored statistics."""
    network.eval()
    replicates = next(network.parameters()).shape[0]
    right = torch.zeros(replicates, dtype=torch.float64)
    loss = torch.zeros(replicates, dtype=torch.float64)
    for start in range(0, len(y), batch_size):
        part_x, part_y = x[start : start + batch_size].to(y.device), y[start : start + batch_size]
        logits = network(part_x.expand(replicates, *part_x.shape))
        right += (logits.argmax(-1) == part_y).sum(1).cpu()
        loss += cross_entropy(logits, part_y.expand(replicates, -1)).sum(1).double().cpu()
    return 100 * right / len(y), loss / len(y)
