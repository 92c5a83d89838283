"""Networks: published parameter counts, and stacks against PyTorch's own modules."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.base.errors import HarnessError
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.networks.layers import Conv, Stack, fold


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "prunable"),
    [
        ("lenet-300-100", (1, 28, 28), 266_610, 266_200),  # "266K", STAB Fig. 2
        ("lenet-300-100", (1, 8, 8), 50_610, 50_200),
        ("resnet20", (3, 32, 32), 272_474, 267_696),  # 274,042 less 1,568 running statistics; axis of STAB Fig. 5
        ("vgg16", (3, 32, 32), 14_724_042, 14_710_464),  # "14.7M", LMC Table 1
        ("vgg19", (3, 32, 32), 20_035_018, 20_018_880),  # "20.0M", STAB Fig. 2
    ],
)
def test_parameter_counts_are_the_papers(name, shape, parameters, prunable):
    network = build(name, 1, shape, 10)
    assert parameter_count(network) == parameters
    named = dict(network.named_parameters())
    assert sum(named[weight][0].numel() for weight in prunable_names(network)) == prunable


def test_one_dimensional_resnet_has_the_two_dimensional_ones_layers():
    one, two = build("resnet20-1d", 1, (1, 40), 10), build("resnet20", 1, (3, 32, 32), 10)
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in two.named_parameters()]
    assert prunable_names(one) == prunable_names(two)


class Alone(Stack):
    """A stack of one convolution."""

    def __init__(self, layer, dims):
        super().__init__()
        self.layer, self.dims = layer, dims

    def alone(self, x):
        y = self.layer(fold(x, self.dims))
        return y.transpose(0, 1) if self.dims == 1 else y


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize(("width", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
@pytest.mark.parametrize("length", [7, 8])
def test_convolution_equals_pytorchs_for_each_replicate(dims, width, stride, length):
    torch.manual_seed(0)
    replicates, samples, inputs, outputs = 3, 4, 2, 5
    layer = Conv(replicates, inputs, outputs, width, stride, dims=dims)
    nn.init.normal_(layer.weight)
    x = torch.randn(replicates, samples, inputs, *([length] * dims), requires_grad=True)
    y = Alone(layer, dims)(x)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    convolve = F.conv1d if dims == 1 else F.conv2d
    for r in range(replicates):
        alone = x[r].detach().requires_grad_()
        kernel = layer.weight[r].detach().requires_grad_()
        expected = convolve(alone, kernel, stride=stride, padding=width // 2)
        torch.testing.assert_close(y[r], expected)
        (expected * weights[r]).sum().backward()
        torch.testing.assert_close(x.grad[r], alone.grad)
        torch.testing.assert_close(layer.weight.grad[r], kernel.grad, rtol=1e-4, atol=1e-4)


class PlainBlock(nn.Module):
    """He et al.'s CIFAR block from PyTorch's modules, with a 1x1 shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def plain_resnet20():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        layers += [PlainBlock(inputs, outputs, 1 if inputs == outputs else 2), PlainBlock(outputs, outputs, 1)]
        layers += [PlainBlock(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def test_resnet20_computes_what_pytorchs_modules_compute():
    torch.manual_seed(0)
    stack, plain = build("resnet20", 2, (3, 32, 32), 10), plain_resnet20()
    initialise(stack, [("a", 0), ("a", 1)])
    ours = [value[1] for value in stack.parameters()]
    theirs = list(plain.parameters())
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            value = mine.T if mine.dim() == 2 and other.shape == (10, 64) else mine
            other.copy_(value.reshape(other.shape))
    x = torch.randn(2, 4, 3, 32, 32)
    torch.testing.assert_close(stack(x)[1], plain(x[1]), rtol=1e-4, atol=1e-4)
    means = [value for name, value in stack.named_buffers() if name.endswith("mean")]
    plain_means = [value for name, value in plain.named_buffers() if name.endswith("running_mean")]
    for mine, other in zip(means, plain_means, strict=True):
        torch.testing.assert_close(mine[1], other)


@pytest.mark.parametrize(("name", "shape"), [("lenet-300-100", (1, 8, 8)), ("resnet8-1d", (1, 40))])
def test_a_replicates_draw_depends_on_its_name_alone(name, shape):
    alone, stack = build(name, 1, shape, 10), build(name, 3, shape, 10)
    initialise(alone, [("x", 1)])
    initialise(stack, [("x", 0), ("x", 1), ("x", 2)])
    for one, many in zip(alone.parameters(), stack.parameters(), strict=True):
        assert torch.equal(one[0], many[1])
    assert not torch.equal(next(stack.parameters())[0], next(stack.parameters())[1])


def test_initialisation_has_glorots_deviation():
    network = build("lenet-300-100", 4, (1, 28, 28), 10)
    initialise(network, [("x", r) for r in range(4)])
    assert network.hidden1.weight.std().item() == pytest.approx((2 / (784 + 300)) ** 0.5, rel=0.01)


def test_an_unknown_network_is_named():
    with pytest.raises(HarnessError, match=r"network 'resnet21' is unknown: choose one of plain9-1d, lenet-300-100"):
        build("resnet21", 1, (3, 32, 32), 10)
