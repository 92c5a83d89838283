"""ConvNet convolutional networks: VGG's layers of width 3 without shortcuts, with strides where VGG pools."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.kernels.dense import Memory, Rows
from harness.kernels.program import Program
from harness.networks import fused
from harness.networks.layers import BatchNorm, Conv, Linear, Stack, fold, pool_all


class Layer(nn.Module):
    """A convolution of width 3, batch normalisation, ReLU."""

    def __init__(self, replicates: int, inputs: int, outputs: int, stride: int, *, dims: int):
        super().__init__()
        self.conv = Conv(replicates, inputs, outputs, 3, stride, dims=dims)
        self.norm = BatchNorm(replicates, outputs, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.norm(self.conv(x)))


class ConvNet(Stack):
    """R copies of convolutions of `widths`, at half the size wherever they widen; [R, N, C, *S] -> [R, N, classes]."""

    def __init__(
        self, replicates: int, input_shape: tuple[int, ...], classes: int, *, dims: int, widths: tuple[int, ...]
    ):
        super().__init__()
        if len(input_shape) != dims + 1:
            raise ValueError(f"a {dims}-dimensional convolutional network can't take inputs of shape {input_shape}")
        self.dims = dims
        self.conv = Conv(replicates, input_shape[0], widths[0], 3, dims=dims)
        self.norm = BatchNorm(replicates, widths[0], dims=dims)
        self.blocks = nn.Sequential(
            *(Layer(replicates, n, width, 2 if width > n else 1, dims=dims) for n, width in pairwise(widths))
        )
        self.output = Linear(replicates, widths[-1], classes)

    def alone(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm(self.conv(fold(x, self.dims))))
        return self.output(pool_all(self.blocks(y), self.dims))

    def packed(self, shape: torch.Size) -> fused.Packed:
        """The inputs of the programs on the CPU kernels."""
        return fused.packed_maps(shape)

    def write(
        self, program: Program, x: Rows | Tensor, shape: torch.Size, learn: bool, memory: Memory | None
    ) -> fused.Written:
        """Add a replicate's passes on the CPU kernels to a program."""
        return fused.write_blocks(program, self, x, tuple(shape[3:]), learn, memory)

    def prunable(self) -> list[str]:
        """The convolutions: the output layer stays dense, as VGG's."""
        return [name for name, value in self.named_parameters() if value.dim() == self.dims + 3]


NETWORKS = {"plain9-1d": (ConvNet, {"dims": 1, "widths": (16, 16, 32, 32, 64, 64, 128, 128)})}
