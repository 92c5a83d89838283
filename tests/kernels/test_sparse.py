"""Layers by kept weight against the dense kernels and torch in float64, over random masks."""

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.nn import functional as F

from harness import kernels
from harness.kernels import dense, maps, sparse
from harness.kernels.maps import Shape
from harness.kernels.program import Program, Runner
from harness.networks import build, fused, initialise, prunable_names
from harness.networks.layers import Linear
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.loop import evaluate, train
from harness.training.state import read_network
from harness.training.step import take_step
from harness.training.updates import Updater

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no build of the kernels for this machine")

MOMENTUM = {"optimizer": "momentum", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
ADAM = {"optimizer": "adam", "learning_rate": 1.2e-3, "weight_decay": 1e-3}
SHAPES = [  # outputs, inputs, size, width, stride, samples, blocks
    Shape(8, 1, (40,), 3, 1, 64),
    Shape(16, 8, (40,), 3, 2, 48),
    Shape(16, 8, (21,), 1, 2, 16),
    Shape(7, 5, (9,), 3, 1, 16),
    Shape(4, 4, (1,), 3, 1, 32),  # no position inside the map
    Shape(16, 3, (8, 8), 3, 1, 64, 2),
    Shape(6, 9, (7, 4), 3, 2, 16, 3),
    Shape(5, 6, (13, 11), 3, 1, 16),
    Shape(4, 6, (6, 5), 1, 2, 16),
]
DENSITIES = [0.0, 0.02, 0.1, 0.35, 1.0]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def random_mask(shape: tuple[int, ...], density: float, generator: torch.Generator) -> torch.Tensor:
    """A mask [outputs, inputs, ...] with whole outputs, inputs and taps that keep nothing, or everything."""
    mask = torch.rand(shape, generator=generator) < density
    if 0 < density < 1:
        mask[torch.rand(shape[0], generator=generator) < 0.2] = False
        mask[:, torch.rand(shape[1], generator=generator) < 0.2] = False
        mask[..., torch.rand(shape[-1], generator=generator) < 0.2] = False
        mask[int(torch.randint(shape[0], (), generator=generator))] = True
    return mask


def passes(layer: maps.Convolution | sparse.Convolution, program: Program, dy: torch.Tensor, added: torch.Tensor):
    """Output, gradient to the input, and the same added to a start, after the program has run."""
    dx = layer.input_gradient(program, dy)
    layer.input_gradient(program, dy, into=added)
    layer.weight_gradient(program, dy)
    Runner([program]).run()
    return layer.y, dx, added


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_has_the_bits_of_the_dense_kernels(
    shape: Shape, density: float, generator: torch.Generator
) -> None:
    kernel = (shape.outputs, shape.inputs, *[shape.width] * len(shape.size))
    mask = random_mask(kernel, density, generator)
    values = torch.randn(1, *kernel, generator=generator) * mask
    positions, outputs = (torch.Size(size).numel() for size in (shape.size, shape.out_size))
    x = torch.randn(shape.blocks, shape.inputs, maps.room(positions, shape.samples), shape.samples, generator=generator)
    start = torch.randn(x.shape, generator=generator)
    dy = torch.randn(maps.maps_of(Program(0), shape).shape, generator=generator)
    layers, results = [], []
    for kind in (maps.Convolution, sparse.Convolution):
        weight = Parameter(values.clone())
        weight.grad = torch.zeros_like(weight)
        program = Program(0)
        extra = (mask,) if kind is sparse.Convolution else ()
        layer = kind(program, x, weight, *extra, shape)
        layers.append(layer)
        results.append((weight, *passes(layer, program, dy, start.clone())))
    (theirs_w, *theirs), (mine_w, *mine) = results
    counts = (outputs, positions, positions)
    for a, b, count in zip(mine, theirs, counts, strict=True):
        assert torch.equal(a[:, :, :count], b[:, :, :count])
    assert theirs_w.grad is not None
    assert mine_w.grad is not None
    torch.testing.assert_close(mine_w.grad, theirs_w.grad * mask, atol=3e-4, rtol=1e-4)
    assert not mine_w.grad[0][~mask].any()


class _TwoLayers(torch.nn.Module):
    """Two layers, of which the first can be sparse; the rows have `samples`, the inputs 40 features."""

    def __init__(self, replicates: int, inputs: int, hidden: int):
        super().__init__()
        self.hidden, self.output = Linear(replicates, inputs, hidden), Linear(replicates, hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.hidden(x)))

    def packed(self, shape: torch.Size) -> fused.Packed:
        return fused.packed_rows(shape)

    def write(
        self, program: Program, x: dense.Rows, shape: torch.Size, learn: bool, memory: dense.Memory | None
    ) -> fused.Written:
        return fused.write_rows(program, [self.hidden, self.output], x, learn, memory)


