"""The estimate of a scale's cost: its counts are the plan's, its times are measured. Threads are those asked for."""

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.estimate import timing as calibrate
from harness.estimate.timing import Timing, costs, line_samples, line_seconds, run_seconds, step_seconds
from harness.kernels import available
from harness.kernels.sparse import BREAK_EVEN
from harness.lottery.interpolation import line
from harness.networks import build, fused, initialise
from harness.paper import load_spec
from harness.paper.models import Line
from harness.plan.runs import all_runs, dense_run, pairs, stages
from harness.plan.settings import check_settings
from harness.training.loop import Stopped, use_threads
from harness.training.state import read_network
from tests.tiny import tiny_spec

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


@pytest.fixture
def quarter(monkeypatch):
    """A step takes a quarter of a second."""
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: Timing(0.25, 60))


@pytest.mark.usefixtures("quarter")
def test_networks_steps_and_seconds_are_those_of_the_plan():
    for replicates in (2, 5):
        (cost,) = costs(tiny_spec(replicates=replicates))
        assert cost.experiment == "lenet"
        assert cost.networks == len(all_runs(tiny_spec(replicates=replicates))) == replicates * NETWORKS
        assert cost.steps == replicates * STEPS
        assert cost.seconds == replicates * STEPS * 0.25


@pytest.mark.usefixtures("quarter")
def test_a_part_of_the_runs_costs_its_part():
    spec = tiny_spec()
    runs = [run for run in all_runs(spec) if run.replicate == 1]
    (cost,) = costs(spec, runs=runs)
    assert (cost.networks, cost.steps) == (NETWORKS, STEPS)


@pytest.mark.usefixtures("quarter")
def test_the_seconds_of_runs_add_up_to_the_experiments():
    spec = tiny_spec()
    found = run_seconds(spec, costs(spec))
    assert found[dense_run("lenet", 1)] == 30 * 0.25
    assert set(found) == set(all_runs(spec))
    assert sum(found.values()) == 2 * STEPS * 0.25
    restarted = tiny_spec(restart=True, dense_copies=2)
    assert set(run_seconds(restarted, costs(restarted)).values()) == {30 * 0.25}


def test_what_was_measured_is_not_measured_again(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: pytest.fail("measured again"))
    measured = {"lenet": calibrate.Cost("lenet", 1, 1, 1.0, 1, Timing(0.5, 4, 0.0, ((1.0, 1.0), (0.3, 0.5))), 60)}
    (cost,) = costs(tiny_spec(), measured=measured)
    assert cost.timing == measured["lenet"].timing


def test_a_step_is_measured_in_time_on_one_thread():
    torch.set_num_threads(2)
    found = step_seconds(tiny_spec(), "lenet", at_most=0.05)
    assert torch.get_num_threads() == 1
    assert 0 < found.seconds < math.inf


class Clock:
    """Time passes in training alone: 1 ms for each sample of each replicate's step, and 100 ms for each training.

    A forward pass takes a tenth of that for each sample. Under masks of a density d the 1 ms is 1 ms * `share(d)`. On
    the wall all takes `slower` times as long.
    """

    def __init__(self):
        self.now, self.wall, self.slower, self.trained, self.evaluated, self.loading = 0.0, 0.0, 1.0, [], [], 0.0
        self.masked, self.share = [], lambda density: 0.1 + 0.9 * density

    def passes(self, seconds):
        self.now += seconds
        self.wall += self.slower * seconds

    def evaluate(self, network, x, y):
        replicates = next(network.parameters()).shape[0]
        self.evaluated.append((len(y), replicates))
        self.passes(0.0001 * len(y) * replicates)

    def train(self, network, recipe, batches, start, masks=None, *, keep_state=None, stopping=lambda: False):
        replicates = next(network.parameters()).shape[0]
        if masks is not None:
            kept, total = sum(mask.sum() for mask in masks.values()), sum(mask.numel() for mask in masks.values())
            self.masked.append((recipe.batch_size, replicates, round(float(kept / total), 3)))
            self.passes(0.1)
            for step in range(recipe.steps):
                self.passes(0.001 * recipe.batch_size * replicates * self.share(float(kept / total)))
                if stopping():
                    assert keep_state
                    raise Stopped(step)
            return
        self.trained.append((recipe.batch_size, replicates, recipe.steps))
        assert batches.batch(0)[0].shape[:2] == (replicates, recipe.batch_size)
        self.passes(0.1 + 0.001 * recipe.batch_size * replicates * recipe.steps + self.loading)
        self.loading = 0.0


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(calibrate, "train", made.train)
    monkeypatch.setattr(calibrate, "evaluate", made.evaluate)
    monkeypatch.setattr(calibrate, "by_kernels", lambda *_: False)
    clocks = SimpleNamespace(perf_counter=lambda: made.wall, process_time=lambda: made.now)
    monkeypatch.setattr(calibrate, "time", clocks)
    return made


