"""Layers of a stack: R networks of one shape, trained side by side, one per replicate.

Every parameter has R as its first dimension and no operation mixes replicates, so replicate r of a stack computes
the same as it would alone, up to the rounding of its sums. One-dimensional feature maps are [R, C, N, L] and are
convolved as one batched matrix product; two-dimensional ones are [N, R*C, H, W] with the replicates as groups of
channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Module):
    """y = x W + b for each replicate: [R, N, inputs] -> [R, N, outputs]."""

    def __init__(self, replicates: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(replicates, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(replicates, 1, outputs))
        self.fan_in, self.fan_out = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _Taps(torch.autograd.Function):
    """[R, C, N, L] -> [R, C, 3, N, ceil(L / stride)]: the three inputs under a kernel of width 3, zero-padded by one.

    Stride 1 or 2. Written out because the backward pass of the generic unfold takes longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        replicates, channels, samples, length = x.shape
        ctx.shape, ctx.stride = x.shape, stride
        outputs = (length + stride - 1) // stride
        taps = x.new_empty(replicates, channels, 3, samples, outputs)
        taps[:, :, 1] = x[..., ::stride]
        taps[:, :, 0, :, :1] = 0
        taps[:, :, 0, :, 1:] = x[..., stride - 1 : length - 1 : stride]
        right = x[..., 1::stride]
        taps[:, :, 2, :, : right.shape[-1]] = right
        taps[:, :, 2, :, right.shape[-1] :] = 0
        return taps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        stride, length = ctx.stride, ctx.shape[-1]
        x = gradient.new_empty(ctx.shape)
        x[..., ::stride] = gradient[:, :, 1]
        right = x[..., 1::stride]
        if stride == 1:
            right += gradient[:, :, 2, :, : right.shape[-1]]
        else:  # the odd positions are not written yet
            right.copy_(gradient[:, :, 2, :, : right.shape[-1]])
        left = x[..., stride - 1 : length - 1 : stride]
        left += gradient[:, :, 0, :, 1:]
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
        replicates, outputs, inputs = self.weight.shape[:3]
        if self.dims == 2:
            kernel = self.weight.flatten(0, 1)
            return F.conv2d(x, kernel, stride=self.stride, padding=self.width // 2, groups=replicates)
        samples = x.shape[2]
        taps = x[..., :: self.stride] if self.width == 1 else _Taps.apply(x, self.stride)
        columns = taps.reshape(replicates, inputs * self.width, -1)
        return torch.bmm(self.weight.flatten(2), columns).view(replicates, outputs, samples, -1)


class BatchNorm(nn.Module):
    """Batch normalisation over each replicate's channels; buffers `mean` and `variance` are [R, C]."""

    MOMENTUM = 0.1  # PyTorch's default, as in the paper's later code

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
        # both layouts seen as [*, R*C, *]: a one-dimensional stack's samples and positions are one long axis
        channels_second = x.view(1, x.shape[0] * x.shape[1], -1) if self.dims == 1 else x
        y = F.batch_norm(
            channels_second,
            self.mean.view(-1),
            self.variance.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            self.training,
            self.momentum,
        )
        # a view in between, and an addition or ReLU in place on it makes autograd copy the whole gradient
        return y.view(x.shape) if self.dims == 1 else y


def fold(x: Tensor, dims: int) -> Tensor:
    """[R, N, C, *S] -> the layout of feature maps in `dims` dimensions."""
    return x.transpose(1, 2).contiguous() if dims == 1 else x.transpose(0, 1).flatten(1, 2)


def pool_all(x: Tensor, dims: int, replicates: int) -> Tensor:
    """Feature maps -> their mean over positions, [R, N, C]."""
    if dims == 1:
        return x.mean(-1).transpose(1, 2)
    return x.mean((-2, -1)).unflatten(1, (replicates, -1)).transpose(0, 1)
