"""A run that is shared: the git repository of the project that holds it, and its clones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from harness.base.files import file_sha256
from harness.base.paths import checkout
from harness.workflow.locks import LOCK
from tests.end_to_end.conftest import Checkout
from tests.share.s3_server import Server

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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `harness ...` here."""
        return self.checkout.start(*arguments, **self.environment)

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

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


def code(root: Path) -> None:
    """The project's own files, in a repository of their own."""
    source = checkout()
    shutil.copytree(source / "papers", root / "papers")
    shutil.copytree(source / "harness", root / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in VERSIONED:
        shutil.copy(source / name, root / name)
    (root / "params.yaml").write_text(yaml.safe_dump({"run": RUN}))


def repository(root: Path, run: Checkout, server: Server) -> Shared:
    """A repository with a finished run at the tiny scale; its remote is the S3 server. Nothing is committed."""
    code(root)
    scale = "papers/stabilizing-lth/scales/tiny.yaml"
    shutil.copy(run.root / scale, root / scale)
    shutil.copytree(run.results, root / RUN["folder"])
    made = Shared(root, server)
    made.git("init", "--quiet")
    made.dvc("remote", "add", "--default", "store", f"s3://{server.bucket}/dvc")
    made.dvc("remote", "modify", "store", "endpointurl", server.url)
    return made


def clone(ours: Shared, server: Server, root: Path) -> Shared:
    ours.git("clone", "--quiet", str(ours.root), str(root))
    for compiled in (ours.root / "harness" / "kernels").glob("*.so"):
        shutil.copy(compiled, root / "harness" / "kernels")
    return Shared(root, server)
