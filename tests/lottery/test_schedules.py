"""Schedules of masks against the methods' definitions, in NumPy and weight by weight; what each must not do."""

import math

import numpy as np
import pytest
import torch

from harness.lottery.branch import Origin, Span
from harness.lottery.branches import BRANCHES, dsr, gradual, rigl
from harness.lottery.branches import set as set_branch
from harness.lottery.criteria import CRITERIA
from harness.lottery.masks import keep_count
from harness.lottery.rewiring import at_random, shared_out
from harness.networks import prunable_names
from harness.training.changes import Moment
from harness.training.state import read_network
from tests.lottery.subjects import stack

SPAN = Span(0, 1000, 90)
SIZES = (12, 20, 6)  # of layers with 240 and 120 weights
DENSITY = 0.2
REPLICATES = 2


def origin(density=DENSITY, network=None, k=0):
    network = network or stack(SIZES, REPLICATES)
    state = read_network(network, k)
    return Origin(
        network, prunable_names(network), k, 3, density, True, CRITERIA["magnitude"],
        snapshots=lambda: state, dense=lambda: state, parent=lambda: None, stored_masks=lambda: {},
        minibatches=lambda order: [],
        names=lambda purpose: [("schedules", r, purpose) for r in range(REPLICATES)],
    )  # fmt: skip


def moments(branch, of, weights=None, gradients=None, span=SPAN):
    """Each change of a training whose weights are drawn anew for every moment: (moment, masks after it, values)."""
    _, masks = branch.start(of)
    changes = branch.changes(of, span)
    for step in sorted(changes.before):
        generator = np.random.default_rng(step)
        drawn = {n: torch.from_numpy(generator.normal(size=m.shape)).float() for n, m in masks.items()}
        drawn = {n: (weights or drawn)[n] * masks[n] for n in masks}
        slopes = {n: torch.from_numpy(generator.normal(size=m.shape)).float() for n, m in masks.items()}
        moment = Moment(step, span.steps, drawn, masks, lambda slopes=slopes: gradients or slopes, {})
        change = changes.change(moment)
        yield moment, change, slopes
        masks = change.masks


def layers(moment, masks):
    """(weights before, kept before, kept after) of each layer of each replicate, as rows."""
    for name in masks:
        for r in range(REPLICATES):
            yield name, r, *(part[name][r].numpy().ravel() for part in (moment.weights, moment.masks, masks))


def total(masks):
    return [int(sum(m[r].sum() for m in masks.values())) for r in range(REPLICATES)]


@pytest.mark.parametrize("density", [0.107, 0.015])
def test_gradual_pruning_follows_the_cubic_in_every_layer(density):
    """Zhu & Gupta's formula of the sparsity, in its own form; the smallest magnitudes go; none comes back."""
    changes = list(moments(BRANCHES["gradual"], origin(density)))
    begin, end = changes[0][0].step, changes[-1][0].step
    assert (begin, end) == (int(1000 * 3000 / 11719), int(1000 * 7000 / 11719))
    assert len({moment.step for moment, *_ in changes}) == len(changes) == 41
    for place, (moment, change, _) in enumerate(changes):
        sparsity = (1 - density) + (0 - (1 - density)) * (1 - place / 40) ** 3
        assert total(change.masks) == pytest.approx([360 * (1 - sparsity)] * REPLICATES, abs=0.5 + 1e-6)
        for _, _, weights, before, after in layers(moment, change.masks):
            assert after.sum() == pytest.approx(len(after) * (1 - sparsity), abs=1)
            assert not (after > before).any()
            kept, lost = abs(weights[after == 1]), abs(weights[(before == 1) & (after == 0)])
            assert not len(lost) or not len(kept) or lost.max() <= kept.min()
    assert total(changes[0][1].masks) == [360] * REPLICATES  # the first pruning takes nothing yet
    assert total(changes[-1][1].masks) == [keep_count(360, density)] * REPLICATES


def test_set_drops_by_sign_and_draws_free_connections_with_new_weights():
    """Of 40 weights of which the negative ones are the smallest, as many positive ones go as their share."""
    of = origin()
    changes = list(moments(BRANCHES["set"], of))
    assert [moment.step for moment, *_ in changes] == list(range(90, 1000 - 90 + 1, 90))
    dropped_positive = 0
    for moment, change, _ in changes:
        assert total(change.masks) == total(moment.masks)
        for name, r, weights, before, after in layers(moment, change.masks):
            assert after.sum() == before.sum()  # each layer keeps its number
            for sign in (1, -1):
                among = (before == 1) & (weights * sign > 0)
                count = int(0.3 * among.sum())
                smallest = np.flatnonzero(among)[np.argsort(abs(weights[among]), kind="stable")[:count]]
                gone = np.flatnonzero(among & (after == 0))
                assert set(gone) == set(smallest)
                dropped_positive += len(gone) * (sign > 0)
            grown = (before == 0) & (after == 1)
            values = change.values[name][r].numpy().ravel()[grown]
            assert (values != 0).all()
            assert len(set(values)) == grown.sum()
    assert dropped_positive
    values = torch.cat([change.values["layers.0.weight"].flatten() for _, change, _ in changes])
    assert float(values.std()) == pytest.approx(math.sqrt(2 / (12 + 20)), rel=0.05)  # Glorot, as at the start


