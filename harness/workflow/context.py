"""Where a run keeps its files, and what a stage needs to find them."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness import data
from harness.data import DataSet
from harness.digest import cached_code_digest
from harness.files import digest
from harness.plan import Run, dense_run
from harness.spec import Spec
from harness.spec.load import dump
from harness.spec.models import Recipe, Setting
from harness.training.device import pick
from harness.training.store import Store


@dataclass(frozen=True)
class Folders:
    """The layout of results/<scale>/ (results/<paper>/<scale>/ for a paper other than the first)."""

    base: Path

    @property
    def runs(self) -> Path:
        return self.base / "runs"

    @property
    def state(self) -> Path:
        """Training states of runs that were cut off: no workflow output, so the workflow engine leaves them alone."""
        return self.base / "state"

    @property
    def progress(self) -> Path:
        return self.base / "progress"

    @property
    def clock(self) -> Path:
        return self.base / "clock.json"

    @property
    def logs(self) -> Path:
        return self.base / "logs"

    @property
    def report(self) -> Path:
        return self.base / "report"

    def data(self, name: str) -> Path:
        return self.base / "data" / f"{name}.json"

    def stage(self, name: str) -> Path:
        return self.base / "stages" / f"{name}.json"

    def pairs(self, name: str) -> Path:
        """The pairs table that a stability stage writes, beside its record."""
        return self.base / "stages" / f"{name}.parquet"

    def curves(self, name: str) -> Path:
        return self.base / "stages" / f"{name}.curves.parquet"

    @property
    def table(self) -> Path:
        return self.base / "table.parquet"

    @property
    def all_curves(self) -> Path:
        return self.base / "curves.parquet"

    @property
    def provenance(self) -> Path:
        return self.base / "provenance.json"

    @property
    def claims(self) -> Path:
        return self.base / "claims.json"


@dataclass(frozen=True)
class Context:
    """A scale's settings and files, as one stage of one experiment sees them."""

    spec: Spec
    folders: Folders
    experiment: str

    @property
    def setting(self) -> Setting:
        return self.spec.scale.experiments[self.experiment]

    @cached_property
    def recipe(self) -> Recipe:
        return self.spec.recipe(self.experiment)

    @cached_property
    def store(self) -> Store:
        return Store(self.folders.runs)

    @cached_property
    def device(self) -> torch.device:
        return pick()

    @cached_property
    def data(self) -> DataSet:
        """The data set, on the device if it fits into memory."""
        found = data.load(self.folders.data(self.setting.data))
        x, y = ({split: _moved(part, self.device) for split, part in parts.items()} for parts in (found.x, found.y))
        return replace(found, x=x, y=y)

    def key(self, run: Run) -> str:
        """Digest of the settings and code that can change a run's numbers, and of nothing else.

        What a run starts from is kept apart, as checksums in its record: see `harness.workflow.train.finished`.
        """
        settings: dict[str, object] = {
            "code": cached_code_digest("training"),
            "data": data.checksum(self.setting.data),
            "network": self.setting.network,
            "recipe": dump(self.recipe),
            "run": [run.experiment, run.replicate, run.k, run.level, run.branch, run.data_order],
        }
        if run.level:
            settings["pruning"] = dump(self.setting.pruning)
        if self.setting.restart and run != dense_run(run.experiment, run.replicate):
            settings["restart"] = True
        return digest(settings)


def _moved(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, torch.Tensor) else part
