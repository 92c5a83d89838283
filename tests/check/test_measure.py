"""Digests of tables change with every bit that matters and with nothing else; values are the judge's own."""

import numpy as np
import pandas as pd
import pytest

from harness.analysis.table import TABLE_COLUMNS
from harness.check.measure import bits, calibration, claims, machines, rows, tables
from harness.claims.judge import calibration_misfits
from harness.claims.table import Table
from harness.paths import checkout
from harness.spec import load_spec
from harness.training.store import Store
from harness.workflow.context import Folders
from harness.workflow.reuse import PULLED
from tests.claims.tables import COLUMNS, network, pair, table

CURVES = pd.DataFrame(
    [
        (f"lenet/r0/k0/L1-imp-o{order}", "lenet/r0/k0/L1-imp-o9", "recorded", "test", alpha, alpha / 3)
        for order in range(2)
        for alpha in (0.0, 1.0)
    ],
    columns=["run", "run_b", "batch_norm", "split", "alpha", "error"],
)


def made(**changes) -> pd.DataFrame:
    """Two dense networks, a subnetwork and a pair; `changes` go into the subnetwork's row."""
    found = table(
        network("dense", 0, test_accuracy=97.0, seconds=1.0),
        network("dense", 1, test_accuracy=99.0, seconds=2.0),
        network("imp", test_accuracy=96.1, seconds=3.0, **changes),
        pair("imp", 0, distance=0.1),
    )
    return found[list(TABLE_COLUMNS)] if set(COLUMNS) == set(TABLE_COLUMNS) else found


def digests(found: pd.DataFrame, curves: pd.DataFrame = CURVES):
    return rows("lenet", found, curves)


def test_the_same_table_has_the_same_digests_whatever_the_time_it_took():
    assert digests(made()) == digests(made())
    slower = made()
    slower["seconds"] = 99.0
    assert digests(slower) == digests(made())
    assert (digests(made()).networks, digests(made()).pairs) == (3, 1)


def test_one_bit_of_one_number_changes_the_digest_of_values_alone():
    moved = made()
    place = moved.index[moved["test_accuracy"] == 96.1][0]
    moved.loc[place, "test_accuracy"] = np.nextafter(96.1, 0)
    now, was = digests(moved), digests(made())
    assert now.values != was.values
    assert (now.rows, now.curves) == (was.rows, was.curves)


@pytest.mark.parametrize("change", [{"density": 0.5}, {"status": "diverged"}, {"k": 20}, {"replicate": 7}])
def test_other_rows_or_other_counts_of_weights_change_the_digest_of_rows(change):
    assert digests(made(**change)).rows != digests(made()).rows


def test_curves_count_in_whatever_order_they_were_computed():
    assert digests(made(), CURVES[::-1].reset_index(drop=True)) == digests(made())
    moved = CURVES.assign(error=np.nextafter(CURVES["error"], 1))
    assert digests(made(), moved).curves != digests(made()).curves
    assert digests(made(), CURVES[:0]).curves != digests(made()).curves


def test_experiments_do_not_touch_each_other():
    other = pd.concat([made(), table(network("dense", 0, "resnet20-low", test_accuracy=1.0))[made().columns]])
    more = CURVES.assign(run=CURVES["run"].str.replace("lenet", "resnet20-low"))
    assert digests(other, pd.concat([CURVES, more])) == digests(made())
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
    assert len({bits(one) for one in different}) == len(different)
    odd = np.array([0x7FF8000000000001, 0x4000000000000000], dtype=np.uint64).view(np.float64)
    assert bits(frame(a=odd)) == bits(different[-1])


def test_the_calibration_value_is_what_the_judge_holds_against_the_band():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    found = calibration(spec, made())
    assert (found["lenet"].value, found["lenet"].fits) == (98.0, True)
    assert (found["resnet20-low"].value, found["resnet20-low"].fits) == (None, False)
    misfits = calibration_misfits(Table(made(), {"test_accuracy"}), {"lenet": (98.1, 100.0)})
    assert "reach 98.00% on average" in misfits["lenet"]


def test_claims_that_the_scale_does_not_judge_are_left_out():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    found = claims(spec, made())
    assert list(found) == [claim.id for claim in spec.claims if "mini" in claim.scales]
    assert {one.verdict for one in found.values()} == {"not tested"}
    assert claims(load_spec(checkout(), "stabilizing-lth", "smoke"), made()) == {}


def test_a_kind_of_machine_is_what_bits_depend_on():
    def record(**hardware):
        facts = {"cpu": "a processor", "gpu": "", "kernels": "avx2", "cores": 2, "memory_gib": 4.0} | hardware
        return {"hardware": facts, "packages": {"torch": "2.14.0", "numpy": "2.4.0", "dvc": "3.6"}}

    assert machines([record(), record(cores=64)]) == ["a processor, avx2 kernels, torch 2.14.0, numpy 2.4.0"]
    assert len(machines([record(), record(kernels="torch"), record(gpu="a GPU"), record(cpu="another")])) == 4


def test_a_run_that_was_pulled_is_read_from_the_tables_that_came_with_it(tmp_path, monkeypatch):
    spec, folders = load_spec(checkout(), "stabilizing-lth", "mini"), Folders(tmp_path)
    pulled = made().fillna({"steps": 0}).astype({"steps": "int64"})
    pulled.to_parquet(folders.table)
    CURVES.to_parquet(folders.all_curves)
    monkeypatch.setattr(Store, "read", lambda store, run: {"id": run, "sha256": "", PULLED: True})
    found, curves = tables(spec, folders)
    assert digests(found, curves) == digests(pulled)
