"""Result: run `harness bench`, which measures the engine against this file on your machine.

A straightforward PyTorch training of the paper's networks, as public code for this paper does it: a Dataset of PIL
images (or arrays, for the one-dimensional set) with transforms per sample, a DataLoader, default eager modules, masks
multiplied into the weights in each forward pass, PyTorch's own optimizer with its defaults, one network at a time, the
default number of threads. It shares no code with the harness.

Choices that favour this baseline: the loader is measured without workers and with two, and the faster one counts;
workers persist between epochs; no schedule, no logging, no evaluation; the last, smaller batch is dropped.

Run: ``python -m benchmarks.straightforward [--network resnet20] [--workers 2]`` from the root of the repository.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WARM_UP = 5  # untimed steps before each measurement: one more than two workers prefetch


class Images(Dataset):
    """uint8 images [N, C, H, W], stored as [N, H, W] or [N, H, W, 3] and converted to PIL images one by one."""

    def __init__(self, x: np.ndarray, y: np.ndarray, augmentation: str):
        grey = x.shape[1] == 1
        self.data = x[:, 0] if grey else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        self.targets = y.tolist()
        size = x.shape[-1]
        augment = [transforms.RandomCrop(size, 4), transforms.RandomHorizontalFlip()] if augmentation != "none" else []
        statistics = ((0.1307,), (0.3081,)) if grey else ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        self.transform = transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(*statistics)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


class Arrays(Dataset):
    """float32 arrays [N, C, L]."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.data, self.targets = x, y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.data[index]), self.targets[index]


class LeNet(nn.Module):
    """LeNet-300-100."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.hidden1 = nn.Linear(inputs, 300)
        self.hidden2 = nn.Linear(300, 100)
        self.output = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden2(F.relu(self.hidden1(x.flatten(1))))))


CONV = {1: nn.Conv1d, 2: nn.Conv2d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


class Block(nn.Module):
    """Two convolutions of width 3 and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dims: int):
        super().__init__()
        self.conv1 = CONV[dims](inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = NORM[dims](outputs)
        self.conv2 = CONV[dims](outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = NORM[dims](outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(CONV[dims](inputs, outputs, 1, stride, bias=False), NORM[dims](outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The CIFAR residual network with 6 * blocks + 2 layers, in one or two dimensions."""

    def __init__(self, channels: int, classes: int, dims: int, widths: tuple[int, int, int], blocks: int = 3):
        super().__init__()
        self.conv = CONV[dims](channels, widths[0], 3, padding=1, bias=False)
        self.norm = NORM[dims](widths[0])
        stages: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Block(inputs, width, 2 if stage and not block else 1, dims))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.output(y.flatten(2).mean(-1))


class VGG(nn.Module):
    """VGG-19 with BatchNorm and one output layer."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.stages = nn.ModuleList()
        for width, convolutions in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
            stage: list[nn.Module] = []
            for _ in range(convolutions):
                stage += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            self.stages.append(nn.Sequential(*stage))
        self.output = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        for index, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if index else x)
        return self.output(x.flatten(2).mean(-1))


def build(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network by the name that it has in the harness. Raises KeyError for one that is not defined here."""
    if name == "vgg19":
        return VGG(shape[0], classes)
    if name == "lenet-300-100":
        return LeNet(int(np.prod(shape)), classes)
    dims, widths, blocks = {
        "resnet20": (2, (16, 32, 64), 3),
        "resnet20-1d": (1, (8, 16, 32), 3),
        "resnet8-1d": (1, (4, 8, 16), 1),
    }[name]
    return ResNet(shape[0], classes, dims, widths, blocks)


class Masked(nn.Module):
    """A network whose weights are multiplied by their masks in each forward pass."""

    def __init__(self, network: nn.Module, density: float):
        super().__init__()
        self.network = network
        convolutional = any(weight.dim() > 2 for weight in network.parameters())
        self.masks = {}
        for name, weight in network.named_parameters():
            if "shortcut" not in name and weight.dim() > (2 if convolutional else 1):
                self.masks[name] = (torch.rand_like(weight) < density).float()

    def forward(self, x: Tensor) -> Tensor:
        for name, weight in self.network.named_parameters():
            if name in self.masks:
                weight.data *= self.masks[name]
        return self.network(x)


class Training:
    """A training that runs a number of steps at a time."""

    def __init__(
        self,
        network: str,
        x: np.ndarray,
        y: np.ndarray,
        *,
        optimizer: str,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        batch_size: int,
        augmentation: str = "none",
        density: float = 0.5,
        workers: int = 0,
        device: str = "cpu",
    ):
        self.device = device
        self.model = Masked(build(network, x.shape[1:], int(y.max()) + 1).to(device), density)
        parameters = self.model.parameters()
        if optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                parameters, lr=learning_rate, weight_decay=weight_decay
            )
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
        data = Images(x, y, augmentation) if x.dtype == np.uint8 else Arrays(x, y)
        self.loader = DataLoader(
            data, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )
        self.batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def run(self, steps: int) -> float:
        """Train for `steps` steps and return the seconds that they take."""
        self._train(WARM_UP)
        started = time.perf_counter()
        self._train(steps)
        return time.perf_counter() - started

    def _train(self, steps: int) -> None:
        self.model.train()
        for _ in range(steps):
            x, y = next(self.batches)
            x, y = x.to(self.device), y.to(self.device)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        loss.item()  # waits for the device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("lenet-300-100", "resnet20"), default="lenet-300-100")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    lenet = options.network == "lenet-300-100"
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (5000, 1, 28, 28) if lenet else (5000, 3, 32, 32), dtype=np.uint8)
    recipe = (
        {"optimizer": "adam", "learning_rate": 1.2e-3, "batch_size": 60}
        if lenet
        else {"optimizer": "momentum", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 128}
        | {"augmentation": "flip_crop"}
    )
    training = Training(options.network, x, generator.integers(0, 10, 5000), workers=options.workers, **recipe)
    training.run(WARM_UP)
    print(f"{options.steps / training.run(options.steps):.1f} steps per second")


if __name__ == "__main__":
    main()
