"""The guide docs/guides/extending.md: its files are written into a copy of the project as they stand, and run."""

import pandas as pd
import pytest

from harness.base.paths import checkout
from tests.docs.pages import extended_copy, files_of_guide
from tests.end_to_end.conftest import Checkout

NEW = 8  # three branches, a criterion, a network, a data set, and two scales


def test_each_addition_is_one_short_file():
    files = files_of_guide()
    assert len(files) == NEW
    for path, text in files.items():
        assert not (checkout() / path).exists(), path
        assert len(text.splitlines()) < 40, path


@pytest.mark.slow
@pytest.mark.long
def test_the_files_of_the_guide_run(tmp_path):
    extended_copy(tmp_path)

    copy = Checkout(tmp_path)
    status, out, err = copy.run("reproduce", "--scale", "extended", PYTHONPATH=str(tmp_path))
    assert status == 0, out + err
    results = tmp_path / "results" / "stabilizing-lth" / "extended"
    table = pd.read_parquet(results / "table.parquet")
    signs = table[table["branch"] == "signs"]
    assert set(signs["replicate"].dropna()) == {0, 1}
    accuracy = signs.loc[signs["row"] == "network", "test_accuracy"]
    assert len(accuracy) == 4  # two replicates, two data orders
    assert (accuracy > 50).all()  # chance is 10
    counts = signs.loc[signs["row"] == "network", "density"]
    assert (counts - 0.64**2).abs().max() < 1e-4
    refusal = copy.run(
        "ticket",
        "export",
        "--scale",
        "extended",
        "--experiment",
        "lenet",
        "--k",
        "40",
        "--level",
        "2",
        "--out",
        str(tmp_path / "out"),
        PYTHONPATH=str(tmp_path),
    )
    assert refusal[0] != 0
    assert "has no definition in plain PyTorch" in refusal[2]
    assert not (tmp_path / "out").exists()
    assert "IMP mask, signs only" in (results / "report" / "index.html").read_text(encoding="utf-8")
