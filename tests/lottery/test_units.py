"""Whole units: exact counts, what removing them leaves, and each criterion against its definition."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, lars_path_gram

from harness.lottery import invariants
from harness.lottery.activations import activations, in_double
from harness.lottery.criteria import CRITERIA, apoz, l1, lasso, merging, thinet
from harness.lottery.layerwise import Junction
from harness.lottery.masks import by_layer, dense_masks, keep_count
from harness.lottery.units import fewest_kept, keep_units, surviving
from harness.networks.architectures.vgg import VGG
from harness.networks.layers import connections
from harness.training.audit import require
from harness.training.loop import use_threads
from harness.training.state import State, read_network, write_network
from tests.lottery.subjects import minibatches, stack, subject

WIDTHS = (5, 8, 7, 3)
UNITS = [name for name, criterion in CRITERIA.items() if criterion.units]
REFITTED = [name for name in UNITS if CRITERIA[name].refit]


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def pruned(name, network, of):
    return keep_units(CRITERIA[name].score(of), of.masks, network.units(), of.keep)


def scores_of(network, seed=0):
    """Distinct scores of the units of a stack, by layer."""
    generator = torch.Generator().manual_seed(seed)
    units, count = network.units(), next(network.parameters()).shape[0]
    sizes = {into: connections(network.get_parameter(into)[0]).shape[2] for into in units}
    return {
        into: torch.stack([torch.randperm(n, generator=generator) for _ in range(count)]) for into, n in sizes.items()
    }


@pytest.mark.parametrize("density", [0.5, 0.107, 0.035, 0.015])
def test_the_units_of_lenet_are_the_most_of_their_order_that_fit(density):
    network = stack("lenet-300-100", 2)
    names, units = network.prunable(), network.units()
    dense = dense_masks(read_network(network, 0).weights, names)
    keep = keep_count(50_200, density)
    masks = keep_units(by_layer(scores_of(network), surviving(dense, units)), dense, units, keep)
    require(invariants.counted_units(masks, names, density, units))

    def size(n, m):
        return 64 * n + n * m + 10 * m

    # the order of equal shares: the unit at rank r of a layer of n has its turn at (r + 1/2) / n, the first at once
    turns = sorted((Fraction(2 * r + 1, 2 * n), layer) for layer, n in enumerate((300, 100)) for r in range(1, n))
    n = m = 1
    for _, layer in turns:
        n, m, before = n + (layer == 0), m + (layer == 1), (n, m)
        if size(n, m) > keep:
            n, m = before
            break
    assert size(n, m) <= keep
    for place in range(2):
        kept = {name: float(part[place].sum()) for name, part in surviving(masks, units).items()}
        assert list(kept.values()) == [n, m]
        assert sum(float(mask[place].sum()) for mask in masks.values()) == size(n, m)


@pytest.mark.parametrize("kind", [WIDTHS, "resnet8-1d", "plain-1d", "plain-2d"], ids=str)
def test_a_network_without_its_pruned_units_is_a_smaller_dense_network(kind):
    """Every kept unit keeps all weights from and to kept units, and nothing else is kept."""
    network = stack(kind, 2)
    names, units = network.prunable(), network.units()
    dense = dense_masks(read_network(network, 0).weights, names)
    total = sum(mask[0].numel() for mask in dense.values())
    masks = keep_units(scores_of(network), dense, units, keep_count(total, 0.6))
    kept = surviving(masks, units)
    for place in range(2):
        for name, mask in masks.items():
            inputs, _, outputs = connections(mask[place]).shape
            (feeding,) = [kept[into][place] for into, out in units.items() if out == name] or [torch.ones(inputs)]
            own = kept[name][place] if name in units else torch.ones(outputs)
            assert torch.equal(connections(mask[place]).amax(1), torch.outer(feeding, own))
            assert torch.equal(connections(mask[place]).amin(1), torch.outer(feeding, own))
    # a pruned unit's bias and BatchNorm reach nothing: the outputs do not depend on them
    state = read_network(network, 0)
    for name, mask in masks.items():
        state.weights[name] = state.weights[name] * mask
    write_network(network, state)
    x = minibatches(kind, 2)[0][0]
    network.eval()
    before = network(x)
    for into in units:
        owner = into.removesuffix("weight") + "bias"
        if owner not in state.weights:
            owner = into.replace("conv", "norm").replace("weight", "bias")
        for place in range(2):
            state.weights[owner][place].flatten()[kept[into][place] == 0] = 100.0
    write_network(network, state)
    assert torch.equal(network(x), before)


def test_the_best_unit_of_a_layer_stays_whatever_its_score():
    network = stack(WIDTHS, 1)
    dense = dense_masks(read_network(network, 0).weights, network.prunable())
    scores = {"layers.0.weight": torch.arange(8.0)[None] - 100, "layers.1.weight": torch.arange(7.0)[None]}
    fewest = fewest_kept(network)
    assert fewest == 5 + 1 + 3
    masks = keep_units(scores, dense, network.units(), fewest)
    kept = surviving(masks, network.units())
    assert [part[0].nonzero().flatten().tolist() for part in kept.values()] == [[7], [6]]
    with pytest.raises(ValueError, match=r"can't keep 8 weights in whole units.* 9 are left"):
        keep_units(scores, dense, network.units(), fewest - 1)
    # then the order is over all layers: those of the second come first
    more = surviving(keep_units(scores, dense, network.units(), fewest + 3 * (1 + 3)), network.units())
    assert [part[0].nonzero().flatten().tolist() for part in more.values()] == [[7], [3, 4, 5, 6]]


def test_units_never_come_back_and_equal_scores_are_ranked_by_position():
    network = stack(WIDTHS, 1)
    units, dense = network.units(), dense_masks(read_network(network, 0).weights, network.prunable())
    equal = {into: torch.zeros(1, size) for into, size in (("layers.0.weight", 8), ("layers.1.weight", 7))}
    first = keep_units(equal, dense, units, 60)
    kept = [part[0].nonzero().flatten().tolist() for part in surviving(first, units).values()]
    assert kept == [list(range(len(kept[0]))), list(range(len(kept[1])))]
    other = {into: torch.arange(float(score.shape[1]))[None] for into, score in equal.items()}
    later = keep_units(other, first, units, 30)
    assert all((later[name] <= first[name]).all() for name in first)
    with pytest.raises(ValueError, match="not finite"):
        keep_units({into: score / 0 for into, score in equal.items()}, dense, units, 60)


def test_vggs_units_are_the_filters_between_two_convolutions():
    network = VGG(1, (3, 32, 32), 10, layers=16)
    units, names = network.units(), network.prunable()
    assert (list(units), list(units.values())) == (names[:-1], names[1:])
    for into, out in units.items():
        assert network.get_parameter(into).shape[1] == network.get_parameter(out).shape[2]


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("density", [0.107, 0.035, 0.015])
def test_every_criterion_of_units_keeps_its_count_in_lenet(name, density):
    network, batches = stack("lenet-300-100", 1), minibatches("lenet-300-100", 1, count=4, samples=60)
    of = subject(network, batches, density)
    masks = pruned(name, network, of)
    require(invariants.counted_units(masks, network.prunable(), density, network.units()))
    assert 0.9 < sum(float(mask.sum()) for mask in masks.values()) / of.keep <= 1


def test_l1_is_the_sum_of_a_filters_weights():
    network = stack("plain-2d", 2)
    weight = network.get_parameter("blocks.0.conv.weight").detach()
    expected = np.abs(weight.double().numpy()).sum((2, 3, 4))
    np.testing.assert_allclose(l1.norms(weight).numpy(), expected, rtol=1e-12)
    masks = pruned("l1", network, subject(network, density=0.5))
    kept = surviving(masks, network.units())["blocks.0.conv.weight"]
    for place in range(2):
        assert expected[place][kept[place] == 1].min() > expected[place][kept[place] == 0].max()
    linear = stack(WIDTHS, 1).get_parameter("layers.1.weight").detach()
    np.testing.assert_allclose(l1.norms(linear)[0].numpy(), linear[0].abs().sum(0).numpy(), rtol=1e-6)


def test_apoz_is_the_share_of_zeros_after_relu():
    network, batches = stack(WIDTHS, 2), minibatches(WIDTHS, 2, count=3)
    found = apoz.zeros(network, batches)
    for place in range(2):
        x = torch.cat([x[place] for x, _ in batches]).double().numpy()
        for layer in range(2):
            weight, bias = (
                network.get_parameter(f"layers.{layer}.{of}")[place].detach().double().numpy()
                for of in ("weight", "bias")
            )
            x = np.maximum(x @ weight + bias, 0)
            np.testing.assert_allclose(found[f"layers.{layer}.weight"][place].numpy(), (x == 0).mean(0), rtol=1e-12)
    assert 0.05 < float(torch.cat([part.flatten() for part in found.values()]).mean()) < 0.95


def test_apoz_counts_every_position_of_a_feature_map_and_no_padding():
    network, batches = stack("plain-2d", 1), minibatches("plain-2d", 1)
    found = apoz.zeros(network, batches)["conv.weight"][0]
    network.eval()
    own = in_double(network.replicates()[0])
    count = 0
    for x, _ in batches:
        maps = activations(network, own, x[0], ["blocks.0.conv.weight"])[1]["blocks.0.conv.weight"].x
        assert maps.shape == (16, 4, 6, 6)
        count += (maps == 0).sum((0, 2, 3))
    np.testing.assert_allclose(found.numpy(), (count / (2 * 16 * 36)).numpy())


def test_apoz_removes_the_units_of_a_layer_that_are_0_most_often():
    network, batches = stack((5, 30, 20, 3), 1), minibatches((5, 30, 20, 3), 1, count=8)
    kept = surviving(pruned("apoz", network, subject(network, batches, density=0.4)), network.units())
    for into, share in apoz.zeros(network, batches).items():
        assert share[0][kept[into][0] == 1].max() <= share[0][kept[into][0] == 0].min()
        assert abs(float(kept[into].mean()) - 0.6) < 0.06  # 0.4 of the weights is about 0.6 of the units


def junction(kind, seed=0, keep=3, place=0, samples=40):
    """The first junction of a stack's network, and its samples x."""
    network, batches = stack(kind, place + 1, seed), minibatches(kind, place + 1, count=2, samples=samples, seed=seed)
    (into, out), *_ = network.units().items()
    own = [(x[place], y[place]) for x, y in batches]
    tensors, original = (in_double(network.replicates()[place]) for _ in range(2))
    alive = torch.ones(connections(tensors[into]).shape[2], dtype=torch.bool)
    return Junction(network, tensors, original, lambda: iter(own), into, out, alive, keep)


