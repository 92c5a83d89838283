"""The learning rate of a recipe at each step, and the recipes of trainings after pruning."""

from typing import Literal

from harness.paper.models import Recipe

#: the learning rates of a training: the recipe's at each step, or its last step's throughout
Rates = Literal["schedule", "last"]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a training step; the first step is 0.

    Linear warm-up over `warmup` steps, times `drop_factor` from each drop on, or times the decay: a straight line or
    an exponential from `learning_rate` at step 0 to `final_learning_rate` at step `steps`, the end of training (STAB
    Fig. 6).
    """
    rate = recipe.learning_rate
    if recipe.warmup:
        rate *= min(1.0, (step + 1) / recipe.warmup)
    if recipe.final_learning_rate is not None:
        share, done = recipe.final_learning_rate / recipe.learning_rate, step / recipe.steps
        rate *= share**done if recipe.decay == "exponential" else 1 + (share - 1) * done
    return rate * recipe.drop_factor ** sum(step >= drop for drop in recipe.drops)


def at_last_rate(recipe: Recipe) -> Recipe:
    """The recipe with the learning rate of its last step at every step."""
    constant = {"warmup": 0, "drops": (), "decay": "none", "final_learning_rate": None}
    return recipe.model_copy(update={"learning_rate": learning_rate(recipe, recipe.steps - 1), **constant})


def stretched(recipe: Recipe, steps: int) -> Recipe:
    """The recipe in another number of steps: its warm-up, drops and decay take place at the same shares of them."""

    def later(step: int) -> int:
        return -(-step * steps // recipe.steps)

    drops = tuple(map(later, recipe.drops))
    return recipe.model_copy(update={"steps": steps, "warmup": later(recipe.warmup), "drops": drops})
