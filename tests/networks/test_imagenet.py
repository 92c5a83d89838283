"""The ImageNet networks against torchvision's modules, one replicate at a time."""

import pytest
import torch
from torchvision import models

from harness.base.errors import HarnessError
from harness.lottery.interpolation import reestimate_batch_norm
from harness.networks import build, check, initialise, parameter_count, prunable_names
from harness.networks.layers import BatchNorm

# torchvision's published parameter counts, the papers' (cut or rounded), and weights less BatchNorm's and biases
NETWORKS = [
    ("resnet50", 224, models.ResNet50_Weights.IMAGENET1K_V1, 25.5, 25_557_032 - 53_120 - 1_000),
    ("inception-v3", 299, models.Inception_V3_Weights.IMAGENET1K_V1, 27.1, 27_161_264 - 36_224 - 2 * 1_000),
    ("squeezenet", 224, models.SqueezeNet1_0_Weights.IMAGENET1K_V1, 1.25, 1_248_424 - 3_976),
]


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize(("name", "pixels", "weights", "millions", "prunable"), NETWORKS)
def test_parameter_counts_are_the_published_ones(name, pixels, weights, millions, prunable):
    network = build(name, 1, (3, pixels, pixels), 1000)
    assert parameter_count(network) == weights.meta["num_params"]
    assert parameter_count(network) / 1e6 == pytest.approx(millions, abs=0.07)
    named = dict(network.named_parameters())
    assert sum(named[weight][0].numel() for weight in prunable_names(network)) == prunable


def laid_out(x):
    """Images as the stacks lay them out, so that sums are rounded alike."""
    return x.contiguous(memory_format=torch.channels_last)


def stack(name, pixels, replicates, classes=10):
    network = build(name, replicates, (3, pixels, pixels), classes)
    initialise(network, [("test", replicate) for replicate in range(replicates)])
    return network


def plain(definition, network, replicate, **options):
    """torchvision's own module with the weights and statistics of a replicate."""
    made = models.get_model(definition, weights=None, num_classes=10, **options)
    values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    renamed = {"running_mean": "mean", "running_var": "variance"}
    with torch.no_grad():
        for key, value in made.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                path, _, last = key.rpartition(".")
                value.copy_(values[f"network.{path}.{renamed.get(last, last)}"][replicate])
    return made


def assert_same_statistics(network, made, replicate):
    modules = dict(made.named_modules())
    norms = {key: module for key, module in network.network.named_modules() if isinstance(module, BatchNorm)}
    assert len(norms) == sum(isinstance(module, torch.nn.BatchNorm2d) for module in modules.values())
    for key, norm in norms.items():
        torch.testing.assert_close(norm.mean[replicate], modules[key].running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.variance[replicate], modules[key].running_var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "definition", "options"), [("resnet50", "resnet50", {}), ("squeezenet", "squeezenet1_0", {"dropout": 0.0})]
)
def test_a_replicate_computes_what_torchvisions_module_computes(name, definition, options):
    network, x = stack(name, 64, 2), torch.randn(2, 3, 3, 64, 64)
    alone = [plain(definition, network, replicate, **options) for replicate in range(2)]
    y = network(x)
    y.square().mean((1, 2)).sum().backward()
    gradients = {name: value.grad for name, value in network.named_parameters()}
    for replicate, made in enumerate(alone):
        expected = made(laid_out(x[replicate]))
        torch.testing.assert_close(y[replicate], expected, rtol=1e-4, atol=1e-4)
        expected.square().mean().backward()
        for key, value in made.named_parameters():
            torch.testing.assert_close(gradients[f"network.{key}"][replicate], value.grad, rtol=1e-3, atol=1e-4)
        assert_same_statistics(network, made, replicate)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x)[1], alone[1].eval()(laid_out(x[1])), rtol=1e-4, atol=1e-4)


def test_inception_trains_with_its_auxiliary_head_and_answers_without():
    network, x = stack("inception-v3", 299, 1), torch.randn(1, 2, 3, 299, 299)
    made = plain("inception_v3", network, 0, dropout=0.0, init_weights=False)
    with torch.no_grad():
        (own,) = network.replicates()
        logits, auxiliary = network.heads(own, x[0])
        expected = made(laid_out(x[0]))
        assert network.HEADS == (1.0, 0.4)
        torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(auxiliary, expected.aux_logits, rtol=1e-4, atol=1e-4)
        assert_same_statistics(network, made, 0)
        network.eval()
        assert len(network.heads(own, x[0])) == 1


def test_a_replicate_of_a_stack_has_the_bits_that_it_has_alone():
    network, x = stack("squeezenet", 48, 3), torch.randn(3, 2, 3, 48, 48)
    alone = build("squeezenet", 1, (3, 48, 48), 10)
    initialise(alone, [("test", 1)])
    for one, many in zip(alone.parameters(), network.parameters(), strict=True):
        assert torch.equal(one[0], many[1])
    assert torch.equal(alone(x[1:2])[0], network(x)[1])


def test_reestimated_statistics_are_the_average_over_batches():
    network, x = stack("resnet50", 32, 1), torch.randn(8, 3, 32, 32)
    made = plain("resnet50", network, 0)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # torch's way to ask for a plain average
    with torch.no_grad():
        made(laid_out(x[:4]))
        made(laid_out(x[4:]))
    reestimate_batch_norm(network, x, batch_size=4)
    assert_same_statistics(network, made, 0)


def test_initialisation_has_glorots_deviation_and_no_bias():
    network = stack("squeezenet", 32, 1, classes=1000).network
    assert network.classifier[1].weight.std().item() == pytest.approx((2 / (512 + 1000)) ** 0.5, rel=0.01)
    assert network.features[12].expand3x3.weight.std().item() == pytest.approx((2 / (9 * (64 + 256))) ** 0.5, rel=0.01)
    assert not any(value.any() for name, value in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet50", (1, 28, 28)), ("inception-v3", (3, 224, 224)), ("squeezenet", (1, 40))]
)
def test_inputs_that_a_network_can_not_take_are_refused(name, shape):
    for refuse in (lambda: build(name, 1, shape, 10), lambda: check(name, shape)):
        with pytest.raises(ValueError, match=r"can't take inputs of shape \(.*\), but \(3, \d+, \d+\) and larger"):
            refuse()


def test_a_check_knows_every_network():
    check("inception-v3", (3, 299, 299))
    check("resnet20", (3, 32, 32))
    with pytest.raises(ValueError, match="2-dimensional residual network can't take"):
        check("resnet20", (1, 40))
    with pytest.raises(HarnessError, match="network 'resnet51' is unknown"):
        check("resnet51", (3, 32, 32))


def test_shapes_alone_need_no_memory():
    with torch.device("meta"):
        network = build("resnet50", 1000, (3, 224, 224), 1000)
    assert all(value.is_meta for value in (*network.parameters(), *network.buffers()))