def test_a_cheap_network_is_measured_whole_and_in_its_stack(clock):
    found = step_seconds(tiny_spec(replicates=3, replicates_per_job=3), "lenet", at_most=60)
    assert found.samples == 60
    assert clock.trained[-1] == (60, 3, 50)
    assert found.seconds == pytest.approx((0.1 + 0.06 * 3 * 50) / 50 / 3)
    assert found.forward == pytest.approx(0.0001)
    assert clock.evaluated[-1] == (512, 3)
    assert clock.now <= 0.104 + 60 + 15


@pytest.fixture
def kernels(clock, monkeypatch):
    """The same, and kernels compute the network."""
    monkeypatch.setattr(calibrate, "by_kernels", lambda *_: True)
    return clock


def test_a_network_of_the_kernels_is_measured_under_masks_in_its_stack(kernels):
    found = step_seconds(tiny_spec(replicates=3, replicates_per_job=3), "lenet", at_most=60)
    assert kernels.masked == [(60, 3, 1.0), (60, 3, 0.05), (60, 3, 0.3)]
    assert found.seconds == pytest.approx(0.06)
    assert dict(found.shares) == pytest.approx({density: 0.1 + 0.9 * density for density in (1.0, 0.3, 0.05)}, rel=1e-3)
    assert (found.samples, found.forward) == (60, pytest.approx(0.0001))


def test_what_writing_programs_takes_does_not_count_in_the_dense_step(kernels):
    found = step_seconds(tiny_spec(replicates=3, replicates_per_job=3), "lenet", at_most=2)
    assert kernels.masked
    assert found.seconds == pytest.approx(0.06)


@pytest.mark.parametrize("at_most", [0.25, 1.2, 1.6])  # a few samples of a step are timed, or whole steps
def test_where_no_time_is_left_for_masks_the_dense_step_holds(kernels, at_most):
    found = step_seconds(tiny_spec(), "lenet", at_most=at_most)
    assert (kernels.masked, found.shares) == ([], ())
    assert found.at(0.01) == found.at(1.0) == found.seconds


def test_densities_are_timed_as_long_as_there_is_time(kernels):
    kernels.share = lambda density: 1.0 if density == 1 else 20.0
    found = step_seconds(tiny_spec(), "lenet", at_most=3)
    assert kernels.masked == [(60, 1, 1.0), (60, 1, 0.05)]
    assert [density for density, _ in found.shares] == [1.0, 0.05]


@pytest.mark.parametrize("slower", [1, 3, 10, 1000])
def test_masks_do_not_prolong_the_timing(clock, monkeypatch, slower):
    for at_most in (0.01, 0.3, 1.0, 2.0, 4.0, 30.0):
        spent = []
        for by_kernels in (False, True):
            monkeypatch.setattr(calibrate, "by_kernels", lambda *_, by_kernels=by_kernels: by_kernels)
            clock.now, clock.wall, clock.slower = 0.0, 0.0, slower
            step_seconds(tiny_spec(), "lenet", at_most=at_most)
            spent.append((clock.now, clock.wall))
        # no longer than its limits, but for what a stack's training under masks takes at least: 0.1 s and two steps
        least = 0.1 + 2 * 2 * 0.06
        assert spent[1][0] <= max(spent[0][0], 0.104 + 1.25 * at_most) + least
        assert spent[1][1] <= slower * (2 * 0.104 + 0.01 + least) + 3 * 1.25 * at_most


