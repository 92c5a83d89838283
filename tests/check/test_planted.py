"""`harness check` from outside: two bad changes of the training code are caught, a refactoring is not.

Each change is made as a maintainer would make it, to the source in a checkout of its own, beside the results that the
unchanged code left there, as a cache of results would. The baseline comes from the unchanged code on this machine, so
nothing here depends on the machine's bits.

The judging scale is mini, cut down to the fewest networks on which two of the paper's own claims, as claims.yaml puts
them, are supported by a wide margin and which these faults must hit:

* C17, rewinding: the ResNet-20's subnetwork matches the dense network when it is rewound to k = 150, and is clearly
  more accurate than at k = 0. What is trained from another snapshot than that of its k can't be.
* C1, pruning: LeNet's subnetwork at 10.7% density is as accurate as the dense network, and more accurate than a
  randomly pruned one. A mask of large positive weights is neither.

The fault in pruning would be caught by C17 too, at more cost; the refactoring is checked on LeNet for the same reason.
Trainings are half as long as at the mini scale, the ResNet is pruned at once and LeNet in three levels: margins stay
wide, and replicates are cheaper than steps.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.base.files import read_json
from harness.base.paths import checkout
from harness.check.baseline import read_baseline
from harness.check.observed import rows

CLAIMS = ("C1", "C17")
PAPER = "stabilizing-lth"
RUN = f"results/.check/{PAPER}/mini"  # where the check works
WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # beside others, which take the other cores
LINE = {"points": 3, "train_samples": 100, "test_samples": 100}


def smaller(scale: dict) -> dict:
    """The mini scale with what C1 and C17 need, and shorter trainings."""
    lenet, resnet = (scale["experiments"][name] for name in ("lenet", "resnet20-standard"))
    lenet |= {"change": {"steps": 1000}, "pruning": {"fraction": 0.525}, "levels_per_job": 3}
    lenet |= {"sweeps": [{"k": [0], "levels": 3, "at": {3: {"random_prune": 1}}}]}
    resnet |= {"pruning": {"style": "one_shot", "densities": [0.168]}, "sweeps": [{"k": [0, 150], "levels": 1}]}
    resnet |= {"change": {**resnet["change"], "steps": 1500, "drops": [750, 1125]}}
    for setting, replicates in ((lenet, 10), (resnet, 8)):
        setting |= {"replicates": replicates, "replicates_per_job": replicates, "dense_orders": [], "line": LINE}
    del resnet["snapshots"], resnet["calibration"]
    lenet["calibration"] = {"test_accuracy": [96, 100]}
    return {**scale, "experiments": {"lenet": lenet, "resnet20-standard": resnet}}


@dataclass(frozen=True)
class Checkout:
    """A copy of the project: its code, one paper, its results."""

    root: Path

    def check(self, *arguments: str) -> tuple[int, str]:
        """`harness check` with this checkout's own code: exit status, and all that it printed."""
        command = [sys.executable, "-m", "harness.cli.app", "check", "--cores", "1" if WORKER else "2", *arguments]
        variables = {"HARNESS_ROOT": str(self.root), "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        finished = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        return finished.returncode, finished.stdout + finished.stderr

    def copy(self, root: Path) -> "Checkout":
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
        return Checkout(root)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change one place of a source file."""
        path = self.root / "harness" / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))

    def trained(self) -> set[str]:
        """The kinds of stages of the last run that trained networks in it."""
        stages = read_json(self.root / RUN / "provenance.json")["stages"]
        return {stage["kind"] for stage in stages if stage["steps"]}

    @property
    def summary(self) -> str:
        return (self.root / "check.md").read_text()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> Checkout:
    """The unchanged code after a run, with the baseline that it project: once for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    project = Checkout((base.parent if WORKER else base) / "unchanged")
    with project.root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done := project.root.with_suffix(".done")).exists():
            make_baseline(project)
            done.touch()
    return project


