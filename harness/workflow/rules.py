"""The interface of the rule files to a run: targets, inputs, and each stage's digest."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.paths import checkout, results_folder
from harness.paper import Spec, load_spec
from harness.plan.kinds import KINDS, files_of, prepares
from harness.plan.runs import data_sets, find_stage, parents, stages
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.open import folders_of
from harness.results.selection import as_recorded
from harness.results.stored import waits

UNTIL = ("data", "experiments", "report")  # how far a run goes


def text_of(config: Mapping[str, Any], name: str, default: str = "") -> str:
    """A setting of the workflow. Raises HarnessError for what the engine's command line read as no text, as in 1.10."""
    value = config.get(name, default)
    if not isinstance(value, str):
        raise HarnessError(
            f"--config {name}: was read as {value!r}, not as text; name it in a file (--configfile), or use "
            "`harness reproduce`"
        )
    return value


def processes_of(config: Mapping[str, Any]) -> dict[str, int]:
    """How many processes share a stage's work, by stage; `harness reproduce` sets it. Raises HarnessError."""
    value = config.get("processes", {})
    if not isinstance(value, dict) or not all(type(number) is int and number > 0 for number in value.values()):
        raise HarnessError(f"--config processes: {value!r:.80} is not a number of processes by stage. Leave it out")
    return value


@dataclass(frozen=True)
class Rules:
    """A paper at a scale, as the workflow engine sees it."""

    paper: str
    scale: str
    results: str
    processes: Mapping[str, int] = field(default_factory=dict)  # of stages whose work several processes share

    def __post_init__(self) -> None:
        """Raise HarnessError for a results folder whose name the workflow engine would read as something else."""
        if not self.results.isprintable() or re.search("[{}<>]|^-", self.results):
            raise HarnessError(
                f"--results {self.results!r}: the workflow engine can't carry braces, angle brackets, a hyphen at the "
                "start, or characters that can't be printed. Give another folder"
            )

    @cached_property
    def spec(self) -> Spec:
        """The scale, reduced to the recorded selection of claims if there is one."""
        return as_recorded(load_spec(checkout(), self.paper, self.scale), self._folders)

    @cached_property
    def base(self) -> str:
        """The run's folder, below the results folder as the user named it."""
        return results_folder(Path(self.results), self.paper, self.scale).as_posix()

    @property
    def arguments(self) -> str:
        """The options of `harness stage` that name its run."""
        return shlex.join(["--paper", self.paper, "--scale", self.scale, "--results", self.results])

    @cached_property
    def _folders(self) -> Folders:
        return folders_of(checkout(), Path(self.results), self.paper, self.scale)

    def files(self, name: str) -> list[str]:
        """The outputs of a stage; with a wildcard as its name, of all stages of its kind."""
        return [f"{self.base}/{file}" for file in files_of(name)]

    def pattern(self, kind: str) -> list[str]:
        """The outputs of a kind of stage, with {name} for its name."""
        return [f"{self.base}/{file}" for file in KINDS[kind].files]

    def targets(self, until: str = "report") -> list[str]:
        """All files that must exist when the run ends at `until`, with intermediates, so that they are restored."""
        if until == "data":
            return self._records([prepares(name) for name in data_sets(self.spec)])
        whole = [kind.name for kind in KINDS.values() if kind.whole] if until == "report" else []
        return [*self.stage_records(), *(file for name in whole for file in self.files(name))]

    def stage_records(self) -> list[str]:
        """Records of all stages that prepare, train, compare or pack."""
        prepared = [prepares(name) for name in data_sets(self.spec)]
        return self._records([*prepared, *(stage.name for stage in stages(self.spec))])

    def parents(self, name: str) -> list[str]:
        """Records of the stages that a stage reads, and of other experiments' stages whose runs it reuses."""
        stage = find_stage(self.spec, name)
        read = [parent.name for parent in parents(self.spec, stage)]
        if stage.kind == "dense":
            read.append(prepares(self.spec.scale.experiments[stage.experiment].data))
        return self._records([*read, *(other.name for other in waits(self.spec, self._folders).get(name, []))])

    def _records(self, names: list[str]) -> list[str]:
        return [self.files(name)[0] for name in names]

    def digest(self, name: str) -> str:
        """Digest (16 hex digits) of everything except input files that can change a stage's results."""
        if name not in self._digests:
            self._digests[name] = stage_digest(self.spec, self._folders, name)[:16]
        return self._digests[name]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}
