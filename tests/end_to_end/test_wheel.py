"""A wheel, installed where no checkout is, runs a paper that it ships in an empty folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.files import read_json
from harness.base.paths import checkout
from harness.paper import load_spec
from harness.results.folders import Folders
from harness.results.keys import stage_digest

SOURCE = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "params.yaml", "Snakefile", "harness", "papers", "envs")
PAPER = "the-lottery-ticket-hypothesis"  # its smoke scale is the smallest


def call(*command: str | Path, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".pyc"}


@pytest.mark.slow
def test_a_wheel_runs_a_shipped_paper_in_an_empty_folder(tmp_path):
    source, site, here = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    source.mkdir()
    here.mkdir()
    for name in SOURCE:
        path, built = checkout() / name, shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(path, source / name, ignore=built) if path.is_dir() else shutil.copy(path, source)
    git = ["git", "-C", source, "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    call(*git, "init", "--quiet")
    call(*git, "add", "--all")
    call(*git, "commit", "--quiet", "--message", "all")
    revision = call(*git, "rev-parse", "HEAD").strip()

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    call(*pip, "install", "--no-deps", "--target", site, wheel)
    installed = files(site)

    # the dependencies are those of this environment; the package is the installed one, in the workflow's jobs too
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")}
    options = {"cwd": here, "env": {**environment, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}}
    harness = [sys.executable, site / "bin" / "harness"]
    call(*harness, "reproduce", "--paper", PAPER, "--scale", "smoke", "--cores", "2", **options)
    assert files(site) == installed, "a run writes nothing to the package"

    folders = Folders(here / "results" / PAPER / "smoke")
    assert (folders.report / "index.html").is_file()
    card = read_json(folders.card)
    assert card["code"] == {**card["code"], "revision": revision, "tree_clean": True}
    spec = load_spec(checkout(), PAPER, "smoke")
    records = read_json(folders.provenance)["stages"]
    assert {record["hardware"]["kernels"] for record in records} != {"torch"}, "the wheel has its kernels"
    for record in records:  # the wheel computes what this checkout does
        assert record["digest"] == stage_digest(spec, folders, record["stage"]), record["stage"]

    call(*harness, "new", "paper", "mine", **options)
    assert files(here / "papers" / "mine") >= {"paper.yaml", "scales/smoke.yaml"}
    shown = call(*harness, "plan", "--scale", "smoke", **options)  # of the default paper, beside one's own
    assert "Stabilizing the Lottery Ticket Hypothesis, scale smoke" in shown
