"""How far a run goes, and what becomes of it when `dvc repro`, which started it, is killed."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from harness.base.paths import checkout
from harness.plan.kinds import WHOLE, files_of
from harness.plan.runs import stages
from harness.results.folders import SHARED
from harness.workflow.rules import UNTIL, Rules

STAND_IN = """\
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""
RUN = "import os, time; from harness.workflow.reproduce import end_with_dvc as e; e(); print(os.getpid(), flush=True)"


@pytest.mark.parametrize("under_dvc", [True, False])
def test_a_run_ends_with_the_dvc_that_started_it_and_with_no_other_parent(tmp_path, under_dvc):
    (tmp_path / "dvc").write_text(STAND_IN)
    environment = {**os.environ, **({"DVC_STAGE": "experiments"} if under_dvc else {})}
    command = [sys.executable, str(tmp_path / "dvc"), f"{RUN}; time.sleep(600)"]
    with subprocess.Popen(command, env=environment, cwd=checkout(), stdout=subprocess.PIPE, text=True) as parent:
        run = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        try:
            if under_dvc:
                run.wait(60)
            else:
                time.sleep(2)
                assert run.is_running()
        finally:
            if run.is_running():
                run.kill()


def test_how_far_a_run_goes():
    rules = Rules("stabilizing-lth", "smoke", "results")
    data, experiments, report = (rules.targets(until) for until in UNTIL)
    sets = {setting.data for setting in rules.spec.scale.experiments.values()}
    assert data == [f"results/stabilizing-lth/smoke/prepare/{name}.json" for name in sorted(sets)]
    assert set(experiments) == {
        *data,
        *(f"results/stabilizing-lth/smoke/stages/{stage.name}.json" for stage in stages(rules.spec)),
    }
    assert set(report) == {
        *experiments,
        *(f"results/stabilizing-lth/smoke/{name}" for kind in WHOLE for name in files_of(kind)),
    }
    assert rules.targets() == report


def test_what_dvc_versions_is_what_a_run_shares():
    """Every output named in dvc.yaml is of the layout, and every part of the layout is an output."""
    described = yaml.safe_load((checkout() / "dvc.yaml").read_text())
    outs = {
        name.removeprefix("${run.folder}/"): options
        for stage in described["stages"].values()
        for one in (*stage["outs"], *stage.get("metrics", ()))
        for name, options in one.items()
    }
    assert all(options == {"persist": True} for options in outs.values())
    folders = {"report": "index.html", "stages": "lenet/c0/dense.json", "tickets": "lenet/r0.safetensors"}
    folders["prepare"] = "digits.json"
    for name in outs:
        assert SHARED.fullmatch(f"{name}/{folders[name]}" if name in folders else name), name
    written = {name for kind in WHOLE for name in files_of(kind) if not name.startswith("report/")}
    assert set(outs) == written | set(folders) | {"looks.json"}
    assert not any("cores" in stage["cmd"] for stage in described["stages"].values())
