"""Jobs of a machine with several GPUs get one each by id; what a job asks for; the image that a run demands."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from harness.base.devices import check_device, take_device
from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.cli.verify import verify
from harness.paper import load_spec
from harness.paper.resources import Resources, load_resources
from harness.plan.kinds import kind_of
from harness.plan.runs import stages
from harness.results.environment import around, environment
from harness.training.device import choose
from harness.workflow.engine import _options
from harness.workflow.image import check_required, delivery, digest_of, enter
from harness.workflow.jobs import PLANNED, jobs
from harness.workflow.rules import Rules, processes_of
from tests.tiny import tiny_spec

DIGEST = "sha256:" + "a1" * 32

# a job that takes a GPU, notes when it had it, and keeps it for a while
JOB = """
import json, os, sys, time
from harness.base.devices import take_device
one = take_device()
assert os.environ["CUDA_VISIBLE_DEVICES"] == one
began = time.time()
print(one, flush=True)
time.sleep(float(sys.argv[2]))
with open(sys.argv[1], "a") as log:
    log.write(json.dumps([one, began, time.time()]) + "\\n")
"""


def start(folder, seconds, gpus="0,GPU-ab12"):
    variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    variables |= {"HARNESS_GPUS": gpus, "HARNESS_GPU_LOCKS": str(folder / "locks")}
    command = [sys.executable, "-c", JOB, str(folder / "log"), str(seconds)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


def test_no_two_jobs_have_one_gpu_at_once(tmp_path):
    jobs = [start(tmp_path, 0.3) for _ in range(7)]
    assert [job.wait(60) for job in jobs] == [0] * 7
    held = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(held) == 7
    assert {one for one, _, _ in held} == {"0", "GPU-ab12"}
    for gpu in ("0", "GPU-ab12"):
        spans = sorted((began, ended) for one, began, ended in held if one == gpu)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))


def test_a_killed_job_frees_its_gpu(tmp_path):
    first = start(tmp_path, 60, gpus="3")
    assert first.stdout.readline().strip() == "3"
    second = start(tmp_path, 0, gpus="3")
    time.sleep(0.5)
    assert second.poll() is None  # it waits
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.stdout.readline().strip() == "3"
    assert second.wait(30) == 0


def test_a_queue_that_names_a_gpu_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_GPU_LOCKS", str(tmp_path))
    monkeypatch.delenv("HARNESS_GPUS", raising=False)
    assert take_device() == ""
    monkeypatch.setenv("HARNESS_GPUS", "0,1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert take_device() == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [
        name for name in ("prepare/digits", "lenet/c0/dense", "lenet/c0/tickets", "report") if kind_of(name).on_device
    ] == ["lenet/c0/dense"]
    for wrong in ("0,0", "0,,1", "../x", "0 1"):
        monkeypatch.setenv("HARNESS_GPUS", wrong)
        with pytest.raises(HarnessError, match="different ids"):
            take_device()


def test_several_gpus_of_one_allocation_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_GPU_LOCKS", str(tmp_path))
    monkeypatch.setenv("HARNESS_GPUS", "0,1")  # counted from the machine's first, which the allocation need not hold
    taken = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
        taken.append(take_device())
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken[-1]
    assert taken == ["4", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(HarnessError, match=r"GPUs 4,5: none was free for 0\.1 s"):
        take_device(wait=0.1)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a queue's way to say: none
    assert take_device() == ""


@pytest.mark.parametrize("visible", [None, "4,5"])
def test_a_device_by_its_number_is_that_of_the_gpus_which_jobs_share(tmp_path, monkeypatch, visible):
    monkeypatch.setenv("HARNESS_GPU_LOCKS", str(tmp_path))
    monkeypatch.setattr("harness.base.devices._held", [])
    monkeypatch.setenv("HARNESS_GPUS", "4,5")
    monkeypatch.setenv("HARNESS_DEVICE", "cuda:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert take_device() == os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert os.environ["HARNESS_DEVICE"] == "cuda"  # its only one now
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("HARNESS_DEVICE", "cuda:2")
    with pytest.raises(HarnessError, match=r"^HARNESS_DEVICE=cuda:2: .* has 2 GPUs"):
        take_device()
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    assert take_device() == ""


def test_a_scale_whose_rules_ask_for_no_gpu_computes_on_the_cpu(monkeypatch):
    def chosen(scale, device="auto"):
        monkeypatch.setenv("HARNESS_DEVICE", device)
        choose(load_spec(checkout(), "stabilizing-lth", scale))
        return os.environ["HARNESS_DEVICE"]

    assert [chosen(scale) for scale in ("smoke", "mini", "paper")] == ["cpu", "cpu", "auto"]
    assert chosen("mini", "cuda:1") == "cuda:1"
    assert Resources().gpus is None  # a scale without rules


@pytest.mark.parametrize(("device", "gpu"), [("cpu", ""), ("cuda", "Card"), ("auto", "Card"), ("cuda:7", "")])
def test_a_record_names_the_device_that_computed(monkeypatch, device, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr("harness.kernels.available", lambda: "avx2")
    monkeypatch.setenv("HARNESS_DEVICE", device)
    hardware = environment()["hardware"]
    assert (hardware["gpu"], hardware["kernels"]) == (gpu, "torch" if gpu else "avx2")


def test_verify_locks_a_gpu_before_it_trains(monkeypatch):
    order = []
    monkeypatch.setattr("harness.base.devices.take_device", lambda: order.append("lock"))
    monkeypatch.setattr("harness.verify.shared_run.open_run", lambda *_: SimpleNamespace(spec=tiny_spec()))
    monkeypatch.setattr("harness.verify.verify.verify", lambda *_: order.append("verify") or SimpleNamespace(fine=True))
    for sample, expected in ((1, ["lock", "verify"]), (0, ["verify"])):
        order.clear()
        verify(sample=sample, seed=0, paper="stabilizing-lth", scale="mini", results=None)
        assert order == expected


def test_a_lock_that_is_a_link_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_GPU_LOCKS", str(tmp_path))
    monkeypatch.setenv("HARNESS_GPUS", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "0.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(HarnessError, match="can't be opened"):
        take_device()
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_was_given_and_is_not_there_is_an_error(monkeypatch):
    monkeypatch.delenv("HARNESS_DEVICE", raising=False)
    for given in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        check_device()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(HarnessError, match=r"CUDA_VISIBLE_DEVICES=0: PyTorch finds no such GPU.*--nv"):
        check_device()
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    check_device()


def test_a_digest_is_believed_only_inside_an_image(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_IMAGE", DIGEST)
    assert around() == environment()["image"] == ""
    (tmp_path / ".image").touch()
    monkeypatch.setattr("harness.results.environment.MARKER", tmp_path / ".image")
    assert around() == environment()["image"] == DIGEST


@pytest.mark.parametrize(
    ("name", "expected"), [("localhost/lth:cpu", "localhost/lth"), ("localhost:5000/lth:cpu", "localhost:5000/lth")]
)
def test_an_image_without_a_digest_of_a_registry_is_named_by_its_own(tmp_path, name, expected):
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\necho {DIGEST}\n")
    engine.chmod(0o755)
    command = ["bash", checkout() / "envs" / "image.sh", name]
    said = subprocess.run(command, env={**os.environ, "CONTAINER_ENGINE": str(engine)}, capture_output=True, text=True)
    assert said.stdout.strip() == f"{expected}@{DIGEST}"


def test_the_most_particular_entry_counts():
    rules = {"default": {"minutes": 5, "memory_mb": 100}, "dense": {"minutes": 50, "gpu": 1}}
    found = Resources.model_validate({"rules": rules, "experiments": {"lenet": {"default": {"minutes": 7}}}})
    assert found.need("orders").minutes == 5
    assert (found.need("dense").minutes, found.need("dense").gpu) == (50, 1)
    assert (found.need("dense", "lenet").minutes, found.need("dense", "lenet").memory_mb) == (7, 100)


@pytest.mark.parametrize("paper", ["stabilizing-lth", "linear-mode-connectivity"])
@pytest.mark.parametrize("scale", ["smoke", "mini", "wide", "paper"])
def test_the_papers_resources_name_what_there_is(paper, scale):
    spec = load_spec(checkout(), paper, scale)
    found = load_resources(spec.folder, scale)
    data = {setting.data for setting in spec.scale.experiments.values()}
    assert found.rules["default"].minutes
    assert set(found.experiments) <= set(spec.scale.experiments) | data


def test_what_rules_request_and_how_jobs_are_grouped():
    def named(name):
        return SimpleNamespace(name=name)

    mini = jobs(Rules("stabilizing-lth", "mini", "results"))[PLANNED]
    lenet = [stage.name for stage in stages(mini.rules.spec) if stage.name.startswith("lenet/c0/k20")]
    levels = named(next(name for name in lenet if "branches" not in name and "stability" not in name))
    branches = named(next(name for name in lenet if name.endswith("-branches")))
    resnet = [stage.name for stage in stages(mini.rules.spec) if stage.kind == "levels"]
    assert mini.group(levels) == mini.group(branches) == "lenet-c0-k20"
    assert mini.group(named("lenet/c0/k20-stability")) == "lenet-c0-k20"
    assert mini.group(named("lenet/c0/dense")) == "lenet-c0-dense"
    assert mini.group(named("lenet/c0/tickets")) is None
    assert mini.group(named(next(name for name in resnet if name.startswith("resnet20-standard/")))) is None
    assert jobs(Rules("stabilizing-lth", "smoke", "results"))["report"].group(SimpleNamespace()) == "judging"
    assert mini.gpu(levels) is None
    assert mini.memory(levels, 2) == mini.memory(levels, 6) == 2 * mini.memory(levels, 1)
    paper = jobs(Rules("stabilizing-lth", "paper", "results"))[PLANNED]
    assert paper.gpu(named("lenet/c0/dense")) == 1
    assert paper.threads(named("prepare/imagenet")) == 16


def test_a_job_that_processes_share_requests_a_core_and_memory_for_each():
    level = SimpleNamespace(name="lenet/c0/k20-L1-5")
    alone, shared = (
        jobs(Rules("stabilizing-lth", "mini", "results", processes))[PLANNED]
        for processes in ({}, {"lenet/c0/k20-L1-5": 3})
    )
    assert (alone.threads(level), shared.threads(level)) == (1, 3)
    assert shared.memory(level, 1) == 3 * alone.memory(level, 1)
    assert shared.threads(SimpleNamespace(name="lenet/c0/dense")) == 1
    assert jobs(shared.rules)["report"].threads(SimpleNamespace()) == 1


@pytest.mark.parametrize("value", ["3", {"lenet/c0/dense": "3"}, {"lenet/c0/dense": 0}, {"lenet/c0/dense": True}])
def test_processes_that_are_not_numbers_by_stage_are_refused(value):
    with pytest.raises(HarnessError, match=r"^--config processes: .* is not a number of processes by stage"):
        processes_of({"processes": value})


def test_a_wrong_entry_is_one_line(tmp_path):
    (tmp_path / "resources.yaml").write_text("mini: {rules: {default: {hours: 3}}}")
    with pytest.raises(HarnessError, match=r"resources.yaml: mini.rules.default.hours: unknown field"):
        load_resources(tmp_path, "mini")
    assert load_resources(tmp_path / "none", "mini") == Resources()


DIGEST = "sha256:" + "ab" * 32


def test_an_image_is_named_by_its_digest(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_REQUIRE_IMAGE", raising=False)
    assert digest_of(f"docker://lth@{DIGEST}") == DIGEST
    file = tmp_path / "lth.sif"
    file.write_bytes(b"abc")
    assert digest_of(str(file)) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(HarnessError, match="has no digest"):
        digest_of("docker://lth:latest")
    for name in ("HARNESS_IMAGE", "APPTAINER_BIND"):
        monkeypatch.setenv(name, "")
    with pytest.raises(HarnessError, match="without an image"):
        enter({}, ["apptainer"], "results")
    assert enter({"image": f"docker://lth@{DIGEST}"}, ["apptainer"], "/r") == f"docker://lth@{DIGEST}"
    assert (os.environ["HARNESS_IMAGE"], os.environ["APPTAINER_BIND"]) == (DIGEST, "/r")
    assert enter({"image": "docker://lth:latest"}, [], "results") is None


def test_a_demanded_image_is_the_only_one(monkeypatch):
    monkeypatch.setenv("HARNESS_REQUIRE_IMAGE", f"lth@{DIGEST}")
    check_required(DIGEST)
    for other in ("", DIGEST.replace("ab", "cd")):
        with pytest.raises(HarnessError, match="Start it in the required image"):
            check_required(other)
    monkeypatch.setenv("HARNESS_REQUIRE_IMAGE", "latest")
    with pytest.raises(HarnessError, match="not a digest"):
        check_required(DIGEST)


def test_a_volumes_outputs_are_copied_to_where_the_engine_wants_them(tmp_path):
    kept = tmp_path / "volume" / "smoke" / "stages"
    kept.mkdir(parents=True)
    (kept / "a.json").write_text("made")
    wanted = tmp_path / "s3" / "bucket" / "results" / "smoke" / "stages" / "a.json"
    wanted.parent.mkdir(parents=True)
    command = "true" + delivery("results/smoke", str(tmp_path / "volume"))
    # what the engine's formatting leaves
    command = command.replace("{{", "{").replace("}}", "}").replace("{output:q}", str(wanted))
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True)
    assert wanted.read_text() == "made"
    assert delivery("results/smoke", "") == ""


def test_a_profile_is_left_what_it_sets(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_GPUS", raising=False)
    root = checkout()
    assert _options(root, "", 3)[:2] == ["--cores", "3"]
    assert _options(root, "local", 3) == [
        *("--workflow-profile", str(root / "envs" / "profiles" / "local")),
        *("--cores", "3"),
    ]
    assert "--cores" not in _options(root, "slurm", 3)
    (tmp_path / "config.yaml").write_text("jobs: 5")
    assert _options(root, str(tmp_path), 3) == ["--workflow-profile", str(tmp_path)]
    monkeypatch.setenv("HARNESS_GPUS", "0,1,2")
    assert _options(root, "local", 3)[-2:] == ["--resources", "gpu=3"]
    assert "gpu=3" not in _options(root, "slurm", 3)  # a cluster has others
    with pytest.raises(HarnessError, match=r"--profile kubernetes: .* docs/guides/kubernetes\.md has the line to run"):
        _options(root, "kubernetes", 3)
    with pytest.raises(HarnessError, match="one of container, kubernetes, local, slurm"):
        _options(root, "slrum", 3)
