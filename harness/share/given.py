"""A finished run as somebody gave it: read with every check of its form, and with the spec that it was made with."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from harness.digest import cached_code_digest
from harness.errors import HarnessError
from harness.paths import checkout
from harness.plan import Run, all_runs, dense_run
from harness.share.card import read_card
from harness.share.records import Provenance, Record, check_form
from harness.share.sides import CURVES, TABLE, read_rows
from harness.share.untrusted import check_folder, read_checked_json, read_checked_table
from harness.spec import Spec, load_spec
from harness.spec.load import NAME, describe, read_yaml
from harness.training.store import SNAPSHOTS
from harness.workflow.context import Folders
from harness.workflow.environment import environment
from harness.workflow.identity import identity
from harness.workflow.selection import as_recorded


class Network(BaseModel):
    """One entry of networks.json: a run, or the snapshots of a dense run, which have checksums only."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    key: str
    sha256: str
    parts: dict[str, str]
    inputs: dict[str, str] = {}
    status: Literal["ok", "diverged", "ancestor_diverged"] = "ok"
    diverged_at: int | None = None
    id: str = ""
    experiment: str = ""
    replicate: int = 0
    k: int = 0
    level: int = 0
    branch: str = ""
    data_order: int = 0
    steps: int = 0
    snapshots: list[int] = []
    density: float | None = None
    remaining: int | None = None
    prunable: int | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    train_accuracy: float | None = None
    train_loss: float | None = None
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    seconds: float = 0.0
    stack_seconds: float = 0.0
    trained_as: str | None = None

    @property
    def trained(self) -> bool:
        """Whether it is a network that was trained, however that ended."""
        return self.status != "ancestor_diverged"


