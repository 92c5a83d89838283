"""A stack: R networks of one shape, one per replicate, and its layers.

Every parameter has R as its first dimension. The layers compute one network at a time, on its own slices: a replicate
runs the same operations, on tensors of the same shape and memory format, alone and in a stack of any size, and so has
the same bits. One-dimensional feature maps are [C, N, L] and are convolved as one matrix product; two-dimensional ones
are [N, C, H, W].
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from harness.networks import fused


class Stack(nn.Module):
    """R networks; [R, N, C, *S] -> [R, N, classes]. A subclass defines `alone`, its layers and `prunable`."""

    #: weights in the loss of the outputs of `alone` while it trains; the first is the network's answer
    HEADS: tuple[float, ...] = (1.0,)
    #: of the images that `alone` gets: the layout of a GPU's matrix units. On a CPU a step of ResNet-20 takes 0.7 of
    #: the time that it takes in the other one
    memory_format = torch.channels_last

    def alone(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One network's logits [N, classes], or those of each head, from x [N, C, *S]."""
        raise NotImplementedError

    def prunable(self) -> list[str]:
        """Names of the parameters that pruning may touch, in a fixed order."""
        raise NotImplementedError

    def units(self) -> dict[str, str]:
        """Weights whose outputs only one other weight reads, and that weight, in the order of the forward pass.

        Both are prunable. Criteria that remove whole units do so here; a network that names none has none to remove.
        """
        return {}

    def replicates(self) -> list[dict[str, Tensor]]:
        """Each network's parameters and buffers by name, views of the stack's."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        parts = {name: value.unbind() for name, value in tensors.items()}
        count = len(next(iter(parts.values())))
        return [{name: part[replicate] for name, part in parts.items()} for replicate in range(count)]

    def heads(self, replicate: dict[str, Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """What `alone` returns for x [N, C, *S] with the tensors of one of `replicates`, as a tuple."""
        if x.dim() == 4:
            x = x.contiguous(memory_format=self.memory_format)
        tensors = {f"stack.{name}": value for name, value in replicate.items()}
        outputs = functional_call(_Alone(self), tensors, (x,), tie_weights=False)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() and fused.usable(self, x):
            return fused.logits(self, x)
        return torch.stack([self.heads(own, own_x)[0] for own, own_x in zip(self.replicates(), x, strict=True)])


class _Alone(nn.Module):
    """A stack whose forward pass is one network's, for `functional_call`."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.stack.alone(x)


class Linear(nn.Module):
    """y = x W + b: [N, inputs] -> [N, outputs]."""

    def __init__(self, replicates: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(replicates, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(replicates, 1, outputs))
        self.fan_in, self.fan_out = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer's output of x for another weight of its shape, without bias."""
        return torch.mm(x, weight)


class _Taps(torch.autograd.Function):
    """[C, N, L] -> [C, 3, N, ceil(L / stride)]: the three inputs under a kernel of width 3, zero-padded by one.

    Stride 1 or 2. Written out because the backward pass of the generic unfold takes longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        channels, samples, length = x.shape
        ctx.shape, ctx.stride = x.shape, stride
        outputs = (length + stride - 1) // stride
        taps = x.new_empty(channels, 3, samples, outputs)
        taps[:, 1] = x[..., ::stride]
        taps[:, 0, :, :1] = 0
        taps[:, 0, :, 1:] = x[..., stride - 1 : length - 1 : stride]
        right = x[..., 1::stride]
        taps[:, 2, :, : right.shape[-1]] = right
        taps[:, 2, :, right.shape[-1] :] = 0
        return taps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        stride, length = ctx.stride, ctx.shape[-1]
        x = gradient.new_empty(ctx.shape)
        x[..., ::stride] = gradient[:, 1]
        right = x[..., 1::stride]
        if stride == 1:
            right += gradient[:, 2, :, : right.shape[-1]]
        else:  # the odd positions are not written yet
            right.copy_(gradient[:, 2, :, : right.shape[-1]])
        left = x[..., stride - 1 : length - 1 : stride]
        left += gradient[:, 0, :, 1:]
        return x, None


class Conv(nn.Module):
    """Convolution of width 3 (padding 1) or 1 (padding 0) without bias, one- or two-dimensional."""

    def __init__(self, replicates: int, inputs: int, outputs: int, width: int, stride: int = 1, *, dims: int):
        super().__init__()
        if width not in (1, 3) or dims not in (1, 2):
            raise ValueError(f"Conv: width {width} in {dims} dimensions is not one of 1, 3 in 1, 2")
        self.weight = nn.Parameter(torch.empty(replicates, outputs, inputs, *([width] * dims)))
        self.width, self.stride, self.dims = width, stride, dims
        self.fan_in, self.fan_out = inputs * width**dims, outputs * width**dims

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer's output of x for a weight of its shape."""
        if self.dims == 2:
            return F.conv2d(x, weight, stride=self.stride, padding=self.width // 2)
        taps = x[..., :: self.stride] if self.width == 1 else _Taps.apply(x, self.stride)
        columns = taps.reshape(weight[0].numel(), -1)
        return torch.mm(weight.flatten(1), columns).view(len(weight), x.shape[1], -1)


class BatchNorm(nn.Module):
    """Batch normalisation over a network's channels; buffers `mean` and `variance` are [R, C]."""

    MOMENTUM = 0.1  # PyTorch's default, as in the paper's later code
    EPSILON = 1e-5  # likewise

    mean: Tensor
    variance: Tensor

    def __init__(self, replicates: int, channels: int, *, dims: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(replicates, channels))
        self.bias = nn.Parameter(torch.zeros(replicates, channels))
        self.register_buffer("mean", torch.zeros(replicates, channels))
        self.register_buffer("variance", torch.ones(replicates, channels))
        self.dims = dims
        self.momentum = self.MOMENTUM

    def reset(self) -> None:
        """Weight 1, bias 0, running mean 0, running variance 1."""
        for value, fill in ((self.weight, 1.0), (self.bias, 0.0), (self.mean, 0.0), (self.variance, 1.0)):
            value.data.fill_(fill)

    def forward(self, x: Tensor) -> Tensor:
        # a one-dimensional network's samples and positions are one long axis
        channels_second = x.view(1, len(x), -1) if self.dims == 1 else x
        y = F.batch_norm(
            channels_second,
            self.mean,
            self.variance,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.EPSILON,
        )
        # a view in between, and an addition or ReLU in place on it makes autograd copy the whole gradient
        return y.view(x.shape) if self.dims == 1 else y


def connections(weight: Tensor) -> Tensor:
    """One network's weight of a `Linear` or `Conv`, or its mask, as a view [inputs, taps, outputs].

    A tap is a position under the kernel; a linear layer has one.
    """
    return weight[:, None] if weight.dim() == 2 else weight.flatten(2).permute(1, 2, 0)


def fold(x: Tensor, dims: int) -> Tensor:
    """[N, C, *S] -> the layout of feature maps in `dims` dimensions."""
    return x.transpose(0, 1).contiguous() if dims == 1 else x


def pool_all(x: Tensor, dims: int) -> Tensor:
    """Feature maps -> their mean over positions, [N, C]."""
    return x.mean(-1).T if dims == 1 else x.mean((-2, -1))
