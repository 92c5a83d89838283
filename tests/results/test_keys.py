"""A run's key: it changes with every setting that can change the run's numbers, and with nothing else."""

from dataclasses import replace

import pytest

from harness.data import SOURCES
from harness.paper.models import Pictures
from harness.plan.runs import Run, dense_run
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from tests.data.picture_sets import picture_set, write_folder, write_tar
from tests.tiny import tiny_spec


def key(run, **changes):
    return Context(tiny_spec(**changes), Folders(None), "lenet").key(run)


def key_on_pictures(folder, name="pets", **fields):
    spec = tiny_spec(data=name)
    own = {name: Pictures.model_validate({"folder": str(folder), "size": 6, **fields})}
    spec = replace(spec, scale=spec.scale.model_copy(update={"data": own}))
    record = stage_digest(spec, Folders(None), "lenet/c0/dense")
    return Context(spec, Folders(None), "lenet").key(DENSE), record


def test_a_run_on_pictures_is_known_by_what_they_are_and_not_by_place_or_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    files = picture_set()
    here = key_on_pictures(write_folder(tmp_path / "here", files))
    assert key_on_pictures(write_tar(tmp_path / "there.tar", files), "cats") == here
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    assert key_on_pictures("here") == here
    others = files | {"test/ant/0.png": files["test/ant/1.png"]}
    assert key_on_pictures(write_folder(tmp_path / "others", others))[0] != here[0]
    assert key_on_pictures("here", channels=1)[0] != here[0]


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
        {"calibration": {"test_accuracy": (90, 99)}},
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


def digest(name, spec):
    return stage_digest(spec, Folders(None), name)


def test_a_pack_of_tickets_describes_the_networks_in_it(monkeypatch):
    """The restart, the pictures' shape and the number of classes too, which are in no network's key."""
    sweeps, pack = [{"k": [0], "levels": 2}], "lenet/c0/tickets"
    spec, restarted = (
        tiny_spec(sweeps=sweeps, dense_orders=[0]),
        tiny_spec(sweeps=sweeps, dense_orders=[], restart=True),
    )
    before, ticket = digest(pack, spec), Run("lenet", 0, 0, 2, "imp", 0)
    assert key(ticket, sweeps=sweeps, restart=True, dense_orders=[]) == key(ticket, sweeps=sweeps, dense_orders=[0])
    assert digest(pack, restarted) != before
    source = SOURCES["digits"]
    for other in (replace(source, shape=(1, 9, 9)), replace(source, classes=11)):
        monkeypatch.setitem(SOURCES, "digits", other)
        assert digest(pack, spec) != before
    monkeypatch.setitem(SOURCES, "digits", source)
    assert digest(pack, spec) == before


@pytest.mark.parametrize("name", ["report", "card"])
def test_the_page_and_the_card_depend_on_the_paper_and_its_experiments_as_read(name, tmp_path):
    spec, folders = tiny_spec(), Folders(tmp_path)
    before = stage_digest(spec, folders, name)
    experiments = {key: value.model_copy(update={"title": "Another"}) for key, value in spec.experiments.items()}
    for other in (
        replace(spec, paper=spec.paper.model_copy(update={"title": "Another"})),
        replace(spec, experiments=experiments),
    ):
        assert stage_digest(other, folders, name) != before
        assert digest("collect", other) == digest("collect", spec)
