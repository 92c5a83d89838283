"""Losses of methods of their own, against closed forms, quadrature and NumPy in float64."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from harness.base.seeds import numpy_generator
from harness.lottery.branch import Origin, Span
from harness.lottery.branches import BRANCHES, deep_rewiring, distilled, group_lasso, l0, l0_units, variational
from harness.lottery.criteria import CRITERIA
from harness.networks import build, initialise, prunable_names
from harness.networks.layers import Conv, Linear, Stack
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.changes import Moment
from harness.training.loop import train
from harness.training.objective import Objective, Pass
from harness.training.state import State, read_network
from harness.training.step import mean_cross_entropy

SAMPLES, BATCH = 120, 20


class OneLayer(Stack):
    """R copies of one linear layer of 6 inputs and 4 classes."""

    def __init__(self, replicates: int):
        super().__init__()
        self.output = Linear(replicates, 6, 4)

    def alone(self, x):
        return self.output(x.flatten(1))

    def prunable(self):
        return ["output.weight"]


def one_layer(replicates: int = 2) -> Stack:
    network = OneLayer(replicates)
    initialise(network, [("objectives", r) for r in range(replicates)])
    return network


def batch(network: Stack, place: int = 0, step: int = 10, **further: torch.Tensor) -> Pass:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(BATCH, 6, generator=generator), torch.randint(0, 4, (BATCH,), generator=generator)
    own = {f"further.{name.replace('.', ':')}": value for name, value in further.items()}
    return Pass(network, network.replicates()[place] | own, x, y, step, place)


def origin(network: Stack, density: float = 0.25) -> Origin:
    state = read_network(network, 0)
    return Origin(
        network, network.prunable(), 0, 1, density, True, CRITERIA["magnitude"],
        snapshots=lambda: state, dense=lambda: state, parent=lambda: None, stored_masks=lambda: {},
        minibatches=lambda order: [], names=lambda purpose: [("objectives", r, purpose) for r in range(9)],
    )  # fmt: skip


def trained(network: Stack, steps: int, objective: Objective, changes=None, weight_decay: float = 0.0) -> State:
    """The final state of a training on samples whose class is the largest of their first four inputs."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(SAMPLES, 6, generator=generator)
    batches = Batches(x, x[:, :4].argmax(1), BATCH, [("objectives", r, "order") for r in range(2)], "none")
    recipe = Recipe(optimizer="adam", learning_rate=0.02, batch_size=BATCH, steps=steps, weight_decay=weight_decay)
    masks = {name: torch.ones_like(network.get_parameter(name).data) for name in network.prunable()}
    start = read_network(network, 0)
    return train(network, recipe, batches, start, masks, objective=objective, changes=changes).final


@pytest.mark.parametrize("log_a", [-4.0, -1.5, 0.0, 1.0, 3.0, 7.0])
def test_the_divergence_of_variational_dropout_is_that_of_a_quadrature(log_a):
    """KL(N(w, a w^2) || log-uniform) = E log|e| - log(a)/2 + constant, e ~ N(1, a); it is 0 for endless noise."""
    deviation = np.exp(log_a / 2)

    def term(e):
        return np.log(abs(e)) * stats.norm.pdf(e, 1, deviation)

    ends = (1 - 12 * deviation, 0, 1 + 12 * deviation)
    mean = sum(integrate.quad(term, *pair, limit=500)[0] for pair in pairwise(ends))
    constant = (np.euler_gamma + np.log(2)) / 2  # -E log|e| of a standard normal
    assert float(variational.divergence(torch.tensor(log_a))) == pytest.approx(mean - log_a / 2 + constant, abs=0.012)


