"""What a recipe means: its learning rate at each step."""

from harness.spec.models import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a training step: linear warm-up over `warmup` steps, times `drop_factor` from each drop on."""
    rate = recipe.learning_rate
    if recipe.warmup:
        rate *= min(1.0, (step + 1) / recipe.warmup)
    return rate * recipe.drop_factor ** sum(step >= drop for drop in recipe.drops)