def test_masks_are_not_timed_as_slower_than_the_dense_network(kernels):
    kernels.share = lambda density: 2.0 - density
    found = step_seconds(tiny_spec(), "lenet", at_most=60)
    assert [share for _, share in found.shares] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "masked"), [({}, True), ({"precision": "bfloat16"}, False), ({"optimizer": "rmsprop"}, False)]
)
def test_masks_are_timed_where_the_kernels_compute_the_step(monkeypatch, changes, masked):
    monkeypatch.setattr(fused, "available", lambda: "avx2")
    spec = tiny_spec()
    subject, recipe = calibrate.subject_of(spec, "lenet"), spec.recipe("lenet").model_copy(update=changes)
    assert calibrate._by_kernels(subject, recipe) == masked
    monkeypatch.setattr(fused, "available", lambda: "")
    assert not calibrate._by_kernels(subject, recipe)


def test_a_real_step_under_masks_is_timed_and_at_most_as_long_as_a_dense_one():
    found = step_seconds(tiny_spec(), "lenet", at_most=60)
    if available():
        assert found.shares[0] == (1.0, 1.0)
    assert all(0 < share <= 1 for _, share in found.shares)


def test_a_step_at_a_density_is_interpolated_between_the_timed_ones():
    timing = Timing(2.0, 60, 0.0, ((1.0, 1.0), (0.05, 0.2), (0.3, 0.5)))
    dense_from = max(BREAK_EVEN.values())
    assert [timing.at(density) for density in (1.0, 0.8, dense_from)] == [2.0, 2.0, 2.0]
    assert timing.at((dense_from + 0.3) / 2) == pytest.approx(2.0 * 0.75)
    assert [timing.at(density) for density in (0.3, 0.175, 0.05, 0.01)] == pytest.approx([1.0, 0.7, 0.4, 0.4])
    assert Timing(2.0, 60).at(0.01) == Timing(2.0, 60, 0.0, ((1.0, 1.0),)).at(0.01) == 2.0


def test_a_run_costs_what_its_level_keeps(monkeypatch):
    timing = Timing(0.25, 60, 0.0, ((1.0, 1.0), (0.05, 0.2), (0.3, 0.5)))
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: timing)
    spec = tiny_spec(pruning={"fraction": 0.7})
    (cost,) = costs(spec)
    found = run_seconds(spec, [cost])
    assert found[dense_run("lenet", 0)] == 30 * 0.25
    by_level = {level: {found[run] for run in found if run.level == level and run.k == 5} for level in (1, 2)}
    # 0.7 pruned at a time: density 0.3 at level 1 and 0.09 at level 2, on every branch and in every data order
    assert len(by_level[1]) == len(by_level[2]) == 1
    assert by_level[1].pop() == pytest.approx(25 * 0.25 * 0.5)
    assert by_level[2].pop() == pytest.approx(25 * 0.25 * (0.2 + 0.3 * 0.04 / 0.25))
    assert cost.seconds == pytest.approx(sum(found.values()))


def test_an_expensive_network_is_measured_on_a_few_samples_of_one_replicate_and_scaled(clock):
    found = step_seconds(tiny_spec(), "lenet", at_most=0.25)
    assert found.samples == 4
    assert [(samples, replicates) for samples, replicates, _ in clock.trained] == [(4, 1)] * 4  # the best of three
    assert found.seconds == pytest.approx(0.104 * 60 / 4)


def test_time_that_others_take_of_a_core_does_not_count(clock):
    quiet = step_seconds(tiny_spec(), "lenet", at_most=60)
    clock.slower = 20.0
    assert step_seconds(tiny_spec(), "lenet", at_most=60).seconds == pytest.approx(quiet.seconds, rel=0.2)


@pytest.mark.parametrize("slower", [1, 3, 10, 1000])
def test_a_busy_machine_ends_the_timing_sooner(clock, slower):
    clock.slower, one = slower, 0.104
    for at_most in (0.1, 1.0, 4.0):
        clock.wall = 0.0
        step_seconds(tiny_spec(), "lenet", at_most=at_most)
        # what is not counted; one step and one forward pass, whatever they take; three times the rest
        assert clock.wall <= slower * (one + one + 0.01) + 3 * (at_most + at_most / 4)


def test_on_a_gpu_it_is_the_wall_clock_that_counts(clock, monkeypatch):
    monkeypatch.setattr(calibrate, "pick", lambda: torch.device("cuda"))
    assert calibrate._clock() is calibrate.time.perf_counter
    monkeypatch.setattr(calibrate, "pick", lambda: torch.device("cpu"))
    assert calibrate._clock() is calibrate.time.process_time


