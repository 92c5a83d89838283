"""The training state of a stack, as plain tensors that can be saved, split by replicate and stacked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class State:
    """Everything that training needs to continue from a step, on the CPU.

    `weights` and `buffers` map names to [R, ...]; `optimizer` maps "<slot>/<weight>" to [R, ...] and is empty when
    the optimizer is fresh; `optimizer_steps` counts its steps. `masks` [R, ...] are there only if they change in the
    training.
    """

    step: int
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    optimizer_steps: int = 0
    masks: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under "weights/", "buffers/", "optimizer/", "masks/"."""
        groups = {
            "weights": self.weights,
            "buffers": self.buffers,
            "optimizer": self.optimizer,
            "masks": self.masks,
        }
        return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}

    def select(self, replicates: Sequence[int]) -> "State":
        """The state of some replicates of the stack, copied."""
        index = torch.tensor(list(replicates))
        return from_tensors(
            {name: value[index] for name, value in self.tensors().items()}, self.step, self.optimizer_steps
        )

    def rewound(self) -> "State":
        """The same weights and position with a fresh optimizer: a subnetwork's start after a rewind."""
        return State(self.step, self.weights, self.buffers)


def from_tensors(tensors: dict[str, Tensor], step: int, optimizer_steps: int = 0) -> State:
    """The inverse of `State.tensors`."""
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "buffers": {}, "optimizer": {}, "masks": {}}
    for name, value in tensors.items():
        group, _, tensor = name.partition("/")
        groups[group][tensor] = value
    return State(step, **groups, optimizer_steps=optimizer_steps)


def stacked(states: Sequence[State]) -> State:
    """One stack from states of the same step, in their order; each has its own leading dimension."""
    first = states[0]
    if any((state.step, state.optimizer_steps) != (first.step, first.optimizer_steps) for state in states):
        raise ValueError(f"states of different steps can't be stacked: {[state.step for state in states]}")
    parts = [state.tensors() for state in states]
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return from_tensors(tensors, first.step, first.optimizer_steps)


def read_network(network: nn.Module, step: int) -> State:
    """Copies of a network's weights and buffers, on the CPU."""
    return State(
        step,
        {name: value.detach().to("cpu", copy=True) for name, value in network.named_parameters()},
        {name: value.detach().to("cpu", copy=True) for name, value in network.named_buffers()},
    )


def write_network(network: nn.Module, state: State) -> None:
    """Copy a state's weights and buffers into a network of the same shape."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(state.weights[name])
        for name, buffer in network.named_buffers():
            buffer.copy_(state.buffers[name])