def test_set_is_by_sign_even_where_every_negative_weight_is_smaller():
    of = origin()
    _, masks = BRANCHES["set"].start(of)
    generator = np.random.default_rng(0)
    weights = {}
    for n, m in masks.items():
        large, small = 5 + generator.random(m.shape), -generator.random(m.shape)
        weights[n] = torch.from_numpy(np.where(generator.random(m.shape) < 0.5, large, small)).float()
    moment, change, _ = next(moments(BRANCHES["set"], of, weights))
    for _, _, row, before, after in layers(moment, change.masks):
        positive = (before == 1) & (row > 0)
        assert (positive & (after == 0)).sum() == int(0.3 * positive.sum()) > 0


def test_rigl_drops_the_smallest_and_grows_by_gradient_a_share_that_falls_as_a_cosine():
    changes = list(moments(BRANCHES["rigl"], origin()))
    assert changes[0][0].step > 0
    assert changes[-1][0].step < 750
    for moment, change, slopes in changes:
        share = 0.15 * (1 + math.cos(math.pi * moment.step / 750))
        assert total(change.masks) == total(moment.masks)
        for name, r, weights, before, after in layers(moment, change.masks):
            gradient = abs(slopes[name][r].numpy().ravel())
            on = np.flatnonzero(before)
            count = int(share * len(on))
            kept = set(on) - set(on[np.argsort(abs(weights[on]), kind="stable")[:count]])
            others = [place for place in np.argsort(-gradient, kind="stable") if place not in kept]
            assert set(np.flatnonzero(after)) == kept | set(others[:count])
        assert change.values is None  # what grows begins at 0


def test_dsr_moves_connections_to_the_layers_that_keep_theirs():
    of = origin()
    changes = list(moments(BRANCHES["dsr"], of))
    _, start = BRANCHES["dsr"].start(of)
    assert [float(mask.mean()) for mask in start.values()] == pytest.approx([DENSITY] * 2, abs=0.01)
    moved = False
    for moment, change, _ in changes:
        assert total(change.masks) == [72] * REPLICATES
        count = int(72 * 600 / 5324)
        for r in range(REPLICATES):
            rows = [row for row in layers(moment, change.masks) if row[1] == r]
            sizes = np.sort(np.concatenate([abs(w[b == 1]) for *_, w, b, _ in rows]))
            survivors = [(abs(w[b == 1]) > sizes[count - 1]).sum() for *_, w, b, _ in rows]
            assert sum(survivors) == 72 - count
            for (_, _, weights, before, after), own in zip(rows, survivors, strict=True):
                lost = (before == 1) & (after == 0)
                assert set(abs(weights[lost])) <= set(sizes[:count])
                grown = ((before == 0) & (after == 1)).sum()
                assert grown == pytest.approx(count * own / sum(survivors), abs=1)
                moved |= grown != lost.sum()
    assert moved


