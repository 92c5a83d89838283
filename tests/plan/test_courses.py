"""The course of each run's training: its steps and learning rates, against counts and schedules written by hand."""

import pytest

from harness.data import SOURCES
from harness.estimate.arithmetic import step_work
from harness.networks import operations
from harness.paper.models import Recipe
from harness.plan.courses import course, equal_steps, steps_of
from harness.plan.runs import Run, dense_run
from harness.training.recipe import learning_rate
from tests.tiny import tiny_spec

CHANGE = {"steps": 30, "drops": [10, 20], "drop_factor": 0.1, "learning_rate": 0.1}
SPEC = tiny_spec(change=CHANGE)


def run(branch, level=2, k=5):
    return Run("lenet", 0, k, level, branch, 0)


def rates(branch, level=2, k=5, spec=SPEC):
    found = course(spec, run(branch, level, k))
    return [learning_rate(found.recipe, step) for step in range(found.first, found.recipe.steps)]


FROM_5 = [0.1] * 5 + [0.01] * 10 + [0.001] * 10


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("imp", FROM_5),
        ("random_reinit", FROM_5),
        ("lr_rewind", FROM_5),
        ("keep_signs", FROM_5),
        ("snip_reinit", FROM_5),
        ("fine_tune", [0.001] * 25),
        ("scratch_b", [0.1] * 20 + [0.01] * 20 + [0.001] * 20),
    ],
)
def test_the_learning_rate_of_every_step(branch, expected):
    assert rates(branch) == pytest.approx(expected)
    assert steps_of(SPEC, run(branch)) == len(expected)


def test_the_dense_run_and_its_copies():
    assert steps_of(SPEC, dense_run("lenet", 0)) == 30
    assert steps_of(SPEC, Run("lenet", 0, 5, 0, "dense", 1)) == 25


def test_restarted_networks_train_all_steps():
    spec = tiny_spec(change=CHANGE, restart=True, dense_orders=[])
    assert rates("imp", spec=spec) == pytest.approx([0.1] * 10 + [0.01] * 10 + [0.001] * 10)
    assert rates("fine_tune", spec=spec) == pytest.approx([0.001] * 30)


# LeNet on 64 pixels: 64 x 300 + 300 x 100 + 100 x 10 = 50,200 weights, each one multiply-add of a sample.
# Level 1 keeps round(0.64 x 50,200) = 32,128 of them: 30 x 50,200 / 32,128 = 46.9 steps. Level 2 would take 73.2.
# ResNet-8 on 40 positions, weights x positions: 12 x 40 + 2 x 48 x 40 + (96 + 192) x 20 + (384 + 768) x 10 = 21,600 in
# the 1,548 weights that are pruned, 32 x 20 + 128 x 10 + 16 x 10 = 2,080 in shortcuts and output. Level 1 keeps 991:
# 30 x 23,680 / (2,080 + 21,600 x 991 / 1,548) = 44.7 steps. At 90% density, 1,393: 30 x 23,680 / 21,517.2 = 33.0.
RESNET = {"network": "resnet8-1d", "data": "mnist1d"}


@pytest.mark.parametrize(
    ("changes", "level", "steps"),
    [({}, 1, 46), ({}, 2, 60), (RESNET, 1, 44), (RESNET, 2, 60), (RESNET | {"pruning": {"fraction": 0.1}}, 1, 33)],
)
def test_scratch_b_takes_the_operations_of_the_dense_training_at_most_twice_its_steps(changes, level, steps):
    spec = tiny_spec(change={"steps": 30}, **changes)
    assert equal_steps(spec, "lenet", level) == steps
    assert steps_of(spec, run("scratch_b", level)) == steps


def test_operations_by_hand():
    assert operations("lenet-300-100", (1, 8, 8), 10) == {
        "hidden1.weight": 19_200,
        "hidden2.weight": 30_000,
        "output.weight": 1_000,
    }
    assert sum(operations("resnet8-1d", (1, 40), 10).values()) == 23_680


@pytest.mark.parametrize(
    ("name", "data"),
    [("lenet-300-100", "mnist"), ("resnet20-1d", "mnist1d"), ("resnet20", "cifar10"), ("vgg16", "cifar10")],
)
def test_operations_are_those_that_pytorch_counts_in_a_step(name, data):
    """A step computes each product three times, without the gradient of the first layer's inputs; 2 a multiply-add."""
    source = SOURCES[data]
    recipe = Recipe(optimizer="momentum", learning_rate=0.1, batch_size=3, steps=2)
    counts = list(operations(name, source.shape, source.classes).values())
    assert step_work(name, source.shape, source.classes, recipe).flops == 2 * 3 * (3 * sum(counts) - counts[0])


def test_a_dense_network_is_trained_once_and_a_schedule_as_it_is():
    """A level that keeps everything takes the dense steps."""
    spec = tiny_spec(change=CHANGE, pruning={"fraction": 1e-9})
    assert equal_steps(spec, "lenet", 1) == 30
    assert rates("scratch_b", 1, spec=spec) == pytest.approx([0.1] * 10 + [0.01] * 10 + [0.001] * 10)
