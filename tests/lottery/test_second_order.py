"""Optimal Brain Damage against autograd's Hessian, layer-wise Optimal Brain Surgeon against trying everything."""

import itertools

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from harness.lottery.activations import activations, in_double, products
from harness.lottery.criteria import obd, obs
from harness.lottery.criteria.magnitude_uniform import score as by_magnitude
from harness.lottery.masks import keep_largest
from harness.training.loop import use_threads
from tests.lottery.subjects import minibatches, stack, subject

WIDTHS = (4, 6, 5, 3)


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


@pytest.mark.parametrize("kind", [WIDTHS, "plain-1d", "plain-2d"], ids=str)
def test_obds_curvature_is_the_diagonal_of_autograds_hessian(kind):
    network, batches = stack(kind, 2), minibatches(kind, 2, samples=5)
    names = network.prunable()
    found = obd.curvature(network, batches, names)
    own = in_double(network.replicates()[1])
    x, y = (torch.cat([batch[part][1] for batch in batches]) for part in (0, 1))

    def loss(*weights):
        logits = network.heads({**own, **dict(zip(names, weights, strict=True))}, x.double())[0]
        return F.cross_entropy(logits, y)

    weights = tuple(own[name] for name in names)
    hessian = torch.autograd.functional.hessian(loss, weights)
    for place, name in enumerate(names):
        size = weights[place].numel()
        exact = hessian[place][place].reshape(size, size).diagonal().view_as(weights[place])
        assert (exact > 0).any()
        torch.testing.assert_close(found[name][1], exact, rtol=1e-9, atol=1e-14)


def test_obds_saliency_is_half_h_w_squared_and_that_of_a_linear_model_has_its_closed_form():
    network, batches = stack((5, 3), 1), minibatches((5, 3), 1, samples=7)
    (found,) = obd.score(subject(network, batches)).values()
    x = np.concatenate([x[0].double().numpy() for x, _ in batches])
    weight, bias = (network.get_parameter(f"layers.0.{of}")[0].detach().double().numpy() for of in ("weight", "bias"))
    odds = np.exp(x @ weight + bias)
    p = odds / odds.sum(1, keepdims=True)
    h = (x**2).T @ (p * (1 - p)) / len(x)
    np.testing.assert_allclose(found[0].numpy(), h * weight**2 / 2, rtol=1e-10)


def test_obd_ranks_where_float32_has_only_zeros():
    """Two classes at a distance of 300: p (1 - p) is e^-300, which float32 has not, and 1 - p is 0 even in float64."""
    network = stack((1, 2), 1)
    with torch.no_grad():
        network.get_parameter("layers.0.weight").copy_(torch.tensor([[[150.0, -150.0]]]))
        network.get_parameter("layers.0.bias").zero_()
    (found,) = obd.score(subject(network, [(torch.ones(1, 1, 1), torch.zeros(1, 1, dtype=torch.long))])).values()
    expected = np.exp(-300.0) * 150.0**2 / 2
    np.testing.assert_allclose(found.flatten().numpy(), [expected] * 2, rtol=1e-12)
    assert expected < torch.finfo(torch.float32).tiny


def test_squared_gradients_are_another_quantity_but_for_calibrated_labels():
    """Implementations take E g^2 for h: near only where labels are as likely as the network says."""
    network = stack((4, 5, 3), 1)
    x = minibatches((4, 5, 3), 1, count=1, samples=4000)[0][0]
    own, names = in_double(network.replicates()[0]), network.prunable()
    (curved,) = (obd.curvature(network, [(x, torch.zeros(1, 4000, dtype=torch.long))], names)["layers.1.weight"],)
    with torch.no_grad():
        likely = network.heads(own, x[0].double())[0].softmax(1)

    def squared(labels):
        weight = own["layers.1.weight"].clone().requires_grad_()
        logits, seen = activations(network, {**own, "layers.1.weight": weight}, x[0], ["layers.1.weight"])
        slope = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), seen["layers.1.weight"].y)[0]
        return (seen["layers.1.weight"].x.detach() ** 2).T @ slope**2 / len(labels)

    def off(labels):
        return float(((squared(labels) - curved[0]).abs().sum() / curved[0].sum()).detach())

    generator = torch.Generator().manual_seed(0)
    assert off(torch.multinomial(likely, 1, generator=generator)[:, 0]) < 0.1
    assert off(likely.argmax(1)) > 0.3  # of data that it has learned
    assert off(likely.argmin(1)) > 0.3


