"""VGG in the paper's CIFAR form: convolutions with BatchNorm, one output layer (STAB Fig. 2, LMC Table 1)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks.layers import BatchNorm, Conv, Linear, Stack, pool_all

# widths of the convolutions of each stage; a 2x2 max pooling stands between stages
STAGES: dict[int, tuple[tuple[int, ...], ...]] = {
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(Stack):
    """R copies of VGG-16 (14.7M parameters) or VGG-19 (20.0M); [R, N, 3, 32, 32] -> [R, N, classes]."""

    def __init__(self, replicates: int, input_shape: tuple[int, ...], classes: int, *, layers: int):
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(f"VGG-{layers} can't take inputs of shape {input_shape}")
        self.stages = nn.ModuleList()
        inputs = input_shape[0]
        for widths in STAGES[layers]:
            stage: list[nn.Module] = []
            for width in widths:
                stage += [
                    Conv(replicates, inputs, width, 3, dims=2),
                    BatchNorm(replicates, width, dims=2),
                    nn.ReLU(inplace=True),
                ]
                inputs = width
            self.stages.append(nn.Sequential(*stage))
        self.output = Linear(replicates, inputs, classes)

    def alone(self, x: Tensor) -> Tensor:
        y = x
        for index, stage in enumerate(self.stages):
            y = stage(F.max_pool2d(y, 2) if index else y)
        return self.output(pool_all(y, 2))

    def prunable(self) -> list[str]:
        """The convolutions: the output layer stays dense (LTH prunes 0% of it)."""
        return [name for name, value in self.named_parameters() if value.dim() == 5]

    def units(self) -> dict[str, str]:
        """The filters of all convolutions but the last, whose outputs the dense output layer reads."""
        return dict(pairwise(self.prunable()))


NETWORKS = {"vgg16": (VGG, {"layers": 16}), "vgg19": (VGG, {"layers": 19})}
