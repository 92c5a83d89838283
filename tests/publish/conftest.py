"""A checkout with a made-up run of the paper scale among its references: LeNet, five replicates, four claims."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from harness.base.files import file_sha256, read_json, write_json
from harness.base.paths import REFERENCE, results_folder
from harness.claims.looks import read_looks
from harness.paper.columns import REAL, TABLE_COLUMNS, TEXT, WHOLE
from harness.publish.reference import MEASURED, open_reference
from harness.results.context import Work
from harness.results.folders import Folders
from harness.stages.judging import claims_stage
from harness.verify.shared_run import SharedRun
from tests.conftest import ROOT
from tests.report.synthetic.run import make

PAPER, SCALE = "stabilizing-lth", "paper"
CLAIMS = ["C1", "C2", "C3", "C4"]
KINDS = {**dict.fromkeys(TEXT, "object"), **dict.fromkeys(WHOLE, "int64"), **dict.fromkeys(REAL, "float64")}


@dataclass(frozen=True)
class Published:
    """A checkout and its one reference."""

    root: Path

    @property
    def folders(self) -> Folders:
        return Folders(results_folder(self.root / REFERENCE, PAPER, SCALE))

    def opened(self) -> SharedRun:
        return open_reference(self.root, PAPER, SCALE)

    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.folders.table)

    def write_table(self, table: pd.DataFrame) -> None:
        table.to_parquet(self.folders.table, index=False)

    def list_again(self) -> None:
        """The card follows the files, as somebody who alters a reference on purpose would have it."""
        card = read_json(self.folders.card)
        for name in MEASURED:
            path = self.folders.base / name
            card["files"][name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        looks = read_looks(self.folders.looks) if self.folders.looks.exists() else []
        write_json(self.folders.card, card | {"looks": [look.model_dump() for look in looks]})

    def judge(self) -> None:
        claims_stage(Work(self.opened().spec, self.folders, "claims"))


@pytest.fixture(scope="session")
def made(tmp_path_factory, tiny_run) -> Published:
    """The reference that tests copy: card and provenance of a tiny run, with made-up tables of LeNet."""
    published = Published(tmp_path_factory.mktemp("published"))
    shutil.copytree(ROOT / "papers", published.root / "papers")
    shutil.copy(ROOT / "params.yaml", published.root / "params.yaml")
    folders, (table, curves) = published.folders, make(0, 5)
    table = table[table["experiment"] == "lenet"].reindex(columns=TABLE_COLUMNS).fillna({"steps": 0}).astype(KINDS)
    table["test_accuracy"] -= 0.5  # into the calibration band of the paper's LeNet
    folders.base.mkdir(parents=True)
    published.write_table(table)
    curves[curves["run"].str.startswith("lenet/")].to_parquet(folders.all_curves, index=False)
    selection = {"claims": CLAIMS, "budget": "", "every_replicate": False, "finished": True}
    write_json(folders.selection, selection)
    for path, own in ((folders.card, tiny_run.folders.card), (folders.provenance, tiny_run.folders.provenance)):
        write_json(path, {**read_json(own), "scale": SCALE})
    published.list_again()
    published.judge()
    published.list_again()
    return published


@pytest.fixture
def published(made, tmp_path) -> Published:
    """A copy that a test may alter."""
    return Published(Path(shutil.copytree(made.root, tmp_path / "checkout")))
