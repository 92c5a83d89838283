"""What the rule files ask: targets, inputs, and the digests on which each stage depends."""

import shlex
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

from harness.data import checksum
from harness.digest import cached_code_digest
from harness.files import digest, file_sha256
from harness.paths import checkout, other_results, results_folder
from harness.plan import Stage, dense_run, find_stage, pairs, parents, stacks, stages, tickets
from harness.spec import Spec, load_spec
from harness.spec.load import dump
from harness.workflow.context import Context, Folders
from harness.workflow.identity import identity, workflow_files
from harness.workflow.reuse import waits
from harness.workflow.selection import as_recorded, read_selection

UNTIL = ("data", "experiments", "report")  # how far a run goes
# what the stages of the whole run write
WRITTEN = {
    "collect": ("table.parquet", "curves.parquet", "networks.json", "provenance.json"),
    "claims": ("claims.json", "metrics.json"),
    "report": ("report/index.html", "report/report.md"),
    "card": ("card.json", "ro-crate-metadata.json"),
}
PARTS = ("collect", "claims", "report")  # the stages of the whole run whose digests its card records


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

    def targets(self, until: str = "report") -> list[str]:
        """Everything that must exist at the end of UNTIL: an intermediate nobody lists would not be restored."""
        if until == "data":
            return self.prepared()
        names = [name for part in WRITTEN for name in WRITTEN[part]] if until == "report" else []
        return [*self.stage_records(), *(f"{self.base}/{name}" for name in names)]

    def prepared(self) -> list[str]:
        """Records of the data sets."""
        data = sorted({setting.data for setting in self.spec.scale.experiments.values()})
        return [self._record(f"prepare/{name}") for name in data]

    def stage_records(self) -> list[str]:
        """Records of all stages that prepare, train, compare or pack."""
        return [*self.prepared(), *(self._record(stage.name) for stage in stages(self.spec))]

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
        """What can change the table, the verdicts, the page or the card, besides their inputs."""
        found, selection = part_digest(self.spec, part), read_selection(self._folders)
        if part == "card" and selection:  # one of the files of which the card has checksums
            return digest([found, {**selection, "finished": True}])[:16]
        return found


@lru_cache(maxsize=16)
def part_digest(spec: Spec, part: str) -> str:
    """Digest of what collect, claims, report or card depends on besides its inputs (16 hex digits)."""
    settings: object = [stage.name for stage in stages(spec)]
    if part == "claims":
        bands = {name: setting.calibration for name, setting in spec.scale.experiments.items()}
        settings = [[dump(claim) for claim in spec.claims], bands]
    if part in ("report", "card"):
        # what a selection of claims leaves of the scale, and what both name: checksums of the YAML and of the code
        shown = [dump(spec.scale), [dump(claim) for claim in spec.claims], identity(spec)]
        settings = shown
    if part == "card":
        files = {name: file_sha256(path) for name, path in workflow_files(checkout()).items()}
        settings = [settings, files, *(part_digest(spec, name) for name in PARTS)]
    return digest([cached_code_digest(part), settings])[:16]


def stage_digest(spec: Spec, folders: Folders, stage: Stage) -> str:
    """Digest of a stage that trains, compares or packs."""
    context = Context(spec, folders, stage.experiment)
    if stage.kind == "tickets":
        packed = [context.key(run) for run in tickets(spec, stage)]
        dense = [context.key(dense_run(stage.experiment, replicate)) for replicate in stage.replicates]
        return digest([cached_code_digest("share"), context.setting.rewind_grid(), dense, packed])
    if stage.kind != "stability":
        keys: list[object] = [context.key(run) for stack in stacks(spec, stage) for run in stack]
        return digest([*keys, context.setting.snapshot_steps()] if stage.kind == "dense" else keys)
    compared = [
        [context.key(pair.run), context.key(pair.run_b), pair.comparison, pair.interpolated]
        for group in pairs(spec, stage)
        for pair in group
    ]
    return digest([cached_code_digest("analysis"), dump(context.setting.line), compared])
