"""What a person sees while a run goes on, from hand-made heartbeats and records."""

import io
import itertools
import json
import os
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.base.files import write_json
from harness.base.words import disk, duration
from harness.plan.courses import steps_of
from harness.plan.runs import all_runs, stages
from harness.results.folders import Folders
from harness.results.heartbeats import Heartbeat, clear_heartbeats, heartbeat_path
from harness.workflow import live
from harness.workflow.live import Progress, Watcher, finished_line, line, watch
from tests.tiny import tiny_spec

# the tiny scale by hand: 15 networks a replicate, two replicates; 30 steps each less k
NETWORKS, STEPS = 30, 2 * (30 + 30 + 25 + 6 * 30 + 6 * 25)
COST, CORES = 2.0, 2


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=5000.0)

    def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def beat(folders, name, done, steps, accuracy=None, running="", now=5000.0):
    path = heartbeat_path(folders.progress, f"lenet/c0/{name}")
    Heartbeat(path, f"lenet/c0/{name}", 0, done, steps, running=running, accuracy=accuracy).beat(now=True)
    path.write_text(json.dumps({**json.loads(path.read_text()), "time": now}))


def finish(folders, name):
    write_json(folders.stage(f"lenet/c0/{name}"), {})


def watcher(folders, cost=COST):
    spec = tiny_spec()
    return Watcher(spec, folders, {run: cost * steps_of(spec, run) for run in all_runs(spec)}, CORES)


def test_nothing_done_takes_what_the_calibration_says(folders, clock):
    now = watcher(folders).look()
    assert (now.networks, now.done) == (NETWORKS, 0)
    assert now.left_seconds == pytest.approx(STEPS * COST / CORES)
    assert (now.rate, now.accuracy, now.running) == (0, None, [])


def test_networks_done_are_those_of_finished_stages_and_of_heartbeats_each_once(folders, clock):
    watching = watcher(folders)
    beat(folders, "dense", 2, 60)
    beat(folders, "k0-L2-branches", 3, 100, running="lenet/r0/k0/L2-random_prune-o0 and 1 more")
    assert watching.look().done == 2 + 3
    finish(folders, "dense")
    now = watching.look()
    assert now.done == 2 + 3
    assert now.running == ["lenet/r0/k0/L2-random_prune-o0 and 1 more"]


def test_the_processes_that_share_a_stage_count_together(folders, clock):
    watching = watcher(folders)
    for part, done in (("17", 1), ("18", 2)):
        path = heartbeat_path(folders.progress, "lenet/c0/k0-L2-branches", part)
        Heartbeat(path, "lenet/c0/k0-L2-branches", 8, done, 30 * done, running=f"part {part}").beat(now=True)
    clock.now += 10
    now = watching.look()
    assert (now.done, now.rate, now.running) == (3, 9.0, ["part 17", "part 18"])


def test_the_heartbeats_of_one_stage_are_cleared_alone(folders):
    beat(folders, "k0-L1-2", 1, 30)
    beat(folders, "k0-L1-25", 1, 30)
    Heartbeat(heartbeat_path(folders.progress, "lenet/c0/k0-L1-2", "17"), "lenet/c0/k0-L1-2", 1).beat(now=True)
    clear_heartbeats(folders.progress, "lenet/c0/k0-L1-2")
    assert [path.name for path in folders.progress.iterdir()] == ["lenet.c0.k0-L1-25.json"]
    clear_heartbeats(folders.progress)
    assert not list(folders.progress.iterdir())


def test_a_stage_finished_in_an_earlier_run_counts_as_done_and_not_as_speed(folders, clock):
    finish(folders, "dense")
    watching = watcher(folders)
    clock.now += 10
    now = watching.look()
    assert (now.done, now.rate) == (2, 0)
    beat(folders, "orders", 1, 40)
    assert watching.look().rate == pytest.approx(4.0)


def test_time_left_is_exact_when_the_machine_is_as_fast_as_calibrated(folders, clock):
    watching = watcher(folders)
    for seconds, steps in ((15, 15), (30, 30), (60, 60)):  # two cores, two seconds a step: one step a second
        clock.now = 5000.0 + seconds
        beat(folders, "dense", 0, steps)
        assert watching.look().left_seconds == pytest.approx(STEPS - steps)


