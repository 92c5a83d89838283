"""An audit of a training from outside: what its steps really did, against the recipe and plain PyTorch.

It shares no arithmetic with the loop, the optimizers or the kernels. The learning rate of every step is compared with a
schedule that is laid out here in another way. The second step is judged by its effect: PyTorch's gradient of the
cross-entropy at the weights before it, and the weights and the optimizer's memory before and after it, tell the
momentum, the weight decay and the learning rate that the step really had. It changes no number of the training.

The kernels' gradient and PyTorch's agree to 1e-6; but where rounding puts a unit on the other side of its ReLU, which
in batch-normalised networks happened in one of 50 steps, they were up to 2% apart. So a step that does not fit is
followed by the next one: an invariant is broken if it does not hold in any of TRIES steps.
"""

import math
from collections.abc import Callable, Collection, Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.networks.fused import Samples, Selected
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.objective import Objective, Pass, is_further
from harness.training.recipe import Rates
from harness.training.state import State

NEAR, ROUNDING = 0.01, 1e-5  # relative; of sums in float32, of which a small part can't be told
DECAY_NEAR, DECAY_FLOOR = 0.2, 1e-5  # of the weight decay, which is told from small differences
EPSILON32 = 2.0**-23
TRIES = 4
TINY = 1e-150  # lengths below it are 0: the product of two of them is still a number
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


class Broken(Exception):
    """A training does not do what it should: the position in its stack, and the invariant that it breaks."""

    def __init__(self, position: int, invariant: str):
        super().__init__(invariant)
        self.position = position


class Check(NamedTuple):
    """An invariant, whether it holds for each replicate [R], and what each has [R] that should be `due`."""

    invariant: str
    holds: Tensor
    seen: Tensor | None = None
    due: float | None = None


def require(checks: Iterable[Check]) -> list[str]:
    """The names of the invariants, which all hold. Raises Broken for the first one that does not."""
    names = []
    for name, holds, seen, due in checks:
        for position in torch.nonzero(~holds.flatten()).flatten().tolist():
            raise Broken(position, name if seen is None else f"{name} ({float(seen[position]):.6g}, not {due:.6g})")
        names.append(name)
    return list(dict.fromkeys(names))


def schedule(recipe: Recipe, steps: int | None = None, kind: Rates = "schedule") -> np.ndarray:
    """The learning rate of each of a recipe's steps, [steps], stretched to another number of them where one is given.

    "last" has that of the last step throughout.
    """
    steps = steps or recipe.steps
    warmup, *drops = (math.ceil(Fraction(step * steps, recipe.steps)) for step in (recipe.warmup, *recipe.drops))
    rates = np.full(steps, recipe.learning_rate)
    rates[:warmup] = np.linspace(0, recipe.learning_rate, warmup + 1)[1:]
    for drop in drops:
        rates[drop:] *= recipe.drop_factor
    if recipe.final_learning_rate is not None:
        spaced = np.geomspace if recipe.decay == "exponential" else np.linspace
        rates *= spaced(1, recipe.final_learning_rate / recipe.learning_rate, steps + 1)[:-1]
    return rates if kind == "schedule" else np.full(steps, rates[-1])


