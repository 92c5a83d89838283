"""The kinds of stage: the one table of their names, their files, and the functions that compute them."""

import re
from dataclasses import dataclass
from functools import cached_property

from harness.base.errors import HarnessError

RECORD = "stages/{name}.json"


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    `compute` names the function that computes it, "module:function". `forms` are the last parts of its stages' names,
    with placeholders for numbers and, `{branch}`, for nothing or a hyphen and a branch; without forms the stage has the
    kind's name. `files` are a stage's outputs in the
    workflow engine, below the run's folder, its record first; the four stages of the whole run have no record.
    """

    name: str
    compute: str
    forms: tuple[str, ...] = ()
    files: tuple[str, ...] = (RECORD,)
    trains: bool = False
    on_device: bool = False  # whether it uses a GPU if available
    whole: bool = False  # one for the whole run, after all stages that prepare, train, compare or pack

    @cached_property
    def pattern(self) -> str:
        """A regular expression that matches the full names of its stages."""
        if self.name == "prepare":
            return prepares("[a-z0-9-]+")
        if self.whole:
            return self.name
        forms = "|".join(map(re.escape, self.forms)).replace(re.escape("{branch}"), "(?:-[a-z][a-z0-9_]*)?")
        forms = re.sub(r"\\{\w+\\}", r"\\d+", forms)
        return rf"[a-z0-9-]+/c\d+/(?:{forms})"


TRAIN = "harness.stages.train:train_stage"
KINDS = {
    kind.name: kind
    for kind in (
        Kind("prepare", "harness.stages.prepare:prepare_stage", files=("{name}.json",)),
        Kind("dense", TRAIN, ("dense",), trains=True, on_device=True),
        Kind("orders", TRAIN, ("orders",), trains=True, on_device=True),
        Kind("levels", TRAIN, ("k{k}-L{first}-{last}{branch}",), trains=True, on_device=True),
        Kind("branches", TRAIN, ("k{k}-L{first}-branches{branch}",), trains=True, on_device=True),
        Kind(
            "stability",
            "harness.stages.stability:stability_stage",
            ("dense-stability", "k{k}-stability"),
            (RECORD, "stages/{name}.parquet", "stages/{name}.curves.parquet"),
            on_device=True,
        ),
        Kind("tickets", "harness.stages.tickets:tickets_stage", ("tickets",)),
        Kind(
            "collect",
            "harness.stages.collect:collect_stage",
            files=("table.parquet", "curves.parquet", "networks.json", "provenance.json"),
            whole=True,
        ),
        Kind("claims", "harness.stages.judging:claims_stage", files=("claims.json", "metrics.json"), whole=True),
        Kind(
            "report", "harness.stages.judging:report_stage", files=("report/index.html", "report/report.md"), whole=True
        ),
        Kind("card", "harness.stages.judging:card_stage", files=("card.json", "ro-crate-metadata.json"), whole=True),
    )
}
#: the stages of the whole run, in their order
WHOLE = tuple(kind.name for kind in KINDS.values() if kind.whole)


def kind_of(name: str) -> Kind:
    """The kind of the stage of this name. Raises HarnessError if no stage can have the name."""
    for kind in KINDS.values():
        if re.fullmatch(kind.pattern, name):
            return kind
    raise HarnessError(f"stage {name!r}: no stage has such a name; `harness plan --stages` lists them")


def files_of(name: str) -> tuple[str, ...]:
    """A stage's outputs in the workflow engine, below the run's folder, its record first."""
    return tuple(file.format(name=name) for file in kind_of(name).files)


def prepares(data: str) -> str:
    """The name of the stage that prepares a data set."""
    return f"prepare/{data}"


def data_set_of(name: str) -> str:
    """The data set that a stage prepares."""
    return name.removeprefix("prepare/")
