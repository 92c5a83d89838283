"""`harness reproduce` from outside: what a user sees when it works, is killed, is run twice, meets broken files."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from harness.base.files import file_sha256, read_json
from harness.results.folders import check_folder
from tests.end_to_end.conftest import Checkout, make_checkout
from tests.kills import jobs_of, wait_for


def test_a_run_leaves_what_the_readme_promises(finished_checkout):
    results = finished_checkout.results
    claims = read_json(results / "claims.json")
    assert [claim["id"] for claim in claims] == [*(f"C{number}" for number in range(1, 34)), "S1"]
    assert {claim["verdict"] for claim in claims} == {"not tested"}
    page = (results / "report" / "index.html").read_text()
    assert "The pipeline works: " in page
    assert "The pipeline works: " in (results / "report" / "report.md").read_text()
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
    assert "34 not tested" in out
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
@pytest.mark.long
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


TRUNCATED = {
    "summary": ("table.parquet", "curves.parquet", "claims.json", "metrics.json", "networks.json", "provenance.json"),
    "page": ("report/**/*", "card.json", "ro-crate-metadata.json"),
    "stages": ("stages/**/*", "tickets/*/*", "prepare/*"),
    "records": ("runs/**/*.json",),
    "tensors": ("runs/**/*.safetensors", "data/*"),
    "everything": ("**/*",),
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", TRUNCATED)
def test_truncated_files_are_made_again(finished_checkout, tmp_path, kind):
    """Each file of a kind is cut at a random place: one run ends with the same contents, and a card that fits them."""
    made, draw = Checkout(tmp_path / "checkout"), random.Random(kind)
    shutil.copytree(finished_checkout.root, made.root, symlinks=True)
    paths = sorted({path for pattern in TRUNCATED[kind] for path in made.results.glob(pattern) if path.is_file()})
    assert paths
    for path in paths:
        os.truncate(path, draw.randrange(max(path.stat().st_size, 1)))
    status, out, err = made.reproduce()
    assert status == 0, out + err
    assert made.contents() == finished_checkout.contents()
    assert made.remains() == []
    assert check_folder(made.results) == []
    for name, entry in read_json(made.results / "card.json")["files"].items():
        assert file_sha256(made.results / name) == entry["sha256"], name


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
    wait_for(lambda: not jobs_of(made.root), 15)
    assert (made.results / "stages" / "lenet" / "c0" / "dense.json").exists()


@pytest.mark.slow
@pytest.mark.long
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
        (("reproduce", "--scale", "minni"), "no such scale; choose one of cifar-short, mini, paper, smoke, tiny, wide"),
        (("claims", "--scale", "tiny"), "missing. Run `harness reproduce --scale tiny` first."),
        (("report", "--scale", "tiny"), "missing. Run `harness reproduce --scale tiny` first."),
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
