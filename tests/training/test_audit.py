"""The audit of a training: it lets every right step pass and moves no bit; its schedule against a hand-written one."""

import contextlib

import pytest
import torch

from harness import kernels
from harness.lottery.masks import dense_masks, prune_by_magnitude
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training.audit import Audit, Broken, Check, effect, require, schedule
from harness.training.batches import Batches
from harness.training.loop import train, use_threads
from harness.training.recipe import at_last_rate, learning_rate, stretched
from harness.training.state import State, read_network
from tests.training.test_loop import ADAM, MOMENTUM
from tests.training.test_updates import RECIPE as RMSPROP

SLOW = RMSPROP.model_copy(update={"batch_size": 16})
BFLOAT = MOMENTUM.model_copy(update={"precision": "bfloat16"})
SETTINGS = [
    ("lenet-300-100", (1, 8, 8), ADAM),
    ("resnet8-1d", (1, 40), MOMENTUM),
    ("resnet8-1d", (1, 40), BFLOAT),
    ("lenet-300-100", (1, 8, 8), SLOW),
    ("lenet-300-100", (1, 8, 8), SLOW.model_copy(update={"momentum": 0.0})),
    ("resnet8-1d", (1, 40), MOMENTUM.model_copy(update={"momentum": 0.0})),
]


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def trained(name, shape, recipe, density, audited, snapshots=(), due=None):
    """Two replicates from their start, with a mask of a density, by a recipe; the results and the audit by `due`."""
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(100, *shape, generator=generator), torch.arange(100) % 10
    network = build(name, 2, shape, 10)
    initialise(network, [("t", r) for r in range(2)])
    start = read_network(network, 0)
    whole = dense_masks(start.weights, prunable_names(network))
    kept = round(density * sum(mask[0].numel() for mask in whole.values()))
    masks = prune_by_magnitude(start.weights, whole, kept) if density < 1 else {}
    audit = Audit(network, due or recipe, 0, masks, snapshots) if audited else None
    batches = Batches(x, y, recipe.batch_size, [("t", r, "order") for r in range(2)], "none")
    return train(network, recipe, batches, start, masks, snapshot_steps=snapshots, audit=audit), audit


@pytest.mark.parametrize("by_torch", [False, True])
@pytest.mark.parametrize("density", [1.0, 0.05])
@pytest.mark.parametrize(("name", "shape", "recipe"), SETTINGS)
def test_right_steps_pass_and_keep_their_bits(name, shape, recipe, density, by_torch):
    with kernels.without() if by_torch else contextlib.nullcontext():
        seen, audit = trained(name, shape, recipe, density, audited=True, snapshots=[0, 5])
        unseen, _ = trained(name, shape, recipe, density, audited=False)
    names = audit.finish(seen.final.step, seen.snapshots)
    assert {"gradient", "momentum", "weight decay", "number of steps", "snapshots at their steps"} <= set(names)
    for tensor, value in unseen.final.tensors().items():
        assert torch.equal(value, seen.final.tensors()[tensor]), tensor


WRONG = [
    (ADAM, {"learning_rate": 1.3e-3}, r"learning rate of every step \(0.0012 at step 0, not 0.0013\)"),
    (ADAM, {"steps": 59}, r"learning rate of every step \(0.0012 at step 59, not 0\)"),
    (ADAM, {"weight_decay": 1e-4}, r"weight decay \(.*, not 0.0001\)"),
    (MOMENTUM, {"weight_decay": 0.0}, r"weight decay \(0.0001\d*, not 0\)"),
    (MOMENTUM, {"weight_decay": 1e-3}, r"weight decay \(0.0001\d*, not 0.001\)"),
    (MOMENTUM, {"momentum": 0.0}, r"momentum \(0.9, not 0\)"),
    (MOMENTUM, {"momentum": 0.95}, r"momentum \(0.9, not 0.95\)"),
    (MOMENTUM, {"drops": (39,)}, "learning rate of every step"),
    (MOMENTUM.model_copy(update={"momentum": 0.0}), {"weight_decay": 0.01}, "weight decay"),
    (SLOW, {"momentum": 0.5}, r"momentum \(0.9, not 0.5\)"),
    (SLOW, {"weight_decay": 0.01}, r"weight decay \(0.001, not 0.01\)"),
    (SLOW, {"rms_decay": 0.99}, None),  # the running mean of squares is taken as it is
]


@pytest.mark.parametrize(("recipe", "due", "broken"), WRONG)
def test_a_training_by_another_recipe_is_broken(recipe, due, broken):
    name, shape = ("resnet8-1d", (1, 40)) if recipe.optimizer == "momentum" else ("lenet-300-100", (1, 8, 8))
    expects = pytest.raises(Broken, match=broken) if broken else contextlib.nullcontext()
    with expects:
        trained(name, shape, recipe, 1.0, audited=True, due=recipe.model_copy(update=due))


def test_a_snapshot_of_another_step_is_broken():
    seen, audit = trained("lenet-300-100", (1, 8, 8), ADAM, 1.0, audited=True, snapshots=[0, 5])
    late = {0: seen.snapshots[0], 5: seen.final}
    with pytest.raises(Broken, match="snapshots at their steps"):
        audit.finish(ADAM.steps, late)
    with pytest.raises(Broken, match=r"number of steps \(60, not 60\)|number of steps"):
        audit.finish(59, seen.snapshots)


def test_the_first_replicate_that_breaks_an_invariant_is_named():
    holds = torch.tensor([True, False, False])
    with pytest.raises(Broken, match=r"^mask \(2, not 7\)$") as broken:
        require([Check("first", ~(holds & ~holds)), Check("mask", holds, torch.tensor([7, 2, 3]), 7.0)])
    assert broken.value.position == 1
    assert require([Check("a", holds | True), Check("b", holds | True)]) == ["a", "b"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup": 7},
        {"warmup": 60, "drops": ()},
        {"drops": (10, 20, 59), "drop_factor": 0.3},
        {"drops": (), "decay": "linear", "final_learning_rate": 0.01},
        {"drops": (), "warmup": 9, "decay": "exponential", "final_learning_rate": 0.001},
    ],
)
def test_the_audits_schedule_is_the_loops(changes):
    recipe = Recipe.model_validate({**MOMENTUM.model_dump(), **changes})
    assert schedule(recipe) == pytest.approx([learning_rate(recipe, step) for step in range(60)], rel=1e-12)
    longer, last = stretched(recipe, 97), at_last_rate(recipe)
    assert schedule(recipe, 97) == pytest.approx([learning_rate(longer, step) for step in range(97)], rel=1e-12)
    assert schedule(recipe, kind="last") == pytest.approx([learning_rate(last, step) for step in range(60)], rel=1e-12)


@pytest.mark.parametrize("rate", [1e4, 1e18, 1e35])
def test_a_network_that_diverges_breaks_no_invariant(rate):
    recipe = MOMENTUM.model_copy(update={"learning_rate": rate, "drops": ()})
    seen, audit = trained("lenet-300-100", (1, 8, 8), recipe, 0.5, audited=True)
    assert seen.diverged
    assert "gradient" in audit.finish(seen.final.step, seen.snapshots)


def test_a_step_without_gradient_and_memory_tells_nothing():
    zero = torch.zeros(2, 3)
    before, after = (State(step, {"w": torch.ones(2, 3)}, {}, {"momentum_buffer/w": zero}, step) for step in (1, 2))
    checks = effect(MOMENTUM, before, after, {}, torch.zeros(2), {"w": zero}, torch.zeros(2))
    assert len(require(checks)) == 5
