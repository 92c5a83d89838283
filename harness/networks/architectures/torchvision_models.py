"""The ImageNet networks: Resnet-50, Inception-v3, Squeezenet (STAB Fig. 6, LMC Table 1) by torchvision's definitions.

They have the papers' numbers of parameters: 25.5M, 27.1M (with the auxiliary head) and 1.25M (Squeezenet 1.0).
Differences from torchvision:

* no dropout, in Inception-v3 and Squeezenet: the papers name the data order as a training's only noise;
* initialised like the other networks, see `harness.networks.initialise`: the papers do not say how.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.networks.layers import BatchNorm, Stack

# weights of the heads' cross-entropies in the loss. The papers give none for the auxiliary head. 0.4 is the
# value of the TPU reference code, which STAB says it ran, and of torchvision's training script
HEADS = (1.0, 0.4)


class Norm(BatchNorm):
    """A torchvision network's batch normalisation, with its epsilon."""

    def __init__(self, replicates: int, norm: nn.BatchNorm2d):
        super().__init__(replicates, norm.num_features, dims=2)
        self.EPSILON = norm.eps


class ImageNetwork(Stack):
    """R copies of a torchvision network; [R, N, 3, H, W] -> [R, N, classes].

    `definition` is its name in torchvision, `options` go to it, and `smallest` is the fewest pixels of H and W that it
    can take. Raises ValueError for other inputs. Inception-v3 has a second head while it trains.
    """

    HEADS = HEADS

    def __init__(
        self,
        replicates: int,
        input_shape: tuple[int, ...],
        classes: int,
        *,
        definition: str,
        smallest: int,
        options: dict[str, Any],
    ):
        super().__init__()
        self.check_shape(input_shape, definition, smallest)
        from torchvision.models import get_model  # takes seconds; other networks need not wait for it

        with torch.device("meta"):  # only the shapes are needed: nothing is allocated twice or drawn
            self.network = get_model(definition, weights=None, num_classes=classes, **options)
        _stack(self.network, replicates)

    @staticmethod
    def check_shape(shape: tuple[int, ...], definition: str, smallest: int, **_: Any) -> None:
        """Raise ValueError for a sample's shape that a network can't take, without importing torchvision."""
        if len(shape) != 3 or shape[0] != 3 or min(shape[1:]) < smallest:
            accepted = f"(3, {smallest}, {smallest}) and larger"
            raise ValueError(f"{definition} can't take inputs of shape {shape}, but {accepted}")

    def alone(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.network(x)

    def prunable(self) -> list[str]:
        """All convolutions and fully connected layers, 1x1 and output layers too.

        The papers don't say; their authors' later code (open_lth) prunes every layer of its ImageNet network.
        """
        return [name for name, value in self.named_parameters() if value.dim() > 2]


def _stack(module: nn.Module, replicates: int) -> None:
    """Give a module's parameters and buffers a leading dimension of the replicates, in place and uninitialised."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, Norm(replicates, child))
        else:
            _stack(child, replicates)
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.empty(replicates, *parameter.shape)))


NETWORKS = {
    "resnet50": (ImageNetwork, {"definition": "resnet50", "smallest": 32, "options": {}}),
    # with fewer pixels the input of its auxiliary head's 5x5 convolution is smaller than the kernel
    "inception-v3": (
        ImageNetwork,
        {"definition": "inception_v3", "smallest": 299, "options": {"init_weights": False, "dropout": 0.0}},
    ),
    "squeezenet": (ImageNetwork, {"definition": "squeezenet1_0", "smallest": 32, "options": {"dropout": 0.0}}),
}
