"""The image: what is in it, what is not, and that a sealed run in it gives the plain run's numbers."""

import re

import pytest

from harness.base.files import read_json
from tests.containers.conftest import BASE, ROOT, RUN, SCALE, Finished, assert_same, attempt, call

pytestmark = pytest.mark.containers


def inside(image: str, *command: str) -> str:
    sealed = ["--network", "none", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    return call("podman", "run", "--rm", *sealed, "--entrypoint", "", image, *command).strip()


def test_it_is_labelled_and_says_what_it_was_built_from(image, facts):
    labels = facts["Labels"]
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.base.name"] == BASE
    base = call("podman", "image", "inspect", "--format", "{{.Digest}}", BASE).strip()
    assert labels["org.opencontainers.image.base.digest"] == base
    assert facts["Config"]["Entrypoint"] == ["harness"]
    assert image.endswith(facts["Digest"])
    assert facts["Size"] < 2.6e9


def test_it_runs_as_no_root_and_has_no_compiler(image):
    assert inside(image, "id", "-u") == "1000"
    assert inside(image, "sh", "-c", "command -v cc gcc clang c++ g++ zig ld || echo none") == "none"
    look = "import importlib.util as u; print(u.find_spec('ziglang'), u.find_spec('torchvision'))"
    assert inside(image, "python", "-c", look) == "None None"
    assert inside(image, "sh", "-c", "ls /opt/harness/harness/kernels/*.so").split() == [
        "/opt/harness/harness/kernels/kernels-avx2.so",
        "/opt/harness/harness/kernels/kernels-avx512.so",
    ]


def test_it_holds_what_the_lock_says(image):
    """Names and versions, nothing else, and each with a hash."""
    lines = (ROOT / "envs" / "lock-cpu.txt").read_text().splitlines()[1:]
    locked = dict(re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups() for line in lines)
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    found = dict(one.split("==") for one in inside(image, "python", "-c", code).split())
    plain = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
    for own in ("lth-harness", "pip", "wheel"):
        plain.pop(own, None)
    assert plain == {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in locked.items()}


@pytest.fixture(scope="module")
def sealed(image, tmp_path_factory) -> Finished:
    results = tmp_path_factory.mktemp("sealed")
    command = ("bash", ROOT / "envs" / "run.sh", image, results)
    call(*command, "reproduce", "--scale", SCALE, "--cores", "2", HARNESS_REQUIRE_IMAGE=image)
    return Finished(results / RUN)


def test_a_sealed_run_gives_the_plain_runs_numbers(sealed, plain):
    assert_same(sealed, plain)


def test_each_stage_records_the_image(sealed, plain, image):
    assert {stage["image"] for stage in sealed.stages()} == {image.partition("@")[2]}
    assert {stage["image"] for stage in plain.stages()} == {""}


def test_again_there_is_nothing_to_do(sealed, image):
    before = {path: path.stat().st_mtime_ns for path in sealed.base.rglob("*.safetensors")}
    said = call("bash", ROOT / "envs" / "run.sh", image, sealed.base.parents[1], "reproduce", "--scale", SCALE)
    assert "running again" not in said
    assert {path: path.stat().st_mtime_ns for path in sealed.base.rglob("*.safetensors")} == before
    assert "Nothing to be done" in (sealed.base / "logs" / "workflow.log").read_text()


def test_another_image_than_the_one_demanded_is_refused(image, tmp_path):
    wanted = "sha256:" + "0" * 64
    command = ("bash", ROOT / "envs" / "run.sh", image, tmp_path)
    result = attempt(*command, "reproduce", "--scale", SCALE, HARNESS_REQUIRE_IMAGE=wanted)
    log = (tmp_path / RUN / "logs" / "workflow.log").read_text()
    assert result.returncode == 1
    assert f"HARNESS_REQUIRE_IMAGE={wanted}: this run is in {image.partition('@')[2]}" in log
    assert not (tmp_path / RUN / "runs").exists()


def test_the_card_names_the_images(sealed):
    card = read_json(sealed.base / "card.json")
    assert card["images"] == sorted({stage["image"] for stage in sealed.stages()})
