"""What a GPU would be asked to do, checked without one: a step's operations, where they wait, and what they mix.

A tensor on the device "meta" has a shape and no numbers, so nothing can be read from it; one that pretends to be on a
GPU goes through the operations of a GPU's path, whose results have shapes alone.
"""

import re
from collections import Counter
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness import kernels
from harness.networks import build, initialise, prunable_names
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.graphed import Steps
from harness.training.loop import use_threads
from harness.training.step import cross_entropy, take_step
from harness.training.updates import KINDS, Updater

NETWORKS = {
    "lenet-300-100": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "resnet20-1d": (1, 40),
    "vgg19": (3, 32, 32),
    "resnet50": (3, 64, 64),
    "inception-v3": (3, 299, 299),
    "squeezenet": (3, 64, 64),
}
MOMENTUM = Recipe(optimizer="momentum", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, batch_size=8, steps=100)


@pytest.fixture(autouse=True)
def _torch_alone():
    use_threads(1)
    with kernels.without():
        yield


class Operations(TorchDispatchMode):
    """Counts the operations that compute or move something, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not func.is_view and not name.startswith(("empty", "new_empty")):
            self.count[name] += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


class Training:
    """A stack in training on random samples."""

    def __init__(self, network: str, replicates: int, recipe: Recipe, shape: tuple[int, ...] = (3, 32, 32)):
        names = [("t", replicate) for replicate in range(replicates)]
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(64, *shape, generator=generator), torch.arange(64) % 10
        self.network = build(network, replicates, shape, 10).train()
        initialise(self.network, names)
        masks = {name: torch.ones_like(self.network.get_parameter(name)) for name in prunable_names(self.network)}
        self.updater = Updater(recipe, dict(self.network.named_parameters()), masks)
        self.batches = Batches(x, y, recipe.batch_size, names, recipe.augmentation)

    def step(self, number: int) -> Tensor:
        return take_step(self.network, *self.batches.batch(number), self.updater, 0.1)


def test_a_step_of_resnet20_takes_few_operations():
    """Nothing is copied on the way back; with a copy for each addition and ReLU in place there were 314."""
    training = Training("resnet20", 1, MOMENTUM.model_copy(update={"augmentation": "flip_crop"}))
    training.step(0)
    with Operations() as operations:
        training.step(1)
    assert sum(operations.count.values()) <= 200, operations.count


@pytest.fixture
def optimizers_on_meta(monkeypatch):
    """Fused optimizers check their tensors' device first, and that of momentum has no kernel for shapes alone."""
    for module in map(import_module, ("torch.optim.optimizer", "torch.optim.sgd", "torch.optim.adam")):
        monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", lambda: ["meta"], raising=False)
    library = torch.library.Library("aten", "IMPL", "Meta")
    for name in ("_fused_sgd_", "_fused_sgd_.tensor_lr", "_fused_adam_", "_fused_adam_.tensor_lr"):
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, lambda *_, **__: None)
    yield
    library._destroy()


@pytest.mark.usefixtures("optimizers_on_meta")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lenet-300-100", {"optimizer": "adam", "momentum": 0.0}),
        ("resnet20", {"augmentation": "flip_crop"}),
        ("resnet20-1d", {}),
        ("vgg19", {"augmentation": "flip_crop"}),
        ("squeezenet", {"optimizer": "rmsprop", "rms_decay": 0.9, "rms_epsilon": 1.0}),
    ],
)
def test_a_step_reads_nothing_from_the_device_and_makes_nothing_beside_it(name, changes):
    """Else each step would wait for the GPU, and a graph of it could not be recorded."""
    recipe = Recipe.model_validate({**MOMENTUM.model_dump(exclude_unset=True), **changes})
    shape, names = NETWORKS[name], [("t", replicate) for replicate in range(2)]
    network = build(name, 2, shape, 10).to("meta").train()
    masks = {name: torch.ones(network.get_parameter(name).shape) for name in prunable_names(network)}
    updater = Updater(recipe, dict(network.named_parameters()), masks)
    x, y = torch.empty(64, *shape, device="meta"), torch.empty(64, dtype=torch.long, device="meta")
    batches = Batches(x, y, recipe.batch_size, names, recipe.augmentation)
    for step in range(2):
        losses = take_step(network, *batches.batch(step), updater, 0.1)
    assert (losses.shape, losses.device.type) == ((2,), "meta")
    if recipe.optimizer in KINDS:
        assert Steps(network, updater, batches, 2).take(2).device.type == "meta"