@dataclass(frozen=True)
class Given:
    """A run's spec, folders and card, and what its files hold."""

    spec: Spec
    folders: Folders
    card: dict[str, Any]
    notes: tuple[str, ...]  # what a reader has to know before the findings

    @cached_property
    def networks(self) -> dict[str, Network]:
        """networks.json. Raises HarnessError for anything odd in it."""
        path = self.folders.networks
        try:
            return TypeAdapter(dict[str, Network]).validate_python(read_checked_json(path))
        except ValidationError as error:
            raise HarnessError(f"{path}: {describe(error, Network)}. Pull it again") from None

    def network(self, name: str) -> Network:
        """An entry of networks.json that must be there. Raises HarnessError otherwise."""
        if name not in self.networks:
            raise HarnessError(f"{self.folders.networks}: {name}: is missing. Pull it again")
        return self.networks[name]

    @cached_property
    def table(self) -> pd.DataFrame:
        return read_rows(self.folders.table)

    @cached_property
    def curves(self) -> pd.DataFrame:
        return read_checked_table(self.folders.all_curves, CURVES)

    def record(self, stage: str) -> dict[str, Any]:
        """A stage's record. Raises HarnessError for a missing or broken one."""
        path = self.folders.stage(stage)
        return check_form(Record, read_checked_json(path), path)

    def read_pairs(self, stage: str) -> pd.DataFrame:
        """The pairs table of a stability stage; it lacks the measures that none of its pairs has."""
        import pyarrow.parquet

        path = self.folders.pairs(stage)
        if not path.is_file():
            raise HarnessError(f"{path}: missing. Pull it again")
        there = pyarrow.parquet.read_schema(path).names  # of a form that was checked with the folder
        return read_checked_table(path, {name: kind for name, kind in TABLE.items() if name in there})

    def read_curves(self, stage: str) -> pd.DataFrame:
        """The curves of a stability stage."""
        return read_checked_table(self.folders.curves(stage), CURVES)

    def same_code(self, *parts: str) -> bool:
        """Whether these parts of the code compute as they did for the run."""
        return all(self.card["code"]["digests"].get(part) == cached_code_digest(part) for part in parts)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """provenance.json. Raises HarnessError for anything odd in it."""
        return check_form(Provenance, read_checked_json(self.folders.provenance), self.folders.provenance)

    def read_object(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder that holds an object. Raises HarnessError otherwise."""
        path = self.folders.base / f"{name}.json"
        found = read_checked_json(path)
        if not isinstance(found, dict):
            raise HarnessError(f"{path}: holds no object. Pull it again")
        return found

    @cached_property
    def same_machine(self) -> bool:
        """Whether packages and machine are those of the run, so that figures have the same bytes."""
        try:
            made, here = self.provenance, environment()
        except HarnessError:
            return False
        return all(made.get(name) == here[name] for name in ("packages", "hardware"))

    def runs(self) -> list[Run]:
        """Every network of the plan."""
        return all_runs(self.spec)

    def expected(self) -> Iterator[str]:
        """The names that networks.json must have."""
        for run in self.runs():
            yield run.id
            if run == dense_run(run.experiment, run.replicate):
                yield f"{run.id}{SNAPSHOTS}"


def open_given(folders: Folders, paper: str, scale: str) -> Given:
    """Check a folder's layout, read its card, and find the spec that it was made with.

    That is this checkout's, or where it has changed since, the copy that lies with the page. Raises HarnessError for
    a folder that is none of a run, a card of another paper or scale, and a spec that is neither here nor there.
    """
    check_folder(folders.base)
    card = read_card(folders)
    for name, wanted in (("paper", paper), ("scale", scale)):
        if card[name] != wanted:
            raise HarnessError(
                f"{folders.card}: {name}: {card[name]!r:.100}: this is not the {name} asked for ({wanted}). "
                "Give --paper and --scale as on the card"
            )
    notes = [f"the code that {_DOES[part]} has changed since{more}" for part, more in _changed(card)]
    spec, fault = _load(checkout(), paper, scale, card)
    if fault:
        copy = folders.report / "workflow" / "papers" / paper
        spec, missing = _load(_laid_out(copy, paper), paper, scale, card)
        if missing:
            raise HarnessError(
                f"papers/{paper}: {fault}, and the run keeps no copy ({missing}). "
                f"Check out {card['code']['revision'][:10] or 'the revision of its code'} and verify there"
            )
        notes.append(f"papers/{paper} has changed since ({fault}): verified with the copy in {copy}")
    assert spec is not None
    return Given(as_recorded(spec, folders), folders, card, tuple(notes))


_DOES = {
    "training": "trains",
    "data": "prepares data",
    "analysis": "compares networks",
    "collect": "collects tables",
    "claims": "judges claims",
    "report": "writes the page",
}


def _changed(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Parts of the code with another digest than the card's, training first."""
    more = {"training": ": differences may come from that"}
    digests = card["code"]["digests"]
    return [(part, more.get(part, "")) for part in _DOES if digests.get(part) != cached_code_digest(part)]


def _laid_out(copy: Path, paper: str) -> Path:
    """A folder like a checkout with a run's copy of its spec, until this process ends.

    The copy has its own scale alone, and claims name others, which have to exist: those are empty.
    """
    root = Path(tempfile.mkdtemp(prefix="harness-spec-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    if not (copy / "claims.yaml").is_file():
        return root
    folder = Path(shutil.copytree(copy, root / "papers" / paper))
    claims = read_yaml(folder / "claims.yaml")
    for claim in claims if isinstance(claims, list) else []:
        scales = claim.get("scales") if isinstance(claim, dict) else None
        for name in scales if isinstance(scales, dict) else []:
            if NAME.fullmatch(str(name)):
                (folder / "scales" / f"{name}.yaml").touch()
    return root


def _load(root: Path, paper: str, scale: str, card: dict[str, Any]) -> tuple[Spec | None, str]:
    """The spec below a folder and why it is not the card's, or ""."""
    try:
        spec = load_spec(root, paper, scale)
    except HarnessError as error:
        return None, str(error)
    here = identity(spec)["spec"]
    other = sorted(name for name in {*here, *card["spec"]} if here.get(name) != card["spec"].get(name))
    return spec, f"{other[0]} differs" if other else ""
