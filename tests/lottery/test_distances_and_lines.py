"""Distances, angles and lines: closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.lottery.distance import distance_and_angle
from harness.lottery.interpolation import barrier, line, point, reestimate_batch_norm
from harness.networks import build, initialise
from harness.training.loop import evaluate, use_threads
from harness.training.state import State, read_network, write_network


@pytest.fixture(autouse=True)
def _threads():
    use_threads(1)


def test_distance_and_angle_of_known_vectors():
    ones = {"w": torch.ones(3, 2)}
    a = {"w": torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])}
    b = {"w": torch.tensor([[0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])}
    distance, angle = distance_and_angle(a, b, ones)
    assert distance.tolist() == pytest.approx([math.sqrt(2), 0.0, 3.0])
    assert angle.tolist() == pytest.approx([90.0, 0.0, 180.0], abs=1e-6)


def test_masked_weights_do_not_count_even_where_they_are_not_zero():
    a, b = {"w": torch.tensor([[3.0, 100.0]])}, {"w": torch.tensor([[7.0, -100.0]])}
    distance, angle = distance_and_angle(a, b, {"w": torch.tensor([[1.0, 0.0]])})
    assert distance.item() == 4.0
    assert angle.item() == pytest.approx(0.0)


def test_small_angles_keep_their_digits():
    tilt = 1e-6
    a = {"w": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}
    b = {"w": torch.tensor([[math.cos(tilt), math.sin(tilt)]], dtype=torch.float64)}
    _, angle = distance_and_angle(a, b, {"w": torch.ones(1, 2)})
    assert angle.item() == pytest.approx(math.degrees(tilt), rel=1e-6)


def test_barrier_is_the_highest_point_over_the_ends_mean():
    error = np.array([[10.0, 10.0], [50.0, 12.0], [20.0, 14.0]])
    assert barrier(error).tolist() == [35.0, 2.0]


def network_with(seed):
    network = build("resnet8-1d", 2, (1, 40), 10)
    initialise(network, [(seed, 0), (seed, 1)])
    return network


def test_line_ends_at_the_networks_themselves_and_is_flat_between_equals():
    x, y = torch.randn(200, 1, 40), torch.arange(200) % 10
    network = network_with("a")
    a, b = read_network(network, 1), read_network(network_with("b"), 1)
    found = line(network, a, b, {"train": (x, y), "test": (x, y)}, points=30)
    assert len(found.alphas) == 30
    assert (found.alphas[0], found.alphas[-1]) == (0.0, 1.0)
    for state, position in ((a, 0), (b, -1)):
        write_network(network, state)
        expected = 100 - evaluate(network, x, y)[0].numpy()
        np.testing.assert_allclose(found.error["averaged"]["test"][position], expected)
    same = line(network, a, a, {"train": (x, y), "test": (x, y)}, points=5)
    assert same.instability("averaged", "test").tolist() == [0.0, 0.0]


def test_a_point_of_the_line_is_the_weighted_mean():
    a = State(0, {"w": torch.tensor([[0.0, 2.0]])}, {"m": torch.tensor([[1.0]])})
    b = State(0, {"w": torch.tensor([[4.0, 2.0]])}, {"m": torch.tensor([[3.0]])})
    middle = point(a, b, 0.25)
    assert middle.weights["w"].tolist() == [[1.0, 2.0]]
    assert middle.buffers["m"].tolist() == [[1.5]]


def test_reestimated_statistics_are_the_samples_own():
    torch.manual_seed(0)
    network, x = network_with("a"), 5 + torch.randn(1000, 1, 40)
    reestimate_batch_norm(network, x, batch_size=500)
    first = F.conv1d(x, network.conv.weight.flatten(0, 1), padding=1)  # [N, R * C, L]
    first = first.unflatten(1, (2, -1)).movedim(0, 2)  # [R, C, N, L]
    torch.testing.assert_close(network.norm.mean, first.mean((2, 3)), rtol=1e-3, atol=1e-4)
    halves = torch.stack([part.flatten(2).var(2) for part in first.split(500, dim=2)]).mean(0)
    torch.testing.assert_close(network.norm.variance, halves, rtol=1e-3, atol=1e-4)
    assert network.norm.momentum == 0.1
