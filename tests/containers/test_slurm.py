"""The workflow on a real SLURM: jobs are submitted in groups, one is cancelled and one runs out of time half-way."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from harness.base.errors import HarnessError
from harness.base.files import read_json
from harness.results.heartbeats import heartbeat_path
from tests.containers.conftest import HERE, RUN, SCALE, Finished, assert_same, call, copy_checkout

pytestmark = pytest.mark.containers
SITE = {
    "slurm-no-account": True,
    "slurm-status-command": "squeue",  # the default asks the accounting, which there is none
    "slurm-init-seconds-before-status-checks": 2,
    "seconds-between-status-checks": 2,
    "latency-wait": 10,
    "default-resources": {"slurm_partition": "debug"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # munged has a user of its own
        try:
            call("bash", HERE / "slurm.sh", "start", folder, GPUS="2")
            yield
        finally:
            call("bash", HERE / "slurm.sh", "stop", folder)


def wait_for(condition, seconds: float):
    end = time.time() + seconds
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def training(folder: Path, besides: set[str]) -> tuple[psutil.Process, str, str] | None:
    """A stage's process in the midst of training, stopped there, its SLURM job and the stage's name; or None."""
    results = folder / "results" / RUN
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, HarnessError):
            words = process.cmdline()
            names = [Path(word).name for word in words[:2]]
            if "harness" not in names or "stage" not in words or process.cwd() != str(folder):
                continue
            job, stage = process.environ().get("SLURM_JOB_ID", ""), words[words.index("stage") + 1]
            beat = heartbeat_path(results / "progress", stage)
            if not job or job in besides or not beat.exists() or beat.stat().st_mtime < process.create_time():
                continue
            if not stage.startswith("lenet/"):  # at this scale the others are over before a state is kept
                continue
            process.suspend()
            # it has trained some steps, and the state that it keeps of a training is removed at its end
            if read_json(beat)["steps"] and list((results / "state").glob("*.safetensors")):
                return process, job, stage
            process.resume()
    return None


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def ended(job: str) -> str:
    found = re.search(r"JobState=(\w+)", call("scontrol", "show", "job", job))
    return found[1] if found and found[1] not in ("RUNNING", "COMPLETING", "PENDING") else ""


def test_cancelled_and_timed_out_jobs_go_on_to_the_same_results(cluster, plain, tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    site = tmp_path / "site"
    site.mkdir()
    (site / "config.yaml").write_text(yaml.safe_dump(SITE))
    resources = folder / "papers" / "stabilizing-lth" / "resources.yaml"
    facts = yaml.safe_load(resources.read_text())
    facts[SCALE]["experiments"] = {"lenet": {"dense": {"gpu": 1}}}
    resources.write_text(yaml.safe_dump(facts))

    variables = {"HARNESS_ROOT": str(folder), "SNAKEMAKE_PROFILE": str(site), "HARNESS_PROFILE": "slurm"}
    variables |= {"OMP_NUM_THREADS": "1", "HARNESS_KEEP_STATE_SECONDS": "0"}
    variables |= {"HARNESS_DEVICE": "cpu"}  # the GPUs are pretended
    command = [sys.executable, "-m", "harness.cli.app", "reproduce", "--scale", SCALE]
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, cwd=folder, env={**os.environ, **variables}, stdout=said, stderr=said)
        try:
            first, cancelled, one = wait_for(lambda: training(folder, set()), 900)
            call("scancel", cancelled)
            assert wait_for(lambda: ended(cancelled), 60) == "CANCELLED"
            wait_for(lambda: gone(first), 30)
            second, late, other = wait_for(lambda: training(folder, {cancelled}), 900)
            call("scontrol", "update", f"JobId={late}", "TimeLimit=0:00:01")
            assert wait_for(lambda: ended(late), 150) == "TIMEOUT"
            wait_for(lambda: gone(second), 30)
            status = run.wait(1800)
        finally:
            run.kill()
    log = (folder / "results" / RUN / "logs" / "workflow.log").read_text()
    assert status == 0, (tmp_path / "said").read_text()[-3000:] + log[-6000:]
    finished = Finished(folder / "results" / RUN)
    assert_same(finished, plain)
    assert not list((finished.base / "state").glob("*"))  # what was kept of the two has been used up
    for stage in {one, other}:  # the second attempt found steps that the first had trained
        assert read_json(heartbeat_path(finished.base / "progress", stage))["found_steps"] > 0

    jobs = call("scontrol", "--oneliner", "show", "jobs").splitlines()
    assert {cancelled, late} <= {re.search(r"JobId=(\d+)", line)[1] for line in jobs}
    # two of them twice, and still fewer jobs than stages: the short ones of one rewind iteration went as one
    assert len(jobs) < len(finished.stages())
    asked = [line for line in jobs if "gres:gpu:1" in line or "gres/gpu:1" in line or "gres/gpu=1" in line]
    assert asked
    assert len(asked) < len(jobs)
    assert all("TimeLimit=" in line and re.search(r"MinMemory(Node)?=\d", line) for line in jobs)
