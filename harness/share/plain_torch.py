"""The harness's networks in plain PyTorch, and their tensors under the names of such a network.

The harness computes stacks of replicates. These networks are single replicates with PyTorch's own layers.
"""

import math

import torch
from torch import Tensor

from harness.networks import NETWORKS, build
from harness.networks.architectures.convnet import ConvNet
from harness.networks.architectures.lenet import LeNet
from harness.networks.architectures.resnet import ResNet
from harness.networks.architectures.torchvision_models import HEADS, ImageNetwork
from harness.networks.architectures.vgg import STAGES, VGG
from harness.networks.layers import BatchNorm, Linear
from harness.paper.models import Recipe

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

PLAIN = """\
class Layer(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Conv{dims}d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm{dims}d(outputs)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class ConvNet(nn.Module):
    def __init__(self, channels, classes, widths):
        super().__init__()
        self.conv = nn.Conv{dims}d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm{dims}d(widths[0])
        pairs = zip(widths, widths[1:])
        self.blocks = nn.Sequential(*(Layer(n, width, 2 if width > n else 1) for n, width in pairs))
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


def defined(network: str) -> bool:
    """Whether `definition` can write the network."""
    return network in NETWORKS and NETWORKS[network][0] in (LeNet, ResNet, ConvNet, VGG, ImageNetwork)


def definition(network: str, input_shape: tuple[int, ...], classes: int) -> str:
    """Python code that defines `network` in plain PyTorch, given the imports of torch and nn."""
    make, options = NETWORKS[network]
    if make is LeNet:
        return f"{LENET}\n\nnetwork = LeNet({math.prod(input_shape)}, {classes})"
    if make is ResNet:
        arguments = f"{input_shape[0]}, {classes}, {options['widths']}, blocks={options.get('blocks', 3)}"
        return f"{RESNET.format(dims=options['dims'])}\n\nnetwork = ResNet({arguments})"
    if make is ConvNet:
        arguments = f"{input_shape[0]}, {classes}, {options['widths']}"
        return f"{PLAIN.format(dims=options['dims'])}\n\nnetwork = ConvNet({arguments})"
    if make is VGG:
        return f"{VGG_TEXT}\n\nnetwork = VGG({input_shape[0]}, {classes}, {STAGES[options['layers']]})"
    if make is ImageNetwork:
        more = "".join(f", {name}={value}" for name, value in options["options"].items())
        name = options["definition"]
        return f"from torchvision.models import {name}\n\nnetwork = {name}(num_classes={classes}{more})"
    raise ValueError(f"network {network} has no plain definition")


def loss(network: str) -> str:
    """The expression of the training loss of samples x and labels y."""
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
        time = f"step / {recipe.steps}"
        factors.append(f"{share!r} ** ({time})" if recipe.decay == "exponential" else f"(1 - {1 - share!r} * {time})")
    if recipe.drops:
        factors.append(f"{recipe.drop_factor!r} ** sum(step >= drop for drop in {recipe.drops})")
    return " * ".join(factors)


def state_dict(
    network: str, input_shape: tuple[int, ...], classes: int, rewound: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The plain network's state_dict, from the "weights/<name>" and "buffers/<name>" of one replicate.

    PyTorch's BatchNorm also counts batches. The count is 0 here, which changes nothing, because momentum is constant.
    """
    names = _names(network, input_shape, classes)
    state = {}
    for name, value in rewound.items():
        plain_name, kind = names[name.partition("/")[2]]
        state[plain_name] = _in_torch_shape(value, kind)
    for name in [name for name in state if name.endswith(".running_mean")]:
        state[f"{name.removesuffix('running_mean')}num_batches_tracked"] = torch.tensor(0)
    return state


def masks(
    network: str, input_shape: tuple[int, ...], classes: int, stack_masks: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Keep-masks with the names and shapes of the plain network's weights."""
    names = _names(network, input_shape, classes)
    return {names[name][0]: _in_torch_shape(mask, names[name][1]) for name, mask in stack_masks.items()}


def _in_torch_shape(value: Tensor, kind: str) -> Tensor:
    """A tensor in PyTorch's shape. A stack's `Linear` has a weight [inputs, outputs] and a bias [1, outputs]."""
    if kind == "weight":
        return value.T.contiguous()
    return value.flatten() if kind == "bias" else value


def _names(network: str, input_shape: tuple[int, ...], classes: int) -> dict[str, tuple[str, str]]:
    """Each stack tensor's name in the plain network, and "weight" or "bias" if it is one of a `Linear` (else "")."""
    stack = build(network, 1, input_shape, classes)
    names = {}
    for layer, module in stack.named_modules():
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            plain_name = NORM.get(name, name) if isinstance(module, BatchNorm) else name
            plain_layer = f"{layer}.".removeprefix("network.")
            names[f"{layer}.{name}"] = (f"{plain_layer}{plain_name}", name if isinstance(module, Linear) else "")
    return names
