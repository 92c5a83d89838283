"""What a recipe means: its learning rate at each step, its optimizer, and that optimizer's state as plain tensors."""

import torch
from torch import Tensor, nn

from harness.spec.models import Recipe

# the per-parameter tensors in which an optimizer remembers earlier steps
SLOTS = {"momentum": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq")}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a training step: linear warm-up over `warmup` steps, times `drop_factor` from each drop on."""
    rate = recipe.learning_rate
    if recipe.warmup:
        rate *= min(1.0, (step + 1) / recipe.warmup)
    return rate * recipe.drop_factor ** sum(step >= drop for drop in recipe.drops)


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """PyTorch's own momentum or Adam with the recipe's constants; L2 weight decay as in the paper's code."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def optimizer_tensors(
    recipe: Recipe, optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Copies of the optimizer's memory, "<slot>/<parameter>" -> [R, ...]; empty before the first step."""
    return {
        f"{slot}/{name}": optimizer.state[parameter][slot].detach().clone()
        for name, parameter in named.items()
        if parameter in optimizer.state
        for slot in SLOTS[recipe.optimizer]
    }


def set_optimizer(
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    named: dict[str, nn.Parameter],
    tensors: dict[str, Tensor],
    steps_taken: int,
) -> None:
    """Give an optimizer the memory that `optimizer_tensors` copied after `steps_taken` steps."""
    if not tensors:
        return
    for name, parameter in named.items():
        state: dict[str, Tensor] = {slot: tensors[f"{slot}/{name}"].clone() for slot in SLOTS[recipe.optimizer]}
        if recipe.optimizer == "adam":
            state["step"] = torch.tensor(float(steps_taken), device=parameter.device)
        optimizer.state[parameter] = state
