"""The optimizers: their tensors for each parameter, and their steps by the CPU kernels or by torch."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.kernels import LANES
from harness.kernels.program import Update
from harness.paper.models import Recipe
from harness.training.objective import is_further

# the per-parameter tensors in which an optimizer remembers earlier steps, by torch's names
SLOTS = {
    "momentum": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
}
KINDS = ("momentum", "adam")  # optimizers of the kernels, as in operations.h
_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch's defaults, which are the paper's


class Updater:
    """The optimizer of a recipe for a stack's parameters, with L2 weight decay as in the paper's code.

    `named` maps names to parameters [R, ...], `masks` some names to keep-masks [R, ...]: a pruned weight is exactly
    zero after every step. `tensors` and `steps` continue an optimizer from what `tensors()` returned. `in_kernels` says
    whether the kernels have the optimizer: they have momentum and Adam.
    """

    def __init__(
        self,
        recipe: Recipe,
        named: dict[str, nn.Parameter],
        masks: dict[str, Tensor],
        tensors: dict[str, Tensor] | None = None,
        steps: int = 0,
    ):
        self.recipe, self.named, self.steps = recipe, named, steps if tensors else 0
        self.slots = {
            name: [
                tensors[f"{slot}/{name}"].to(parameter.device, copy=True)
                if tensors
                else torch.zeros_like(parameter.data)
                for slot in SLOTS[recipe.optimizer]
            ]
            for name, parameter in named.items()
        }
        self.in_kernels = recipe.optimizer in KINDS
        kind = KINDS.index(recipe.optimizer) if self.in_kernels else -1
        self.constants = Update(kind=kind, decay=recipe.weight_decay, eps=_EPS)
        self.constants.momentum, (self.constants.beta1, self.constants.beta2) = recipe.momentum, _BETAS
        self._name = {id(parameter): name for name, parameter in named.items()}
        self._bytes = {name: mask.to(torch.uint8).contiguous() for name, mask in masks.items()}
        self._pruned: list[Tensor] = [named[name] for name in masks]
        self._masks = [mask.to(named[name].device) for name, mask in masks.items()]
        self._kept: dict[tuple[str, int], tuple[Tensor, list[Tensor]]] = {}
        self._torch: torch.optim.Optimizer | None = None
        self.rate = 0.0
        self.prune()

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """A parameter's slots (the second may be None) and its mask in bytes, for the kernels.

        Raises ValueError for an optimizer that the kernels lack.
        """
        if not self.in_kernels:
            raise ValueError(f"the kernels have no optimizer {self.recipe.optimizer}")
        name = self._name[id(parameter)]
        first, *second = self.slots[name]
        return first, second[0] if second else None, self._bytes.get(name)

    def kept(self, parameter: nn.Parameter, replicate: int, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        """A replicate's weights and slots at the places that its mask keeps, as lists with room for whole vectors.

        Steps by kept weights move the lists, not the parameter: `write_back` copies them to it.
        """
        name = self._name[id(parameter)]
        if (name, replicate) not in self._kept:
            index = torch.from_numpy(places).long()
            wholes = [parameter.data, *self.slots[name]]
            values = [F.pad(whole[replicate].flatten()[index], (0, -len(index) % LANES)) for whole in wholes]
            self._kept[name, replicate] = (index, values)
        weight, first, *second = self._kept[name, replicate][1]
        return weight, first, second[0] if second else None

    def write_back(self) -> None:
        """Copy to the parameters and slots what steps by kept weights have moved."""
        for (name, replicate), (index, lists) in self._kept.items():
            for whole, values in zip((self.named[name].data, *self.slots[name]), lists, strict=True):
                whole[replicate].view(-1)[index] = values[: len(index)]

    def begin(self, rate: float) -> None:
        """Set the constants of the next step, whose learning rate is `rate`."""
        self.steps += 1
        self.constants.rate = rate
        self.rate = float(np.float32(rate))  # as a learning rate on the device is stored
        if self.recipe.optimizer == "adam":
            self.constants.rate = rate / (1 - _BETAS[0] ** self.steps)
            self.constants.root = (1 - _BETAS[1] ** self.steps) ** -0.5

    @cached_property
    def replicates(self) -> list[dict[str, Tensor]]:
        """Each network's parameters for a step by torch: views of the stack's, with gradients of their own."""
        parts = {name: parameter.detach().unbind() for name, parameter in self.named.items()}
        count = len(next(iter(parts.values())))
        return [{name: part[place].requires_grad_() for name, part in parts.items()} for place in range(count)]

    def step_by_torch(self, rate: Tensor | None = None) -> None:
        """Move the parameters of `replicates` by their `.grad` with torch's own optimizers, on any device.

        `rate` [], a learning rate on the device, replaces that of `begin`, and the step can be recorded.
        """
        if self._torch is None:
            self._torch = self._make()
        for group in self._torch.param_groups:
            group["lr"] = self.rate if rate is None else rate
            group["capturable"] = rate is not None and rate.is_cuda
        self._torch.step()
        self.prune()

    @torch.no_grad()
    def prune(self) -> None:
        """Set pruned weights to exactly zero."""
        if self._masks:
            torch._foreach_mul_(self._pruned, self._masks)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the slots on the CPU, "<slot>/<parameter>" -> [R, ...]; empty before the first step."""
        if not self.steps:
            return {}
        self.write_back()
        return {
            f"{slot}/{name}": value.to("cpu", copy=True)
            for name, values in self.slots.items()
            for slot, value in zip(SLOTS[self.recipe.optimizer], values, strict=True)
        }

    def _make(self) -> torch.optim.Optimizer:
        """Torch's optimizer on the same slots. Momentum from zeros takes the same first step as torch's fresh one."""
        recipe, decay = self.recipe, self.recipe.weight_decay
        own, more = ([name for name in self.named if is_further(name) == kind] for kind in (False, True))
        parameters: list[dict[str, Any]] = [{"params": [part[name] for part in self.replicates for name in own]}]
        if more:
            parameters.append({"params": [part[name] for part in self.replicates for name in more], "weight_decay": 0})
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adam":
            optimizer = torch.optim.Adam(parameters, weight_decay=decay, betas=_BETAS, eps=_EPS, fused=True)
        elif recipe.optimizer == "rmsprop":
            assert recipe.rms_decay is not None
            assert recipe.rms_epsilon is not None
            alpha, eps = recipe.rms_decay, recipe.rms_epsilon
            optimizer = torch.optim.RMSprop(
                parameters, alpha=alpha, eps=eps, momentum=recipe.momentum, weight_decay=decay
            )
        else:
            optimizer = torch.optim.SGD(parameters, momentum=recipe.momentum, weight_decay=decay, fused=True)
        for place, replicate in enumerate(self.replicates):
            for name, slots in self.slots.items():
                state = {slot: value[place] for slot, value in zip(SLOTS[recipe.optimizer], slots, strict=True)}
                if recipe.optimizer != "momentum":
                    # Adam's fused step reads the count on the device; RMSprop keeps it on the CPU
                    device = replicate[name].device if recipe.optimizer == "adam" else "cpu"
                    state["step"] = torch.tensor(float(self.steps - 1), device=device)
                optimizer.state[replicate[name]] = state
        return optimizer
