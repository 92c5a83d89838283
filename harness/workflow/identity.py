"""What identifies a run besides its results: digests of its code, checksums of its spec and of its data sets."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.data import checksum
from harness.digest import cached_code_digest
from harness.files import canonical_json, file_sha256
from harness.spec import Spec

CODE_PARTS = ("data", "training", "analysis", "collect", "claims", "report")


def identity(spec: Spec) -> dict[str, dict[str, str]]:
    """`code`: digests by part (see `harness.digest`); `spec`: SHA-256 of the paper's files by their names below
    papers/<paper>/; `data`: the pinned checksum of each data set of the scale."""
    return {
        "code": {part: cached_code_digest(part) for part in CODE_PARTS},
        "spec": {name: file_sha256(spec.folder / name) for name in spec_files(spec)},
        "data": {
            name: checksum(name) for name in sorted({setting.data for setting in spec.scale.experiments.values()})
        },
    }


def spec_files(spec: Spec) -> list[str]:
    """The files below papers/<paper>/ that a run at this scale depends on."""
    published = sorted(path.name for path in (spec.folder / "published").glob("*.csv"))
    named = ["paper.yaml", "experiments.yaml", "claims.yaml", f"scales/{spec.scale_name}.yaml"]
    return [name for name in (*named, *(f"published/{name}" for name in published)) if (spec.folder / name).is_file()]


def workflow_files(root: Path) -> dict[str, Path]:
    """The Snakefile of a checkout and the rule files of this package, by their names in a checkout."""
    rules = sorted(Path(__file__).parent.glob("*.smk"))
    return {"Snakefile": root / "Snakefile", **{f"harness/workflow/{path.name}": path for path in rules}}


def distinct(records: Iterable[Mapping[str, Any]], field: str, missing: Any) -> list[Any]:
    """The different values of a field of the stages' records, in a fixed order."""
    found = {canonical_json(record.get(field, missing)): record.get(field, missing) for record in records}
    return [found[text] for text in sorted(found)]
