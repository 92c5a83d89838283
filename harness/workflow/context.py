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
from harness.plan import Run
from harness.sharing import drawing_alike, draws, snapshots
from harness.spec import Spec
from harness.spec.load import dump
from harness.spec.models import Recipe, Setting
from harness.training.device import pick
from harness.training.store import Store


@dataclass(frozen=True)
class Folders:
    """The layout of results/<scale>/ (results/<paper>/<scale>/ for a paper other than the first).

    `others` are the bases of other scales and papers: a run that one of them has trained alike is taken from there.
    """

    base: Path
    others: tuple[Path, ...] = ()

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
    def selection(self) -> Path:
        return self.base / "stages" / "selection.json"

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
        """A stage's record: prepare/<data set>.json, or below stages/."""
        return self.base / (f"{name}.json" if name.startswith("prepare/") else f"stages/{name}.json")

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

    @property
    def metrics(self) -> Path:
        return self.base / "metrics.json"

    @property
    def networks(self) -> Path:
        return self.base / "networks.json"

    @property
    def tickets(self) -> Path:
        return self.base / "tickets"

    @property
    def card(self) -> Path:
        return self.base / "card.json"

    @property
    def crate(self) -> Path:
        return self.base / "ro-crate-metadata.json"


@dataclass(frozen=True)
class Context:
    """A scale's settings and files, as one stage of one experiment sees them."""

    spec: Spec
    folders: Folders
    experiment: str

    @cached_property
    def setting(self) -> Setting:
        """The experiment's setting, with the snapshots for all that share its dense run."""
        setting = self.spec.scale.experiments[self.experiment]
        return setting.model_copy(update={"snapshots": snapshots(self.spec, self.experiment)})

    @property
    def draws(self) -> str:
        """The experiment after which its random draws are named."""
        return draws(self.spec, self.experiment)

    @cached_property
    def recipe(self) -> Recipe:
        return self.spec.recipe(self.experiment)

    @cached_property
    def store(self) -> Store:
        """This scale's runs, and where else runs with the same random draws may lie."""
        names = drawing_alike(self.spec, self.experiment)
        places = [Folders(base).runs / name for base in (self.folders.base, *self.folders.others) for name in names]
        return Store(self.folders.runs, tuple(places[1:]))

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
            "run": [self.draws, run.replicate, run.k, run.level, run.branch, run.data_order],
        }
        if run.level:
            settings["pruning"] = dump(self.setting.pruning)
        if self.setting.restart and run.k:  # from k = 0 it is the ordinary training
            settings["restart"] = True
        return digest(settings)


def _moved(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, torch.Tensor) else part