class Audit:
    """Watches one training of `network` from step `first` by a recipe, with these masks, for these snapshots.

    `rates` [steps]: the learning rates, laid out apart from the recipe where a branch changes it. `objective` is what
    the next step minimises instead of the cross-entropy; of it, PyTorch's gradient is taken.
    """

    def __init__(
        self,
        network: Stack,
        recipe: Recipe,
        first: int,
        masks: dict[str, Tensor],
        snapshots: Collection[int],
        rates: np.ndarray | None = None,
    ):
        self.network, self.recipe, self.first, self.masks = network, recipe, first, masks
        self.objective: Objective | None = None
        self.names: list[str] = []
        self.updates = 0
        self._rates = [*(schedule(recipe) if rates is None else rates).tolist(), 0.0]  # and of one step too many
        self._watched, self._tries = min(first + 1, recipe.steps - 1), TRIES
        self._fits: Tensor | None = None  # which replicates' watched steps have been the recipe's
        self._sample = min(network.parameters(), key=lambda parameter: parameter.numel())  # moves at every step
        self._snapshots = {step: torch.empty(0) for step in snapshots}
        self._before: tuple[State, Tensor, dict[str, Tensor]] | None = None

    def before(self, step: int, state: Callable[[int], State], batch: Callable[[], tuple[Samples, Tensor]]) -> None:
        """Before an update: note a snapshot's sample, or PyTorch's loss and gradient of the watched step's batch."""
        if self.first + self.updates in self._snapshots:  # by its own count
            self._snapshots[self.first + self.updates] = self._sample.detach().to("cpu", copy=True)
        if step == self._watched:
            now, (x, y) = state(step), batch()
            x = x.tensor() if isinstance(x, Selected) else x
            self._before = now, *gradient(self.network, now, x, y, self.recipe.precision, self.objective)

    def after(self, step: int, state: Callable[[int], State], losses: Tensor, rate: float) -> None:
        """After an update, with the loss before it and the rate that the optimizer was given. Raises Broken."""
        due = self._rates[self.first + self.updates]
        if rate != due and not abs(rate - due) <= EPSILON32 * due:
            at = self.first + self.updates
            raise Broken(0, f"learning rate of every step ({rate:.6g} at step {at}, not {due:.6g})")
        self.updates += 1
        if self._before is not None:
            now, expected, gradients = self._before
            self._before = None
            checks = effect(self.recipe, now, state(step + 1), self.masks, expected, gradients, losses)
            self._judge(list(checks))

    def _judge(self, checks: list[Check]) -> None:
        """Take a watched step's checks. A replicate that has not passed all of them is watched once more."""
        passes = torch.stack([check.holds for check in checks]).all(0)
        self._fits = passes if self._fits is None else passes | self._fits
        self._tries -= 1
        if not self._fits.all() and self._tries and self._watched + 1 < self.recipe.steps:
            self._watched += 1
        else:
            self.names = require(check._replace(holds=check.holds | self._fits) for check in checks)

    def finish(self, trained_to: int, snapshots: dict[int, State]) -> list[str]:
        """The names of all invariants that hold. Raises Broken."""
        name = next(name for name, parameter in self.network.named_parameters() if parameter is self._sample)
        last, replicates = torch.tensor(float(self.first + self.updates)), len(self._sample)
        holds = torch.tensor(self.first + self.updates == self.recipe.steps == trained_to).expand(replicates)
        checks = [Check("number of steps", holds, last.expand(replicates), float(self.recipe.steps))]
        for step, sample in self._snapshots.items():
            if step >= self.first:
                taken = snapshots[step].weights[name] if step in snapshots else torch.empty(0)
                same = taken.shape == sample.shape and torch.equal(taken.isnan(), sample.isnan())
                same = same and torch.equal(taken.nan_to_num(), sample.nan_to_num())
                checks.append(Check("snapshots at their steps", torch.tensor(same).expand(replicates)))
        return list(dict.fromkeys(["learning rate of every step", *self.names, *require(checks)]))


def gradient(
    network: Stack, state: State, x: Tensor, y: Tensor, precision: str, objective: Objective | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """PyTorch's mean cross-entropy [R] of a batch, or an objective's loss, and its gradient by parameter.

    Without the gradients of the objective's further parameters. The network stays in `state`.
    """
    names = [name for name, _ in network.named_parameters() if not is_further(name)]
    losses, gradients = [], []
    for place, (tensors, own_x, own_y) in enumerate(zip(network.replicates(), x, y, strict=True)):
        leaves = {name: tensors[name].detach().requires_grad_() for name in names}
        loss = torch.zeros((), device=x.device)
        with torch.enable_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            if objective:
                loss = objective.loss(Pass(network, {**tensors, **leaves}, own_x, own_y, state.step, place))
            else:
                heads = network.heads({**tensors, **leaves}, own_x)
                # Inception-v3 has two heads only while it trains
                for weight, logits in zip(network.HEADS, heads, strict=False):
                    classes = torch.arange(logits.shape[-1], device=y.device)
                    chosen = own_y.unsqueeze(-1) == classes  # a sum over classes is deterministic on a GPU too
                    loss = loss - weight * (F.log_softmax(logits.float(), -1) * chosen).sum(-1).mean()
            gradients.append(torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True))
        losses.append(loss.detach().cpu())
    with torch.no_grad():
        for name, buffer in network.named_buffers():  # a forward pass moves batch normalisation's statistics
            buffer.copy_(state.buffers[name])
    stacked = {name: torch.stack(parts).cpu() for name, parts in zip(names, zip(*gradients, strict=True), strict=True)}
    return torch.stack(losses), stacked


