"""The learning rate of a recipe at each step."""

from harness.paper.models import Recipe


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
