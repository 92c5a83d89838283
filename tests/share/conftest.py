"""A whole tiny run with its card, of which tests that alter it take a copy; a local S3 server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.files import write_text
from harness.plan import stages
from harness.workflow.context import Context, Folders
from harness.workflow.stages import run_stage
from tests.share.s3_server import Server, start
from tests.workflow.conftest import tiny_context

SWEEPS = [{"k": [0, 5], "levels": 2, "at": {2: {"imp": 2, "random_prune": 1, "snip": 1}}}]


@dataclass(frozen=True)
class Made:
    """A run: its context, and its folders for short."""

    context: Context

    @property
    def folders(self) -> Folders:
        return self.context.folders

    @property
    def base(self) -> Path:
        return self.context.folders.base

    def copy(self, folder: Path) -> "Made":
        """The same run in another folder, for a test that alters it."""
        shutil.copytree(self.base, folder)
        return Made(replace(self.context, folders=Folders(folder)))

    def stage(self, name: str) -> None:
        run_stage(self.context.spec, self.folders, name, 1)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """LeNet on the digits for 30 steps, two replicates, SNIP too. The page is a stand-in: drawing it takes seconds."""
    found = Made(tiny_context(tmp_path_factory.mktemp("made") / "tiny", sweeps=SWEEPS))
    for stage in stages(found.context.spec):
        found.stage(stage.name)
    found.stage("collect")
    found.stage("claims")
    write_text(found.folders.report / "index.html", "<!doctype html><title>page</title>")
    write_text(found.folders.report / "report.md", "# page\n")
    found.stage("card")
    return found


@pytest.fixture
def copy(made, tmp_path) -> Made:
    return made.copy(tmp_path / "tiny")


@pytest.fixture
def s3() -> Iterator[Server]:
    """An S3 server on loopback with an empty bucket."""
    server = start()
    yield server
    server.end()
