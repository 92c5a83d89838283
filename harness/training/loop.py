"""The training loop: one stack of replicates from a state to the end of its recipe."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness import kernels
from harness.data.feed import Feed
from harness.networks.fused import Samples
from harness.networks.layers import Conv, Stack
from harness.paper.models import Recipe
from harness.training import graphed
from harness.training.audit import Audit
from harness.training.batches import Batches
from harness.training.changes import Changes, changed
from harness.training.objective import Objective, attach, detach
from harness.training.recipe import learning_rate
from harness.training.state import State, read_network, write_network
from harness.training.step import cross_entropy, take_step
from harness.training.updates import Updater

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
    weight_steps: dict[str, list[int]] = field(default_factory=dict)  # weight -> those kept, summed over steps, [R]


def use_threads(threads: int, precision: str = "float32") -> None:
    """Set what the whole process computes with: threads, deterministic kernels, and a recipe's precision on a GPU.

    Oversubscribed cores slow small steps 15-fold. PyTorch's own default rounds the products of a GPU's convolutions to
    TF32, but not those of its matrices.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kernels.use_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) without its second of imports
    # deterministic mode also fills new memory: it costs a tenth of a step and changes no number
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def train(
    network: Stack,
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
    changes: Changes | None = None,
    objective: Objective | None = None,
) -> Trained:
    """Train `network` from `start` to `recipe.steps` and leave it there.

    The schedule and the position within the epoch follow `start.step`. The optimizer continues from `start`, or is
    fresh if `start` has none. Pruned weights are exactly zero before the first and after every step. `each_check` gets
    the step and the losses [R] every CHECK_EVERY steps. `keep_state` gets the state and the results so far every
    `keep_every_seconds`; `earlier` are the results of an interrupted run. When `stopping` returns true, the state is
    kept and Stopped raised. A replicate whose loss is not finite is noted in `diverged`; the others continue, because
    no operation mixes replicates. An `audit` watches, and raises Broken where a step is not the recipe's. With
    `changes`, `masks` (or those of `start`, in a training that goes on) are those of the beginning, and the states that
    are kept and the final one have those of their step. An `objective` is minimised up to the step at which it ends;
    masks that change at that step change first.
    """
    progress = _Progress(network, recipe, start, start.masks or masks or {}, earlier, changes, objective)
    trained = progress.trained
    recorded = None
    if not changes and not objective and graphed.usable(batches, recipe):
        recorded = graphed.Steps(network, progress.updater, batches, start.step)
    for step in range(start.step, recipe.steps):
        if step in snapshot_steps:
            trained.snapshots[step] = progress.state(step)
        if recorded:
            if audit:
                audit.before(step, progress.state, lambda: recorded.batches.batch(step))  # noqa: B023
            losses, rate = recorded.take(step), recorded.rate(step)
        else:
            x, y = batches.selected(step) if isinstance(batches, Batches) else batches.batch(step)
            if changes and step in changes.before:
                progress.change_masks(step, x, y)
                if audit:
                    audit.masks = progress.masks
            if progress.objective and step >= progress.objective.until:
                progress.end_objective(step)
            if audit:
                audit.objective = progress.objective
                audit.before(step, progress.state, lambda: (x, y))  # noqa: B023
            rate = learning_rate(recipe, step)
            losses = take_step(network, x, y, progress.updater, rate, step=step, objective=progress.objective)
            rate = progress.updater.rate
        if audit:
            audit.after(step, progress.state, losses, rate)
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

    def __init__(
        self,
        network: Stack,
        recipe: Recipe,
        start: State,
        masks: Masks,
        earlier: Trained | None,
        changes: Changes | None,
        objective: Objective | None,
    ):
        self.objective = objective if objective and start.step < objective.until else None
        if self.objective:
            start = attach(network, self.objective, start)
        write_network(network, start)
        network.train()
        self.network, self.recipe, self.start = network, recipe, start
        self.masks, self.changes = masks, changes
        self.updater = Updater(recipe, dict(network.named_parameters()), masks, start.optimizer, start.optimizer_steps)
        self.trained = earlier or Trained(start)
        self._counted = start.step
        self._last_kept = time.perf_counter()
        self._began = self._last_kept - self.trained.seconds

    def state(self, step: int) -> State:
        """The network and the optimizer after `step` steps."""
        self.updater.write_back()
        state = read_network(self.network, step)
        state.optimizer = self.updater.tensors()
        state.optimizer_steps = self.start.optimizer_steps + step - self.start.step
        if self.changes:
            state.masks = self.masks
        return state

    def change_masks(self, step: int, x: Samples, y: Tensor) -> None:
        """Go on with the masks of the next step, whose batch is x [R, N, *sample], y [R, N]."""
        assert self.changes is not None
        self._count(step)
        state = changed(self.changes, self.network, self.recipe, self.state(step), x, y)
        self.masks = state.masks
        self._go_on_from(state)

    def end_objective(self, step: int) -> None:
        """Go on with the mean cross-entropy, and without the objective's further parameters."""
        self._go_on_from(detach(self.network, self.state(step)))
        self.objective = None

    def _go_on_from(self, state: State) -> None:
        write_network(self.network, state)
        named = dict(self.network.named_parameters())
        self.updater = Updater(self.recipe, named, self.masks, state.optimizer, state.optimizer_steps)

    def _count(self, step: int) -> None:
        """Count the weights that were kept in the steps since the last count."""
        for name, mask in self.masks.items():
            before = self.trained.weight_steps.get(name, [0] * len(mask))
            kept = mask.flatten(1).sum(1, dtype=torch.float64).tolist()
            steps = step - self._counted
            self.trained.weight_steps[name] = [a + steps * int(b) for a, b in zip(before, kept, strict=True)]
        self._counted = step

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
        self._count(step)
        return self.state(step)

    def finish(self) -> Trained:
        """The results; a last step can break weights whose loss before it was finite."""
        self._count(self.recipe.steps)
        self.updater.write_back()
        self.trained.final = detach(self.network, read_network(self.network, self.recipe.steps))
        self.trained.final.masks = self.masks if self.changes else {}
        self.trained.seconds = time.perf_counter() - self._began
        for value in self.trained.final.weights.values():
            self.note_diverged(value, self.recipe.steps)
        return self.trained


def samples_at_once(network: Stack) -> int:
    """How many samples to evaluate a stack on at once, of which no accuracy depends.

    On a CPU the feature maps of 64 stay in its caches. Measured on one core, 64 against 512: the one-dimensional
    ResNet-20 7.1 and 9.3 microseconds a sample, the ResNet-20 on 3 x 32 x 32 826 and 1,054, VGG-19 7.9 and 9.2 ms. A
    fully connected network has no maps and reads its weights once for each batch; a GPU is fastest with many samples.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    return 64 if on_cpu and any(isinstance(module, Conv) for module in network.modules()) else 512


@torch.no_grad()
def evaluate(network: Stack, x: Tensor, y: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
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
        losses = [cross_entropy(own, part_y).sum() for own in logits]  # one by one: a sum's order depends on its shape
        loss += torch.stack(losses).double().cpu()
    return 100 * right / len(y), loss / len(y)
