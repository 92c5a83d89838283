"""The paper scale's whole workflow, built by the workflow engine with no data set present."""

import os
import re
import subprocess
import sys

import pytest

from harness.base.paths import checkout
from harness.paper import load_spec
from harness.plan.runs import stages
from harness.workflow.rules import Rules
from tests.end_to_end.conftest import make_checkout


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["stabilizing-lth", "linear-mode-connectivity"])
def test_every_target_of_the_paper_scale_is_reachable_without_data(paper, tmp_path):
    made = make_checkout(tmp_path / "checkout")
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--nocolor", "--cores", "2"]
    command += ["--config", f"paper={paper}", "scale=paper", "results=results"]
    variables = {**os.environ, "HARNESS_ROOT": str(made.root), "HARNESS_DATA": str(tmp_path / "no-data")}
    # 30 s at most on a machine with nothing else to do; here only: it ends
    done = subprocess.run(
        command, cwd=made.root, env=variables, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    spec = load_spec(checkout(), paper, "paper")
    counted = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    kinds = [stage.kind for stage in stages(spec)]
    expected = {kind: str(kinds.count(kind)) for kind in set(kinds)}
    assert {kind: counted.get(kind) for kind in expected} == expected
    assert counted["prepare"] == str(len({setting.data for setting in spec.scale.experiments.values()}))
    assert {"collect": "1", "claims": "1", "report": "1", "all": "1"}.items() <= counted.items()
    assert len(Rules(paper, "paper", "results").stage_records()) == len(kinds) + int(counted["prepare"])
    assert not (tmp_path / "no-data").exists()
