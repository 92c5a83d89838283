"""`harness reproduce` from outside: what a user sees when it works, is killed, is run twice, meets broken files."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import yaml

from harness.base.files import read_json
from tests.end_to_end.conftest import Checkout, make_checkout


def test_a_run_leaves_what_the_readme_promises(finished_checkout):
    results = finished_checkout.results
    claims = read_json(results / "claims.json")
    assert [claim["id"] for claim in claims] == [f"C{number}" for number in range(1, 34)]
    assert {claim["verdict"] for claim in claims} == {"not tested"}
    page = (results / "report" / "index.html").read_text()
    assert "C33" in page
    assert "C33" in (results / "report" / "report.md").read_text()
    facts = read_json(results / "provenance.json")
    assert facts["packages"]["torch"]
    assert all(stage["outputs"] for stage in facts["stages"])
    assert not list((results / "state").glob("*"))
    table = pd.read_parquet(results / "table.parquet")
    assert set(table["branch"]) == {"dense", "imp", "random_prune", "random_reinit"}


def test_again_there_is_nothing_to_do(finished_checkout):
    before = finished_checkout.checksums()
    started = time.time()
    status, out, err = finished_checkout.reproduce()
    assert status == 0, err
    assert "33 not tested" in out
    assert finished_checkout.checksums() == before
    assert all(path.stat().st_mtime < started for path in (finished_checkout.results / "runs").rglob("*"))


def test_plain_snakemake_sees_the_same_run_as_finished(finished_checkout):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--config", "scale=tiny"]
    result = subprocess.run(command, cwd=finished_checkout.root, capture_output=True, text=True, check=False)
    assert "Nothing to be done" in result.stdout + result.stderr


def test_claims_and_report_commands(finished_checkout):
    status, out, _ = finished_checkout.run("claims", "--scale", "tiny")
    assert status == 0
    assert "not tested" in out
    page = finished_checkout.results / "report" / "index.html"
    page.unlink()
    assert finished_checkout.run("report", "--scale", "tiny")[0] == 0
    assert page.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["altered", "missing", "record", "stage", "snapshots"])
def test_broken_artefacts_are_made_again(finished_checkout, kind):
    before = finished_checkout.checksums()
    run = finished_checkout.results / "runs" / "lenet" / "r1" / "k40" / "L2-imp-o0.safetensors"
    stage = finished_checkout.results / "stages" / "lenet" / "c0" / "k40-L2-branches.json"
    if kind == "altered":
        content = bytearray(run.read_bytes())
        content[-1] ^= 1
        run.write_bytes(content)
    elif kind == "missing":
        run.unlink()
    elif kind == "record":
        run.with_suffix(".json").write_text("{")
    elif kind == "stage":
        stage.write_text("not json")
    else:
        (finished_checkout.results / "runs/lenet/r0/k0/L0-dense-o0.snapshots.safetensors").unlink()
    status, out, err = finished_checkout.reproduce()
    assert status == 0, err
    assert "running again lenet/c0/" in out
    assert finished_checkout.checksums() == before


def wait_for(condition, seconds=120.0):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def jobs_of(checkout: Checkout) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if process.info["cwd"] == str(checkout.root) and alive and ("harness" in words or "snakemake" in words):
            found.append(process)
    return found


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_results(finished_checkout, tmp_path):
    made = make_checkout(tmp_path / "checkout")
    runs = made.results / "runs"
    for networks in (1, 5):  # in the dense stage, and among the levels
        process = made.start("reproduce", "--scale", "tiny", "--cores", "2", HARNESS_KEEP_STATE_SECONDS="0")
        wait_for(lambda networks=networks: len(list(runs.rglob("*.json"))) >= networks)
        assert process.poll() is None
        process.kill()
        process.communicate()
        wait_for(lambda: not jobs_of(made), 15)  # no orphan goes on writing
    status, out, err = made.reproduce()
    assert status == 0, out + err
    assert made.checksums() == finished_checkout.checksums()
    a, b = (pd.read_parquet(one.results / "table.parquet").drop(columns="seconds") for one in (made, finished_checkout))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.slow
def test_a_second_run_is_refused_and_ctrl_c_loses_nothing(tmp_path):
    made = make_checkout(tmp_path / "checkout")
    first = made.start("reproduce", "--scale", "tiny", "--cores", "1")
    wait_for(lambda: (made.results / "stages" / "lenet" / "c0" / "dense.json").exists())
    status, _, err = made.reproduce()
    assert status == 1
    assert "another run is active here (process" in err
    assert "Traceback" not in err
    os.kill(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 1
    assert err.strip() == "error: stopped; finished work is kept: run the same command again to resume"
    wait_for(lambda: not jobs_of(made), 15)
    assert (made.results / "stages" / "lenet" / "c0" / "dense.json").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    made = make_checkout(tmp_path / "checkout")
    disk = made.root / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        command = ("reproduce", "--scale", "tiny", "--cores", "1", "--results", "small")
        status, _, err = made.run(*command)
        assert status == 1
        assert "can't be written" in err
        assert "Free some space" in err
        assert "Traceback" not in err
        assert not list(disk.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        status, _, err = made.run(*command)
        assert status == 0, err
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_bad_input_is_one_line(tmp_path):
    made = make_checkout(tmp_path / "checkout")
    for arguments, message in (
        (("reproduce", "--scale", "minni"), "no such scale; choose one of mini, paper, smoke, tiny"),
        (("claims", "--scale", "tiny"), "missing. Run `harness reproduce` first."),
        (("report", "--scale", "tiny"), "missing. Run `harness reproduce` first."),
        (("stage", "nope", "--scale", "tiny"), "stage 'nope': no stage has such a name"),
    ):
        status, _, err = made.run(*arguments)
        assert status == 1
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


def test_files_that_only_a_person_can_get_are_asked_for_before_anything_runs(tmp_path):
    made = make_checkout(tmp_path / "checkout")
    scale = made.root / "papers/stabilizing-lth/scales/tiny.yaml"
    facts = yaml.safe_load(scale.read_text())
    change = {"steps": 400, "augmentation": "resized_crop"}
    facts["experiments"]["lenet"] |= {"data": "imagenet", "network": "resnet20", "change": change}
    scale.write_text(yaml.safe_dump(facts))
    status, _, err = made.run("reproduce", "--scale", "tiny", "--cores", "1", HARNESS_DATA=str(tmp_path / "data"))
    assert status == 1
    assert "ILSVRC2012_img_train.tar is missing and can't be downloaded. By hand: put" in err
    assert err.count("\n") == 1
    assert not made.results.exists()
