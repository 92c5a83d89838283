"""The CPU kernels against torch's own operations in float64, in every build that this machine can run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from harness import kernels
from harness.errors import HarnessError
from harness.kernels.maps import Program, Shape, pack, rounded
from harness.networks import build, initialise
from harness.networks.layers import BatchNorm
from harness.training.loop import gradients

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no build of the kernels for this machine")

SHAPES = [  # outputs, inputs, size, width, stride, samples
    Shape(8, 1, (40,), 3, 1, 64),
    Shape(8, 8, (40,), 3, 1, 48),
    Shape(16, 8, (40,), 3, 2, 64),
    Shape(16, 8, (40,), 1, 2, 64),
    Shape(7, 5, (9,), 3, 2, 16),  # channels that fill no tile, an odd length
    Shape(16, 3, (8, 8), 3, 1, 128),
    Shape(6, 5, (7, 4), 3, 2, 80),
    Shape(4, 6, (6, 5), 1, 2, 16),
]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def as_torch(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """[C, P, N] -> [N, C, *S] in float64."""
    return maps.double().permute(2, 0, 1).unflatten(2, size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients_are_torchs(shape: Shape, generator: torch.Generator) -> None:
    replicates, positions = 2, torch.Size(shape.size).numel()
    weight = torch.randn(replicates, shape.outputs, shape.inputs, *[shape.width] * len(shape.size), generator=generator)
    x = torch.randn(replicates, shape.inputs, positions, shape.samples, generator=generator)
    program = Program()
    y = program.convolve(x, weight, shape)
    dy = torch.randn(y.shape, generator=generator)
    start = torch.randn(x.shape, generator=generator)
    dw, dx, added = torch.empty_like(weight), program.input_gradient(dy, weight, shape), start.clone()
    program.input_gradient(dy, weight, shape, into=added)
    program.weight_gradient(dw, dy, x, shape)
    program.run()
    for r in range(replicates):
        theirs_x = as_torch(x[r], shape.size).requires_grad_()
        theirs_w = weight[r].double().requires_grad_()
        convolve = F.conv1d if len(shape.size) == 1 else F.conv2d
        theirs = convolve(theirs_x, theirs_w, stride=shape.stride, padding=shape.width // 2)
        theirs.backward(as_torch(dy[r], shape.out_size))
        assert theirs_x.grad is not None
        torch.testing.assert_close(as_torch(y[r], shape.out_size), theirs, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(as_torch(dx[r], shape.size), theirs_x.grad, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(
            as_torch(added[r], shape.size), theirs_x.grad + as_torch(start[r], shape.size), atol=2e-5, rtol=1e-5
        )
        torch.testing.assert_close(dw[r].double(), theirs_w.grad, atol=3e-4, rtol=1e-5)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
def test_batch_norm_and_its_gradients_are_torchs(relu: bool, with_residual: bool, generator: torch.Generator) -> None:
    replicates, channels, positions, samples = 2, 3, 5, 48
    norm = BatchNorm(replicates, channels, dims=1)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        norm.mean.normal_(generator=generator)
    for parameter in norm.parameters():
        parameter.grad = torch.zeros_like(parameter)
    y = 3 + 2 * torch.randn(replicates, channels, positions, samples, generator=generator)
    residual = torch.randn(y.shape, generator=generator) if with_residual else None
    running = [buffer.double().flatten() for buffer in (norm.mean, norm.variance)]
    program = Program()
    out, normed = program.normalise(y, norm, relu=relu, residual=residual)
    gradient = torch.randn(y.shape, generator=generator)
    dy, through = gradient.clone(), torch.empty_like(y)
    program.normalise_backward(normed, dy, out, y, through)
    program.run()

    theirs_y = y.double().flatten(0, 1).flatten(1).requires_grad_()
    theirs_w, theirs_b = (p.detach().double().flatten().requires_grad_() for p in (norm.weight, norm.bias))
    theirs = F.batch_norm(theirs_y.t(), running[0], running[1], theirs_w, theirs_b, True, 0.1).t()
    theirs_residual = torch.zeros_like(theirs) if residual is None else residual.double().view(theirs.shape)
    theirs_residual = theirs_residual.detach().requires_grad_()
    theirs = theirs + theirs_residual
    theirs = theirs.relu() if relu else theirs
    theirs.backward(gradient.double().view(theirs.shape))
    pairs = [
        (out, theirs),
        (dy, theirs_y.grad),
        (through, theirs_residual.grad),
        (norm.weight.grad, theirs_w.grad),
        (norm.bias.grad, theirs_b.grad),
        (norm.mean, running[0]),
        (norm.variance, running[1]),
    ]
    for mine, other in pairs:
        assert mine is not None
        assert other is not None
        torch.testing.assert_close(mine.double().flatten(), other.flatten(), atol=5e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet8-1d", (1, 40)), ("resnet20-1d", (1, 40)), ("resnet20", (3, 8, 8))]
)
def test_a_network_computes_what_torch_computes(name: str, shape: tuple[int, ...], generator: torch.Generator) -> None:
    network = build(name, 2, shape, 10)
    initialise(network, [("kernels", r) for r in range(2)])
    x, y = torch.randn(2, 32, *shape, generator=generator), torch.randint(0, 10, (2, 32), generator=generator)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    found = []
    for off in (False, True):
        network.load_state_dict(start)
        network.train()
        network.zero_grad()
        if off:
            with kernels.without():
                losses = gradients(network, x, y)
        else:
            losses = gradients(network, x, y)
        grads = {key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None}
        statistics = {key: value.clone() for key, value in network.named_buffers()}
        network.eval()
        with torch.no_grad():
            part = x[:, :21]  # fills no vector
            logits = network(part) if not off else _torch_alone(network, part)
        found.append((losses, grads, statistics, logits))
    mine, torchs = found
    torch.testing.assert_close(mine[0], torchs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine[3], torchs[3], atol=1e-4, rtol=1e-4)
    for key, value in torchs[2].items():
        torch.testing.assert_close(mine[2][key], value, atol=1e-5, rtol=1e-4)
    for key, value in torchs[1].items():
        # one ReLU that rounding turns over moves a sum over a few hundred terms by about a percent of its size
        assert (mine[1][key] - value).norm() <= 0.03 * value.norm() + 1e-6, key


def _torch_alone(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with kernels.without():
        return network(x)


def test_a_replicate_has_the_same_bits_alone_and_in_a_stack(generator: torch.Generator) -> None:
    x, y = torch.randn(3, 32, 1, 40, generator=generator), torch.randint(0, 10, (3, 32), generator=generator)
    together = build("resnet8-1d", 3, (1, 40), 10)
    initialise(together, [("alone", r) for r in range(3)])
    losses = gradients(together, x, y)
    for r in range(3):
        alone = build("resnet8-1d", 1, (1, 40), 10)
        initialise(alone, [("alone", r)])
        assert gradients(alone, x[r : r + 1], y[r : r + 1])[0] == losses[r]
        for (name, one), (_, many) in zip(alone.named_parameters(), together.named_parameters(), strict=True):
            assert one.grad is not None
            assert many.grad is not None
            assert torch.equal(one.grad[0], many.grad[r]), name


def test_threads_change_no_bit(generator: torch.Generator) -> None:
    x, y = torch.randn(3, 32, 1, 40, generator=generator), torch.randint(0, 10, (3, 32), generator=generator)
    found = []
    for threads in (1, 2, 3):
        network = build("resnet8-1d", 3, (1, 40), 10)
        initialise(network, [("threads", r) for r in range(3)])
        kernels.use_threads(threads)
        try:
            losses = gradients(network, x, y)
        finally:
            kernels.use_threads(1)
        found.append([losses, *[p.grad for p in network.parameters()]])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_pack_puts_samples_innermost() -> None:
    x = torch.arange(2 * 3 * 2 * 5.0).view(2, 3, 2, 5)
    packed = torch.zeros(2, 2, 5, rounded(3))
    pack(x, packed)
    assert packed.shape[-1] == 16
    assert torch.equal(packed[1, 0, 4, :3], x[1, :, 0, 4])
    assert not packed[..., 3:].any()


def test_operands_that_are_not_contiguous_are_refused() -> None:
    program, shape = Program(), Shape(4, 4, (4,), 3, 1, 16)
    with pytest.raises(ValueError, match="contiguous"):
        program.convolve(torch.zeros(1, 4, 16, 4).transpose(2, 3), torch.zeros(1, 4, 4, 3), shape)


def test_an_unknown_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.CHOICE, "avx1024")
    kernels._load.cache_clear()
    try:
        with pytest.raises(HarnessError, match="HARNESS_KERNELS=avx1024: no such build"):
            kernels.available()
    finally:
        kernels._load.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(kernels.available() != "avx512", reason="needs a CPU with two builds")
def test_the_other_build_of_this_machine_passes_too() -> None:
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__)), "-p", "no:cacheprovider"]
    done = subprocess.run(command, env={**os.environ, kernels.CHOICE: "avx2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
