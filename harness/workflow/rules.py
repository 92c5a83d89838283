"""What the rule files ask: targets, inputs, and the digests on which each stage depends."""

import shlex
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from harness.data import checksum
from harness.digest import cached_code_digest
from harness.files import digest, file_sha256
from harness.paths import checkout, other_results, results_folder
from harness.plan import Stage, find_stage, pairs, parents, stacks, stages
from harness.spec import Spec, load_spec
from harness.spec.load import dump
from harness.workflow.context import Context, Folders
from harness.workflow.reuse import waits
from harness.workflow.selection import as_recorded


@dataclass(frozen=True)
class Rules:
    """A paper at a scale, as the workflow engine sees it."""

    paper: str
    scale: str
    results: str

    @cached_property
    def spec(self) -> Spec:
        """The scale, or what of it the recorded selection of claims needs."""
        return as_recorded(load_spec(checkout(), self.paper, self.scale), self._folders)

    @cached_property
    def base(self) -> str:
        """The run's folder, below the results folder as given."""
        return results_folder(Path(self.results), self.paper, self.scale).as_posix()

    @property
    def arguments(self) -> str:
        """The options that tell `harness stage` which run it belongs to."""
        return shlex.join(["--paper", self.paper, "--scale", self.scale, "--results", self.results])

    @cached_property
    def _folders(self) -> Folders:
        others = other_results(Path(self.results), checkout(), self.paper, self.scale)
        return Folders(Path(self.base), others)

    def targets(self) -> list[str]:
        """Everything that must exist at the end: an intermediate nobody lists would not be restored."""
        names = (
            "table.parquet",
            "curves.parquet",
            "provenance.json",
            "claims.json",
            "report/index.html",
            "report/report.md",
        )
        return [*self.stage_records(), *(f"{self.base}/{name}" for name in names)]

    def stage_records(self) -> list[str]:
        """Records of all stages that prepare, train or compare."""
        data = sorted({setting.data for setting in self.spec.scale.experiments.values()})
        return [self._record(f"prepare/{name}") for name in data] + [
            self._record(stage.name) for stage in stages(self.spec)
        ]

    def parents(self, name: str) -> list[str]:
        """Records of what a stage reads, and of the stages that train runs of its own for another experiment."""
        stage = find_stage(self.spec, name)
        read = [one.name for one in parents(self.spec, stage)]
        if stage.kind == "dense":
            read.append(f"prepare/{self.spec.scale.experiments[stage.experiment].data}")
        read += [one.name for one in waits(self.spec, self._folders).get(name, [])]
        return [self._record(one) for one in read]

    def _record(self, name: str) -> str:
        return self._folders.stage(name).as_posix()

    def data_digest(self, name: str) -> str:
        """What can change a data set: its code and its pinned checksum."""
        return digest([cached_code_digest("data"), checksum(name)])[:16]

    @cache  # noqa: B019  the object lives as long as the workflow
    def stage_digest(self, name: str) -> str:
        """What can change a stage's numbers: the keys of its runs; for pairs also the code that compares them."""
        return stage_digest(self.spec, self._folders, find_stage(self.spec, name))[:16]

    def part_digest(self, part: str) -> str:
        """What can change the table, the verdicts or the page, besides their inputs."""
        settings: object = [stage.name for stage in stages(self.spec)]
        if part in ("claims", "report"):
            bands = {name: setting.calibration for name, setting in self.spec.scale.experiments.items()}
            settings = [[dump(claim) for claim in self.spec.claims], bands]
        if part == "report":
            shown = {path.name: file_sha256(path) for path in sorted((self.spec.folder / "published").glob("*.csv"))}
            experiments = {name: dump(experiment) for name, experiment in self.spec.experiments.items()}
            settings = [settings, dump(self.spec.paper), dump(self.spec.scale), experiments, shown]
        return digest([cached_code_digest(part), settings])[:16]


def stage_digest(spec: Spec, folders: Folders, stage: Stage) -> str:
    """Digest of a training or stability stage."""
    context = Context(spec, folders, stage.experiment)
    if stage.kind != "stability":
        keys: list[object] = [context.key(run) for stack in stacks(spec, stage) for run in stack]
        return digest([*keys, context.setting.snapshot_steps()] if stage.kind == "dense" else keys)
    compared = [
        [context.key(pair.run), context.key(pair.run_b), pair.comparison, pair.interpolated]
        for group in pairs(spec, stage)
        for pair in group
    ]
    return digest([cached_code_digest("analysis"), dump(context.setting.line), compared])
