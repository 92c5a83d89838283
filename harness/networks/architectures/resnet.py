"""The CIFAR residual family (He et al. 2016): three stages of blocks, strided 1x1 shortcuts. LTH's "Resnet-18".

ResNet-20 at 3x32x32 has 272,474 trainable parameters; the same definition in one dimension serves MNIST-1D.
"""

import torch
from torch import Tensor, nn

from harness.networks.architectures.convnet import BlockNetwork
from harness.networks.layers import BatchNorm, Conv


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


class ResNet(BlockNetwork):
    """R copies of a residual network with 6n + 2 layers; [R, N, C, *S] -> [R, N, classes], S one or two long."""

    KIND = "residual"

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
        stages: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Block(replicates, inputs, width, 2 if stage and not block else 1, dims=dims))
                inputs = width
        super().__init__(replicates, input_shape, classes, stages, dims=dims, width=widths[0], outputs=inputs)

    def units(self) -> dict[str, str]:
        """The filters of each block's first convolution: the others' outputs are added to the shortcut's."""
        blocks = [f"blocks.{place}" for place in range(len(self.blocks))]
        return {f"{block}.conv1.weight": f"{block}.conv2.weight" for block in blocks}


NETWORKS = {
    "resnet20": (ResNet, {"dims": 2, "widths": (16, 32, 64)}),
    "resnet20-1d": (ResNet, {"dims": 1, "widths": (8, 16, 32)}),
    "resnet8-1d": (ResNet, {"dims": 1, "widths": (4, 8, 16), "blocks": 1}),
}
