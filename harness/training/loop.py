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
from harness.networks.layers import Conv
from harness.paper.models import Recipe
from harness.training.audit import Audit
from harness.training.batches import Batches
from harness.training.recipe import learning_rate
from harness.training.state import State, read_network, write_network
from harness.training.updates import KINDS, Updater

CHECK_EVERY = 100  # steps between checks of the loss; a check waits for the device

Masks = dict[str, Tensor]  # prunable weight -> keep-mask [R, ...], 1 keeps, 0 prunes


class Stopped(Exception):
    """Training stopped on request, after its state was kept; the argument is the step."""


@dataclass
class Trained:
    """The result of a training: the final state, the requested snapshots, and the replicates that diverged."""

    final: State
    snapshots: dict[int, State] = field(default_factory=dict)
    diverged: dict[int, int] = field(default_factory=dict)  # position in the stack -> step at which it was detected
    seconds: float = 0.0


def use_threads(threads: int) -> None:
    """Set the number of threads and deterministic kernels. Oversubscribed cores slow small steps 15-fold."""
    torch.set_num_threads(threads)
    kernels.use_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) without its second of imports
    # deterministic mode also fills new memory: it costs a tenth of a step and changes no number
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[R, N, classes], [R, N] -> [R, N]. Samples are flattened: a GPU lacks a deterministic kernel otherwise."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)


def by_kernels(network: nn.Module, x: fused.Samples, recipe: Recipe) -> bool:
    """Whether the kernels compute a step of a recipe on a batch x [R, N, *sample]; if not, torch does."""
    return recipe.optimizer in KINDS and recipe.precision != "bfloat16" and fused.usable(network, x)


def take_step(network: nn.Module, x: fused.Samples, y: Tensor, updater: Updater, rate: float) -> Tensor:
    """One step on a batch x [R, N, *sample], y [R, N] at a learning rate; mean cross-entropy [R] before it.

    The loss of a network with several heads is the weighted sum of their cross-entropies.
    """
    updater.begin(rate)
    rounded = updater.recipe.precision == "bfloat16"
    if by_kernels(network, x, updater.recipe):
        return fused.step(network, x, y, updater)
    if isinstance(x, fused.Selected):
        x = x.tensor()
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
    audit: Audit | None = None,
) -> Trained:
    """Train `network` from `start` to `recipe.steps` and leave it there.

    The schedule and the position within the epoch follow `start.step`. The optimizer continues from `start`, or is
    fresh if `start` has none. Pruned weights are exactly zero before the first and after every step. `each_check` gets
    the step and the losses [R] every CHECK_EVERY steps. `keep_state` gets the state and the results so far every
    `keep_every_seconds`; `earlier` are the results of an interrupted run. When `stopping` returns true, the state is
    kept and Stopped raised. A replicate whose loss is not finite is noted in `diverged`; the others continue, because
    no operation mixes replicates. An `audit` watches, and raises Broken where a step is not the recipe's.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = recipe.precision == "tf32"
    progress = _Progress(network, recipe, start, masks or {}, earlier)
    trained = progress.trained
    for step in range(start.step, recipe.steps):
        if step in snapshot_steps:
            trained.snapshots[step] = progress.state(step)
        x, y = batches.selected(step) if isinstance(batches, Batches) else batches.batch(step)
        if audit:
            audit.before(step, progress.state, x, y)
        losses = take_step(network, x, y, progress.updater, learning_rate(recipe, step))
        if audit:
            audit.after(step, progress.state, losses, progress.updater.rate)
        stop = stopping()  # at every step: a hundred steps of a large network take longer than a cluster waits
        if stop or (step + 1) % CHECK_EVERY == 0 or step + 1 == recipe.steps:
            progress.note_diverged(losses, step)
            if each_check:
                each_check(step + 1, losses)
            if keep_state and step + 1 < recipe.steps and (stop or progress.since_kept() > keep_every_seconds):
                keep_state(progress.kept(step + 1), trained)
                if stop:
                    raise Stopped(step + 1)
    return progress.finish()


class _Progress:
    """A training in progress: its optimizer, its results so far, and the times at which it began and was kept."""

    def __init__(self, network: nn.Module, recipe: Recipe, start: State, masks: Masks, earlier: Trained | None):
        write_network(network, start)
        network.train()
        self.network, self.recipe, self.start = network, recipe, start
        named = dict(network.named_parameters())
        self.updater = Updater(recipe, named, masks, start.optimizer, start.optimizer_steps)
        self.trained = earlier or Trained(start)
        self._last_kept = time.perf_counter()
        self._began = self._last_kept - self.trained.seconds

    def state(self, step: int) -> State:
        """The network and the optimizer after `step` steps."""
        self.updater.write_back()
        state = read_network(self.network, step)
        state.optimizer = self.updater.tensors()
        state.optimizer_steps = self.start.optimizer_steps + step - self.start.step
        return state

    def note_diverged(self, values: Tensor, step: int) -> None:
        """Note the step for each replicate of values [R, ...] that holds a NaN or an infinity."""
        for position in torch.nonzero(~torch.isfinite(values.view(len(values), -1)).all(1)).flatten().tolist():
            self.trained.diverged.setdefault(position, step)

    def since_kept(self) -> float:
        """Seconds since the state was last kept."""
        return time.perf_counter() - self._last_kept

    def kept(self, step: int) -> State:
        """The state to keep, with the time noted."""
        self._last_kept = time.perf_counter()
        self.trained.seconds = self._last_kept - self._began
        return self.state(step)

    def finish(self) -> Trained:
        """The results; a last step can break weights whose loss before it was finite."""
        self.updater.write_back()
        self.trained.final = read_network(self.network, self.recipe.steps)
        self.trained.seconds = time.perf_counter() - self._began
        for value in self.trained.final.weights.values():
            self.note_diverged(value, self.recipe.steps)
        return self.trained


def samples_at_once(network: nn.Module) -> int:
    """How many samples to evaluate a stack on at once, of which no accuracy depends.

    On a CPU the feature maps of 64 stay in its caches. Measured on one core, 64 against 512: the one-dimensional
    ResNet-20 7.1 and 9.3 microseconds a sample, the ResNet-20 on 3 x 32 x 32 826 and 1,054, VGG-19 7.9 and 9.2 ms. A
    fully connected network has no maps and reads its weights once for each batch; a GPU is fastest with many samples.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    return 64 if on_cpu and any(isinstance(module, Conv) for module in network.modules()) else 512


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Accuracy in percent [R] and mean cross-entropy [R] of each replicate, with BatchNorm's stored statistics.

    The samples pass in batches of `batch_size`, by default `samples_at_once`.
    """
    network.eval()
    batch_size = batch_size or samples_at_once(network)
    replicates = next(network.parameters()).shape[0]
    right = torch.zeros(replicates, dtype=torch.float64)
    loss = torch.zeros(replicates, dtype=torch.float64)
    for start in range(0, len(y), batch_size):
        part_x, part_y = x[start : start + batch_size].to(y.device), y[start : start + batch_size]
        logits = network(part_x.expand(replicates, *part_x.shape))
        right += (logits.argmax(-1) == part_y).sum(1).cpu()
        loss += cross_entropy(logits, part_y.expand(replicates, -1)).sum(1).double().cpu()
    return 100 * right / len(y), loss / len(y)
