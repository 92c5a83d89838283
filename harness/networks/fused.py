"""Residual networks on the CPU kernels: forward and backward pass as programs over the network's own parameters."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.kernels import LANES, available
from harness.kernels.maps import Program, Shape, pack, rounded


@dataclass
class Programs:
    """A network's passes for one number of samples: from `x` to `features`, and back from their gradient."""

    forward: Program
    backward: Program
    x: Tensor  # [R, C, P, N]
    features: Tensor  # [R, C', P', N], what the last block puts out
    gradient: Tensor  # the same shape: gradient to the features, overwritten by the backward pass
    tensors: list[Tensor]  # the network's parameters and buffers
    pointers: list[int]  # where they were when the programs were written


_programs: WeakKeyDictionary[nn.Module, dict[tuple[int, bool, bool], Programs]] = WeakKeyDictionary()


def usable(network: nn.Module, x: Tensor) -> bool:
    """Whether a stack's input [R, N, C, *S] can go through the kernels.

    Samples that only fill the last vector would count in the statistics of a training step.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or not available():
        return False
    return not (network.training and x.shape[1] % LANES)


def features(network: Any, x: Tensor) -> Tensor:
    """Mean over positions of the last block's output, [R, N, C'], without gradients."""
    programs = _forward(network, x, gradients=False)
    return programs.features.mean(2)[..., : x.shape[1]].transpose(1, 2)


def gradients(network: Any, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy [R] of a training batch x [R, N, C, *S], y [R, N]; leaves its gradients in `.grad`."""
    programs = _forward(network, x, gradients=True)
    pooled = programs.features.mean(2).transpose(1, 2).requires_grad_()
    network.output.zero_grad()
    with torch.enable_grad():
        losses = F.cross_entropy(network.output(pooled).transpose(1, 2), y, reduction="none").mean(1)
        losses.sum().backward()
    assert pooled.grad is not None
    positions = programs.features.shape[2]
    programs.gradient.copy_((pooled.grad / positions).transpose(1, 2).unsqueeze(2))
    programs.backward.run()
    return losses.detach()


def _forward(network: Any, x: Tensor, *, gradients: bool) -> Programs:
    """Run the forward pass, after writing its program if there is none for this shape yet."""
    known = _programs.setdefault(network, {})
    key = (x.shape[1], network.training, gradients)
    programs = known.get(key)
    if programs is None or programs.pointers != [tensor.data_ptr() for tensor in programs.tensors]:
        programs = known[key] = _write(network, x, gradients)
    for norm in programs.forward.norms:
        norm.structure.momentum = norm.module.momentum
    pack(x, programs.x)
    programs.forward.run()
    return programs


def _write(network: Any, x: Tensor, gradients: bool) -> Programs:
    """The programs of a residual network (`harness.networks.resnet.ResNet`)."""
    if gradients:
        for name, parameter in network.named_parameters():
            if not name.startswith("output"):
                parameter.grad = torch.zeros_like(parameter)
    samples, size = rounded(x.shape[1]), tuple(x.shape[3:])
    program = Program()
    packed = torch.zeros(x.shape[0], x.shape[2], x[0, 0, 0].numel(), samples)
    layers = [_Layer(program, packed, network.conv, network.norm, size, keep=gradients)]
    last, blocks = layers[0].out, []
    for block in network.blocks:
        blocks.append(_Block(program, last, block, size, keep=gradients))
        if not gradients:
            program.give_back(last)
        last, size = blocks[-1].second.out, blocks[-1].first.shape.out_size
    back = Program()
    gradient = back.buffer(*last.shape)
    at = gradient
    if gradients:
        for written in reversed(blocks):
            at = written.backward(back, at)
        layers[0].backward(back, at)
    tensors = [*network.parameters(), *network.buffers()]
    return Programs(program, back, packed, last, gradient, tensors, [tensor.data_ptr() for tensor in tensors])


class _Layer:
    """Convolution, batch normalisation, [residual,] [ReLU] in a program; `keep` what the backward pass needs."""

    def __init__(
        self,
        program: Program,
        x: Tensor,
        conv: Any,
        norm: Any,
        size: tuple[int, ...],
        *,
        relu: bool = True,
        residual: Tensor | None = None,
        keep: bool,
    ):
        outputs, inputs = conv.weight.shape[1:3]
        self.shape = Shape(outputs, inputs, size, conv.width, conv.stride, x.shape[-1])
        self.x, self.conv = x, conv
        self.y = program.convolve(x, conv.weight, self.shape)
        self.out, self.normed = program.normalise(self.y, norm, relu=relu, residual=residual, in_place=not keep)

    def backward(self, back: Program, gradient: Tensor, through: Tensor | None = None) -> Tensor:
        """Gradients to the layer's parameters; returns that to the convolution's output, in place of `gradient`."""
        back.normalise_backward(self.normed, gradient, self.out, self.y, through)
        back.weight_gradient(self.conv.weight.grad, gradient, self.x, self.shape)
        return gradient


class _Block:
    """A residual block in a program: see `harness.networks.resnet.Block`."""

    def __init__(self, program: Program, x: Tensor, block: Any, size: tuple[int, ...], *, keep: bool):
        self.first = _Layer(program, x, block.conv1, block.norm1, size, keep=keep)
        self.short: _Layer | None = None
        residual = x
        if len(block.shortcut):
            conv, norm = block.shortcut
            self.short = _Layer(program, x, conv, norm, size, relu=False, keep=keep)
            residual = self.short.out
        inside = self.first.shape.out_size
        self.second = _Layer(program, self.first.out, block.conv2, block.norm2, inside, residual=residual, keep=keep)
        if not keep:
            program.give_back(self.first.out)
            if self.short:
                program.give_back(self.short.out)

    def backward(self, back: Program, gradient: Tensor) -> Tensor:
        """Gradient to the block's input from that to its output, which is given back."""
        through = back.buffer(*gradient.shape)
        dy2 = self.second.backward(back, gradient, through)
        inner = back.input_gradient(dy2, self.second.conv.weight, self.second.shape)
        back.give_back(dy2)
        dy1 = self.first.backward(back, inner)
        if not self.short:
            back.input_gradient(dy1, self.first.conv.weight, self.first.shape, into=through)
            back.give_back(dy1)
            return through
        dx = back.input_gradient(dy1, self.first.conv.weight, self.first.shape)
        back.give_back(dy1)
        dy3 = self.short.backward(back, through)
        back.input_gradient(dy3, self.short.conv.weight, self.short.shape, into=dx)
        back.give_back(dy3)
        return dx
