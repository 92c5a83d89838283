"""An image built from the Dockerfile on a base of Debian packages, and a plain run to compare with.

Run by .ci/containers, which installs podman, SLURM and the rest, and makes both beforehand: LTH_IMAGE names the image,
LTH_PLAIN the folder of a finished smoke run. Without these names, each is made here.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.base.files import read_json
from harness.base.paths import checkout

ROOT = checkout().resolve()
HERE = Path(__file__).parent
BASE = "localhost/python:3.11-slim-bookworm"
SCALE = "smoke"
RUN = f"stabilizing-lth/{SCALE}"  # below a results folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """These tests run when they are asked for by their marker, and else not."""
    if "containers" not in str(config.option.markexpr):
        mine = [item for item in items if item.get_closest_marker("containers")]
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


def call(*command: str | Path, cwd: Path = ROOT, timeout: float = 2400, **environment: str) -> str:
    """Run a command to its end and give its stdout; fail with all that it said if it fails."""
    result = attempt(*command, cwd=cwd, timeout=timeout, **environment)
    assert result.returncode == 0, f"{command}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return result.stdout


def attempt(
    *command: str | Path, cwd: Path = ROOT, timeout: float = 2400, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


@dataclass(frozen=True)
class Finished:
    """A finished run's folder."""

    base: Path
    volatile: tuple[str, ...] = field(default=("seconds",))

    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.base / "table.parquet").drop(columns=list(self.volatile))

    def curves(self) -> pd.DataFrame:
        return pd.read_parquet(self.base / "curves.parquet")

    def networks(self) -> dict[str, str]:
        """SHA-256 of every network's and snapshot's file."""
        runs = self.base / "runs"
        return {path.relative_to(runs).as_posix(): read_json(path)["sha256"] for path in sorted(runs.rglob("*.json"))}

    def stages(self) -> list[dict[str, Any]]:
        return list(read_json(self.base / "provenance.json")["stages"])

    def verdicts(self) -> list[tuple[str, str]]:
        return [(claim["id"], claim["verdict"]) for claim in read_json(self.base / "claims.json")]


def assert_same(found: Finished, plain: Finished) -> None:
    """Bit-equal tables, curves and networks."""
    assert found.networks() == plain.networks()
    pd.testing.assert_frame_equal(found.table(), plain.table(), check_exact=True)
    pd.testing.assert_frame_equal(found.curves(), plain.curves(), check_exact=True)
    assert found.verdicts() == plain.verdicts()
    assert (found.base / "report" / "index.html").stat().st_size > 10000


def copy_checkout(folder: Path) -> Path:
    """A checkout of its own, so that its workflow has its own locks and records."""
    folder.mkdir(parents=True)
    for name in ("papers", "harness", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "params.yaml"):
        shutil.copy(ROOT / file, folder)
    return folder


def harness(folder: Path, *arguments: str, **environment: str) -> str:
    """`harness ...` in a checkout."""
    command = [sys.executable, "-m", "harness.cli.app", *arguments]
    return call(*command, cwd=folder, **{"HARNESS_ROOT": str(folder), **environment})


@pytest.fixture(scope="session")
def engine() -> None:
    """podman, set up for a machine without systemd and with hybrid cgroups."""
    if not shutil.which("podman"):
        pytest.fail("podman is not installed: .ci/containers installs what these tests need")
    os.environ["CONTAINERS_CONF"] = str(HERE / "containers.conf")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The cpu image as name@sha256:digest."""
    if os.environ.get("LTH_IMAGE"):
        return call("bash", ROOT / "envs" / "image.sh", os.environ["LTH_IMAGE"]).strip()
    return call("bash", HERE / "build.sh", BASE).strip().splitlines()[-1]


@pytest.fixture(scope="session")
def facts(image: str) -> dict[str, Any]:
    """What the engine knows of the image."""
    return dict(json.loads(call("podman", "image", "inspect", image))[0])


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Finished:
    """The run without containers."""
    if os.environ.get("LTH_PLAIN"):
        return Finished(Path(os.environ["LTH_PLAIN"]))
    folder = copy_checkout(tmp_path_factory.mktemp("plain") / "checkout")
    harness(folder, "reproduce", "--scale", SCALE, "--cores", "2")
    return Finished(folder / "results" / RUN)
