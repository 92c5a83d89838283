"""LeNet-300-100: two hidden layers, fully connected (LTH; STAB Fig. 2: 266K parameters on MNIST)."""

import math

import torch
from torch import Tensor

from harness.kernels.dense import Memory, Rows
from harness.kernels.program import Program
from harness.networks import fused
from harness.networks.layers import Linear, Stack


class LeNet(Stack):
    """R copies of inputs-300-100-classes with ReLU; [R, N, *S] -> [R, N, classes]."""

    def __init__(self, replicates: int, input_shape: tuple[int, ...], classes: int):
        super().__init__()
        self.hidden1 = Linear(replicates, math.prod(input_shape), 300)
        self.hidden2 = Linear(replicates, 300, 100)
        self.output = Linear(replicates, 100, classes)

    def alone(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden1(x.flatten(1)))
        return self.output(torch.relu(self.hidden2(hidden)))

    def packed(self, shape: torch.Size) -> fused.Packed:
        """The inputs of the programs on the CPU kernels."""
        return fused.packed_rows(shape)

    def write(self, program: Program, x: Rows, shape: torch.Size, learn: bool, memory: Memory | None) -> fused.Written:
        """Add a replicate's passes on the CPU kernels to a program."""
        return fused.write_rows(program, [self.hidden1, self.hidden2, self.output], x, learn, memory)

    def prunable(self) -> list[str]:
        """All three weight matrices: the paper's level of 10.7% is 0.8**10, a flat 20% of all weights a level."""
        return ["hidden1.weight", "hidden2.weight", "output.weight"]

    def units(self) -> dict[str, str]:
        """The hidden units."""
        return {"hidden1.weight": "hidden2.weight", "hidden2.weight": "output.weight"}


NETWORKS: dict[str, tuple[type[Stack], dict[str, object]]] = {"lenet-300-100": (LeNet, {})}