def test_time_left_falls_while_steps_are_made_and_ends_at_nothing(folders, clock):
    watching = watcher(folders)
    left = [watching.look().left_seconds]
    for stage in stages(tiny_spec()):
        name, steps = stage.name.removeprefix("lenet/c0/"), watching.steps[stage.name][-1]
        for part in (0.5, 1.0):
            clock.now += steps * COST / CORES / 2
            beat(folders, name, 0, round(steps * part))
            left.append(watching.look().left_seconds)
        finish(folders, name)
    assert all(later <= earlier for earlier, later in itertools.pairwise(left))
    assert left[-1] == pytest.approx(0, abs=1e-6)
    now = watching.look()
    assert (now.done, now.left_seconds) == (NETWORKS, 0)


def test_a_machine_at_half_the_calibrated_speed_doubles_the_time_left_in_the_end(folders, clock):
    watching = watcher(folders, cost=2000.0)
    clock.now += 300_000.0
    beat(folders, "k0-L2-branches", 0, 150)  # calibrated: 300
    assert watching.look().left_seconds == pytest.approx(2 * (STEPS - 150) * 1000.0, rel=0.01)


def test_the_steps_of_sparse_networks_weigh_less(folders, clock):
    """The seconds of a level's step are halved at each level; IMP's stage trains level 1 and then 2, 60 steps each."""
    spec = tiny_spec()
    cost = {run: COST / 2**run.level * steps_of(spec, run) for run in all_runs(spec)}
    whole = sum(cost.values())
    for found, steps, before, own in (
        (0, 30, 0.0, 30 * 1.0),  # half of level 1
        (0, 90, 0.0, 60 * 1.0 + 30 * 0.5),  # all of it and half of level 2
        (60, 30, 60 * 1.0, 30 * 0.5),  # an earlier process trained level 1
    ):
        watching = Watcher(spec, folders, cost, CORES)
        clock.now += own / CORES  # as fast as calibrated, so the time left is exact
        path = heartbeat_path(folders.progress, "lenet/c0/k0-L1-2")
        Heartbeat(path, "lenet/c0/k0-L1-2", 4, 0, steps, found).beat(now=True)
        assert watching.look().left_seconds == pytest.approx((whole - before - own) / CORES)


def test_the_processes_that_share_a_stage_are_at_the_same_level(folders, clock):
    spec = tiny_spec()
    cost = {run: COST / 2**run.level * steps_of(spec, run) for run in all_runs(spec)}
    watching = Watcher(spec, folders, cost, CORES)
    for part in ("17", "18"):  # each a replicate: level 1, and 10 steps of level 2
        path = heartbeat_path(folders.progress, "lenet/c0/k0-L1-2", part)
        Heartbeat(path, "lenet/c0/k0-L1-2", 2, 1, 40).beat(now=True)
    done = 60 * 1.0 + 20 * 0.5
    clock.now += done / CORES
    assert watching.look().left_seconds == pytest.approx((sum(cost.values()) - done) / CORES)


def test_the_latest_accuracy_is_the_one_written_last(folders, clock):
    watching = watcher(folders)
    beat(folders, "orders", 1, 10, accuracy=80.0, now=5003.0)
    beat(folders, "dense", 1, 10, accuracy=90.0, now=5002.0)
    beat(folders, "k0-L2-branches", 0, 10, accuracy=None, now=5009.0)
    assert watching.look().accuracy == 80.0
    beat(folders, "dense", 2, 20, accuracy=92.0, now=5004.0)
    assert watching.look().accuracy == 92.0


def test_broken_and_strange_heartbeats_are_passed_over(folders, clock):
    watching = watcher(folders)
    beat(folders, "dense", 1, 30)
    (folders.progress / "half.json").write_text('{"stage": "lenet/c0/ord')
    (folders.progress / "other.json").write_text('{"stage": "of another scale", "steps": 9}')
    now = watching.look()
    assert now.done == 1
    clock.now += 10
    assert watching.look().rate == pytest.approx(3.0)


