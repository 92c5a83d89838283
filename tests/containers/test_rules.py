"""The workflow's container path: every rule in a container of its own, by the image's digest."""

import json
import os
import sys

import pytest

from tests.containers.conftest import HERE, RUN, SCALE, Finished, assert_same, attempt, copy_checkout, harness

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def contained(image, tmp_path_factory) -> tuple[Finished, list[dict]]:
    """A run through `harness reproduce` with the profile `container`, and what was called in containers."""
    place = tmp_path_factory.mktemp("contained")
    folder, log = copy_checkout(place / "checkout"), place / "calls"
    variables = stand_in(log) | {"HARNESS_PROFILE": "container", "HARNESS_CONTAINER": f"docker://{image}"}
    harness(folder, "reproduce", "--scale", SCALE, "--cores", "2", **variables)
    return Finished(folder / "results" / RUN), [json.loads(line) for line in log.read_text().splitlines()]


def stand_in(log) -> dict[str, str]:
    return {"PATH": f"{HERE}:{os.environ['PATH']}", "APPTAINER_LOG": str(log)}


def test_containers_give_the_plain_runs_numbers(contained, plain):
    assert_same(contained[0], plain)


def test_each_stage_ran_in_a_container_of_its_own(contained, facts, image):
    finished, calls = contained
    assert {call["image"] for call in calls} == {facts["Id"]}
    stages = [stage["stage"] for stage in finished.stages()]
    commands = [" ".join(call["command"]) for call in calls]
    for name in [*stages, "collect", "claims", "report"]:
        assert sum(f"harness stage {name} " in command for command in commands) == 1
    assert {stage["image"] for stage in finished.stages()} == {image.partition("@")[2]}


def test_without_being_asked_there_are_no_containers(contained, image):
    finished, calls = contained
    root = finished.base.parents[1]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--forceall", "--printshellcmds"]
    result = attempt(*command, "--config", f"scale={SCALE}", f"image=docker://{image}", cwd=root, PATH="/usr/bin:/bin")
    assert result.returncode == 0, result.stderr
    assert len(calls) == len((finished.base.parents[2] / "calls").read_text().splitlines())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["image=docker://localhost/lth-harness:cpu"], "has no digest"),
        ([], "containers are requested without an image"),
    ],
)
def test_an_image_must_be_named_by_its_digest(contained, settings, message, tmp_path):
    root = contained[0].base.parents[1]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--config", f"scale={SCALE}", *settings]
    result = attempt(*command, "--software-deployment-method", "apptainer", cwd=root, **stand_in(tmp_path / "log"))
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
