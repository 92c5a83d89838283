"""Calibration bands: they follow from reference runs by one rule, and what misses one is told."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.calibration import NEW, REPLICATES, RESULT, band, bands
from harness.base.paths import checkout
from harness.claims.calibration import MEASURES, calibrated, misfits
from harness.claims.table import Table
from harness.paper import load_spec
from tests.claims.tables import network, pair, table

PAPERS = ("stabilizing-lth", "linear-mode-connectivity")


@pytest.mark.parametrize("paper", PAPERS)
def test_the_mini_scales_bands_follow_from_the_reference_runs(paper):
    spec, first = load_spec(checkout(), paper, "mini"), load_spec(checkout(), PAPERS[0], "mini")
    reference = pd.read_csv(RESULT)
    assert {name: setting.calibration for name, setting in spec.scale.experiments.items()} == bands(reference)
    assert set(reference.groupby(["experiment", "measure"]).size()) == {REPLICATES}
    for name, setting in spec.scale.experiments.items():  # the reference is the same networks
        assert spec.recipe(name) == first.recipe(name)
        assert (setting.network, setting.data) == (first.scale.experiments[name].network, setting.data)
        assert setting.replicates >= NEW


def test_a_right_run_misses_one_band_in_a_thousand():
    rng, draws = np.random.default_rng(1), 20_000
    missed = 0
    for sample in rng.normal(500, 20, (draws, REPLICATES + NEW)):
        low, high = band(sample[:REPLICATES], logarithmic=False)
        missed += not low <= sample[REPLICATES:].mean() <= high
    assert 5 < missed < 35


def test_a_band_of_losses_is_one_of_their_logarithms_rounded_outwards():
    sample = np.exp(np.random.default_rng(2).normal(-9.1, 0.05, REPLICATES))
    low, high = band(sample, logarithmic=True)
    assert np.log(low) + np.log(high) == pytest.approx(2 * np.log(sample).mean(), abs=0.02)
    assert low < sample.min() < sample.max() < high
    assert [float(f"{bound:.3g}") for bound in (low, high)] == [low, high]


def measured(loss=0.1, distance=5.0):
    rows = [network("dense", r, test_accuracy=98.0, train_loss=loss) for r in range(3)]
    rows += [pair("dense", r, distance=distance) for r in range(3)]
    return Table(table(*rows), {"test_accuracy", "train_loss", "distance"})


def test_every_measure_is_told_where_it_misses_its_band():
    own = {"test_accuracy": (97.0, 99.0), "train_loss": (0.09, 0.11), "data_order_distance": (4.0, 6.0)}
    assert misfits(measured(), {"lenet": own}) == {}
    wrong = misfits(measured(loss=0.5, distance=20.25), {"lenet": own})["lenet"]
    told = "lenet's dense networks have a {} on average, outside its calibration band {}"
    of_loss = told.format("final training loss of 0.5", "0.09 to 0.11")
    assert wrong == f"{of_loss}; {told.format('distance between data orders of 20.25', '4 to 6')}"
    for name in MEASURES:
        assert calibrated(measured(), "other", name, (0.0, 1.0)).value is None
