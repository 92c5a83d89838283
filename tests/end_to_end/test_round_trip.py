"""A run that travels: pushed from one checkout, pulled into a fresh clone, where nothing of it is made again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.base.files import file_sha256
from harness.base.paths import checkout
from harness.workflow.locks import LOCK
from tests.end_to_end.conftest import Checkout
from tests.share.s3_server import Server, start

RUN = {"paper": "stabilizing-lth", "scale": "tiny", "folder": "results/stabilizing-lth/tiny"}
VERSIONED = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore", "Snakefile")


class Shared:
    """A git repository of the project with the tiny scale, and the environment of whoever works in it."""

    def __init__(self, root: Path, server: Server):
        self.checkout = Checkout(root)
        python = Path(sys.executable).parent  # the rules and dvc.yaml call `harness`
        self.environment = {
            **os.environ,
            **server.environment,
            "HARNESS_ROOT": str(root),
            "PYTHONPATH": str(root),
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }

    @property
    def root(self) -> Path:
        return self.checkout.root

    @property
    def results(self) -> Path:
        return self.checkout.results

    def run(self, *command: str) -> str:
        """Run a command here that must succeed. Returns what it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def harness(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "harness.cli.app", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)

    def shared_files(self) -> dict[str, str]:
        """Checksums of what is shared of the run."""
        kept = ("runs", "data", "state", "progress", "logs", "clock.json", LOCK)
        return {
            path.relative_to(self.results).as_posix(): file_sha256(path)
            for path in sorted(self.results.rglob("*"))
            if path.is_file() and path.relative_to(self.results).parts[0] not in kept
        }

    def assert_nothing_to_do(self) -> None:
        """harness reproduce, snakemake and dvc repro all find the run finished."""
        before = self.shared_files()
        assert "running again" not in self.harness("reproduce", "--scale", "tiny", "--cores", "2")
        dry = (sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--config", "scale=tiny")
        assert "Nothing to be done" in self.run(*dry)
        assert "Data and pipelines are up to date" in self.dvc("repro")
        assert self.shared_files() == before


@pytest.fixture(scope="module")
def s3():
    server = start()
    yield server
    server.end()


def code(root: Path) -> None:
    """The project's own files, in a repository of their own."""
    source = checkout()
    shutil.copytree(source / "papers", root / "papers")
    shutil.copytree(source / "harness", root / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in VERSIONED:
        shutil.copy(source / name, root / name)
    (root / "params.yaml").write_text(yaml.safe_dump({"run": RUN}))


@pytest.fixture(scope="module")
def ours(finished_checkout, s3, tmp_path_factory) -> Shared:
    """A repository whose run was made by `harness reproduce` and pushed: its remote is the S3 server."""
    root = tmp_path_factory.mktemp("ours") / "checkout"
    code(root)
    scale = "papers/stabilizing-lth/scales/tiny.yaml"
    shutil.copy(finished_checkout.root / scale, root / scale)
    shutil.copytree(finished_checkout.results, root / RUN["folder"])
    made = Shared(root, s3)
    made.git("init", "--quiet")
    made.dvc("remote", "add", "--default", "store", f"s3://{s3.bucket}/dvc")
    made.dvc("remote", "modify", "store", "endpointurl", s3.url)
    assert "files pushed" in made.harness("push")
    made.commit("a run")
    return made


def clone(ours: Shared, server: Server, root: Path) -> Shared:
    ours.git("clone", "--quiet", str(ours.root), str(root))
    for compiled in (ours.root / "harness" / "kernels").glob("*.so"):
        shutil.copy(compiled, root / "harness" / "kernels")
    return Shared(root, server)


@pytest.fixture(scope="module")
def theirs(ours, s3, tmp_path_factory) -> Shared:
    """A clone into which a reader pulled the run from the S3 server."""
    made = clone(ours, s3, tmp_path_factory.mktemp("theirs") / "checkout")
    out = made.harness("pull")
    assert "stages fit this code and these settings" in out
    assert "runs the others again" not in out
    return made


@pytest.mark.slow
def test_a_reader_pulls_page_tables_and_tickets_and_has_nothing_to_make(theirs, ours):
    assert theirs.shared_files() == ours.shared_files()
    assert "C33" in (theirs.results / "report" / "index.html").read_text()
    assert len(pd.read_parquet(theirs.results / "table.parquet"))
    assert list((theirs.results / "tickets").rglob("*.safetensors"))
    assert "; 0 to train" in theirs.harness("plan", "--scale", "tiny")
    theirs.assert_nothing_to_do()
    assert not list((theirs.results / "runs").rglob("*.safetensors"))
    assert not (theirs.results / "data").exists()
    theirs.harness("verify", "--scale", "tiny", "--sample", "1")


@pytest.mark.slow
def test_an_older_revisions_results_are_taken_as_they_are(theirs):
    """The claims change, `dvc repro` judges again, and back at the older revision neither is done once more."""
    old = theirs.shared_files()
    claims = theirs.root / "papers/stabilizing-lth/claims.yaml"
    facts = yaml.safe_load(claims.read_text())
    facts[0]["title"] = "Another title"
    claims.write_text(yaml.safe_dump(facts))
    out = theirs.dvc("repro")
    assert "Stage 'experiments' didn't change" in out
    assert "--until report" in out
    new = theirs.shared_files()
    changed = {name for name in old if new[name] != old[name]}
    assert {"claims.json", "report/index.html", "card.json"} <= changed
    assert not any(name.startswith(("stages/", "prepare/", "tickets/")) for name in changed)
    theirs.commit("another title")

    theirs.git("checkout", "--quiet", "HEAD~1")
    theirs.dvc("checkout", "data", "experiments", "report")
    assert theirs.shared_files() == old
    theirs.assert_nothing_to_do()


@pytest.mark.slow
def test_a_folder_holds_the_networks_too_for_who_asks(ours, s3, tmp_path):
    ours.dvc("remote", "add", "folder", str(tmp_path / "folder"))
    ours.harness("push", "--remote", "folder", "--networks")
    ours.commit("with networks")
    reader = clone(ours, s3, tmp_path / "reader")
    reader.harness("pull", "--remote", "folder", "--networks")
    assert reader.shared_files() == ours.shared_files()
    assert reader.checkout.checksums() == ours.checkout.checksums()
    tensors = [path.relative_to(ours.results) for path in (ours.results / "runs").rglob("*.safetensors")]
    assert all(file_sha256(reader.results / path) == file_sha256(ours.results / path) for path in tensors)