def layer(inputs=5, outputs=3, rows=40, seed=0):
    """Correlated inputs' mean products [K, K] with a constant, damped, and weights [K, outputs] with a bias."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs)) @ random.normal(size=(inputs, inputs))
    x = np.hstack([x, np.ones((rows, 1))])
    hessian = x.T @ x / rows + obs.DAMPING * np.eye(inputs + 1)
    return torch.from_numpy(hessian), torch.from_numpy(random.normal(size=(inputs + 1, outputs)))


def least_error(hessian, weight, removed):
    """The smallest (v - w)^T H (v - w) / 2 over all v that are 0 in `removed`, and that v: by its normal equations."""
    h, w = hessian.numpy(), weight.numpy()
    kept = [place for place in range(len(w)) if place not in removed]
    v = np.zeros_like(w)
    v[kept] = np.linalg.lstsq(h[np.ix_(kept, kept)], (h @ w)[kept], rcond=None)[0]
    return (v - w) @ h @ (v - w) / 2, v


@pytest.mark.parametrize("seed", range(4))
def test_each_removal_is_the_best_of_all_that_can_be_tried(seed):
    hessian, weights = layer(seed=seed)
    weight, removed = weights[:, 0], []
    order, costs = obs.removals(weight, hessian, torch.ones(6, dtype=torch.bool), 5)
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4]  # the constant stays
    for place, cost in zip(order.tolist(), costs.tolist(), strict=True):
        before = least_error(hessian, weight, removed)[0]
        tried = {q: least_error(hessian, weight, [*removed, q])[0] - before for q in range(5) if q not in removed}
        assert min(tried, key=tried.get) == place
        assert cost == pytest.approx(tried[place], rel=1e-7)
        removed.append(place)


def test_a_layer_loses_its_weights_in_the_order_of_trying_them_all():
    hessian, weights = layer()
    rank = obs.ranks(weights, hessian, torch.ones(6, 3, dtype=torch.bool), 5)
    removed = {o: [] for o in range(3)}
    for step in range(1, 16):
        before = {o: least_error(hessian, weights[:, o], removed[o])[0] for o in range(3)}
        tried = {
            (q, o): least_error(hessian, weights[:, o], [*removed[o], q])[0] - before[o]
            for q, o in itertools.product(range(5), range(3))
            if q not in removed[o]
        }
        q, o = min(tried, key=tried.get)
        assert rank[q, o] == step
        removed[o].append(q)


def test_pruned_weights_are_left_out_of_the_order():
    hessian, weights = layer()
    alive = torch.ones(6, 3, dtype=torch.bool)
    alive[2, 0] = alive[4, 1] = False
    weights = weights * alive
    rank = obs.ranks(weights, hessian, alive, 5)
    assert (rank[2, 0], rank[4, 1]) == (0, 0)
    assert sorted(rank[alive[:5]].tolist()) == list(range(1, 14))
    first = (rank[:, 0] == rank[:, 0][rank[:, 0] > 0].min()).nonzero().item()
    tried = {q: least_error(hessian, weights[:, 0], [2, q])[0] for q in (0, 1, 3, 4)}
    assert min(tried, key=tried.get) == first


def test_new_values_are_those_of_the_updates_after_each_removal():
    """w += -(w_q / [H^-1]_qq) H^-1 e_q with the inverse of what is left, by a fresh inversion every time."""
    hessian, weights = layer()
    kept = torch.ones(6, 3, dtype=torch.bool)
    for o in range(3):
        order, _ = obs.removals(weights[:, o], hessian, torch.ones(6, dtype=torch.bool), 5)
        left, w = list(range(6)), weights[:, o].numpy().copy()
        for q in order[:3].tolist():
            inverse = np.linalg.inv(hessian.numpy()[np.ix_(left, left)])
            at = left.index(q)
            w[left] -= w[q] / inverse[at, at] * inverse[:, at]
            left.remove(q)
        kept[order[:3], o] = False
        found = obs.refitted(weights, hessian, kept)[:, o].numpy()
        np.testing.assert_allclose(found, w * kept[:, o].numpy(), rtol=1e-7, atol=1e-10)


def official(weight, hessian, count):
    """As the official code prunes: scores once, updates by the inverse of all inputs, then masks."""
    inverse = np.linalg.inv(hessian.numpy())
    w = weight.numpy().copy()
    order = np.argsort(w[:-1] ** 2 / (2 * np.diag(inverse)[:-1]))[:count]
    for q in order:
        w -= w[q] / inverse[q, q] * inverse[:, q]
    w[order] = 0
    return order, w


def test_the_official_codes_inverse_that_is_never_updated_is_no_obs_after_the_first_removal():
    def error(v, w, h):
        return float((v - w.numpy()) @ h.numpy() @ (v - w.numpy()) / 2)

    worse = 0
    for seed in range(20):
        hessian, weights = layer(inputs=8, seed=seed)
        weight, alive = weights[:, 0], torch.ones(9, dtype=torch.bool)
        order, _ = obs.removals(weight, hessian, alive, 8)
        first, w = official(weight, hessian, 1)
        assert first[0] == order[0]
        assert error(w, weight, hessian) == pytest.approx(least_error(hessian, weight, [int(first[0])])[0])
        theirs, w = official(weight, hessian, 5)
        ours = least_error(hessian, weight, order[:5].tolist())[0]
        assert error(w, weight, hessian) >= least_error(hessian, weight, theirs.tolist())[0] - 1e-12
        worse += error(w, weight, hessian) > 2 * ours
    assert worse >= 15


@pytest.mark.parametrize("kind", [WIDTHS, "plain-1d"], ids=str)
def test_a_pruned_networks_layers_stay_nearest_to_the_dense_ones(kind):
    network, batches = stack(kind, 1), minibatches(kind, 1, count=3, samples=40)
    of = subject(network, batches, density=0.4)
    masks = keep_largest(obs.score(of), of.masks, of.keep)
    values = obs.refit(of, masks)
    assert {name for name in values if name.endswith("weight")} == {*masks}
    assert {name for name in values if name.endswith("bias")} == {
        name for name, _ in network.named_parameters() if name.startswith("layers") and name.endswith("bias")
    }
    magnitude = keep_largest(by_magnitude(of), of.masks, of.keep)
    own = in_double(network.replicates()[0])
    x = torch.cat([x[0] for x, _ in batches])
    _, dense = activations(network, own, x, masks)
    for name in masks:
        module = network.get_submodule(name.removesuffix(".weight"))

        def error(weight, bias=None, name=name, module=module):
            new = {"weight": weight.double()} | ({} if bias is None else {"bias": bias})
            old = {"bias": own[name.replace("weight", "bias")]} if hasattr(module, "bias") else {}
            return float((functional_call(module, {**old, **new}, (dense[name].x,)) - dense[name].y).pow(2).mean())

        bias = values.get(name.replace("weight", "bias"))
        ours = error(values[name][0], None if bias is None else bias[0])
        assert not values[name][masks[name] == 0].any()
        assert ours < error(own[name] * masks[name][0])  # the same mask without the new values
        assert ours < error(own[name] * magnitude[name][0])


@pytest.mark.parametrize("kind", ["plain-1d", "plain-2d", "resnet8-1d"])
def test_a_layers_columns_times_its_weight_are_its_outputs(kind):
    network, batches = stack(kind, 1), minibatches(kind, 1, count=1, samples=3)
    own, names = in_double(network.replicates()[0]), network.prunable()
    logits, seen = activations(network, own, batches[0][0][0], names)
    network.eval()
    torch.testing.assert_close(logits.float(), network(batches[0][0])[0].detach(), rtol=1e-4, atol=1e-5)
    for name, of in seen.items():
        matrix = own[name].flatten(1).T
        torch.testing.assert_close(of.columns().flatten(2) @ matrix, of.outputs())
        own_products, _ = products(network, own, own, [(x[0], y[0]) for x, y in batches], name)
        rows = of.columns().flatten(2).flatten(0, 1)
        torch.testing.assert_close(own_products[:-1, :-1], rows.T @ rows / len(rows))
        torch.testing.assert_close(own_products[-1, :-1], rows.mean(0))