# finds no GPU here: the other process times the CPU, under the lock all the same
ON_A_GPU = """
import os, torch
from harness.estimate import timing
from tests.tiny import tiny_spec

timing.pick = lambda: torch.device("cuda")
timing.step_seconds = None  # of this process
(cost,) = timing.costs(tiny_spec(), at_most=0.05)
assert cost.timing.seconds > 0
assert "CUDA_VISIBLE_DEVICES" not in os.environ
"""


@pytest.mark.slow
def test_a_gpu_is_timed_by_a_process_of_its_own_which_locks_it(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "HARNESS_DEVICE")}
    env |= {"HARNESS_GPUS": "5", "HARNESS_GPU_LOCKS": str(tmp_path), "PYTHONPATH": str(checkout())}
    subprocess.run([sys.executable, "-c", ON_A_GPU], env=env, check=True)
    assert (tmp_path / "5.lock").exists()


def test_what_a_first_step_loads_does_not_count(clock):
    clock.loading = 30.0
    found = step_seconds(tiny_spec(), "lenet", at_most=60)
    assert (found.samples, clock.trained[-1][2]) == (60, 50)
    assert found.seconds == pytest.approx((0.1 + 0.06 * 2 * 50) / 50 / 2)


def test_time_is_kept_but_for_a_first_step(clock):
    for at_most in (0.01, 0.3, 1.0, 4.0):
        clock.now = 0.0
        step_seconds(tiny_spec(), "lenet", at_most=at_most)
        assert clock.now <= 0.104 + max(3 * 0.104, 2 * at_most) + at_most / 2


def test_a_line_costs_a_forward_pass_of_each_sample_at_each_point(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: Timing(0.25, 60, 0.001))
    spec = tiny_spec()  # 5 points, 100 samples of each split
    (cost,) = costs(spec)
    compared = [group for stage in stages(spec) if stage.kind == "stability" for group in pairs(spec, stage)]
    count = sum(pair.interpolated for group in compared for pair in group)
    assert count == 2 * (2 + 2 * 2)  # by hand: two dense pairs; for each k one of IMP and one of random pruning
    assert cost.pair_seconds == pytest.approx(5 * 200 * 0.001)
    assert cost.comparing == pytest.approx(count * cost.pair_seconds)
    assert sum(line_seconds(spec, [cost]).values()) == pytest.approx(cost.comparing)
    (without,) = costs(tiny_spec(line={"points": 0}))
    assert (without.pair_seconds, without.comparing) == (0.0, 0.0)


def test_the_line_takes_as_many_samples_forward_as_are_counted(monkeypatch):
    """Against the real comparison of a network with BatchNorm: its every forward pass, samples counted."""
    network = build("resnet8-1d", 1, (1, 40), 10)
    initialise(network, [("x", 0)])
    seen = []
    network.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    x, y = torch.randn(32, 1, 40), torch.arange(32) % 10
    state = read_network(network, 0)
    line(network, state, state, {"train": (x, y), "test": (x[:16], y[:16])}, points=3)
    assert sum(seen) == line_samples(Line(points=3, train_samples=32, test_samples=16), has_norm=True)


def test_bytes_are_those_of_weights_masks_and_snapshots():
    # LeNet-300-100 on 8 x 8: weights and biases; Adam keeps two values more a weight in each snapshot, of steps 0 and 5
    prunable = 64 * 300 + 300 * 100 + 100 * 10
    weights = 4 * (prunable + 300 + 100 + 10)
    (cost,) = costs(tiny_spec(), at_most=0.05)
    assert cost.bytes == 2 * (NETWORKS * weights + 12 * prunable + 2 * 3 * weights)


def test_every_shipped_scale_can_be_counted(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: Timing(1.0, 60))
    for paper in ("stabilizing-lth", "linear-mode-connectivity"):
        for scale in ("smoke", "mini", "wide", "paper"):
            spec = load_spec(checkout(), paper, scale)
            found = costs(spec)
            assert [cost.experiment for cost in found] == list(spec.scale.experiments)
            assert sum(cost.networks for cost in found) == len(all_runs(spec))
            assert all(cost.steps > 0 and cost.bytes > 0 for cost in found)


def test_an_unknown_data_set_is_refused_by_name_before_anything_is_timed():
    with pytest.raises(
        HarnessError, match=r"tiny\.yaml: experiments\.lenet\.data: 'nonsense' is unknown; choose one of cifar10, dig"
    ):
        check_settings(tiny_spec(data="nonsense"))
    check_settings(tiny_spec())
