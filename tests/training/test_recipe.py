"""Recipes: learning rates against PyTorch's schedulers, and the lines that tell what is wrong."""

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, MultiStepLR

from harness.paper.load import describe
from harness.paper.models import Recipe
from harness.training.recipe import at_last_rate, learning_rate, stretched

PLAIN = {"optimizer": "momentum", "learning_rate": 0.1, "batch_size": 8, "steps": 40}
LINEAR = PLAIN | {"learning_rate": 0.03, "decay": "linear", "final_learning_rate": 0.005}
EXPONENTIAL = PLAIN | {"learning_rate": 0.66, "decay": "exponential", "final_learning_rate": 6.6e-5}
RMSPROP = PLAIN | {"optimizer": "rmsprop", "momentum": 0.9, "rms_decay": 0.9, "rms_epsilon": 1.0}


def scheduled(rate, make, steps):
    """The rates that one of PyTorch's schedulers gives."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("fields", "make"),
    [
        (PLAIN | {"drops": (10, 30)}, lambda optimizer: MultiStepLR(optimizer, [10, 30], 0.1)),
        (LINEAR, lambda optimizer: LinearLR(optimizer, 1.0, 0.005 / 0.03, 40)),
        (EXPONENTIAL, lambda optimizer: ExponentialLR(optimizer, 1e-4 ** (1 / 40))),
    ],
)
def test_schedules_are_pytorchs(fields, make):
    recipe = Recipe.model_validate(fields)
    rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
    assert rates == pytest.approx(scheduled(recipe.learning_rate, make, recipe.steps), rel=1e-6)


@pytest.mark.parametrize(("fields", "last"), [(LINEAR, 0.005), (EXPONENTIAL, 6.6e-5)])
def test_a_decay_ends_at_its_final_rate_however_many_steps_there_are(fields, last):
    for steps in (7, 213_921):
        recipe = Recipe.model_validate(fields | {"steps": steps})
        assert learning_rate(recipe, 0) == fields["learning_rate"]
        assert learning_rate(recipe, steps) == pytest.approx(last)


def test_warm_up_goes_with_a_decay():
    recipe = Recipe.model_validate(LINEAR | {"warmup": 10})
    late = Recipe.model_validate(LINEAR)
    assert learning_rate(recipe, 4) == pytest.approx(learning_rate(late, 4) / 2)
    assert learning_rate(recipe, 10) == learning_rate(late, 10)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (RMSPROP | {"rms_decay": None}, "rms_decay: this field is missing; optimizer: rmsprop needs it"),
        (RMSPROP | {"rms_epsilon": None}, "rms_epsilon: this field is missing; optimizer: rmsprop needs it"),
        (PLAIN | {"rms_epsilon": 1.0}, "rms_epsilon: only optimizer: rmsprop uses it; remove it"),
        (PLAIN | {"final_learning_rate": 0.01}, "final_learning_rate: only decay: linear and exponential uses it"),
        (PLAIN | {"decay": "linear"}, "final_learning_rate: this field is missing; decay: linear and exponential"),
        (LINEAR | {"final_learning_rate": 0.03}, "final_learning_rate: 0.03 is no decay from 0.03"),
        (LINEAR | {"drops": (10,)}, "decay: linear does not go with drops; give one of the two"),
        (PLAIN | {"optimizer": "sgd"}, "optimizer: Input should be 'momentum', 'adam' or 'rmsprop'"),
        (LINEAR | {"decay": "cosine"}, "decay: Input should be 'none', 'linear' or 'exponential'"),
        (RMSPROP | {"rms_decay": 1.0}, "rms_decay: Input should be less than 1"),
    ],
)
def test_a_wrong_field_is_one_line(fields, line):
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(fields)
    told = describe(error.value, Recipe)
    assert line in told
    assert "\n" not in told


def test_a_changed_recipe_is_checked_again_as_a_whole():
    """Settings override fields of a recipe that has all of them."""
    recipe = Recipe.model_validate(RMSPROP)
    assert Recipe.model_validate(recipe.model_dump() | {"steps": 3}).steps == 3
    with pytest.raises(ValidationError, match="rms_decay: only optimizer: rmsprop uses it"):
        Recipe.model_validate(recipe.model_dump() | {"optimizer": "adam"})


def test_the_last_rate_is_that_of_the_last_step_throughout():
    for fields, last in ((PLAIN | {"drops": (10, 30)}, 0.001), (PLAIN | {"warmup": 40}, 0.1), (PLAIN, 0.1)):
        recipe = at_last_rate(Recipe.model_validate(fields))
        assert [learning_rate(recipe, step) for step in range(40)] == pytest.approx([last] * 40)
    recipe = at_last_rate(Recipe.model_validate(LINEAR))
    before_the_end = 0.03 + (0.005 - 0.03) * 39 / 40
    assert [learning_rate(recipe, step) for step in (0, 39)] == pytest.approx([before_the_end] * 2)
    Recipe.model_validate(recipe.model_dump())  # a recipe as any other


def test_a_stretched_schedule_changes_at_the_same_shares_of_training():
    """Twice as long: each step twice. 1.5 times: a drop at 7 of 40 comes at the first step after 10.5."""
    fields = PLAIN | {"drops": (10, 30)}
    recipe, double = Recipe.model_validate(fields), stretched(Recipe.model_validate(fields), 80)
    assert [learning_rate(double, step) for step in range(80)] == [learning_rate(recipe, s // 2) for s in range(80)]
    longer = stretched(Recipe.model_validate(PLAIN | {"drops": (7,), "warmup": 4}), 60)
    assert (longer.steps, longer.drops, longer.warmup) == (60, (11,), 6)
    linear = stretched(Recipe.model_validate(LINEAR), 80)
    assert learning_rate(linear, 40) == pytest.approx(learning_rate(Recipe.model_validate(LINEAR), 20))
    Recipe.model_validate(double.model_dump())