def test_noise_of_a_layers_outputs_is_that_of_its_weights():
    """Local reparametrisation: the mean loss over draws of outputs and over draws of weights, by NumPy, agree."""
    network = one_layer(1)
    of = batch(network)
    log_a = torch.linspace(-3, 1, 24).view(6, 4)
    weight, bias = (
        value.detach().double().numpy() for value in (of.tensors["output.weight"], of.tensors["output.bias"])
    )
    x, y, deviation = of.x.double().numpy(), of.y.numpy(), np.exp(log_a.numpy() / 2) * abs(weight)
    generator = numpy_generator("noise")
    by_weights = []
    for _ in range(1500):
        logits = x @ (weight + deviation * generator.normal(size=weight.shape)) + bias
        by_weights.append(np.mean(special.logsumexp(logits, 1) - logits[np.arange(BATCH), y]))
    with torch.no_grad():
        by_outputs = [float(variational._with_noise(of, {"output.weight": log_a}, ("noise", n))) for n in range(1500)]
    error = np.hypot(np.std(by_weights), np.std(by_outputs)) / 1500**0.5
    assert abs(np.mean(by_weights) - np.mean(by_outputs)) < 4 * error
    plain = float(mean_cross_entropy(of).detach())
    assert abs(np.mean(by_outputs) - plain) > 20 * error  # the noise is felt
    assert not network.output._forward_hooks


@pytest.mark.parametrize("dims", [1, 2])
def test_the_variance_of_a_convolution_is_the_sum_over_its_weights(dims):
    """Var(sum w x) = sum Var(w) x^2: one output, by hand."""
    layer = Conv(1, 3, 2, 3, dims=dims)
    generator = torch.Generator().manual_seed(0)
    variance = torch.rand(2, 3, *[3] * dims, generator=generator)
    x = torch.randn((3, 4, 7) if dims == 1 else (4, 3, 7, 7), generator=generator)
    out = layer.product(x**2, variance)
    window = x[:, 1, 2:5] if dims == 1 else x[1, :, 2:5, 2:5]
    place = out[0, 1, 3] if dims == 1 else out[1, 0, 3, 3]
    assert float(place) == pytest.approx(float((window.double() ** 2 * variance[0].double()).sum()), rel=1e-5)


@pytest.mark.parametrize("log_a", [-3.0, -1.0, 0.0, 2.0])
def test_a_gate_is_open_as_often_as_the_closed_form_says(log_a):
    """Hard-concrete gates by Monte Carlo; in a test a gate is its stretched, cut sigmoid."""
    uniform = torch.from_numpy(numpy_generator("gates").random(200_000)).float()
    values = torch.full_like(uniform, log_a)
    opened = float((l0.gate(values, uniform) != 0).float().mean())
    assert opened == pytest.approx(float(l0.open_chance(values[0])), abs=4 * 0.5 / 200_000**0.5)
    assert float(l0.gate(values[0])) == pytest.approx(np.clip(1.2 / (1 + np.exp(-log_a)) - 0.1, 0, 1), abs=1e-6)


def test_gates_are_on_single_weights_and_closed_ones_take_their_weight_out():
    """Not on input units, as the authors' LeNet has them."""
    network = one_layer()
    assert BRANCHES["l0"].objective is not None
    objective = l0.objective(origin(network), Span(0, 100, 6))
    assert objective.parameters["output.weight"].shape == network.output.weight.shape
    closed = torch.full((6, 4), -50.0 / l0.SPEED)
    loss = objective.loss(batch(network, **{"output.weight": closed}))
    assert float(loss) == pytest.approx(np.log(4), rel=1e-6)  # biases are 0: all classes alike


def test_distillation_follows_its_formula():
    """share T^2 KL(teacher || student) + (1 - share) CE, by NumPy in float64; the teacher is its own replicate's."""
    network, teacher = one_layer(), one_layer()
    with torch.no_grad():
        teacher.output.weight.mul_(-3)
    objective = distilled.objective(replace(origin(network), dense=lambda: read_network(teacher, 9)), Span(0, 9, 6))
    for place in (0, 1):
        of = batch(network, place)
        x = of.x.double().numpy()
        student, taught = (x @ of_.output.weight[place].detach().double().numpy() for of_ in (network, teacher))
        log_p, log_q = (special.log_softmax(logits / 4, 1) for logits in (taught, student))
        divergence = np.mean(np.sum(np.exp(log_p) * (log_p - log_q), 1))
        entropy = -np.mean(special.log_softmax(student, 1)[np.arange(BATCH), of.y.numpy()])
        assert float(objective.loss(of).detach()) == pytest.approx(0.9 * 16 * divergence + 0.1 * entropy, rel=1e-5)


def lenet(replicates: int = 2) -> Stack:
    network = build("lenet-300-100", replicates, (1, 8, 8), 10)
    initialise(network, [("units", r) for r in range(replicates)])
    return network