@pytest.mark.parametrize("recipe", [MOMENTUM, ADAM], ids=["momentum", "adam"])
@pytest.mark.parametrize("density", [0.0, 0.03, 0.2, 0.5])
@pytest.mark.parametrize(("inputs", "hidden", "samples"), [(40, 37, 60), (150, 16, 7), (700, 20, 130), (7, 40, 20)])
def test_a_fully_connected_layer_moves_as_torchs_optimizers_move_it(
    inputs: int, hidden: int, samples: int, density: float, recipe: dict[str, str | float], generator: torch.Generator
) -> None:
    network = _TwoLayers(1, inputs, hidden)
    mask = random_mask((hidden, inputs), density, generator).T[None].float()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3, generator=generator)
        network.hidden.weight.mul_(mask)
    theirs = {name: value.detach().double().clone().requires_grad_() for name, value in network.named_parameters()}
    settings = Recipe.model_validate({"steps": 3, "batch_size": samples, **recipe})
    updater = Updater(settings, dict(network.named_parameters()), {"hidden.weight": mask})
    kind = torch.optim.Adam if recipe["optimizer"] == "adam" else torch.optim.SGD
    options = {"lr": settings.learning_rate, "weight_decay": 1e-3}
    optimizer = kind(theirs.values(), **options, **({} if kind is torch.optim.Adam else {"momentum": 0.9}))  # type: ignore[arg-type]
    for _ in range(3):
        x = torch.randn(1, samples, inputs, generator=generator)
        y = torch.randint(0, 10, (1, samples), generator=generator)
        losses = take_step(network, x, y, updater, settings.learning_rate)
        hidden_y = torch.relu(x.double() @ theirs["hidden.weight"] + theirs["hidden.bias"])
        logits = hidden_y @ theirs["output.weight"] + theirs["output.bias"]
        loss = F.cross_entropy(logits[0], y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            theirs["hidden.weight"].mul_(mask)
        torch.testing.assert_close(losses[0].double(), loss.detach(), atol=1e-5, rtol=1e-5)
    updater.write_back()
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach().double(), theirs[name].detach(), atol=3e-6, rtol=2e-4)
    assert not network.hidden.weight[mask == 0].any()
    if inputs >= kernels.LANES:  # else the layer was computed by all its weights
        assert all(not slot[mask == 0].any() for slot in updater.slots["hidden.weight"])


def test_a_narrow_hidden_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 16 units"):
        fused.step(_TwoLayers(1, 40, 15), torch.zeros(1, 4, 40), torch.zeros(1, 4, dtype=torch.int64))


def weights_after_steps(
    name: str, densities: list[tuple[int, float]], threads: int = 1, steps: int = 3
) -> list[dict[str, torch.Tensor]]:
    """Each replicate's weights after some steps, for (replicate, density of its mask) on data of its own."""
    shape = (1, 40) if name.endswith("1d") else (3, 8, 8)
    network = build(name, len(densities), shape, 10)
    initialise(network, [("sparse", r) for r, _ in densities])
    named, masks = dict(network.named_parameters()), {}
    for key in prunable_names(network):
        draws = [torch.rand(named[key].shape[1:], generator=torch.Generator().manual_seed(r)) for r, _ in densities]
        masks[key] = torch.stack([draw < density for draw, (_, density) in zip(draws, densities, strict=True)]).float()
    recipe = ADAM if name.startswith("lenet") else MOMENTUM
    updater = Updater(Recipe.model_validate({"steps": steps, "batch_size": 32, **recipe}), named, masks)
    network.train()
    kernels.use_threads(threads)
    try:
        for step in range(steps):
            generators = [torch.Generator().manual_seed(100 * step + r) for r, _ in densities]
            x = torch.stack([torch.randn(32, *shape, generator=draws) for draws in generators])
            y = torch.stack([torch.randint(0, 10, (32,), generator=draws) for draws in generators])
            take_step(network, x, y, updater, 0.01)
    finally:
        kernels.use_threads(1)
    updater.write_back()
    return [
        {key: value.detach()[position] for key, value in network.state_dict().items()}
        for position in range(len(densities))
    ]


