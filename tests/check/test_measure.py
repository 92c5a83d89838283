"""Digests of tables change with every bit that matters and with nothing else; values are the judge's own."""

import numpy as np
import pandas as pd
import pytest

from harness.base.paths import checkout
from harness.check.observed import bits, calibration, claims, machines, rows, tables
from harness.claims.calibration import misfits
from harness.claims.table import Table
from harness.paper import load_spec
from harness.paper.columns import TABLE_COLUMNS
from harness.plan.needs import selected
from harness.results.folders import Folders
from harness.results.store import PULLED, Store
from tests.claims.tables import COLUMNS, network, pair, table

CURVES = pd.DataFrame(
    [
        (f"lenet/r0/k0/L1-imp-o{order}", "lenet/r0/k0/L1-imp-o9", "recorded", "test", alpha, alpha / 3)
        for order in range(2)
        for alpha in (0.0, 1.0)
    ],
    columns=["run", "run_b", "batch_norm", "split", "alpha", "error"],
)


def tidy_table(**changes) -> pd.DataFrame:
    """Two dense networks, a subnetwork and a pair; `changes` go into the subnetwork's row."""
    frame = table(
        network("dense", 0, test_accuracy=97.0, seconds=1.0),
        network("dense", 1, test_accuracy=99.0, seconds=2.0),
        network("imp", test_accuracy=96.1, seconds=3.0, **changes),
        pair("imp", 0, distance=0.1),
    )
    return frame[list(TABLE_COLUMNS)] if set(COLUMNS) == set(TABLE_COLUMNS) else frame


def digests(frame: pd.DataFrame, curves: pd.DataFrame = CURVES):
    return rows("lenet", frame, curves)


def test_the_same_table_has_the_same_digests_whatever_the_time_it_took():
    assert digests(tidy_table()) == digests(tidy_table())
    slower = tidy_table()
    slower["seconds"] = 99.0
    assert digests(slower) == digests(tidy_table())
    assert (digests(tidy_table()).networks, digests(tidy_table()).pairs) == (3, 1)


def test_one_bit_of_one_number_changes_the_digest_of_values_alone():
    moved = tidy_table()
    row = moved.index[moved["test_accuracy"] == 96.1][0]
    moved.loc[row, "test_accuracy"] = np.nextafter(96.1, 0)
    now, was = digests(moved), digests(tidy_table())
    assert now.values != was.values
    assert (now.rows, now.curves) == (was.rows, was.curves)


@pytest.mark.parametrize("change", [{"density": 0.5}, {"status": "diverged"}, {"k": 20}, {"replicate": 7}])
def test_other_rows_or_other_counts_of_weights_change_the_digest_of_rows(change):
    assert digests(tidy_table(**change)).rows != digests(tidy_table()).rows


def test_curves_count_in_whatever_order_they_were_computed():
    assert digests(tidy_table(), CURVES[::-1].reset_index(drop=True)) == digests(tidy_table())
    moved = CURVES.assign(error=np.nextafter(CURVES["error"], 1))
    assert digests(tidy_table(), moved).curves != digests(tidy_table()).curves
    assert digests(tidy_table(), CURVES[:0]).curves != digests(tidy_table()).curves


def test_experiments_do_not_touch_each_other():
    other = pd.concat(
        [tidy_table(), table(network("dense", 0, "resnet20-low", test_accuracy=1.0))[tidy_table().columns]]
    )
    more = CURVES.assign(run=CURVES["run"].str.replace("lenet", "resnet20-low"))
    assert digests(other, pd.concat([CURVES, more])) == digests(tidy_table())
    assert rows("resnet20-low", other, more).networks == 1


def test_names_and_values_can_not_run_into_each_other():
    def frame(**columns):
        return pd.DataFrame(columns)

    different = [
        frame(a=["x", "y"]),
        frame(a=["xy", ""]),
        frame(b=["x", "y"]),
        frame(a=["x"], b=["y"]),
        frame(a=[1, 2]),
        frame(a=[1.0, 2.0]),
        frame(a=["1", "2"]),
        frame(a=[np.nan, 2.0]),
    ]
    assert len({bits(frame) for frame in different}) == len(different)
    other_nan = np.array([0x7FF8000000000001, 0x4000000000000000], dtype=np.uint64).view(np.float64)
    assert bits(frame(a=other_nan)) == bits(different[-1])


def test_the_calibration_value_is_what_the_judge_holds_against_the_band():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    values = calibration(spec, tidy_table())
    lenet, low = values["lenet.test_accuracy"], values["resnet20-low.test_accuracy"]
    assert (lenet.value, lenet.fits) == (98.0, True)
    assert (low.value, low.fits) == (None, False)
    unfit = misfits(Table(tidy_table(), {"test_accuracy"}), {"lenet": {"test_accuracy": (98.1, 100.0)}})
    assert "a test accuracy of 98% on average" in unfit["lenet"]


def test_a_band_whose_pairs_a_selection_leaves_out_is_no_value_of_it():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    without = selected(spec, ["C2"], every_replicate=True)
    assert "lenet.data_order_distance" in calibration(spec, tidy_table())
    assert set(calibration(without, tidy_table())) == {"lenet.test_accuracy", "lenet.train_loss"}


def test_claims_that_the_scale_does_not_judge_are_left_out():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    results = claims(spec, tidy_table())
    assert list(results) == [claim.id for claim in spec.claims if "mini" in claim.scales]
    assert {claim.verdict for claim in results.values()} == {"not tested"}
    assert claims(load_spec(checkout(), "stabilizing-lth", "smoke"), tidy_table()) == {}


def test_a_kind_of_machine_is_what_bits_depend_on():
    def record(**hardware):
        fields = {"cpu": "a processor", "gpu": "", "kernels": "avx2", "cores": 2, "memory_gib": 4.0} | hardware
        return {"hardware": fields, "packages": {"torch": "2.14.0", "numpy": "2.4.0", "dvc": "3.6"}}

    assert machines([record(), record(cores=64)]) == ["a processor, avx2 kernels, torch 2.14.0, numpy 2.4.0"]
    assert len(machines([record(), record(kernels="torch"), record(gpu="a GPU"), record(cpu="another")])) == 4


def test_a_run_that_was_pulled_is_read_from_the_tables_that_came_with_it(tmp_path, monkeypatch):
    spec, folders = load_spec(checkout(), "stabilizing-lth", "mini"), Folders(tmp_path)
    pulled = tidy_table().fillna({"steps": 0}).astype({"steps": "int64"})
    pulled.to_parquet(folders.table)
    CURVES.to_parquet(folders.all_curves)
    monkeypatch.setattr(Store, "read", lambda store, run: {"id": run, "sha256": "", PULLED: True})
    collected, curves = tables(spec, folders)
    assert digests(collected, curves) == digests(pulled)