def test_the_group_lasso_adds_a_share_of_the_loss_at_the_start():
    """A fifth of the whole, in proportion to the units' norms over what feeds them and what they feed, by NumPy."""
    network = lenet()
    x, y = torch.rand(2, 30, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(60).view(2, 30) % 10
    of = replace(origin(network), minibatches=lambda order: [(x, y)])
    objective = group_lasso.objective(of, Span(0, 100, 6))
    for place in (0, 1):
        batch = Pass(network, network.replicates()[place], x[place], y[place], 0, place)
        loss, plain = float(objective.loss(batch).detach()), float(mean_cross_entropy(batch).detach())
        assert (loss - plain) / loss == pytest.approx(0.2, rel=1e-5)
        doubled = {n: 2 * value if n == "output.weight" else value for n, value in batch.tensors.items()}
        twice = replace(batch, tensors=doubled)
        more = float((objective.loss(twice) - mean_cross_entropy(twice)).detach())
        first, second, last = (batch.tensors[n].detach().double().numpy() for n in network.prunable())

        def norms(last, first=first, second=second):
            of_first = np.sqrt((first**2).sum(0) + (second**2).sum(1))
            return of_first.sum() + np.sqrt((second**2).sum(0) + (last**2).sum(1)).sum()

        assert more / (loss - plain) == pytest.approx(norms(2 * last) / norms(last), rel=1e-4)


def test_units_that_have_faded_go_before_the_end_and_no_others():
    """Four units of the first layer have no weight of 1e-4 or more, but for one weight of one replicate."""
    network = lenet()
    changes = group_lasso.changes(origin(network, 0.2), Span(0, 1000, 10))
    assert sorted(changes.before) == [*range(100, 750, 100), 750]
    weights = {name: network.get_parameter(name).detach().clone() for name in network.prunable()}
    weights["hidden1.weight"][:, :, :4] = weights["hidden2.weight"][:, :4] = 1e-5
    weights["hidden2.weight"][0, 3, 7] = 1e-3
    masks = {name: torch.ones_like(value) for name, value in weights.items()}
    after = changes.change(Moment(100, 1000, weights, masks, dict, {})).masks
    assert after["hidden1.weight"].amax(1)[0, :5].tolist() == [0, 0, 0, 1, 1]
    assert after["hidden1.weight"].amax(1)[1, :5].tolist() == [0, 0, 0, 0, 1]
    assert int((1 - after["hidden1.weight"].amax(1)).sum()) == 7
    assert after["output.weight"].all()


def test_the_weights_that_open_units_leave_are_counted_in_the_mean():
    """By Monte Carlo: a weight is there while both of its units are open. A shut gate takes its unit out."""
    network = lenet(1)
    objective = l0_units.objective(origin(network, 0.01), Span(0, 100, 6))
    x, y = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(30) % 10
    sizes = {"hidden1": 300, "hidden2": 100}
    log_a = {n: torch.randn(size, generator=torch.Generator().manual_seed(size)) for n, size in sizes.items()}
    further = {f"further.{n}:weight": value / l0.SPEED for n, value in log_a.items()}
    of = Pass(network, network.replicates()[0] | further, x, y, 3, 0)

    def opened(n):
        draws = torch.from_numpy(numpy_generator("open", n).random((400, sizes[n]))).float()
        return (l0.gate(log_a[n].expand(400, -1), draws) != 0).sum(1).double().numpy()

    first, second = opened("hidden1"), opened("hidden2")
    left = 64 * first + first * second + 10 * second
    counted = []
    for price in (0.1, 0.2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(l0_units, "PRICE", price)
            counted.append(float(objective.loss(of).detach()))
    assert (counted[1] - counted[0]) / 0.1 * 6 * 30 == pytest.approx(left.mean(), abs=4 * left.std() / 20 + 1)
    weight, shut = network.get_parameter("hidden2.weight")[0].detach(), torch.ones(300)
    shut[5] = 0
    assert not l0_units.gated(weight, shut)[5].any()
    assert torch.equal(l0_units.gated(weight, shut)[:5], weight[:5])


def test_deep_rewiring_adds_the_sign_and_noise_to_a_gradient():
    """d/dw of L1 |w| + noise w is L1 sign(w) + noise; the noise is new at each step, and normal."""
    network, slopes = build("lenet-300-100", 1, (1, 8, 8), 10), []
    initialise(network, [("rewiring", 0)])
    weight = network.get_parameter("hidden1.weight")
    objective = BRANCHES["deep_rewiring"].objective(origin(network), Span(0, 100, 6))
    x, y = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(30) % 10
    for step in (3, 4):
        of = Pass(network, network.replicates()[0], x, y, step, 0)
        more = torch.autograd.grad(objective.loss(of) - mean_cross_entropy(of), weight)[0].detach()
        slopes.append((more - deep_rewiring.L1 * weight.detach().sign()).flatten().double().numpy())
    assert stats.kstest(slopes[0] / 1e-5, "norm").pvalue > 0.01
    assert abs(np.corrcoef(*slopes)[0, 1]) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("branch", ["variational", "l0"])
def test_the_price_brings_the_weights_down_and_only_the_price(branch, monkeypatch):
    """A third of 24 weights: where the objective ends, fewer are certain or open than without the price."""

    def left(network) -> list[float]:
        counts: list[float] = []
        of, span = origin(network, 0.35), Span(0, 800, 6)
        changes = BRANCHES[branch].changes(of, span)

        def prune(moment):
            for r in range(2):
                own, weight = moment.further["output.weight"][r], moment.weights["output.weight"][r]
                if branch == "l0":
                    counts.append(float(l0.open_chance(l0.SPEED * own).sum()))
                else:
                    log_a = variational.log_ratio(weight, variational.SPEED * own)
                    counts.append(int((log_a < variational.THRESHOLD).sum()))
            return changes.change(moment)

        final = trained(network, 800, BRANCHES[branch].objective(of, span), replace(changes, change=prune))
        assert [int(mask.sum()) for mask in final.masks["output.weight"]] == [8, 8]
        return counts

    module = l0 if branch == "l0" else variational
    name, free = ("PRICE", 0.0) if branch == "l0" else ("divergence", torch.zeros_like)
    priced = left(one_layer())
    monkeypatch.setattr(module, name, free)
    assert sum(priced) < 0.75 * sum(left(one_layer()))


def test_further_parameters_are_trained_without_decay_and_gone_at_the_end():
    """The loss is (p - 3)^2 beside the cross-entropy of the weights; until step 150 of 200."""
    seen = {}

    def loss(of: Pass) -> torch.Tensor:
        seen[of.step, of.place] = float(of.further("a.b").detach())
        return mean_cross_entropy(of) + (of.further("a.b") - 3) ** 2

    network = one_layer()
    objective = Objective(loss, 150, {"a.b": torch.tensor([2.5, 3.5])})
    final = trained(network, 200, objective, weight_decay=1.0)
    assert {step for step, _ in seen} == set(range(150))
    assert (seen[0, 0], seen[0, 1]) == (2.5, 3.5)
    assert [seen[149, r] for r in (0, 1)] == pytest.approx([3, 3], abs=0.05)  # with decay it would be 2
    assert set(final.weights) == {"output.weight", "output.bias"} == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("branch", ["variational", "l0"])
def test_a_replicate_has_the_same_loss_alone_and_in_a_stack(branch):
    """The draws are named by replicate, step and layer."""
    networks = {places: build("lenet-300-100", len(places), (1, 8, 8), 10) for places in ((0, 1), (1,))}
    losses = {}
    for places, network in networks.items():
        initialise(network, [("alone", r) for r in places])
        of = replace(origin(network, 0.1), names=lambda purpose, places=places: [("alone", r, purpose) for r in places])
        objective = BRANCHES[branch].objective(of, Span(0, 100, 6))
        own = {f"further.{name.replace('.', ':')}": value[-1] for name, value in objective.parameters.items()}
        x, y = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(30) % 10
        place = len(places) - 1
        of_one = Pass(network, network.replicates()[place] | own, x, y, 7, place)
        losses[places] = [float(objective.loss(replace(of_one, step=step)).detach()) for step in (7, 8)]
        assert prunable_names(network) == list(objective.parameters)
    assert losses[0, 1] == losses[1,]
    assert losses[0, 1][0] != losses[0, 1][1]