DIFFERENT = [(0, 1.0), (1, 0.1), (2, 0.3), (3, 0.0), (4, 0.03)]


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet8-1d", "resnet20"])
def test_a_replicates_bits_are_its_own(name: str) -> None:
    """Alone, beside neighbours of any density, and on any number of threads."""
    together = weights_after_steps(name, DIFFERENT)
    runs = [
        weights_after_steps(name, DIFFERENT[::-1], threads=2)[::-1],
        weights_after_steps(name, DIFFERENT, threads=3),
    ]
    runs.append([weights_after_steps(name, [replicate])[0] for replicate in DIFFERENT])
    for run in runs:
        for mine, other in zip(together, run, strict=True):
            assert all(torch.equal(mine[key], value) for key, value in other.items())


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet8-1d", "resnet20"])
def test_a_network_learns_by_kept_weights_as_by_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_kept = weights_after_steps(name, DIFFERENT, steps=1)
    monkeypatch.setattr(sparse, "BREAK_EVEN", dict.fromkeys(sparse.BREAK_EVEN, 0.0))
    by_all = weights_after_steps(name, DIFFERENT, steps=1)
    differences = 0
    for mine, other in zip(by_kept, by_all, strict=True):
        for key, value in other.items():
            torch.testing.assert_close(mine[key], value, atol=2e-5, rtol=1e-4)
            differences += int((mine[key] != value).sum())
    assert differences  # else both were computed in one way


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet-300-100", (1, 8, 8)), ("resnet8-1d", (1, 40)), ("resnet20", (3, 8, 8))]
)
def test_inference_by_kept_weights_has_the_bits_of_the_dense_kernels(
    name: str, shape: tuple[int, ...], generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the weights that are zero change between two calls."""
    network = build(name, 2, shape, 10)
    x, y = torch.randn(100, *shape, generator=generator), torch.randint(0, 10, (100,), generator=generator)
    results = []
    for break_even in (dict(sparse.BREAK_EVEN), dict.fromkeys(sparse.BREAK_EVEN, 0.0)):
        monkeypatch.setattr(sparse, "BREAK_EVEN", break_even)
        draws = torch.Generator().manual_seed(5)
        for density in (1.0, 0.1, 0.1, 0.9, 0.0):
            initialise(network, [("inference", r) for r in range(2)])
            with torch.no_grad():
                for key in prunable_names(network):
                    weight = network.get_parameter(key)
                    weight.mul_(torch.rand(weight.shape, generator=draws) < density)
            results.append(evaluate(network, x, y)[1])
    assert torch.equal(torch.stack(results[:5]), torch.stack(results[5:]))
    assert len({float(loss) for result in results for loss in result}) > 5


def test_a_training_by_kept_weights_goes_on_from_its_kept_state_to_the_same_bits() -> None:
    recipe = Recipe.model_validate({"steps": 250, "batch_size": 16, **ADAM})
    x, y = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(100) % 10
    network = build("lenet-300-100", 2, (1, 8, 8), 10)
    initialise(network, [("kept", r) for r in range(2)])
    start = read_network(network, 0)
    draws = torch.Generator().manual_seed(7)
    masks = {
        key: (torch.rand(start.weights[key].shape, generator=draws) < 0.1).float() for key in prunable_names(network)
    }
    kept = []

    def run(state, **options):
        batches = Batches(x, y, 16, [("kept", r) for r in range(2)], "none")
        return train(network, recipe, batches, state, masks, **options)

    whole = run(start, keep_state=lambda state, _: kept.append(state), keep_every_seconds=0, snapshot_steps=[130])
    for state in (kept[0], whole.snapshots[130]):
        final = run(state).final
        assert all(torch.equal(value, final.weights[key]) for key, value in whole.final.weights.items())
    assert any(slot.any() for slot in kept[0].optimizer.values())


@pytest.mark.parametrize(("samples", "columns"), [(1, 16), (64, 16), (60, 37), (130, 300)])
def test_blocks_hold_samples_innermost(samples: int, columns: int, generator: torch.Generator) -> None:
    rows = torch.randn(samples, columns, generator=generator)
    program = Program(0)
    blocks = sparse.to_blocks(program, rows)
    back = sparse.to_rows(program, blocks, samples)
    Runner([program]).run()
    count = -(-samples // sparse.BLOCK)
    padded = F.pad(rows, (0, 0, 0, count * sparse.BLOCK - samples))
    assert torch.equal(blocks, padded.view(count, sparse.BLOCK, columns).transpose(1, 2))
    assert torch.equal(back, rows)


def test_tiles_and_runs_hold_each_position_once() -> None:
    for shape in SHAPES:
        for geometry in maps.geometries(shape, 200, 200):
            positions = np.arange(len(geometry.table))
            settings = sparse._kept_map(geometry, np.ones((shape.outputs, shape.inputs, shape.taps)), add=False)
            tiles = settings.arrays[6]
            assert sorted(tiles[tiles >= 0].tolist()) == positions.tolist()
            run, length, edge = settings.arrays[8:11]
            inside = [first + k for first, count in zip(run, length, strict=True) for k in range(count)]
            assert sorted([*inside, *edge.tolist()]) == positions.tolist()
