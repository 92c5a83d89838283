"""The estimate of a scale's cost: its counts are the plan's, its times are measured. Threads are those asked for."""

import math

import pytest
import torch

from harness import calibrate
from harness.calibrate import costs, step_seconds
from harness.data import SOURCES, checksum
from harness.errors import HarnessError
from harness.paths import checkout
from harness.plan import all_runs
from harness.spec import load_spec
from harness.training.loop import use_threads
from harness.workflow.check import check_settings
from tests.workflow.conftest import tiny_spec

# one replicate by hand, 30 steps each less k: dense; orders from k 0 and 5; for each k 2 + 1 + 2 + 1 trainings
NETWORKS = 1 + 2 + 2 * 6
STEPS = 30 + (30 + 25) + 6 * 30 + 6 * 25


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_job_gets_the_threads_that_it_asks_for(threads):
    use_threads(threads)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled()


def test_networks_and_steps_are_those_of_the_plan():
    for replicates in (2, 5):
        (cost,) = costs(tiny_spec(replicates=replicates), at_most=0.05)
        assert cost.experiment == "lenet"
        assert cost.networks == len(all_runs(tiny_spec(replicates=replicates))) == replicates * NETWORKS
        assert cost.steps == replicates * STEPS
        assert cost.runnable


def test_seconds_are_steps_times_the_measured_seconds_of_one(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: 0.25)
    (cost,) = costs(tiny_spec())
    assert cost.seconds == 2 * STEPS * 0.25


def test_a_step_is_measured_in_time_on_one_thread():
    torch.set_num_threads(2)
    seconds = step_seconds(tiny_spec(), "lenet", at_most=0.05)
    assert torch.get_num_threads() == 1
    assert 0 < seconds < math.inf


def test_bytes_are_those_of_weights_masks_and_snapshots():
    # LeNet-300-100 on 8 x 8: weights and biases; Adam keeps two values more a weight in each snapshot, of steps 0 and 5
    prunable = 64 * 300 + 300 * 100 + 100 * 10
    weights = 4 * (prunable + 300 + 100 + 10)
    (cost,) = costs(tiny_spec(), at_most=0.05)
    assert cost.bytes == 2 * (NETWORKS * weights + 12 * prunable + 2 * 3 * weights)


def test_every_shipped_scale_can_be_counted(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: 1.0)
    for scale in ("smoke", "mini", "paper"):
        spec = load_spec(checkout(), "stabilizing-lth", scale)
        found = costs(spec)
        assert [cost.experiment for cost in found] == list(spec.scale.experiments)
        assert sum(cost.networks for cost in found) == len(all_runs(spec))
        assert all(cost.steps > 0 and cost.bytes > 0 for cost in found)
        assert all(cost.runnable for cost in found) == (scale != "paper")


def test_a_set_without_a_loader_can_be_planned_but_not_run():
    for name in (name for name, source in SOURCES.items() if source.make is None):
        with pytest.raises(HarnessError, match=f"'{name}' has no loader in this version"):
            checksum(name)
    (cost,) = costs(tiny_spec(data="mnist"), at_most=0.05)
    assert not cost.runnable


def test_an_unknown_data_set_is_refused_by_name_before_anything_is_timed():
    with pytest.raises(
        HarnessError, match=r"tiny\.yaml: experiments\.lenet\.data: 'nonsense' is unknown; choose one of dig"
    ):
        check_settings(tiny_spec(data="nonsense"))
    check_settings(tiny_spec())
