"""A run's identity: digests of code and settings, checksums of its spec and its data sets.

A stage's digest covers the code that it can reach and the settings that it reads, but not the data set and networks
that it reads from disk: their digests are in its networks' records, see `harness.stages.train.finished`.
"""

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.base.files import canonical_json, digest, file_sha256
from harness.base.paths import checkout, project_file
from harness.data import checksum, source_of
from harness.data.sets import HOMES
from harness.paper import Spec
from harness.paper.frozen import FILE
from harness.paper.load import dump
from harness.plan.kinds import KINDS, data_set_of, kind_of
from harness.plan.runs import Stage, data_sets, dense_run, find_stage, pairs, stacks, stages, tickets
from harness.results.code import PACKAGE, code_digest
from harness.results.context import Context
from harness.results.exemptions import REGISTRIES, exempt
from harness.results.folders import Folders
from harness.results.selection import read_selection

#: part of the code -> a kind of stage that reaches it; all kinds that train reach the same code
CODE_PARTS = {
    "data": "prepare",
    "training": "dense",
    **{kind: kind for kind in ("stability", "tickets", "collect", "claims", "report")},
}
JUDGED = ("collect", "claims", "report")  # the stages of the whole run whose digests its card records


def part_code(part: str, package: Path = PACKAGE) -> str:
    """Digest of a part of a package's code, see CODE_PARTS.

    `data` includes all data sets, `training` all branches, criteria and networks.
    """
    kind = CODE_PARTS[part]
    left_out = [name for name in exempt(kind) if part not in ("data", "training") or name not in REGISTRIES]
    return code_digest((KINDS[kind].compute,), package, tuple(left_out))


def kind_code(kind: str) -> str:
    """Digest of the code that a kind of stage can reach."""
    return code_digest((KINDS[kind].compute,), exempt=tuple(exempt(kind)))


def identity(spec: Spec) -> dict[str, dict[str, str]]:
    """`code`: digests by part; `spec`: SHA-256 of the paper's files by their names below papers/<paper>/;
    `data`: the pinned checksum of each data set of the scale."""
    return {
        "code": {part: part_code(part) for part in CODE_PARTS},
        "spec": {name: file_sha256(spec.folder / name) for name in spec_files(spec)},
        "data": {name: checksum(name, spec.scale.data) for name in data_sets(spec)},
    }


def spec_files(spec: Spec) -> list[str]:
    """The files below papers/<paper>/ that a run at this scale depends on."""
    published = sorted(path.name for path in (spec.folder / "published").glob("*.csv"))
    names = ["paper.yaml", "experiments.yaml", "claims.yaml", FILE, f"scales/{spec.scale_name}.yaml"]
    return [name for name in (*names, *(f"published/{name}" for name in published)) if (spec.folder / name).is_file()]


def workflow_files(root: Path) -> dict[str, Path]:
    """The Snakefile of a checkout and the rule files of this package, by their names in a checkout."""
    rules = sorted((PACKAGE / "workflow").glob("*.smk"))
    return {"Snakefile": project_file(root, "Snakefile"), **{f"harness/workflow/{path.name}": path for path in rules}}


def distinct(records: Iterable[Mapping[str, Any]], field: str, missing: Any) -> list[Any]:
    """The distinct values of a field in the stages' records, in a fixed order."""
    values = {canonical_json(record.get(field, missing)): record.get(field, missing) for record in records}
    return [values[text] for text in sorted(values)]


def stage_digest(spec: Spec, folders: Folders, name: str) -> str:
    """Digest (64 hex digits) of everything except input files that can change a stage's results.

    Raises HarnessError for a name that the plan does not have.
    """
    kind = kind_of(name)
    if kind.whole:
        return _whole_digest(spec, kind.name, read_selection_of(folders) if kind.name == "card" else None)
    if kind.name == "prepare":
        data_set, own = data_set_of(name), spec.scale.data
        code = code_digest(prepare_entries(data_set, own), exempt=tuple(exempt("prepare")))
        return digest([code, name, checksum(data_set, own)])
    return _planned_digest(spec, folders, find_stage(spec, name))


def prepare_entries(data_set: str, own: Container[str] = ()) -> tuple[str, ...]:
    """Entry points of the code that prepares a data set: the stage, and what makes the set; `own`: a scale's sets."""
    made_by = "harness.data.pictures:own_pictures" if data_set in own else f"{HOMES[data_set]}:SOURCES"
    return KINDS["prepare"].compute, made_by


def read_selection_of(folders: Folders) -> str | None:
    """The recorded selection as it is after the run has finished; the card has a checksum of its file."""
    selection = read_selection(folders)
    return canonical_json({**selection, "finished": True}) if selection else None


@lru_cache(maxsize=16)
def _whole_digest(spec: Spec, kind: str, selection: str | None = None) -> str:
    """Digest of collect, claims, report or card."""
    settings: object = [stage.name for stage in stages(spec)]
    if kind == "claims":
        bands = {name: setting.bands for name, setting in spec.scale.experiments.items()}
        data = {name: setting.data for name, setting in spec.scale.experiments.items()}
        published = repr(spec.published) if spec.scale.papers_own else None
        settings = [[dump(claim) for claim in spec.claims], bands, spec.whole_replicates, data, published, spec.looks]
    if kind in ("report", "card"):
        # all that was read, with the scale and claims after the selection, and the checksums of the files and the code
        experiments = {name: dump(experiment) for name, experiment in spec.experiments.items()}
        claims = [dump(claim) for claim in spec.claims]
        settings = [
            dump(spec.paper),
            experiments,
            dump(spec.scale),
            claims,
            spec.whole_replicates,
            spec.looks,
            identity(spec),
        ]
    if kind == "card":
        files = {name: file_sha256(path) for name, path in workflow_files(checkout()).items()}
        settings = [settings, files, selection, *(_whole_digest(spec, name) for name in JUDGED)]
    return digest([kind_code(kind), settings])


def _planned_digest(spec: Spec, folders: Folders, stage: Stage) -> str:
    """Digest of a stage that trains, compares or packs."""
    context = Context(spec, folders, stage.experiment)
    if stage.kind == "tickets":
        packed = [context.key(run) for run in tickets(spec, stage)]
        dense = [context.key(dense_run(stage.experiment, replicate)) for replicate in stage.replicates]
        setting, source = context.setting, source_of(context.setting.data, spec.scale.data)
        described = [setting.rewind_grid(), setting.restart, source.shape, source.classes]
        return digest([kind_code("tickets"), described, dense, packed])
    if stage.kind == "stability":
        compared = [
            [context.key(pair.run), context.key(pair.run_b), pair.comparison, pair.interpolated]
            for group in pairs(spec, stage)
            for pair in group
        ]
        return digest([kind_code("stability"), dump(context.setting.line), compared])
    keys: list[object] = [context.key(run) for stack in stacks(spec, stage) for run in stack]
    return digest([*keys, context.setting.snapshot_steps()] if stage.kind == "dense" else keys)