def test_the_ramps_threshold_follows_its_formula_and_no_layer_falls_below_its_share():
    """Narang et al.'s formula in its own form, with one step between prunings; sizes by NumPy's quantile."""
    of = origin(0.2)
    dense = {n: abs(w.double().numpy()) for n, w in of.dense().weights.items()}
    changes = list(moments(BRANCHES["ramp"], of))
    begin, ramp, end = 90, 250, 500
    assert (changes[0][0].step, changes[-1][0].step) == (begin, end)
    for moment, change, _ in changes:
        for name, r, weights, before, after in layers(moment, change.masks):
            q, t = np.quantile(dense[name][r], 0.8), moment.step
            theta = 2 * q / (2 * (ramp - begin) + 3 * (end - ramp))
            epsilon = theta * (t - begin + 1) if t < ramp else theta * (ramp - begin + 1) + 1.5 * theta * (t - ramp + 1)
            largest = np.argsort(-np.where(before == 1, abs(weights), -1), kind="stable")[: round(0.2 * len(after))]
            due = (
                set(largest)
                if t == end
                else set(largest) | set(np.flatnonzero((before == 1) & (abs(weights) >= epsilon)))
            )
            assert set(np.flatnonzero(after)) == due
    assert total(changes[-1][1].masks) == [72] * REPLICATES
    assert total(changes[len(changes) // 2][1].masks) > [72] * REPLICATES


def test_connections_that_cross_zero_give_way_to_dormant_ones_just_off_it():
    of = origin()
    signs = {n: np.sign(w.numpy()) for n, w in of.snapshots().weights.items()}
    changes = list(moments(BRANCHES["deep_rewiring"], of, span=Span(0, 20, 5)))
    assert [moment.step for moment, *_ in changes] == list(range(1, 20))
    for moment, change, _ in changes:
        for name, r, weights, before, after in layers(moment, change.masks):
            sign = signs[name][r].ravel()
            crossed = (before == 1) & (weights * sign <= 0)
            assert after.sum() == before.sum()
            count = min(crossed.sum(), (before == 0).sum())
            gone = (before == 1) & (after == 0)
            assert gone.sum() == count
            assert not (gone & ~crossed).any()
            grown = (before == 0) & (after == 1)
            np.testing.assert_allclose(change.values[name][r].numpy().ravel()[grown], 1e-12 * sign[grown], rtol=1e-6)


@pytest.mark.parametrize("name", ["set", "rigl", "dsr", "erdos_renyi"])
def test_data_orders_share_the_mask_of_the_start_and_replicates_do_not(name):
    of = origin()
    (state, masks), (_, again) = BRANCHES[name].start(of), BRANCHES[name].start(of)
    assert total(masks) == [72] * REPLICATES
    assert all(torch.equal(masks[n], again[n]) for n in masks)
    assert not all(torch.equal(masks[n][0], masks[n][1]) for n in masks)
    assert state.step == 0
    assert not state.optimizer


@pytest.mark.parametrize("name", ["set", "rigl", "dsr", "deep_rewiring"])
def test_a_full_layer_stays_full(name):
    """At a density at which Erdos-Renyi keeps all of the smaller layer, or the network is dense."""
    for density in (0.9, 1.0):
        for moment, change, _ in moments(BRANCHES[name], origin(density), span=Span(0, 300, 90)):
            assert total(change.masks) == total(moment.masks) == [keep_count(360, density)] * REPLICATES


@pytest.mark.parametrize("name", ["gradual", "ramp", "set", "rigl", "dsr", "deep_rewiring"])
@pytest.mark.parametrize("span", [Span(0, 3, 90), Span(7, 40, 10), Span(0, 90, 90), Span(990, 1000, 90)])
def test_schedules_of_short_trainings_lie_within_them_and_end_at_the_count(name, span):
    of, last = origin(), None
    for moment, change, _ in moments(BRANCHES[name], of, span=span):
        assert span.first <= moment.step < span.steps
        last = change.masks
    if name in ("gradual", "ramp") or last is not None:
        assert total(last) == [72] * REPLICATES


def test_an_epochs_end_counts_from_the_beginning_of_the_training():
    assert list(Span(0, 360, 90).after_epochs()) == [90, 180, 270]
    assert list(Span(100, 360, 90).after_epochs()) == [180, 270]
    assert list(Span(0, 400, 90).after_epochs()) == [90, 180, 270]  # not in the last 90 steps


@pytest.mark.parametrize("seed", range(20))
def test_things_shared_out_are_all_given_in_proportion_and_to_none_more_than_its_room(seed):
    generator = np.random.default_rng(seed)
    shares = {str(i): int(v) for i, v in enumerate(generator.integers(0, 50, 4))}
    room = {name: int(v) for name, v in zip(shares, generator.integers(0, 30, 4), strict=True)}
    count = int(generator.integers(0, sum(room.values()) + 1))
    given = shared_out(count, shares, room)
    assert sum(given.values()) == count
    assert all(0 <= given[name] <= room[name] for name in shares)
    wide = shared_out(count, shares, dict.fromkeys(shares, 1000))
    total = sum(shares.values())
    assert all(abs(wide[name] - count * shares[name] / total) < 1 for name in shares if total)


def test_random_growth_is_uniform_over_what_is_free():
    among = torch.tensor([True, False, True, True, False, True])
    counts = sum(at_random(among, 2, ("growth", draw)).double() for draw in range(2000))
    assert counts[~among].sum() == 0
    assert counts[among].tolist() == pytest.approx([1000] * 4, rel=0.08)
    with pytest.raises(ValueError, match="can't choose 5 of 4"):
        at_random(among, 5, ("growth", 0))


def test_constants_are_those_of_the_sources():
    assert (set_branch.ZETA, rigl.ALPHA, rigl.UNTIL, gradual.PRUNINGS) == (0.3, 0.3, 0.75, 41)
    assert round(dsr.SHARE * 0.02 * 266_200) == 600
