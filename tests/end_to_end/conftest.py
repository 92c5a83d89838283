"""A checkout with a scale that runs in seconds, and the `harness` command run in it as a user would."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.base.files import file_sha256, read_json
from harness.base.paths import checkout
from tests.share.s3_server import start
from tests.tiny import SETTING

TINY = {
    "description": "one experiment, in seconds",
    "judges_claims": False,
    "hardware": "any",
    "experiments": {
        "lenet": {
            **SETTING,
            "change": {"steps": 400},
            "dense_orders": [0],
            "sweeps": [{"k": [40], "levels": 2, "at": {2: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}],
            "line": {"points": 3, "train_samples": 100, "test_samples": 100},
        }
    },
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the project's data and workflow, with results of its own."""

    root: Path
    scale: str = "tiny"

    @property
    def results(self) -> Path:
        return self.root / "results" / "stabilizing-lth" / self.scale

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `harness ...` here."""
        command = [sys.executable, "-m", "harness.cli.app", *arguments]
        variables = {**os.environ, "HARNESS_ROOT": str(self.root), **environment}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=variables,
            stdout=pipe,
            stderr=pipe,
            text=True,
            # a test run in the background ignores Ctrl-C, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, timeout: float = 400, **environment: str) -> tuple[int, str, str]:
        """Run `harness ...` here to its end: status, stdout, stderr."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    def reproduce(self, **environment: str) -> tuple[int, str, str]:
        return self.run("reproduce", "--scale", self.scale, "--cores", "2", **environment)

    def checksums(self) -> dict[str, str]:
        """Checksum of every run's tensors, by run."""
        runs = self.results / "runs"
        return {path.relative_to(runs).as_posix(): read_json(path)["sha256"] for path in sorted(runs.rglob("*.json"))}

    def contents(self) -> dict[str, object]:
        """What must not depend on how often a run was stopped: tensors, tables, verdicts."""
        return contents(self.results)

    def remains(self, *others: Path) -> list[Path]:
        """What a run leaves nothing of: half-written files, checkpoints, the engine's locks and marks.

        `others` are further folders that a run leaves empty.
        """
        engine = self.root / ".snakemake"
        folders = (engine / "locks", engine / "incomplete", self.results / "state", *others)
        left = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return [*self.root.rglob("*.part"), *left]


def contents(results: Path) -> dict[str, object]:
    """Checksums of a run's tensors and curves, its table without durations, and its claims."""
    tensors = [*(results / "runs").rglob("*.safetensors"), *(results / "tickets").rglob("*")]
    return {
        "tensors": {path.relative_to(results).as_posix(): file_sha256(path) for path in tensors if path.is_file()},
        "table": pd.read_parquet(results / "table.parquet").drop(columns="seconds").to_json(double_precision=15),
        "curves": file_sha256(results / "curves.parquet"),
        "claims": read_json(results / "claims.json"),
    }


def make_checkout(root: Path, scale: str = "tiny") -> Checkout:
    """A checkout whose commands are given this scale; `tiny` is there beside the shipped ones."""
    source = checkout()
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "papers", root / "papers")
    for file in ("Snakefile", "params.yaml"):
        shutil.copy(source / file, root / file)
    (root / "harness").symlink_to(Path(__file__).parents[2] / "harness")
    (root / "papers" / "stabilizing-lth" / "scales" / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return Checkout(root, scale)


@pytest.fixture(scope="session")
def finished_checkout(tmp_path_factory) -> Checkout:
    """A finished run; tests that alter it mend it."""
    made = make_checkout(tmp_path_factory.mktemp("finished") / "checkout")
    status, out, err = made.reproduce()
    assert status == 0, out + err
    return made


@pytest.fixture(scope="module")
def s3():
    """An S3 server on loopback with an empty bucket."""
    server = start()
    yield server
    server.end()
