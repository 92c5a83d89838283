"""What all tests share: the folder they start in, and two finished tiny runs."""

import os
from pathlib import Path

import pytest

from harness.base.files import write_text
from harness.plan.runs import stages
from harness.results.context import Context
from harness.workflow.run_stage import run_stage
from tests.tiny import SWEEPS, TinyRun, tiny_context

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Each test starts in the checkout, with the device as it was (a command in this process goes to its run's) and
    without a width."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HARNESS_DEVICE", os.environ.get("HARNESS_DEVICE", "auto"))
    monkeypatch.delenv("COLUMNS", raising=False)  # where tests run in several processes, their runner sets it


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Context:
    """A whole tiny run, read by tests that don't change it."""
    context = tiny_context(tmp_path_factory.mktemp("finished"))
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    run_stage(context.spec, context.folders, "collect", 1)
    return context


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> TinyRun:
    """LeNet on the digits for 30 steps, two replicates, SNIP too. The page is a stand-in: drawing it takes seconds."""
    found = TinyRun(tiny_context(tmp_path_factory.mktemp("made") / "tiny", sweeps=SWEEPS))
    for stage in stages(found.context.spec):
        found.stage(stage.name)
    found.stage("collect")
    found.stage("claims")
    write_text(found.folders.report / "index.html", "<!doctype html><title>page</title>")
    write_text(found.folders.report / "report.md", "# page\n")
    found.stage("card")
    return found


@pytest.fixture
def copy(tiny_run, tmp_path) -> TinyRun:
    return tiny_run.copy(tmp_path / "tiny")
