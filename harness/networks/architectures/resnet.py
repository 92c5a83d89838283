"""The CIFAR residual family (He et al. 2016): three stages of blocks, strided 1x1 shortcuts. LTH's "Resnet-18".

ResNet-20 at 3x32x32 has 272,474 trainable parameters; the same definition in one dimension serves MNIST-1D.
"""

import torch
from torch import Tensor, nn

from harness.kernels.dense import Memory, Rows
from harness.kernels.program import Program
from harness.networks import fused
from harness.networks.layers import BatchNorm, Conv, Linear, Stack, fold, pool_all


class Block(nn.Module):
    """Two convolutions of width 3 and a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, replicates: int, inputs: int, outputs: int, stride: int, *, dims: int):
        super().__init__()
        self.conv1 = Conv(replicates, inputs, outputs, 3, stride, dims=dims)
        self.norm1 = BatchNorm(replicates, outputs, dims=dims)
        self.conv2 = Conv(replicates, outputs, outputs, 3, dims=dims)
        self.norm2 = BatchNorm(replicates, outputs, dims=dims)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                Conv(replicates, inputs, outputs, 1, stride, dims=dims), BatchNorm(replicates, outputs, dims=dims)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)  # in place: no other operation needs BatchNorm's outputs
        return torch.relu_(y)


class ResNet(Stack):
    """R copies of a residual network with 6n + 2 layers; [R, N, C, *S] -> [R, N, classes], S one or two long."""

    def __init__(
        self,
        replicates: int,
        input_shape: tuple[int, ...],
        classes: int,
        *,
        dims: int,
        widths: tuple[int, int, int],
        blocks: int = 3,
    ):
        super().__init__()
        if len(input_shape) != dims + 1:
            raise ValueError(f"a {dims}-dimensional residual network can't take inputs of shape {input_shape}")
        self.dims = dims
        self.conv = Conv(replicates, input_shape[0], widths[0], 3, dims=dims)
        self.norm = BatchNorm(replicates, widths[0], dims=dims)
        stages: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Block(replicates, inputs, width, 2 if stage and not block else 1, dims=dims))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.output = Linear(replicates, inputs, classes)

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
        """The width-3 convolutions: shortcuts and the output layer stay dense (reference section 1.2)."""
        return [
            name for name, value in self.named_parameters() if ".shortcut" not in name and value.dim() == self.dims + 3
        ]


NETWORKS = {
    "resnet20": (ResNet, {"dims": 2, "widths": (16, 32, 64)}),
    "resnet20-1d": (ResNet, {"dims": 1, "widths": (8, 16, 32)}),
    "resnet8-1d": (ResNet, {"dims": 1, "widths": (4, 8, 16), "blocks": 1}),
}