def parts_of(at, tensors=None):
    """What each unit adds to the next layer's outputs, [units, samples * positions * outputs]."""
    tensors = tensors or at.tensors
    rows = []
    for unit in range(len(at.alive)):
        only = dict(tensors)
        only[at.out] = tensors[at.out].clone()
        connections(only[at.out])[torch.arange(len(at.alive)) != unit] = 0
        bias = at.out.replace("weight", "bias")
        if bias in only:
            only[bias] = torch.zeros_like(only[bias])
        seen = [activations(at.network, only, x, [at.out])[1][at.out].y.detach().flatten() for x, _ in at.samples()]
        rows.append(torch.cat(seen))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", [WIDTHS, "plain-1d", "plain-2d", "resnet8-1d"], ids=str)
def test_thinets_products_are_those_of_the_units_parts(kind):
    at = junction(kind, samples=6)
    explicit = parts_of(at)
    found = thinet.parts(at).numpy()
    rows = explicit.shape[1] / at.outgoing.shape[2]
    np.testing.assert_allclose(found, explicit @ explicit.T / rows, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_thinet_removes_the_unit_that_is_missed_least_each_time(seed):
    at = junction((5, 7, 4), seed)
    explicit = parts_of(at)
    late = thinet.removals(thinet.parts(at), at.alive)
    gone = []
    for unit in late.argsort().tolist():
        missed = {u: (explicit[[*gone, u]].sum(0) ** 2).sum() for u in range(7) if u not in gone}
        assert min(missed, key=missed.get) == unit
        gone.append(unit)
    # of one unit that is the best there is; of more, some other set may be better, but none was if it says so
    best = min(itertools.combinations(range(7), 3), key=lambda some: (explicit[list(some)].sum(0) ** 2).sum())
    assert (explicit[list(best)].sum(0) ** 2).sum() <= (explicit[gone[:3]].sum(0) ** 2).sum() * (1 + 1e-12)


def test_thinets_greedy_choice_is_the_best_of_all_subsets_in_most_tiny_layers():
    same = 0
    for seed in range(20):
        at = junction((5, 6, 4), seed)
        explicit = parts_of(at)
        gone = thinet.removals(thinet.parts(at), at.alive).argsort()[:2].tolist()
        best = min(itertools.combinations(range(6), 2), key=lambda some: (explicit[list(some)].sum(0) ** 2).sum())
        same += set(best) == set(gone)
    assert 12 <= same < 20  # it is greedy


def test_thinets_scales_are_those_of_least_squares():
    at = junction("plain-2d")
    explicit = parts_of(at)
    kept = torch.tensor([True, False, True, True])
    found = thinet.scales(thinet.parts(at), kept)
    expected = np.linalg.lstsq(explicit[kept.numpy()].T, explicit.sum(0), rcond=None)[0]
    np.testing.assert_allclose(found[kept].numpy(), expected, rtol=1e-7)
    before = at.outgoing.clone()
    thinet.refit(at, kept)
    np.testing.assert_allclose(at.outgoing[kept].numpy(), before[kept].numpy() * expected[:, None, None], rtol=1e-7)


def problem(units=12, rows=60, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, units)) @ (np.eye(units) + 0.5 * random.normal(size=(units, units)))
    y = x @ random.normal(size=units) + random.normal(size=rows)
    return torch.from_numpy(x.T @ x / rows), torch.from_numpy(x.T @ y / rows)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [1, 4, 9, 12])
