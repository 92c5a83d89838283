"""A scale small enough to train in a second: two replicates of LeNet on the digits."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.base.files import file_sha256, read_json, write_json
from harness.base.paths import checkout
from harness.paper import Spec, load_spec
from harness.paper.models import Scale
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.heartbeats import Heartbeat
from harness.stages import train
from harness.training.partial import write_partial
from harness.workflow.run_stage import run_stage

SETTING = {
    "network": "lenet-300-100",
    "data": "digits",
    "change": {"steps": 30},
    "pruning": {"fraction": 0.36},
    "replicates": 2,
    "replicates_per_job": 2,
    "levels_per_job": 2,
    "dense_orders": [0, 5],
    "sweeps": [{"k": [0, 5], "levels": 2, "at": {2: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}],
    "line": {"points": 5, "train_samples": 100, "test_samples": 100},
}
SWEEPS = [{"k": [0, 5], "levels": 2, "at": {2: {"imp": 2, "random_prune": 1, "snip": 1}}}]


def tiny_spec(**changes) -> Spec:
    """The paper at a scale made here."""
    shipped = load_spec(checkout(), "stabilizing-lth", "smoke")
    scale = Scale.model_validate(
        {
            "description": "tests",
            "judges_claims": False,
            "hardware": "any",
            "experiments": {"lenet": {**SETTING, **changes}},
        }
    )
    return Spec(shipped.folder, shipped.paper, shipped.experiments, shipped.claims, "tiny", scale)


def tiny_context(folder: Path, **changes) -> Context:
    """A context in a fresh folder with its data set prepared."""
    context = Context(tiny_spec(**changes), Folders(folder), "lenet")
    if not context.folders.data("digits").exists():
        run_stage(context.spec, context.folders, "prepare/digits", 1)
    return context


def cut_off(context: Context, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a stage that trains until its first kept state is written, and no further."""

    class Killed(BaseException):
        pass

    def write_and_die(*arguments):
        write_partial(*arguments)
        raise Killed

    monkeypatch.setenv("HARNESS_KEEP_STATE_SECONDS", "0")
    with monkeypatch.context() as patch:
        patch.setattr(train, "write_partial", write_and_die)
        with pytest.raises(Killed):
            run_stage(context.spec, context.folders, stage, 1)


def heartbeat(folder: Path) -> Heartbeat:
    return Heartbeat(folder / "beat.json", "test", 1)


@dataclass(frozen=True)
class TinyRun:
    """A run: its context, and its folders for short."""

    context: Context

    @property
    def folders(self) -> Folders:
        return self.context.folders

    @property
    def base(self) -> Path:
        return self.context.folders.base

    def copy(self, folder: Path) -> "TinyRun":
        """The same run in another folder, for a test that alters it."""
        shutil.copytree(self.base, folder)
        return TinyRun(replace(self.context, folders=Folders(folder)))

    def stage(self, name: str) -> None:
        run_stage(self.context.spec, self.folders, name, 1)

    def forge_card(self, path: Path) -> None:
        """Name an altered file's checksum in the card, as somebody who alters results on purpose would."""
        card = read_json(self.folders.card)
        card["files"][path.relative_to(self.base).as_posix()] = {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        write_json(self.folders.card, card)