def make_baseline(project: Checkout) -> None:
    """Fill a checkout, run its reduced mini scale, and write the baseline."""
    shutil.rmtree(project.root, ignore_errors=True)  # of a worker that failed
    source = checkout()
    package = Path(__file__).parents[2] / "harness"
    shutil.copytree(package, project.root / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "params.yaml"):
        shutil.copy(source / file, project.root)
    paper = project.root / "papers" / PAPER
    shutil.copytree(source / "papers" / PAPER, paper, ignore=shutil.ignore_patterns("baselines"))
    scale = paper / "scales" / "mini.yaml"
    scale.write_text(yaml.safe_dump(smaller(yaml.safe_load(scale.read_text()))))
    claims = yaml.safe_load((paper / "claims.yaml").read_text())
    for claim in claims:
        if claim["id"] not in CLAIMS:
            claim["scales"].pop("mini", None)
    (paper / "claims.yaml").write_text(yaml.safe_dump(claims, sort_keys=False))
    (paper / "frozen.yaml").unlink()
    assert project.check("--freeze")[0] == 0
    status, output = project.check("--write-baseline")
    assert status == 0, output
    assert read_baseline("committed", paper, PAPER, "mini")[0].supported == set(CLAIMS)


def rewind_to_step_0(project: Checkout) -> None:
    project.edit("stages/train.py", '(f"{dense}{SNAPSHOTS}", f"k{run.k}/")', '(f"{dense}{SNAPSHOTS}", "k0/")')


def prune_by_signed_value(project: Checkout) -> None:
    project.edit("lottery/criteria/magnitude.py", "weight.abs()", "weight")


def refactor(project: Checkout) -> None:
    """Other names, another order of functions, another way to say the same."""
    file = "lottery/masks.py"
    project.edit(file, "return round(total * density)", "kept = round(total * density)\n    return kept")
    text = (project.root / "harness" / file).read_text()
    start, end = text.index("def shuffled("), text.index("def remaining(")
    moved = text[start:end].replace("rows", "pieces").replace("order", "positions")
    (project.root / "harness" / file).write_text(f"{text[:start]}{text[end:].rstrip()}\n\n\n{moved.rstrip()}\n")


def checked(unchanged: Checkout, root: Path, change: Callable[[Checkout], None], claim: str):
    """A checkout with a change, and what the check of one claim says of it."""
    project = unchanged.copy(root / "changed")
    change(project)
    return project, *project.check("--claims", claim, "--summary", "check.md", "--junit", "check.xml")


@pytest.mark.slow
def test_rewinding_to_the_wrong_step_is_caught(unchanged, tmp_path):
    project, status, output = checked(unchanged, tmp_path, rewind_to_step_0, "C17")
    assert status == 2, output
    assert "broken invariant: start is snapshot * mask" in " ".join(output.split())
    assert "<error" in (project.root / "check.xml").read_text()


@pytest.mark.slow
@pytest.mark.long
def test_pruning_by_signed_value_is_caught(unchanged, tmp_path):
    _, status, output = checked(unchanged, tmp_path, prune_by_signed_value, "C1")
    assert status == 2, output
    assert "broken invariant: magnitude threshold" in " ".join(output.split())


@pytest.mark.slow
def test_a_refactoring_that_changes_no_result_passes(unchanged, tmp_path):
    project, status, output = checked(unchanged, tmp_path, refactor, "C1")
    assert status == 0, output
    assert "No result changed: what was run is bit-identical to the baseline." in output
    assert "changed since then: training, stability." in project.summary
    assert project.trained() == {"dense", "levels", "branches"}  # nothing was taken from the unchanged code's results
    before, now = (
        read_json(checkout_.root / f"{RUN}/runs/lenet/r0/k0/L3-imp-o0.json") for checkout_ in (unchanged, project)
    )
    assert before["key"] != now["key"]
    assert before["parts"] == now["parts"]

    # what the check puts together from records has the bits of the tables that the run wrote
    table, curves = (pd.read_parquet(unchanged.root / RUN / f"{name}.parquet") for name in ("table", "curves"))
    baseline, _ = read_baseline("committed", unchanged.root / "papers" / PAPER, PAPER, "mini")
    assert {name: rows(name, table, curves) for name in baseline.tables} == baseline.tables