def test_the_lassos_path_is_scikit_learns(seed, most):
    gram, aim = problem(seed=seed)
    beta, level = lasso.path(gram, aim, most)
    alphas, _, coefficients = lars_path_gram(aim.numpy(), gram.numpy(), n_samples=1, method="lasso")
    sizes = (np.abs(coefficients) > 1e-12).sum(0)
    over = np.flatnonzero(sizes > most)
    end = over[0] - 1 if len(over) else len(alphas) - 1  # the last knot before one more comes in
    assert level == pytest.approx(alphas[end], rel=1e-7, abs=1e-12)
    np.testing.assert_allclose(beta.numpy(), coefficients[:, end], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("most", [3, 7])
def test_the_lassos_factors_are_where_no_change_helps(most):
    """The conditions of the optimum, and coordinate descent at the same lambda."""
    gram, aim = problem(units=15, seed=9)
    beta, level = lasso.path(gram, aim, most)
    there = beta != 0
    assert int(there.sum()) == most
    slack = aim - gram @ beta
    torch.testing.assert_close(slack[there], level * beta[there].sign())
    assert float(slack[~there].abs().max()) <= level * (1 + 1e-9)
    root = np.linalg.cholesky(gram.numpy()).T  # |root beta - target|^2 has these products
    target = np.linalg.solve(root.T, aim.numpy())
    model = Lasso(alpha=level / 15, fit_intercept=False, tol=1e-10, max_iter=20_000).fit(root, target)
    np.testing.assert_allclose(model.coef_, beta.numpy(), atol=1e-6)


def test_a_unit_that_is_another_ones_double_never_joins_it_and_silent_units_are_passed_over():
    x = np.random.default_rng(0).normal(size=(50, 5))
    x = np.hstack([x, x[:, :1], np.zeros((50, 1))])
    y = x[:, :5] @ [3.0, -1, 2, 0.5, -2]
    beta, _ = lasso.path(torch.from_numpy(x.T @ x / 50), torch.from_numpy(x.T @ y / 50), 7)
    assert torch.isfinite(beta).all()
    assert (beta[[0, 5]] != 0).sum() == 1
    assert beta[6] == 0
    np.testing.assert_allclose(x @ beta.numpy(), y, atol=1e-8)


@pytest.mark.parametrize("kind", [(5, 8, 4), "plain-2d"], ids=str)
def test_the_lasso_sees_the_units_parts_at_unit_length_and_the_outputs_before_pruning(kind):
    at = junction(kind, keep=2)
    with torch.no_grad():
        at.tensors[at.into].mul_(
            1 + 0.3 * torch.rand(at.tensors[at.into].shape, dtype=torch.float64)
        )  # as pruned so far
    weight = at.outgoing.numpy()
    length = np.sqrt((weight**2).sum((1, 2)))
    parts, aim = parts_of(at) / length[:, None], parts_of(at, at.original).sum(0)
    rows = parts.shape[1] / weight.shape[2]
    beta, _ = lasso.path(torch.from_numpy(parts @ parts.T / rows), torch.from_numpy(parts @ aim / rows), 2)
    np.testing.assert_allclose(lasso.choose(at).numpy(), beta.abs().numpy(), rtol=1e-6, atol=1e-12)
    assert int((beta != 0).sum()) == 2


@pytest.mark.parametrize("kind", [(5, 8, 4), "plain-1d"], ids=str)
def test_the_lassos_new_weights_are_those_of_least_squares(kind):
    at = junction(kind)
    with torch.no_grad():
        at.tensors[at.into].mul_(1.3)
    kept = torch.arange(len(at.alive)) % 2 == 0
    x, y = [], []
    for batch, _ in at.samples():
        columns = activations(at.network, at.tensors, batch, [at.out])[1][at.out].columns()
        before = activations(at.network, at.original, batch, [at.out])[1][at.out].columns()
        x.append(columns[:, :, kept].flatten(2).flatten(0, 1).detach())
        y.append(before.flatten(2).flatten(0, 1).detach() @ at.outgoing.flatten(0, 1))
    expected = np.linalg.lstsq(torch.cat(x).numpy(), torch.cat(y).numpy(), rcond=None)[0]
    lasso.refit(at, kept)
    np.testing.assert_allclose(at.outgoing[kept].flatten(0, 1).numpy(), expected, rtol=1e-6, atol=1e-9)


def saliency(incoming, bias, outgoing, i, j):
    """<a_j^2> eps_ij^2 of unit j going into unit i, with both at unit length, in NumPy."""
    wi, wj = incoming[:, i] / np.linalg.norm(incoming[:, i]), incoming[:, j] / np.linalg.norm(incoming[:, j])
    bi, bj = bias[i] / np.linalg.norm(incoming[:, i]), bias[j] / np.linalg.norm(incoming[:, j])
    eps = np.linalg.norm(wi - wj) / np.linalg.norm(wi + wj) + abs(bi - bj) / abs(bi + bj)
    return np.mean((outgoing[j] * np.linalg.norm(incoming[:, j])) ** 2) * eps**2


@pytest.mark.parametrize("seed", range(4))
def test_units_merge_in_the_order_of_the_definitions_saliency(seed):
    at = junction((3, 14, 4), seed, keep=2)
    incoming, bias = at.incoming.flatten(0, 1).numpy(), at.bias.numpy()
    outgoing, left = at.outgoing.flatten(1).numpy().copy(), set(range(14))
    for gone, into, factor in merging.merges(at, 12):
        pairs = {(j, i): saliency(incoming, bias, outgoing, i, j) for j, i in itertools.permutations(sorted(left), 2)}
        assert min(pairs, key=pairs.get) == (gone, into)
        length = np.linalg.norm(incoming[:, [gone, into]], axis=0)
        assert factor == pytest.approx(length[0] / length[1])
        outgoing[into] += factor * outgoing[gone]
        left.remove(gone)
    kept = torch.tensor([unit in left for unit in range(14)])
    merging.refit(at, kept)
    np.testing.assert_allclose(at.outgoing.flatten(1)[kept].numpy(), outgoing[sorted(left)], rtol=1e-12)


def test_merging_a_unit_with_its_multiple_changes_no_output():
    """ReLU passes a positive factor on, so a unit that is another's multiple goes first, at no loss."""
    network = stack((5, 8, 4), 1)
    with torch.no_grad():
        for name in ("weight", "bias"):
            value = network.get_parameter(f"layers.0.{name}")
            value[..., 6] = 2.5 * value[..., 1]
    of = subject(network, density=0.9)
    masks = pruned("merging", network, of)
    kept = surviving(masks, network.units())["layers.0.weight"][0]
    assert kept.sum() == 7
    assert {1, 6} > set((kept == 0).nonzero().flatten().tolist())
    x = minibatches((5, 8, 4), 1)[0][0]
    before = network(x)
    state = read_network(network, 0)
    values = merging.CRITERION.refit(of, masks)
    write_network(network, State(0, state.weights | {name: value.float() for name, value in values.items()}, {}))
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [(5, 12, 10, 4), "resnet8-1d"], ids=str)
@pytest.mark.parametrize("name", REFITTED)
def test_new_values_are_0_where_pruned_and_those_of_the_scores_own_pass(name, kind):
    """The mask and the values come from two passes; the second one keeps the units that the first one chose."""
    network, batches = stack(kind, 2), minibatches(kind, 2, count=3, samples=30)
    of = subject(network, batches, density=0.6)
    masks = pruned(name, network, of)
    values = CRITERIA[name].refit(of, masks)
    assert values.keys() == masks.keys()
    for weight, value in values.items():
        assert torch.isfinite(value).all()
        assert not value[masks[weight] == 0].any()
    for weight, value in values.items():  # only what reads units changes
        same = torch.allclose(value.float(), of.weights[weight] * masks[weight])
        assert same == (weight not in network.units().values())