def effect(
    recipe: Recipe,
    before: State,
    after: State,
    masks: dict[str, Tensor],
    expected: Tensor,
    gradients: dict[str, Tensor],
    losses: Tensor,
) -> Iterable[Check]:
    """What one step really did, by its effect. A replicate with a number that is not finite passes: it diverged.

    `expected` [R] and `gradients` are PyTorch's, `losses` [R] the step's own. What the optimizer remembers is fitted as
    momentum * what it remembered + gradient + decay * weights, and the move of the weights as rate * the direction in
    which the optimizer's memory points.
    """
    due_rate = float(schedule(recipe)[before.step])
    rows = [_terms(recipe, name, before, after, gradients, masks, due_rate) for name in gradients]
    gram = torch.stack([part for part, _ in rows]).sum(0)  # [R, 4, 4]: memory, gradient, weights; what they make
    moves = torch.stack([part for _, part in rows]).sum(0)  # [R, 2]: move * direction, direction * direction
    fine = torch.isfinite(gram).flatten(1).all(1) & torch.isfinite(moves).all(1)
    gram = torch.where(fine.view(-1, 1, 1), gram, torch.eye(4, dtype=gram.dtype))
    scale = gram.diagonal(dim1=1, dim2=2).sqrt().clamp_min(TINY)
    gram = gram / (scale.unsqueeze(1) * scale.unsqueeze(2))
    fitted = torch.linalg.pinv(gram[:, :3, :3], rcond=1e-12) @ gram[:, :3, 3:]
    left = 1 - (fitted * gram[:, :3, 3:]).sum((1, 2))  # share of the square that the fit does not explain
    momentum, slope, decay = (fitted.squeeze(2) * scale[:, 3:] / scale[:, :3]).unbind(1)
    noise_memory, noise, noise_decay = (ROUNDING * scale[:, 3:] / scale[:, :3]).unbind(1)
    remembers = scale[:, 0] > TINY
    adam = recipe.optimizer == "adam"
    if not adam and not recipe.momentum:  # what is made is told from the rounded weights then
        rounding = EPSILON32 * scale[:, 2] / due_rate
        left = left - (rounding / scale[:, 3]) ** 2
        noise, noise_decay = noise + rounding / scale[:, 1], noise_decay + rounding / scale[:, 2]
    due_slope = 1 - BETAS[0] if adam else 1.0
    rate = moves[:, 0] / moves[:, 1].clamp_min(TINY)
    noise_rate = EPSILON32 * scale[:, 2] / (due_rate * moves[:, 1].sqrt()).clamp_min(TINY)  # of the weights' rounding
    due = BETAS[0] if adam else recipe.momentum
    still = ~fine | (scale[:, 1] <= TINY)  # nothing to fit
    close = (losses.cpu() - expected).abs() <= NEAR * (expected.abs() + NEAR)
    yield Check("loss", ~fine | ~torch.isfinite(losses.cpu()) | close)
    yield Check("gradient", still | ((left < NEAR) & ((slope - due_slope).abs() < NEAR * due_slope + noise)))
    yield Check("momentum", still | ~remembers | ((momentum - due).abs() < NEAR + noise_memory), momentum, due)
    decay = decay / due_slope
    tolerance = DECAY_NEAR * recipe.weight_decay + DECAY_FLOOR + noise_decay
    yield Check("weight decay", still | ((decay - recipe.weight_decay).abs() < tolerance), decay, recipe.weight_decay)
    yield Check(
        "learning rate of a step's effect", still | ((rate / due_rate - 1).abs() < NEAR + noise_rate), rate, due_rate
    )


def _terms(
    recipe: Recipe,
    name: str,
    before: State,
    after: State,
    gradients: dict[str, Tensor],
    masks: dict[str, Tensor],
    rate: float,
) -> tuple[Tensor, Tensor]:
    """A parameter's share of the sums of products that `effect` needs, over the weights that are kept."""

    def flat(value: Tensor) -> Tensor:
        return (value * masks[name] if name in masks else value).flatten(1).double()

    def slots(state: State, slot: str) -> Tensor:
        return flat(state.optimizer[f"{slot}/{name}"]) if state.optimizer else torch.zeros_like(weights)

    weights, moved, slope = flat(before.weights[name]), flat(after.weights[name]), flat(gradients[name])
    first = "exp_avg" if recipe.optimizer == "adam" else "momentum_buffer"
    memory, new, steps = slots(before, first), slots(after, first), after.optimizer_steps
    if recipe.optimizer != "adam" and not recipe.momentum:
        new = (weights - moved) / rate  # PyTorch remembers nothing then
    direction = new
    if recipe.optimizer == "adam":
        root = (slots(after, "exp_avg_sq") / (1 - BETAS[1] ** steps)).sqrt() + EPSILON
        direction = new / (1 - BETAS[0] ** steps) / root
    decayed = weights
    if recipe.optimizer == "rmsprop":
        root = slots(after, "square_avg").sqrt() + float(recipe.rms_epsilon or 0)
        slope, decayed = slope / root, weights / root
    basis = torch.stack([memory, slope, decayed, new], 1)
    move = weights - moved
    return basis @ basis.transpose(1, 2), torch.stack([(move * direction).sum(1), (direction**2).sum(1)], 1)
