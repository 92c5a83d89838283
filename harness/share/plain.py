"""The harness's networks as a reader of PyTorch would write them, and their tensors under the names of such a network.

The harness computes stacks of replicates; here is one replicate, with PyTorch's own layers.
"""

import math

import torch
from torch import Tensor

from harness.networks import NETWORKS, build
from harness.networks.imagenet import HEADS, ImageNetwork
from harness.networks.layers import BatchNorm, Linear
from harness.networks.lenet import LeNet
from harness.networks.resnet import ResNet
from harness.networks.vgg import STAGES, VGG
from harness.spec.models import Recipe

NORM = {"mean": "running_mean", "variance": "running_var"}  # BatchNorm's buffers, by PyTorch's names

LENET = """\
class LeNet(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.hidden1, self.hidden2, self.output = nn.Linear(inputs, 300), nn.Linear(300, 100), nn.Linear(100, classes)

    def forward(self, x):
        return self.output(torch.relu(self.hidden2(torch.relu(self.hidden1(x.flatten(1))))))
"""

RESNET = """\
class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv{dims}d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm{dims}d(outputs)
        self.conv2 = nn.Conv{dims}d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm{dims}d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv{dims}d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm{dims}d(outputs))

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, channels, classes, widths, blocks):
        super().__init__()
        self.conv = nn.Conv{dims}d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm{dims}d(widths[0])
        places = [(stage, block) for stage in range(len(widths)) for block in range(blocks)]
        shapes = [(widths[stage], 2 if stage and not block else 1) for stage, block in places]
        inputs = [widths[0], *(width for width, _ in shapes)]
        self.blocks = nn.Sequential(*(Block(n, width, stride) for n, (width, stride) in zip(inputs, shapes)))
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, x):
        y = self.blocks(torch.relu(self.norm(self.conv(x))))
        return self.output(y.flatten(2).mean(2))
"""

VGG_TEXT = """\
class VGG(nn.Module):
    def __init__(self, channels, classes, stages):
        super().__init__()
        self.stages = nn.ModuleList()
        for widths in stages:
            layers = []
            for width in widths:
                convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            self.stages.append(nn.Sequential(*layers))
        self.output = nn.Linear(channels, classes)

    def forward(self, x):
        for index, stage in enumerate(self.stages):
            x = stage(nn.functional.max_pool2d(x, 2) if index else x)
        return self.output(x.flatten(2).mean(2))
"""


def definition(network: str, input_shape: tuple[int, ...], classes: int) -> str:
    """Python that defines `network`, in plain PyTorch; torch and nn are imported."""
    make, options = NETWORKS[network]
    if make is LeNet:
        return f"{LENET}\n\nnetwork = LeNet({math.prod(input_shape)}, {classes})"
    if make is ResNet:
        given = f"{input_shape[0]}, {classes}, {options['widths']}, blocks={options.get('blocks', 3)}"
        return f"{RESNET.format(dims=options['dims'])}\n\nnetwork = ResNet({given})"
    if make is VGG:
        return f"{VGG_TEXT}\n\nnetwork = VGG({input_shape[0]}, {classes}, {STAGES[options['layers']]})"
    if make is ImageNetwork:
        more = "".join(f", {name}={value}" for name, value in options["options"].items())
        name = options["definition"]
        return f"from torchvision.models import {name}\n\nnetwork = {name}(num_classes={classes}{more})"
    raise ValueError(f"network {network} has no plain definition")


def loss(network: str) -> str:
    """The expression of the loss of samples x and labels y while training."""
    if NETWORKS[network][1].get("definition") == "inception_v3":
        return f"sum(w * nn.functional.cross_entropy(head, y) for w, head in zip({HEADS}, network(x)))"
    return "nn.functional.cross_entropy(network(x), y)"


def optimizer(recipe: Recipe) -> str:
    """The expression of a recipe's optimizer."""
    options = {"lr": recipe.learning_rate}
    if recipe.optimizer == "rmsprop":
        options |= {"alpha": recipe.rms_decay or 0.0, "eps": recipe.rms_epsilon or 0.0}
    if recipe.optimizer != "adam" and recipe.momentum:
        options["momentum"] = recipe.momentum
    if recipe.weight_decay:
        options["weight_decay"] = recipe.weight_decay
    name = {"momentum": "SGD", "adam": "Adam", "rmsprop": "RMSprop"}[recipe.optimizer]
    return f"torch.optim.{name}(network.parameters(), {', '.join(f'{key}={value}' for key, value in options.items())})"


def learning_rate(recipe: Recipe) -> str:
    """The expression of a recipe's learning rate at `step`; as `harness.training.recipe.learning_rate`."""
    factors = [repr(recipe.learning_rate)]
    if recipe.warmup:
        factors.append(f"min(1, (step + 1) / {recipe.warmup})")
    if recipe.final_learning_rate is not None:
        share = recipe.final_learning_rate / recipe.learning_rate
        done = f"step / {recipe.steps}"
        factors.append(f"{share!r} ** ({done})" if recipe.decay == "exponential" else f"(1 - {1 - share!r} * {done})")
    if recipe.drops:
        factors.append(f"{recipe.drop_factor!r} ** sum(step >= drop for drop in {recipe.drops})")
    return " * ".join(factors)


def state_dict(
    network: str, input_shape: tuple[int, ...], classes: int, rewound: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The plain network's state: `rewound` is one replicate's, "weights/<name>" and "buffers/<name>".

    PyTorch's BatchNorm counts batches too, which changes nothing at its momentum; the count is given as 0.
    """
    names = _names(network, input_shape, classes)
    found = {}
    for name, value in rewound.items():
        plain, kind = names[name.partition("/")[2]]
        found[plain] = _plain(value, kind)
    for name in [name for name in found if name.endswith(".running_mean")]:
        found[f"{name.removesuffix('running_mean')}num_batches_tracked"] = torch.tensor(0)
    return found


def masks(network: str, input_shape: tuple[int, ...], classes: int, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep-masks by the names and in the shapes of the plain network's weights."""
    names = _names(network, input_shape, classes)
    return {names[name][0]: _plain(mask, names[name][1]) for name, mask in kept.items()}


def _plain(value: Tensor, kind: str) -> Tensor:
    """A stack's fully connected layer keeps its weight as [inputs, outputs] and its bias as [1, outputs]."""
    if kind == "weight":
        return value.T.contiguous()
    return value.flatten() if kind == "bias" else value


def _names(network: str, input_shape: tuple[int, ...], classes: int) -> dict[str, tuple[str, str]]:
    """For each tensor of a stack its plain name, and "weight" or "bias" if it is that of a fully connected `Linear`."""
    stack = build(network, 1, input_shape, classes)
    found = {}
    for layer, module in stack.named_modules():
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            own = NORM.get(name, name) if isinstance(module, BatchNorm) else name
            plain = f"{layer}.".removeprefix("network.") + own
            found[f"{layer}.{name}"] = (plain, name if isinstance(module, Linear) else "")
    return found
