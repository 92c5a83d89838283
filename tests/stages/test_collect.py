"""The tidy table of a tiny run, against the tensors it speaks of."""

import pandas as pd
import pytest
import torch

from harness.paper.columns import REAL, TEXT, WHOLE
from harness.plan.runs import Run, all_runs
from harness.results.tables import read_curves, read_table
from harness.stages.collect import _union
from tests.tiny import TinyRun, tiny_context


def test_one_row_per_network_and_per_pair(finished):
    table = pd.read_parquet(finished.folders.table)
    assert list(table.columns) == [*TEXT, *WHOLE, *REAL]
    assert (table["row"] == "network").sum() == len(all_runs(finished.spec))
    assert (table["row"] == "pair").sum() == 2 * 12
    assert (table["status"] == "ok").all()
    networks = table[table["row"] == "network"]
    assert networks["distance"].isna().all()
    assert networks["test_accuracy"].between(0, 100).all()


def test_pairs_know_their_level_and_density(finished):
    table = pd.read_parquet(finished.folders.table)
    pair = table[(table["row"] == "pair") & (table["branch"] == "imp") & (table["comparison"] == "data_order")]
    assert set(pair["level"]) == {2}
    assert pair["density"].tolist() == pytest.approx([0.64**2] * 4, rel=1e-4)
    dense = table[(table["row"] == "pair") & (table["branch"] == "dense")]
    assert sorted(dense["k"]) == [0, 0, 5, 5]
    assert (dense["density"] == 1).all()


def test_distances_are_those_of_the_stored_tensors(finished):
    table = pd.read_parquet(finished.folders.table)
    dense, imp = Run("lenet", 1, 0, 0, "dense", 0), Run("lenet", 1, 5, 2, "imp", 0)
    row = table[(table["run"] == dense.id) & (table["run_b"] == imp.id)].iloc[0]
    assert row["comparison"] == "pruning"
    a = finished.store.load_part(dense.id, "final/weights/")
    b = finished.store.load_part(imp.id, "final/weights/")
    mask = finished.store.load_part(imp.id, "mask/")
    square = sum(((a[name] - b[name]) * mask[name]).double().pow(2).sum() for name in mask)
    assert row["distance"] == pytest.approx(float(torch.as_tensor(square).sqrt()), rel=1e-5)


def test_instability_is_the_curves(finished):
    table, curves = pd.read_parquet(finished.folders.table), pd.read_parquet(finished.folders.all_curves)
    for _, row in table[table["instability_test"].notna()].iterrows():
        part = curves[(curves["run"] == row["run"]) & (curves["run_b"] == row["run_b"]) & (curves["split"] == "test")]
        error = part[part["batch_norm"] == "averaged"].sort_values("alpha")["error"].to_numpy()
        assert len(error) == 5
        assert row["instability_test"] == pytest.approx(error.max() - (error[0] + error[-1]) / 2)


def test_union_of_time_spans():
    assert _union([(0, 2), (1, 3), (5, 6)]) == 4
    assert _union([(0, 10), (1, 2)]) == 10
    assert _union([]) == 0


def test_a_scale_that_compares_no_networks_has_a_table(tmp_path):
    run = TinyRun(tiny_context(tmp_path, sweeps=[], dense_orders=[]))
    for name in ("lenet/c0/dense", "collect"):
        run.stage(name)
    table = read_table(run.folders.table)
    assert list(table["row"]) == ["network", "network"]
    assert len(read_curves(run.folders.all_curves)) == 0
