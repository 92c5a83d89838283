"""The documentation's commands and Python, run page after page in a copy of the project, on one smoke run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.files import read_json
from tests.docs.pages import EXTENDING, PICTURES, REPRODUCTION, Block, blocks_of, pages, write
from tests.end_to_end.conftest import Checkout, make_checkout

OTHERS = {EXTENDING, PICTURES, REPRODUCTION}  # tests of their own run the first two


@pytest.fixture
def copy(tmp_path) -> Checkout:
    return make_checkout(tmp_path / "checkout", "smoke")


def run(root: Path, *command: str) -> str:
    """Run a block as a person would, in the activated environment. Returns nothing, or what went wrong."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HARNESS_ROOT": str(root)}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return "" if done.returncode == 0 else f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def run_block(block: Block, root: Path) -> bool:
    """Run a block, or write the file that it is. Returns whether it ran; fails with what went wrong."""
    if block.file and block.file[0].startswith("papers/"):
        write(block, root)
    if block.language not in ("bash", "python") or block.file or block.skipped:
        return False
    shell = ("bash", "-euo", "pipefail", "-c") if block.language == "bash" else (sys.executable, "-c")
    fault = run(root, *shell, block.text)
    assert not fault, f"{block.where}\n{block.text}\n{fault}"
    return True


def verdict(root: Path, claim: str) -> str:
    claims = read_json(root / "results" / "stabilizing-lth" / "mini" / "claims.json")
    return next(entry["verdict"] for entry in claims if entry["id"] == claim)


@pytest.mark.slow
@pytest.mark.long
def test_the_blocks_run_as_they_stand(copy):
    papers, shipped, ran = copy.root / "papers", copy.root / "papers-as-shipped", {}
    shutil.copytree(papers, shipped)
    for page in (page for page in pages() if page not in OTHERS):
        ran[page.stem] = sum(run_block(block, copy.root) for block in blocks_of(page))
        if page.stem == "tutorial":
            assert verdict(copy.root, "C2") == "supported"  # as the page says
        if page.stem == "add-a-claim":
            assert verdict(copy.root, "X1") != "not tested"
        shutil.rmtree(papers)  # the next page begins with the project's own
        shutil.copytree(shipped, papers)
    assert ran["tutorial"] == 5
    assert {page for page in ran if ran[page]} >= {"papers-lenet", "add-a-paper", "share-and-verify", "in-python"}
    results = copy.root / "results"
    assert (results / "compare" / "compare.html").exists()
    assert (results / "my-paper" / "mini" / "report" / "index.html").exists()
