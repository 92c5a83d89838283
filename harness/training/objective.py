"""What a training minimises instead of its mean cross-entropy: terms, noise and parameters of a method's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from harness.networks.layers import Stack
from harness.training.state import State

_FURTHER = "further"  # of a network while it trains; its state, optimizer and checkpoints have them under this name


@dataclass(frozen=True)
class Pass:
    """What the loss of one network's step is computed from.

    `tensors` are the network's parameters and buffers by name, `x` [N, *sample] and `y` [N] its batch, `step` the steps
    done, `place` its position in the stack.
    """

    network: Stack
    tensors: dict[str, Tensor]
    x: Tensor
    y: Tensor
    step: int
    place: int

    def further(self, name: str) -> Tensor:
        """The network's own part of a further parameter."""
        return self.tensors[f"{_FURTHER}.{_key(name)}"]

    def heads(self, instead: Mapping[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        """The network's logits [N, classes] of each head, with other tensors `instead` of its own of these names."""
        own = {name: value for name, value in self.tensors.items() if not is_further(name)}
        return self.network.heads(own | dict(instead or {}), self.x)


@dataclass(frozen=True)
class Objective:
    """The loss of the steps before `until`; those from there on minimise the mean cross-entropy again.

    `loss` gives a number [] to minimise, by torch. `parameters` [R, ...] by name are trained with the network's,
    without weight decay, and are gone after `until`. The loss depends on its Pass alone, and names random draws by its
    step, so that a training goes on from a kept state with the same bits.
    """

    loss: Callable[[Pass], Tensor]
    until: int
    parameters: Mapping[str, Tensor] = field(default_factory=dict)


def attach(network: Stack, objective: Objective, state: State) -> State:
    """Give a stack the further parameters. Returns the state with their values, which are its own where it has some."""
    device = next(network.parameters()).device
    own = {_key(name): value.clone() for name, value in objective.parameters.items()}
    network.add_module(_FURTHER, nn.ParameterDict({key: nn.Parameter(value.to(device)) for key, value in own.items()}))
    return replace(state, weights={f"{_FURTHER}.{key}": value for key, value in own.items()} | state.weights)


def detach(network: Stack, state: State) -> State:
    """Take the further parameters from a stack. Returns the state without them."""
    if hasattr(network, _FURTHER):
        delattr(network, _FURTHER)
    weights = {name: value for name, value in state.weights.items() if not is_further(name)}
    slots = {slot: value for slot, value in state.optimizer.items() if not is_further(slot.partition("/")[2])}
    return replace(state, weights=weights, optimizer=slots)


def further(state: State) -> dict[str, Tensor]:
    """The further parameters [R, ...] of a state, by the names that the objective gave them."""
    return {_name(name): value for name, value in state.weights.items() if is_further(name)}


def is_further(name: str) -> bool:
    """Whether a parameter of this name is a further one."""
    return name.startswith(f"{_FURTHER}.")


def _key(name: str) -> str:
    """The name of a further parameter as PyTorch allows it, without dots."""
    return name.replace(".", ":")


def _name(parameter: str) -> str:
    return parameter.removeprefix(f"{_FURTHER}.").replace(":", ".")
