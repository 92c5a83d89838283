"""Heartbeats: written seldom, read whatever they hold, true to what a stage does; and one-shot pruning end to end."""

import json
from types import SimpleNamespace

import pytest
import torch

from harness.base.files import read_json
from harness.plan.runs import Run, dense_run, find_stage, stages
from harness.results import heartbeats as progress
from harness.results.context import Context
from harness.results.heartbeats import Heartbeat, heartbeat_path, read_heartbeats
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context

ONE_SHOT = {"fraction": 0.36, "style": "one_shot"}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def test_a_heartbeat_is_written_at_most_once_a_second_unless_asked_for(tmp_path, clock):
    beat = Heartbeat(tmp_path / "x.json", "lenet/c0/dense", 2)

    def written(steps, now=False):
        beat.steps = steps
        beat.beat(now=now)
        return read_json(beat.path)["steps"]

    assert written(1) == 1  # the first at once
    clock.now += 0.9
    assert written(2) == 1
    clock.now += 0.2
    assert written(3) == 3
    clock.now += 0.1
    assert written(4, now=True) == 4
    clock.now += 0.95  # a second counts from the last writing, asked for or not
    assert written(5) == 4
    clock.now += 0.1
    assert written(6) == 6


def test_a_heartbeat_says_what_it_was_told(tmp_path, clock):
    path = heartbeat_path(tmp_path, "lenet/c0/k5-L1-2")
    assert path.parent == tmp_path
    beat = Heartbeat(path, "lenet/c0/k5-L1-2", 4, done=2, steps=60, running="lenet/r0", accuracy=91.5, started=990.0)
    beat.beat()
    assert read_heartbeats(tmp_path) == [
        {
            "stage": "lenet/c0/k5-L1-2",
            "networks": 4,
            "done": 2,
            "steps": 60,
            "found_steps": 0,
            "running": "lenet/r0",
            "accuracy": 91.5,
            "started": 990.0,
            "time": 1000.0,
        }
    ]


def test_two_stages_never_share_a_heartbeat(tmp_path, finished):
    names = [stage.name for stage in stages(finished.spec)]
    assert len({heartbeat_path(tmp_path, name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "content", [b"", b'{"stage": "x", "do', b"\x00\x00", b"\xff\xfe", b"[1, 2]", b"7", b'{"stage": "x"}']
)
def test_a_broken_heartbeat_is_passed_over(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "b.json").mkdir()
    (tmp_path / ".c.json.77.part").write_text('{"stage": "half"')
    Heartbeat(tmp_path / "d.json", "whole", 3).beat()
    whole = json.loads((tmp_path / "d.json").read_text())
    for name, value in {"steps": "7", "time": None, "running": 3}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**whole, name: value}))
    assert read_heartbeats(tmp_path) == [whole]


def test_no_folder_has_no_heartbeats(tmp_path):
    assert read_heartbeats(tmp_path / "none") == []


def test_a_stage_leaves_a_heartbeat_that_agrees_with_its_plan(finished):
    beats = {beat["stage"]: beat for beat in read_heartbeats(finished.folders.progress)}
    # by hand: networks and steps of two replicates, 30 steps less k each
    expected = {
        "dense": (2, 2 * 30),
        "orders": (4, 2 * (30 + 25)),
        "k0-L1-2": (4, 4 * 30),
        "k5-L1-2": (4, 4 * 25),
        "k0-L2-branches": (8, 8 * 30),
        "k5-L2-branches": (8, 8 * 25),
    }
    assert sorted(beats) == sorted(f"lenet/c0/{name}" for name in expected)
    for name, (networks, steps) in expected.items():
        beat = beats[f"lenet/c0/{name}"]
        assert (beat["networks"], beat["done"], beat["steps"]) == (networks, networks, steps)
        assert 0 < beat["accuracy"] < 100


@pytest.fixture(scope="module")
def one_shot(tmp_path_factory) -> Context:
    context = tiny_context(tmp_path_factory.mktemp("one-shot"), pruning=ONE_SHOT)
    for name in ("dense", "k5-L1-2", "k5-L2-branches"):
        run_stage(context.spec, context.folders, find_stage(context.spec, f"lenet/c0/{name}").name, 1)
    return context


def final_and_masks(context: Context, run: Run) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return context.store.load_part(run.id, "final/weights/"), context.store.load_part(run.id, "mask/")


@pytest.mark.parametrize("replicate", [0, 1])
@pytest.mark.parametrize("level", [1, 2])
def test_one_shot_masks_are_the_dense_runs_largest_final_weights_at_every_level(one_shot, replicate, level):
    dense, none = final_and_masks(one_shot, dense_run("lenet", replicate))
    assert not none
    _, masks = final_and_masks(one_shot, Run("lenet", replicate, 5, level, "imp", 0))
    keep = round(50_200 * 0.64**level)
    flat = torch.cat([dense[name].abs().flatten() for name in masks]).tolist()
    largest = set(sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:keep])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert set(kept.nonzero().flatten().tolist()) == largest


def test_one_shot_and_iterative_masks_agree_at_level_one_alone(one_shot, finished):
    for level, same in ((1, True), (2, False)):
        run = Run("lenet", 0, 5, level, "imp", 0)
        (_, once), (_, step_by_step) = final_and_masks(one_shot, run), final_and_masks(finished, run)
        assert all(torch.equal(once[name], step_by_step[name]) for name in once) == same
        assert sum(int(mask.sum()) for mask in once.values()) == sum(int(mask.sum()) for mask in step_by_step.values())


def test_one_shot_branches_use_the_one_shot_mask(one_shot):
    _, imp = final_and_masks(one_shot, Run("lenet", 1, 5, 2, "imp", 0))
    for run in (Run("lenet", 1, 5, 2, "imp", 1), Run("lenet", 1, 5, 2, "random_reinit", 0)):
        final, masks = final_and_masks(one_shot, run)
        for name, mask in masks.items():
            assert torch.equal(mask, imp[name])
            assert not final[name][mask == 0].any()
