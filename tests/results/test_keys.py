"""A run's key: it changes with every setting that can change the run's numbers, and with nothing else."""

import pytest

from harness.plan.runs import Run, dense_run
from harness.results.context import Context
from harness.results.folders import Folders
from tests.tiny import tiny_spec


def key(run, **changes):
    return Context(tiny_spec(**changes), Folders(None), "lenet").key(run)


DENSE, LEVEL = dense_run("lenet", 0), Run("lenet", 0, 5, 2, "imp", 0)


@pytest.mark.parametrize(
    "changes",
    [{"change": {"steps": 31}}, {"change": {"steps": 30, "learning_rate": 0.002}}, {"data": "mnist1d"}],
)
def test_settings_that_change_numbers_change_every_key(changes):
    for run in (DENSE, LEVEL):
        assert key(run, **changes) != key(run)


def test_settings_that_change_no_number_of_a_run_keep_its_key():
    line = {"points": 9, "train_samples": 50, "test_samples": 50}
    for changes in (
        {"replicates": 5},
        {"replicates_per_job": 1},
        {"levels_per_job": 1},
        {"line": line},
        {"calibration": (90, 99)},
    ):
        for run in (DENSE, LEVEL):
            assert key(run, **changes) == key(run)


def test_pruning_settings_matter_below_the_dense_run_only():
    pruning = {"pruning": {"fraction": 0.2}}
    assert key(DENSE, **pruning) == key(DENSE)
    assert key(LEVEL, **pruning) != key(LEVEL)


def test_runs_have_their_own_keys():
    others = [
        Run("lenet", 1, 5, 2, "imp", 0),
        Run("lenet", 0, 0, 2, "imp", 0),
        Run("lenet", 0, 5, 1, "imp", 0),
        Run("lenet", 0, 5, 2, "random_prune", 0),
        Run("lenet", 0, 5, 2, "imp", 1),
    ]
    assert len({key(run) for run in [LEVEL, *others]}) == 6