def test_what_the_preparation_of_a_data_set_last_told_is_shown_until_it_is_done(folders, clock):
    log = folders.logs / "prepare" / "digits.log"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier run\n")
    os.utime(log, (1, 1))
    watching = watcher(folders)
    assert watching.look().preparing == []
    log.write_text("first line\ndata set digits: [12] of 60 pictures converted\n")
    assert watching.look().preparing == ["data set digits: [12] of 60 pictures converted"]
    assert line(watching.look()).endswith("left, data set digits: [12] of 60 pictures converted")
    out = io.StringIO()
    watch(ending_after(clock, 35, 0), watching, Console(file=out, width=40, highlight=False))
    assert "[12] of 60" in out.getvalue()
    write_json(folders.stage("prepare/digits"), {})
    assert watching.look().preparing == []


def progress(**changes):
    made = Progress(30, 4, 1234.5, 45.0, 125.0, (3, 9), 91.26, ["lenet/r0/k0/L1-imp-o0"])
    return Progress(**{**made.__dict__, **changes})


def test_the_line_is_plain_text():
    assert line(progress()) == (
        "trainings 4 of 30, stages 3 of 9, 45 s passed, 2 min 05 s left, 1,234 steps/s, latest test accuracy 91.3%"
    )
    assert (
        line(progress(accuracy=None)) == "trainings 4 of 30, stages 3 of 9, 45 s passed, 2 min 05 s left, 1,234 steps/s"
    )
    assert line(progress(done=30, running=[], left_seconds=0)).endswith(
        "0 s left, latest test accuracy 91.3%, comparing, judging"
    )
    assert "comparing" not in line(progress(running=[]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-1e-9, "0 s"),
        (44.6, "45 s"),
        (89, "89 s"),
        (90, "1 min 30 s"),
        (725, "12 min"),
        (3599, "1 h 00 min"),
        (3840, "1 h 04 min"),
        (90_000, "25 h 00 min"),
        (172_769, "47 h 59 min"),
        (172_770, "2 days 0 h"),
        (18 * 86_400 + 4 * 3600, "18 days 4 h"),
        (364.9 * 86_400, "364 days 22 h"),
        (3.2 * 365.25 * 86_400, "3.2 years"),
        (1234.56 * 365.25 * 86_400, "1,234.6 years"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 MB"),
        (3e5, "0 MB"),
        (3.5e8, "350 MB"),
        (9.99e8, "999 MB"),
        (9.996e8, "1.0 GB"),
        (1.23e9, "1.2 GB"),
        (3.49e11, "349 GB"),
        (1.13e12, "1.1 TB"),
        (2.4e13, "24 TB"),
    ],
)
def test_sizes_on_disk(size, text):
    assert disk(size) == text


def ending_after(clock, seconds, status):
    end = clock.now + seconds
    return SimpleNamespace(poll=lambda: None if clock.now < end else status, returncode=status)


def test_a_log_gets_a_plain_line_every_half_minute_and_the_status_comes_back(folders, clock):
    out = io.StringIO()
    status = watch(ending_after(clock, 95, 3), watcher(folders), Console(file=out, width=40, highlight=False))
    assert status == 3
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"trainings 0 of 30, stages 0 of \d+, .* passed, .* left", text) for text in lines)


def test_a_terminal_shows_the_share_and_what_trains(folders, clock):
    beat(folders, "dense", 1, 30, accuracy=88.0, running="lenet/r0/k0/L0-dense-o0 and 1 more")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, color_system=None)
    assert watch(ending_after(clock, 2, 0), watcher(folders), console) == 0
    for text in (" 3% ", "trainings 1 of 30", "lenet/r0/k0/L0-dense-o0 and 1 more", "88.0%"):
        assert text in out.getvalue()


def test_the_closing_line_is_that_of_the_provenance(folders):
    facts = {"wall_clock_seconds": 7500.0, "training_share": 0.954, "network_core_seconds": 600.0}
    write_json(folders.provenance, facts)
    text = finished_line(folders)
    assert re.search(r"\b2 h 05 min of wall clock, 95% of", text)
    assert "the networks took 10 min to train, added up over jobs" in text  # as older versions recorded it
    write_json(folders.provenance, {**facts, "cpu_seconds": 840.0})
    assert "in training; the stages took 14 min of CPU time, added up over jobs" in finished_line(folders)
