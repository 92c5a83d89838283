"""How many replicates and levels a job takes, and how many processes share it, changes no bit of what comes out."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import psutil
import pytest

from harness.base import processes
from harness.base.errors import HarnessError
from harness.base.files import read_json
from harness.plan.runs import dense_run, find_stage, stages
from harness.results.heartbeats import read_heartbeats
from harness.stages import train as train_module
from harness.training.partial import read_partial
from harness.workflow.run_stage import run_stage
from tests.tiny import heartbeat, tiny_context


def checksums(context):
    return {run: record["sha256"] for run, record in read_json(context.folders.networks).items()}


def check_equal(context, finished):
    """The same networks, tables and curves as the finished run's."""
    run_stage(context.spec, context.folders, "collect", 1)
    assert checksums(context) == checksums(finished)
    for file in ("table", "all_curves"):
        one, other = (pd.read_parquet(getattr(made.folders, file)) for made in (context, finished))
        pd.testing.assert_frame_equal(*(frame.drop(columns="seconds", errors="ignore") for frame in (one, other)))


def test_results_do_not_depend_on_the_size_of_a_chunk(finished, tmp_path):
    apart = tiny_context(tmp_path, replicates_per_job=1, levels_per_job=1)
    names = [stage.name for stage in stages(apart.spec)]
    assert len(names) > len(stages(finished.spec))
    for name in names:
        run_stage(apart.spec, apart.folders, name, 1)
    check_equal(apart, finished)


def test_results_records_and_work_do_not_depend_on_the_processes_that_share_a_job(finished, tmp_path):
    """A few stages by one process, the next by two, the last by five, and then all again by three."""
    shared = tiny_context(tmp_path)
    for index, stage in enumerate(stages(shared.spec)):
        run_stage(shared.spec, shared.folders, stage.name, (1, 2, 5)[index % 3])
    check_equal(shared, finished)
    for stage in stages(shared.spec):
        own, other = (read_json(made.folders.stage(stage.name)) for made in (shared, finished))
        assert own["outputs"] == other["outputs"]
        assert own["steps"] == other["steps"]
    before = {path: path.stat().st_mtime_ns for path in shared.folders.runs.rglob("*")}
    dense, levels = (find_stage(shared.spec, f"lenet/c0/{part}") for part in ("dense", "k5-L1-2"))
    for stage in (dense, levels):
        run_stage(shared.spec, shared.folders, stage.name, 3)
        record = read_json(shared.folders.stage(stage.name))
        assert (record["steps"], record["training_seconds"]) == (0, 0.0)
    assert {path: path.stat().st_mtime_ns for path in shared.folders.runs.rglob("*")} == before


def fail(state, message):
    raise HarnessError(message)


def end(state):
    os._exit(1)


def test_an_error_in_a_process_that_shares_a_job_is_the_jobs():
    with pytest.raises(HarnessError, match=r"^its own words$"), processes.crew(2, list) as crew:
        crew.start(fail, "its own words").result()
    with pytest.raises(HarnessError, match="ended, perhaps for lack of memory"), processes.crew(2, list) as crew:
        crew.start(end).result()


def burn(state, seconds):
    """Compute until this process has used so much processor time; returns what it has used."""
    while time.process_time() < seconds:
        sum(range(1000))
    return time.process_time()


def test_cpu_time_counts_the_processes_that_share_a_job_and_no_waiting():
    before, own = processes.cpu_seconds(), time.process_time()
    with processes.crew(2, list) as crew:
        used = sum(future.result() for future in [crew.start(burn, 0.5), crew.start(burn, 0.5)])
        time.sleep(0.3)
    spent, own = processes.cpu_seconds() - before, time.process_time() - own
    assert 0.5 <= used <= spent - own + 0.1  # one worker may do both tasks
    assert spent - own < used + 0.7  # workers also start and end


