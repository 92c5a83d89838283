"""ConvNet convolutional networks: VGG's layers of width 3 without shortcuts, with strides where VGG pools."""

from collections.abc import Iterable
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


class BlockNetwork(Stack):
    """R copies of a convolution, `blocks`, and one output layer on the mean over positions.

    `width` is that of the first convolution, `outputs` that of the last block.
    """

    KIND = "convolutional"  # in an error

    def __init__(
        self,
        replicates: int,
        input_shape: tuple[int, ...],
        classes: int,
        blocks: Iterable[nn.Module],
        *,
        dims: int,
        width: int,
        outputs: int,
    ):
        super().__init__()
        if len(input_shape) != dims + 1:
            raise ValueError(f"a {dims}-dimensional {self.KIND} network can't take inputs of shape {input_shape}")
        self.dims = dims
        self.conv = Conv(replicates, input_shape[0], width, 3, dims=dims)
        self.norm = BatchNorm(replicates, width, dims=dims)
        self.blocks = nn.Sequential(*blocks)
        self.output = Linear(replicates, outputs, classes)

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
        """The convolutions of width 3: shortcuts and the output layer stay dense (reference section 1.2)."""
        return [
            name for name, value in self.named_parameters() if ".shortcut" not in name and value.dim() == self.dims + 3
        ]


class ConvNet(BlockNetwork):
    """R copies of convolutions of `widths`, at half the size wherever they widen; [R, N, C, *S] -> [R, N, classes]."""

    def __init__(
        self, replicates: int, input_shape: tuple[int, ...], classes: int, *, dims: int, widths: tuple[int, ...]
    ):
        blocks = (Layer(replicates, n, width, 2 if width > n else 1, dims=dims) for n, width in pairwise(widths))
        super().__init__(replicates, input_shape, classes, blocks, dims=dims, width=widths[0], outputs=widths[-1])

    def units(self) -> dict[str, str]:
        """The filters of all convolutions but the last, whose outputs the dense output layer reads."""
        return dict(pairwise(self.prunable()))


NETWORKS = {"plain9-1d": (ConvNet, {"dims": 1, "widths": (16, 16, 32, 32, 64, 64, 128, 128)})}
