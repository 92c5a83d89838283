"""`harness.load`: a finished run as data frames, figures and tickets."""

import pandas as pd
import pytest
import torch

import harness
from harness.base.errors import HarnessError
from harness.claims.document import read_claims
from harness.paper.columns import CURVE_COLUMNS, NETWORK_MEASURES, PAIR_MEASURES
from harness.share import notebook
from harness.share.export import export
from harness.share.notebook import claims_frame
from tests.claims.tables import DIFFERENCE, GOOD, judged


@pytest.fixture
def run(tiny_run, monkeypatch):
    """The tiny run, whose scale is no file of the project."""
    monkeypatch.setattr(notebook, "load_scale", lambda *_: tiny_run.context.spec)
    return harness.load(tiny_run.base)


def test_each_row_of_the_table_is_a_network_or_a_pair_with_only_its_own_columns(run, tiny_run):
    table = pd.read_parquet(tiny_run.folders.table)
    assert len(run.networks) == (table["row"] == "network").sum() > 0
    assert len(run.pairs) == (table["row"] == "pair").sum() > 0
    assert {"row", *NETWORK_MEASURES, *PAIR_MEASURES} & set(run.networks.columns) == set(NETWORK_MEASURES)
    assert {"row", *NETWORK_MEASURES, *PAIR_MEASURES} & set(run.pairs.columns) == set(PAIR_MEASURES)
    assert list(run.curves.columns) == list(CURVE_COLUMNS)
    last = table[table["row"] == "network"].iloc[-1]
    assert run.networks.iloc[-1]["test_accuracy"] == last["test_accuracy"]
    assert run.networks.iloc[-1]["k"] == last["k"]


def test_what_is_missing_is_na_and_whole_numbers_stay_whole(run):
    pruning = run.pairs[run.pairs["comparison"] == "pruning"]  # no line between a dense network and its subnetwork
    assert len(pruning)
    assert all(value is pd.NA for value in pruning["instability_test"])
    assert (str(run.networks["k"].dtype), str(run.networks["test_accuracy"].dtype)) == ("Int64", "Float64")


def test_claims_by_id(run, tiny_run):
    claims = read_claims(tiny_run.folders.claims)
    assert list(run.claims.index) == [claim.id for claim in claims] == [claim.id for claim in run.verdicts]
    assert set(run.claims["verdict"]) == {"not tested"}
    assert "not tested" in repr(run)
    claim = judged(GOOD, DIFFERENCE | {"region": [0.0, None]})
    row = claims_frame([claim]).loc["C1"]
    assert (row["low"], row["high"]) == claim.interval
    assert row["low"] < row["estimate"] < row["high"]
    assert (row["region_low"], row["region_high"] is pd.NA) == (0.0, True)
    assert row["unit"] == "points"


def test_a_figure_of_chosen_experiments(run):
    figure = run.figure("accuracy_density", ["lenet"])
    assert "LeNet" in figure.axes[0].get_title(loc="left")
    with pytest.raises(HarnessError, match=r"'density': unknown; choose one of league, accuracy, accuracy_density,"):
        run.figure("density")
    with pytest.raises(HarnessError, match="experiment 'vgg': not in this run; choose one of lenet"):
        run.figure("accuracy_density", ["vgg"])


def test_a_ticket_is_the_exported_one(run, tiny_run, tmp_path):
    ticket = run.ticket("lenet", level=2, k=5, replicate=1)
    exported = export(tiny_run.context.spec, tiny_run.folders, "lenet", 1, 5, 2, "imp", tmp_path / "ticket")
    assert ticket.origin == exported.origin
    assert all(torch.equal(ticket.masks[name], mask) for name, mask in exported.masks.items())
    assert all(torch.equal(ticket.weights[name], weight) for name, weight in exported.weights.items())
    with pytest.raises(HarnessError, match="--level 7"):
        run.ticket("lenet", level=7)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(HarnessError, match=r"no finished run\. Give the folder results/<paper>/<scale>"):
        harness.load(tmp_path)