def cut_off(context, stage, runs, tmp_path, monkeypatch):
    """Train the runs' stack until the checkpoint at its first check is written, and no further."""

    class Killed(BaseException):
        pass

    def keep_and_die(*arguments):
        kept(*arguments)
        raise Killed

    kept = train_module._keep
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_KEEP_STATE_SECONDS", "0")
        patch.setattr(train_module, "_keep", keep_and_die)
        with pytest.raises(Killed):
            train_module.train_stacks(context, replace(stage, replicates=runs), heartbeat(tmp_path))


def test_a_checkpoint_goes_on_in_any_cut(tmp_path, monkeypatch):
    """Two of three cut off together, then all three in one stack, or each alone: they go on to equal bits."""
    changes = {"change": {"steps": 250}, "replicates": 3, "replicates_per_job": 3}
    whole = tiny_context(tmp_path / "whole", **changes)
    run_stage(whole.spec, whole.folders, "lenet/c0/dense", 1)
    for name, parts in (("stack", ((0, 1, 2),)), ("alone", ((0,), (1,), (2,)))):
        context = tiny_context(tmp_path / name, **changes)
        stage = find_stage(context.spec, "lenet/c0/dense")
        cut_off(context, stage, (0, 1), tmp_path, monkeypatch)
        kept = [read_partial(path) for path in context.folders.state.iterdir()]
        assert [state.step for state, _ in kept] == [100, 100]
        begun = []
        whole_training = train_module.train

        def noting(network, recipe, batches, start, *rest, begun=begun, train=whole_training, **more):
            begun.append((start.step, len(next(iter(start.weights.values())))))
            return train(network, recipe, batches, start, *rest, **more)

        with monkeypatch.context() as patch:
            patch.setattr(train_module, "train", noting)
            for part in parts:
                train_module.train_stacks(context, replace(stage, replicates=part), heartbeat(tmp_path))
        assert sorted(begun) == ([(0, 1), (100, 2)] if name == "stack" else [(0, 1), (100, 1), (100, 1)])
        assert not list(context.folders.state.iterdir())
        for replicate in range(3):
            for suffix in ("", ".snapshots"):
                run = dense_run("lenet", replicate).id + suffix
                assert context.store.read(run)["sha256"] == whole.store.read(run)["sha256"]


JOB = """
import sys
from pathlib import Path
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context

if __name__ == "__main__":
    context = tiny_context(Path(sys.argv[1]), change={"steps": int(sys.argv[2])})
    run_stage(context.spec, context.folders, "lenet/c0/dense", 2)
"""


def start_job(folder, steps):
    """A job of two processes; returns when both have trained for a while."""
    context = tiny_context(folder, change={"steps": steps})
    job = subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(steps)], stderr=subprocess.PIPE)
    began = time.monotonic()
    while time.monotonic() - began < 120:
        beats = read_heartbeats(context.folders.progress)
        if len(beats) == 2 and all(beat["steps"] for beat in beats):
            return context, job, [int(path.suffixes[-2][1:]) for path in context.folders.progress.glob("*.json")]
        time.sleep(0.1)
    job.kill()
    pytest.fail("the two processes did not start")


@pytest.mark.slow
def test_sigterm_reaches_the_processes_that_share_a_job_and_both_go_on_from_there(tmp_path):
    context, job, _ = start_job(tmp_path, 20_000)
    job.send_signal(signal.SIGTERM)
    assert (job.wait(60), b"stopped by SIGTERM after step" in job.stderr.read()) == (143, True)
    kept = [read_partial(path) for path in context.folders.state.iterdir()]
    assert len(kept) == 2
    assert all(0 < state.step < 20_000 for state, _ in kept)


@pytest.mark.slow
def test_processes_that_share_a_job_end_with_it_when_it_is_killed(tmp_path):
    _, job, workers = start_job(tmp_path, 1_000_000)
    assert all(psutil.pid_exists(pid) for pid in workers)
    job.kill()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=20)
    assert not alive