@pytest.mark.parametrize(
    "read", [Tensor.item, Tensor.tolist, Tensor.cpu, torch.nonzero, lambda x: x + torch.ones(3), lambda x: bool(x > 0)]
)
def test_what_such_a_step_must_not_do_is_refused(read):
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.empty((), device="meta"))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_stays_on_its_gpu(name):
    """Forward, in training and evaluation; the way back needs a driver."""
    shape = NETWORKS[name]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda:0"):
            network, x = build(name, 2, shape, 10), torch.empty(2, 4, *shape)
        for training in (True, False):
            network.train(training)
            y = network(x)
            assert (y.shape, y.device) == ((2, 4, 10), torch.device("cuda:0"))


#: PyTorch's list of what has no deterministic kernel on a GPU, and the operations behind each entry; [] if none is of a
#: network's kind
NONDETERMINISTIC = {
    "torch.nn.AvgPool3d": ["avg_pool3d_backward"],
    "torch.nn.AdaptiveAvgPool2d": ["_adaptive_avg_pool2d_backward"],
    "torch.nn.AdaptiveAvgPool3d": ["_adaptive_avg_pool3d_backward"],
    "torch.nn.AdaptiveMaxPool2d": ["adaptive_max_pool2d_backward"],
    "torch.nn.FractionalMaxPool2d": ["fractional_max_pool2d_backward"],
    "torch.nn.FractionalMaxPool3d": ["fractional_max_pool3d_backward"],
    **{f"torch.nn.MaxUnpool{dims}d": ["max_unpool2d", "max_unpool3d"] for dims in (1, 2, 3)},
    "torch.nn.functional.interpolate": [
        *(f"upsample_{kind}_backward" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    ],
    **{f"torch.nn.ReflectionPad{dims}d": [f"reflection_pad{dims}d_backward"] for dims in (1, 2, 3)},
    "torch.nn.NLLLoss": ["nll_loss2d_forward", "nll_loss2d_backward"],
    "torch.nn.CTCLoss": ["_ctc_loss_backward"],
    "torch.nn.EmbeddingBag": ["_embedding_bag_backward"],
    "torch.Tensor.put_": ["put_"],
    "torch.histc": ["histc"],
    "torch.bincount": ["bincount"],
    "torch.kthvalue": ["kthvalue"],
    "torch.median": ["median"],
    "torch.nn.functional.grid_sample": ["grid_sampler_2d_backward", "grid_sampler_3d_backward"],
    "torch.cumsum": ["cumsum"],
    "torch.Tensor.scatter_reduce": ["scatter_reduce"],
    "torch.Tensor.resize_": [],
}


def test_pytorchs_list_is_the_one_that_was_read():
    """A new release's entry has to be looked at: add it above, with its operations."""
    _, _, text = torch.use_deterministic_algorithms.__doc__.partition("nondeterministic operations will throw a")
    text, _, _ = text.partition("In addition")
    named = set(re.findall(r"^        \* :\w+:`([\w.]+)`", text, re.M))
    assert len(named) > 15
    assert named <= set(NONDETERMINISTIC)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_operation_of_a_network_lacks_a_deterministic_kernel(name):
    shape, refused = NETWORKS[name], {operation for names in NONDETERMINISTIC.values() for operation in names}
    network = build(name, 1, shape, 10).to("meta").train()
    with Operations() as operations:
        (own,) = network.replicates()
        heads = network.heads(own, torch.empty(4, *shape, device="meta"))
        sum(cross_entropy(head, torch.empty(4, dtype=torch.long, device="meta")).mean() for head in heads).backward()
    assert operations.count["convolution_backward"] or name.startswith(("lenet", "resnet20-1d"))
    assert not {operation for operation in operations.count if operation in refused}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_replicates_weights_start_where_the_first_ones_do(name):
    """A GPU's libraries choose kernels by a tensor's alignment too, of up to 32 bytes."""
    with torch.device("meta"):
        network = build(name, 2, NETWORKS[name], 1000 if NETWORKS[name][-1] > 40 else 10)
    for weight, value in network.named_parameters():
        assert value[0].numel() * value.element_size() % 32 == 0 or value.dim() < 3 or "bias" in weight, weight
