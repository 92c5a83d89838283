"""What a stage depends on: everything that can change its numbers, and nothing else."""

import shutil

import pytest

from harness.digest import CODE, PACKAGE, code_digest
from harness.plan import Run, dense_run
from harness.workflow.context import Context, Folders

from .conftest import tiny_spec


@pytest.fixture
def package(tmp_path):
    copy = tmp_path / "harness"
    shutil.copytree(PACKAGE, copy)
    return copy


def edit(package, file, old, new):
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def digests(package):
    return {part: code_digest(part, package) for part in CODE}


def changed(package, file, old, new):
    before = digests(package)
    edit(package, file, old, new)
    return {part for part, value in digests(package).items() if value != before[part]}


def test_comments_docstrings_and_layout_change_nothing(package):
    assert not changed(package, "training/loop.py", '"""The training loop:', '"""A training loop:')
    assert not changed(package, "training/loop.py", "    began = ", "    # a remark\n\n    began = ")
    assert not changed(package, "pruning/__init__.py", "Keep the `keep` largest", "Keep the largest `keep`")


@pytest.mark.parametrize(
    ("file", "old", "new", "parts"),
    [
        ("training/recipe.py", "min(1.0, (step + 1)", "min(1.0, (step + 2)", {"training"}),
        ("pruning/__init__.py", "abs()", "neg()", {"training"}),
        ("seeds.py", ">> 1", ">> 2", {"training", "data"}),
        ("networks/layers.py", "MOMENTUM = 0.1", "MOMENTUM = 0.2", {"training", "analysis"}),
        ("analysis/distance.py", "norm(dim=1)", "abs().sum(dim=1)", {"analysis"}),
        ("claims/statistics.py", "LEVEL = 0.95", "LEVEL = 0.9", {"claims"}),
        ("workflow/live.py", "PRIOR_SECONDS = 60.0", "PRIOR_SECONDS = 6.0", set()),
        ("training/store.py", ".to(torch.uint8)", ".to(torch.int8)", {"training"}),
        ("spec/measures.py", "PERCENT_MEASURES", "PERCENTS", {"claims"}),
        ("cli.py", '"mini"', '"smoke"', set()),
        ("share/tickets.py", "np.packbits(", "np.unpackbits(", {"share"}),
        ("share/crate.py", '"table": "table.parquet"', '"rows": "table.parquet"', {"card"}),
        ("workflow/identity.py", '"training", ', "", {"report"}),
        ("workflow/energy.py", "EVERY_SECONDS = 5.0", "EVERY_SECONDS = 50.0", set()),
    ],
)
def test_code_that_can_change_numbers_changes_their_digest_alone(package, file, old, new, parts):
    assert changed(package, file, old, new) == parts


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
