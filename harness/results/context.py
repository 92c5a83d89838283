"""A stage and its context: the settings, files, data and keys of its experiment."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pydantic import BaseModel

from harness import data
from harness.base.files import digest
from harness.data import DataSet
from harness.lottery import branches, criteria
from harness.lottery.branches import BRANCHES
from harness.networks.architectures import HOMES
from harness.paper import Spec
from harness.paper.models import Recipe, Setting
from harness.plan.courses import Course, course
from harness.plan.kinds import KINDS
from harness.plan.runs import Run, Stage, find_stage, is_dense, parent
from harness.plan.twins import drawing_alike, draws, snapshots
from harness.results.code import code_digest
from harness.results.exemptions import exempt
from harness.results.folders import Folders
from harness.results.store import Store
from harness.training.device import pick

DATA = "data"  # a key of a run's inputs: its data set, as training sees it


@dataclass(frozen=True)
class Work:
    """A stage to run: its name, and how many threads it may use."""

    spec: Spec
    folders: Folders
    name: str
    threads: int = 1

    @cached_property
    def stage(self) -> Stage:
        """The stage of the plan. Raises HarnessError for a name that the plan does not have."""
        return find_stage(self.spec, self.name)

    @cached_property
    def context(self) -> "Context":
        """The scale as the stage's experiment sees it."""
        return Context(self.spec, self.folders, self.stage.experiment)


@dataclass(frozen=True)
class Context:
    """A scale's settings and files, as one stage of one experiment sees them."""

    spec: Spec
    folders: Folders
    experiment: str

    @cached_property
    def setting(self) -> Setting:
        """The experiment's setting, with the snapshots of all experiments that share its dense runs."""
        setting = self.spec.scale.experiments[self.experiment]
        return setting.model_copy(update={"snapshots": snapshots(self.spec, self.experiment)})

    @property
    def draws(self) -> str:
        """The name of the experiment that its random draws use."""
        return draws(self.spec, self.experiment)

    @cached_property
    def recipe(self) -> Recipe:
        return self.spec.recipe(self.experiment)

    @cached_property
    def store(self) -> Store:
        """This scale's runs, and the other folders that may hold runs with the same random draws."""
        names = drawing_alike(self.spec, self.experiment)
        folders = [Folders(base).runs / name for base in (self.folders.base, *self.folders.others) for name in names]
        return Store(self.folders.runs, tuple(folders[1:]))

    @cached_property
    def device(self) -> torch.device:
        return pick()

    @cached_property
    def data(self) -> DataSet:
        """The data set, on the device if it fits into memory."""
        arrays = data.load(self.folders.data(self.setting.data))
        x, y = ({split: _moved(part, self.device) for split, part in parts.items()} for parts in (arrays.x, arrays.y))
        return replace(arrays, x=x, y=y)

    @cached_property
    def data_content(self) -> str:
        """Digest of the prepared data set, as training sees it."""
        return data.content(self.folders.data(self.setting.data))

    def _entries(self, run: Run) -> tuple[str, ...]:
        """Entry points of a run's code: the training stage, its network, its branch and, if pruning, its criterion."""
        entries = [KINDS["dense"].compute, f"{HOMES[self.setting.network]}:NETWORKS"]
        if not is_dense(run):
            entries.append(f"{branches.__name__}.{run.branch}:BRANCH")
        if run.level and BRANCHES[run.branch].source == "level":
            entries.append(f"{criteria.__name__}.{self.setting.pruning.criterion}:CRITERION")
        return tuple(entries)

    def parent(self, run: Run) -> Run:
        """The run whose final weights or mask a run starts from."""
        return parent(run, self.setting.pruning.style)

    def course(self, run: Run) -> Course:
        """The step that a run's training begins at, and the recipe that it follows."""
        return course(self.spec, run)

    def key(self, run: Run) -> str:
        """Digest of exactly the settings and code that can change a run's numbers.

        A run's inputs are not part of it; their checksums are in its record: see `harness.stages.train.finished`.
        """
        settings: dict[str, object] = {
            "code": code_digest(self._entries(run), exempt=tuple(exempt("dense"))),
            "data": data.checksum(self.setting.data, self.spec.scale.data),
            "network": self.setting.network,
            "recipe": settled(self.recipe),
            "run": [self.draws, run.replicate, run.k, run.level, run.branch, run.data_order],
        }
        if run.level:
            settings["pruning"] = settled(self.setting.pruning)
        if self.setting.restart and run.k:  # from k = 0 it is the ordinary training
            settings["restart"] = True
        return digest(settings)


def settled(model: BaseModel) -> dict[str, Any]:
    """A model's values that differ from the defaults, as JSON: a new field with a default does not change them."""
    return model.model_dump(mode="json", exclude_defaults=True)


def _moved(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, torch.Tensor) else part