def outputs_error(network, state, values, masks, x, dense):
    weights = {name: value * masks.get(name, 1) for name, value in (state.weights | values).items()}
    write_network(network, State(0, weights, state.buffers))
    return float((network(x) - dense).pow(2).mean().detach())


def alike(network):
    """Make the second half of each layer's units nearly multiples of the first."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for layer in network.layers[:-1]:
            for value in (layer.weight, layer.bias):
                half = value.shape[-1] // 2
                noise = 0.9 + 0.2 * torch.rand(value[..., :half].shape, generator=generator)
                value[..., half:] = 1.5 * value[..., :half] * noise
    return network


@pytest.mark.parametrize("name", REFITTED)
def test_new_values_bring_the_networks_outputs_nearer_to_those_before(name):
    kind = (20, 60, 40, 5)
    network, batches = alike(stack(kind, 1)), minibatches(kind, 1, count=8, samples=60)
    of, state = subject(network, batches, density=0.5), read_network(network, 0)
    masks = pruned(name, network, of)
    values = CRITERIA[name].refit(of, masks)
    x = minibatches(kind, 1, seed=5, samples=200)[0][0]
    dense = network(x).detach()
    assert outputs_error(network, state, values, masks, x, dense) < outputs_error(network, state, {}, masks, x, dense)
