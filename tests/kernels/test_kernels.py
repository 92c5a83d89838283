"""The CPU kernels against torch's own operations in float64, in every build that this machine can run."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter
from torch.nn import functional as F

from harness import kernels
from harness.base.errors import HarnessError
from harness.kernels import build as compiling
from harness.kernels import dense
from harness.kernels.maps import Convolution, Shape, normalise, normalise_backward, pack, packed, room
from harness.kernels.program import Program, Runner
from harness.networks import build, fused, initialise, prunable_names
from harness.networks.layers import BatchNorm, Linear
from harness.paper.models import Recipe
from harness.training.step import take_step
from harness.training.updates import SLOTS, Updater

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no build of the kernels for this machine")

SHAPES = [  # outputs, inputs, size, width, stride, samples, blocks
    Shape(8, 1, (40,), 3, 1, 64),
    Shape(8, 8, (40,), 3, 1, 48),
    Shape(16, 8, (40,), 3, 2, 64),
    Shape(16, 8, (40,), 1, 2, 64),
    Shape(7, 5, (9,), 3, 2, 16),  # channels that fill no tile, an odd length
    Shape(16, 3, (8, 8), 3, 1, 64, 2),
    Shape(6, 5, (7, 4), 3, 2, 16, 5),
    Shape(4, 6, (6, 5), 1, 2, 16),
]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def as_torch(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """[B, C, P', N] with room for the positions of S -> [B * N, C, *S] in float64."""
    return maps[:, :, : torch.Size(size).numel()].double().permute(0, 3, 1, 2).flatten(0, 1).unflatten(2, size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients_are_torchs(shape: Shape, generator: torch.Generator) -> None:
    replicates, positions = 2, room(torch.Size(shape.size).numel(), shape.samples)
    kernel = [shape.width] * len(shape.size)
    weight = Parameter(torch.randn(replicates, shape.outputs, shape.inputs, *kernel, generator=generator))
    x = torch.randn(replicates, shape.blocks, shape.inputs, positions, shape.samples, generator=generator)
    programs = [Program(r) for r in range(replicates)]
    start, added = torch.randn(x.shape, generator=generator), torch.empty_like(x)
    added.copy_(start)
    weight.grad = dw = torch.empty_like(weight)
    y, dy, dx = [], [], []
    for program, own_x, own_added in zip(programs, x, added, strict=True):
        layer = Convolution(program, own_x, weight, shape)
        y.append(layer.y)
        dy.append(torch.randn(layer.y.shape, generator=generator))
        dx.append(layer.input_gradient(program, dy[-1]))
        layer.input_gradient(program, dy[-1], into=own_added)
        layer.weight_gradient(program, dy[-1])
    Runner(programs).run()
    for r in range(replicates):
        theirs_x = as_torch(x[r], shape.size).requires_grad_()
        theirs_w = weight[r].detach().double().requires_grad_()
        theirs_convolve = F.conv1d if len(shape.size) == 1 else F.conv2d
        theirs = theirs_convolve(theirs_x, theirs_w, stride=shape.stride, padding=shape.width // 2)
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
    replicates, blocks, channels, positions, samples = 2, 3, 3, 5, 48
    norm = BatchNorm(replicates, channels, dims=1)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        norm.mean.normal_(generator=generator)
    for parameter in norm.parameters():
        parameter.grad = torch.zeros_like(parameter)
    y = 3 + 2 * torch.randn(replicates, blocks, channels, positions, samples, generator=generator)
    residual = torch.randn(y.shape, generator=generator) if with_residual else None
    running = [buffer.double().flatten() for buffer in (norm.mean, norm.variance)]
    gradient = torch.randn(y.shape, generator=generator)
    dy, through = gradient.clone(), torch.empty_like(y)
    programs, outs = [Program(r) for r in range(replicates)], []
    for r, program in enumerate(programs):
        own = None if residual is None else residual[r]
        own_out, normed = normalise(program, y[r], positions, norm, relu=relu, residual=own)
        normalise_backward(program, normed, dy[r], own_out, y[r], through[r])
        outs.append(own_out)
    Runner(programs).run()
    out = torch.stack(outs)

    def by_channel(value: torch.Tensor) -> torch.Tensor:  # [R * C, B * P * N]
        return value.double().transpose(1, 2).flatten(0, 1).flatten(1)

    theirs_y = by_channel(y).requires_grad_()
    theirs_w, theirs_b = (p.detach().double().flatten().requires_grad_() for p in (norm.weight, norm.bias))
    theirs = F.batch_norm(theirs_y.t(), running[0], running[1], theirs_w, theirs_b, True, 0.1).t()
    theirs_residual = torch.zeros_like(theirs) if residual is None else by_channel(residual)
    theirs_residual = theirs_residual.detach().requires_grad_()
    theirs = theirs + theirs_residual
    theirs = theirs.relu() if relu else theirs
    theirs.backward(by_channel(gradient))
    pairs = [
        (by_channel(out), theirs),
        (by_channel(dy), theirs_y.grad),
        (by_channel(through), theirs_residual.grad),
        (norm.weight.grad, theirs_w.grad),
        (norm.bias.grad, theirs_b.grad),
        (norm.mean, running[0]),
        (norm.variance, running[1]),
    ]
    for mine, other in pairs:
        assert mine is not None
        assert other is not None
        torch.testing.assert_close(mine.double().flatten(), other.flatten(), atol=5e-5, rtol=2e-5)


def torch_step(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Losses [R] by torch alone, gradients in `.grad`."""
    with kernels.without():
        losses = F.cross_entropy(network(x).transpose(1, 2), y, reduction="none").mean(1)
        losses.sum().backward()
    return losses.detach()


NETWORKS = [
    ("lenet-300-100", (1, 8, 8)),
    ("resnet8-1d", (1, 40)),
    ("resnet20-1d", (1, 40)),
    ("resnet20", (3, 8, 8)),
    ("plain9-1d", (1, 40)),
]


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_a_network_computes_what_torch_computes(name: str, shape: tuple[int, ...], generator: torch.Generator) -> None:
    network = build(name, 2, shape, 10)
    initialise(network, [("kernels", r) for r in range(2)])
    x, y = torch.randn(2, 32, *shape, generator=generator), torch.randint(0, 10, (2, 32), generator=generator)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    found = []
    for step in (fused.step, torch_step):
        network.load_state_dict(start)
        network.train()
        network.zero_grad()
        losses = step(network, x, y).clone()
        grads = {key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None}
        statistics = {key: value.clone() for key, value in network.named_buffers()}
        network.eval()
        part = x[:, :21]  # fills no vector
        with torch.no_grad(), kernels.without() if step is torch_step else contextlib.nullcontext():
            logits = network(part)
        found.append((losses, grads, statistics, logits))
    mine, torchs = found
    torch.testing.assert_close(mine[0], torchs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine[3], torchs[3], atol=1e-4, rtol=1e-4)
    for key, value in torchs[2].items():
        torch.testing.assert_close(mine[2][key], value, atol=1e-5, rtol=1e-4)
    assert mine[1].keys() == torchs[1].keys()
    for key, value in torchs[1].items():
        # one ReLU that rounding turns over moves a sum over a few hundred terms by about a percent of its size
        assert (mine[1][key] - value).norm() <= 0.03 * value.norm() + 1e-6, key


MOMENTUM = {"optimizer": "momentum", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
ADAM = {"optimizer": "adam", "learning_rate": 1.2e-3, "weight_decay": 1e-3}


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["momentum", "adam"])
@pytest.mark.parametrize("outputs", [10, 16, 37, 70])
def test_optimizers_move_a_layer_as_torchs_do(
    optimizer: dict[str, str | float], outputs: int, generator: torch.Generator
) -> None:
    """One linear layer in float64 by torch.optim, three steps, from the definition y = x W + b."""
    inputs, samples = 21, 7
    network = _OneLayer(inputs, outputs)
    with torch.no_grad():
        network.output.weight.normal_(generator=generator)
    mask = (torch.rand(2, inputs, outputs, generator=generator) < 0.5).float()
    weight = (network.output.weight.detach() * mask).double().requires_grad_()
    bias = network.output.bias.detach().double().clone().requires_grad_()
    recipe = Recipe.model_validate({"steps": 3, "batch_size": samples, **optimizer})
    updater = Updater(recipe, dict(network.named_parameters()), {"output.weight": mask})
    theirs: torch.optim.Optimizer
    if optimizer["optimizer"] == "adam":
        theirs = torch.optim.Adam([weight, bias], lr=1.2e-3, weight_decay=1e-3)
    else:
        theirs = torch.optim.SGD([weight, bias], lr=0.05, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        x = torch.randn(2, samples, inputs, generator=generator)
        y = torch.randint(0, outputs, (2, samples), generator=generator)
        losses = take_step(network, x, y, updater, recipe.learning_rate)
        expected = F.cross_entropy((x.double() @ weight + bias).transpose(1, 2), y, reduction="none").mean(1)
        theirs.zero_grad()
        expected.sum().backward()
        theirs.step()
        weight.data.mul_(mask)
        torch.testing.assert_close(losses.double(), expected.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.output.weight.double(), weight, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(network.output.bias.double(), bias, atol=2e-6, rtol=1e-5)
        assert not network.output.weight[mask == 0].any()


@pytest.mark.parametrize("threads", [1, 2])
def test_numbers_below_the_normal_ones_are_zeros_and_move_no_weight(threads: int, generator: torch.Generator) -> None:
    """Adam's memory of a weight without a gradient: torch.optim's steps keep such numbers, and give the same bits."""
    network = _OneLayer(20, 10)
    with torch.no_grad():
        network.output.weight.normal_(generator=generator)
    recipe = Recipe.model_validate({"steps": 2, "batch_size": 4, **ADAM, "weight_decay": 0})
    named, tiny = dict(network.named_parameters()), 1e-39
    memory = {f"{slot}/{key}": torch.zeros_like(p.data) for slot in SLOTS["adam"] for key, p in named.items()}
    memory["exp_avg/output.weight"] += tiny
    updater = Updater(recipe, named, {}, memory, steps=5)
    weight, x = network.output.weight.detach().clone().requires_grad_(), torch.zeros(2, 4, 20)
    weight.grad, theirs = torch.zeros_like(weight), torch.optim.Adam([weight], lr=1.2e-3)
    theirs.state[weight] = {"step": torch.tensor(5.0), "exp_avg": torch.full_like(weight, tiny)}
    theirs.state[weight]["exp_avg_sq"] = torch.zeros_like(weight)
    kernels.use_threads(threads)
    try:
        take_step(network, x, torch.zeros(2, 4, dtype=torch.int64), updater, recipe.learning_rate)
    finally:
        kernels.use_threads(1)
    theirs.step()
    assert torch.equal(network.output.weight, weight)
    assert theirs.state[weight]["exp_avg"].all()
    assert not updater.slots["output.weight"][0].any()
    assert torch.tensor(tiny) * 0.5 > 0  # outside the kernels numbers are as they were


class _OneLayer(torch.nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.output = Linear(2, inputs, outputs)

    def packed(self, shape: torch.Size) -> fused.Packed:
        return fused.packed_rows(shape)

    def write(
        self, program: Program, x: dense.Rows, shape: torch.Size, learn: bool, memory: dense.Memory | None
    ) -> fused.Written:
        return fused.write_rows(program, [self.output], x, learn, memory)


def three_steps(name: str, replicates: list[int], threads: int = 1) -> dict[str, torch.Tensor]:
    """Weights of a stack of these replicates after three steps, each on batches of its own; masks of density 0.4."""
    shape = (1, 40) if name.endswith("1d") else (1, 8, 8)
    network = build(name, len(replicates), shape, 10)
    initialise(network, [("alone", r) for r in replicates])
    named, masks = dict(network.named_parameters()), {}
    for key in prunable_names(network):
        draws = [torch.rand(named[key].shape[1:], generator=torch.Generator().manual_seed(r)) for r in replicates]
        masks[key] = (torch.stack(draws) < 0.4).float()
    recipe = Recipe.model_validate({"steps": 3, "batch_size": 32, **MOMENTUM})
    updater = Updater(recipe, named, masks)
    kernels.use_threads(threads)
    try:
        for step in range(3):
            generators = [torch.Generator().manual_seed(100 * step + r) for r in replicates]
            x = torch.stack([torch.randn(32, *shape, generator=generator) for generator in generators])
            y = torch.stack([torch.randint(0, 10, (32,), generator=generator) for generator in generators])
            take_step(network, x, y, updater, 0.05)
        updater.write_back()
    finally:
        kernels.use_threads(1)
    for key, mask in masks.items():
        assert not named[key][mask == 0].any(), key
    return {key: value.detach() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet8-1d", "lenet-300-100"])
def test_a_replicate_has_the_same_bits_alone_and_in_a_stack(name: str) -> None:
    together = three_steps(name, [0, 1, 2])
    for r in range(3):
        for key, value in three_steps(name, [r]).items():
            assert torch.equal(value[0], together[key][r]), key


@pytest.mark.parametrize("name", ["resnet8-1d", "lenet-300-100"])
def test_threads_change_no_bit(name: str) -> None:
    one = three_steps(name, [0, 1, 2])
    for threads in (2, 3):
        many = three_steps(name, [0, 1, 2], threads)
        assert all(torch.equal(value, many[key]) for key, value in one.items())


def test_a_network_that_breaks_is_seen_to_break(generator: torch.Generator) -> None:
    """A weight that is no number must reach the loss: ReLU lets it through, as torch's does."""
    for name, shape in NETWORKS[:2]:
        network = build(name, 2, shape, 10)
        initialise(network, [("broken", r) for r in range(2)])
        first = next(iter(network.parameters()))
        with torch.no_grad():
            first.view(2, -1)[1, 0] = float("nan")
        x = torch.randn(2, 32, *shape, generator=generator)
        losses = fused.step(network, x, torch.zeros(2, 32, dtype=torch.int64))
        assert torch.isfinite(losses).tolist() == [True, False]


def test_pack_puts_samples_innermost() -> None:
    x = torch.arange(2 * 3 * 2 * 5.0).view(2, 3, 2, 5)
    maps = packed(x.shape)
    pack(x, maps)
    assert maps.shape == (2, 1, 2, 5, 16)
    assert torch.equal(maps[1, 0, 0, 4, :3], x[1, :, 0, 4])
    assert not maps[..., 3:].any()


@pytest.mark.parametrize(
    ("samples", "blocks"), [(64, (1, 64)), (128, (2, 64)), (96, (2, 48)), (80, (5, 16)), (100, (7, 16))]
)
def test_a_batch_is_cut_in_equal_blocks(samples: int, blocks: tuple[int, int]) -> None:
    x = torch.arange(samples * 2 * 3.0).view(1, samples, 2, 3)
    maps = packed(x.shape)
    pack(x, maps)
    assert (maps.shape[1], maps.shape[4]) == blocks
    assert torch.equal(maps[0, :, 1, 2].flatten()[:samples], x[0, :, 1, 2])


def test_a_program_takes_over_each_buffer_of_an_earlier_one_once() -> None:
    first = Program(0)
    one = first.buffer(4, 8)
    first.give_back(one)
    again, other = first.buffer(8, 4), first.buffer(32)  # `one` under another shape, and a second buffer
    assert again.data_ptr() == one.data_ptr()
    second = Program(0, first)
    places = [second.buffer(32).data_ptr() for _ in range(3)]
    assert len(set(places)) == 3
    assert {one.data_ptr(), other.data_ptr()} < set(places)


def test_another_optimizer_on_the_same_network_gives_the_same_bits(generator: torch.Generator) -> None:
    """The programs are written again, on the old ones' buffers."""
    found = []
    network = build("resnet8-1d", 2, (1, 40), 10)
    x, y = torch.randn(2, 32, 1, 40, generator=generator), torch.randint(0, 10, (2, 32), generator=generator)
    recipe = Recipe.model_validate({"steps": 3, "batch_size": 32, **MOMENTUM})
    for _ in range(3):
        initialise(network, [("again", r) for r in range(2)])
        updater = Updater(recipe, dict(network.named_parameters()), {})
        for _ in range(3):
            take_step(network, x, y, updater, 0.05)
        found.append([value.clone() for value in network.state_dict().values()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_operands_that_are_not_contiguous_are_refused() -> None:
    program, shape = Program(0), Shape(4, 4, (4,), 3, 1, 16)
    with pytest.raises(ValueError, match="contiguous"):
        Convolution(program, torch.zeros(4, 16, 4).transpose(1, 2), Parameter(torch.zeros(1, 4, 4, 3)), shape)


@pytest.mark.parametrize("change", ["flag", "target", "command"])
def test_libraries_of_another_command_are_of_another_source(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiling.source_digest()
    command = compiling._command
    if change == "flag":
        monkeypatch.setattr(compiling, "FLAGS", [*compiling.FLAGS, "-ffast-math"])
    elif change == "target":
        monkeypatch.setitem(compiling.TARGETS, "arm64", {"neon": ["-mcpu=apple_m1"]})
    else:
        monkeypatch.setattr(compiling, "_command", lambda target: ["c++", *command(target)[1:]])
    assert compiling.source_digest() != before


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
