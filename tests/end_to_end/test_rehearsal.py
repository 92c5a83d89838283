"""A rehearsal of the paper scale: every experiment end to end, with its own network, from files as published."""

import pandas as pd
import pytest
import yaml

from harness.base.files import read_json
from harness.base.paths import checkout, results_folder
from harness.paper import load_spec
from tests.end_to_end.conftest import make_checkout
from tests.end_to_end.rehearsal.scale import tiny
from tests.end_to_end.rehearsal.sets import write_sets


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("paper", ["stabilizing-lth", "linear-mode-connectivity"])
def test_every_experiment_of_the_paper_scale_runs(paper, tmp_path):
    full = load_spec(checkout(), paper, "paper")
    made = make_checkout(tmp_path / "checkout")
    scale = made.root / "papers" / paper / "scales" / "tiny.yaml"
    scale.write_text(yaml.safe_dump(tiny(full)))
    command = ("reproduce", "--paper", paper, "--scale", "tiny", "--cores", "2")
    status, out, err = made.run(*command, timeout=1200, HARNESS_DEVICE="cpu", **write_sets(tmp_path))
    assert status == 0, out + err

    results = results_folder(made.root / "results", paper, "tiny")
    table = pd.read_parquet(results / "table.parquet")
    assert set(table["status"]) == {"ok"}
    networks = table[table["row"] == "network"]
    assert set(networks["experiment"]) == set(full.scale.experiments)
    for name, setting in full.scale.experiments.items():
        levels = [orders.root for sweep in setting.sweeps for orders in sweep.at.values()]
        asked = {branch for orders in levels for branch, count in orders.items() if count}
        expected = {"dense", *asked} | ({"imp"} if setting.sweeps else set())
        assert set(networks[networks["experiment"] == name]["branch"]) == expected, name
    assert {claim["verdict"] for claim in read_json(results / "claims.json")} == {"not tested"}
    assert (results / "report" / "index.html").stat().st_size
