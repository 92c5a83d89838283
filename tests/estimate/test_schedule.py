"""The wall clock on some cores: against hand counts, and what no schedule can beat."""

import random

import pytest

from harness.base.files import write_json
from harness.base.paths import checkout
from harness.estimate import timing
from harness.estimate.costs import Plan
from harness.estimate.schedule import START_SECONDS, Jobs
from harness.paper import load_spec
from harness.plan.cut import cut
from harness.plan.kinds import WHOLE
from harness.plan.needs import selected
from harness.plan.runs import stages
from harness.results.folders import Folders
from tests.tiny import tiny_spec

STEP = {"lenet": 0.5e-3, "resnet20": 2.0e-3}  # seconds of a network's step in the mini scale on an idle core, rounded


@pytest.fixture(autouse=True)
def rounded(monkeypatch):
    monkeypatch.setattr(
        timing, "step_seconds", lambda _, name, *__: timing.Timing(STEP[name.partition("-")[0]], 60, 1e-6)
    )


def chain(*jobs):
    """Jobs by name: (seconds by cores, what they wait for)."""
    return Jobs({name: before for name, _, before in jobs}, {name: seconds for name, seconds, _ in jobs})


def test_by_hand():
    """a (3 s) then c (4 s); b (2 s) and d (5 s) wait for nothing: on one core 14 s, on two 7 s, on three 7 s."""
    jobs = chain(("a", {1: 3.0}, []), ("b", {1: 2.0}, []), ("c", {1: 4.0}, ["a"]), ("d", {1: 5.0}, []))
    assert [jobs.wall_clock(jobs.narrow, cores) for cores in (1, 2, 3)] == [14.0, 7.0, 7.0]
    assert [jobs.shortest(cores) for cores in (1, 2, 3)] == [14.0, 7.0, 7.0]


def test_a_wide_job_waits_until_its_cores_are_free():
    jobs = chain(("a", {2: 3.0}, []), ("b", {1: 4.0}, []), ("c", {1: 1.0}, []))
    assert jobs.wall_clock({"a": 2, "b": 1, "c": 1}, 2) == 7.0  # b and c first: the longest way to the end goes first
    assert jobs.wall_clock({"a": 2, "b": 1, "c": 1}, 3) == 4.0


def test_a_lone_chain_is_widened_and_enough_jobs_are_not():
    options = {1: 10.0, 2: 6.0}
    lone = chain(("lenet/c0/dense", options, []), ("lenet/c0/k0-L1-5", options, ["lenet/c0/dense"]))
    assert set(lone.widths(2).values()) == {2}
    assert set(lone.widths(1).values()) == {1}
    many = chain(*((f"lenet/c{n}/dense", options, []) for n in range(2)))
    assert set(many.widths(2).values()) == {1}


def test_no_schedule_is_under_the_shortest_or_over_that_of_narrow_jobs():
    draw = random.Random(5)
    for _ in range(30):
        names = [f"x{draw.randrange(4)}-/c{n}/{draw.choice(['dense', 'orders'])}" for n in range(12)]
        jobs = chain(
            *(
                (name, {1: (s := draw.uniform(1, 9)), 3: s / 2, 5: s / 4}, draw.sample(names[:n], min(n, 2)))
                for n, name in enumerate(names)
            )
        )
        for cores in (1, 2, 5, 8):
            widths = jobs.widths(cores)
            assert max(widths.values()) <= cores
            time = jobs.wall_clock(widths, cores)
            assert jobs.shortest(cores) * (1 - 1e-9) <= time <= jobs.wall_clock(jobs.narrow, cores)
            assert jobs.widths(cores) == widths


def test_every_stage_and_its_start_count_once(tmp_path):
    spec = tiny_spec()
    jobs = Plan(spec, Folders(tmp_path)).jobs(1)
    assert set(jobs.inputs) == {"prepare/digits", *(stage.name for stage in stages(spec)), *WHOLE}
    plan = Plan(spec, Folders(tmp_path))
    work = plan.prices.total(plan.owners.keys())
    assert jobs.wall_clock(jobs.narrow, 1) == pytest.approx(work + START_SECONDS * len(jobs.inputs))


def test_a_finished_stage_counts_as_long_as_it_took_on_its_cores_if_it_trained_everything(tmp_path):
    spec, folders = tiny_spec(replicates=4, replicates_per_job=4), Folders(tmp_path)
    dense = stages(spec)[0]
    record = {"seconds": 100.0, "threads": 1, "steps": 4 * 30}
    for change, known in (({}, True), ({"steps": 3 * 30}, False), ({"threads": 0}, False), ({"seconds": "x"}, False)):
        write_json(folders.stage(dense.name), {**record, **change})
        seconds = Plan(spec, folders).jobs(8).seconds[dense.name]
        assert (seconds[1] == 100.0 + START_SECONDS) == known
    write_json(folders.stage(dense.name), {**record, "threads": 2})
    by_two = Plan(spec, folders).jobs(8).seconds[dense.name]
    assert by_two[2] == pytest.approx(100.0 + START_SECONDS)
    share = cut(spec, dense, 4).weight / cut(spec, dense, 2).weight
    assert by_two[4] == pytest.approx(100.0 * share + START_SECONDS)
    assert Plan(spec, folders).jobs(8, left=True).seconds[dense.name] == {1: 0.0}


def speed_up(spec, folders, cores):
    """Of the plan on these cores, with its jobs as the scale has them and shared, against one core."""
    plan = Plan(spec, folders)
    one, jobs = plan.jobs(1), plan.jobs(cores)
    alone = one.wall_clock(one.narrow, 1)
    return [alone / jobs.wall_clock(widths, cores) for widths in (jobs.narrow, jobs.widths(cores))]


def test_the_mini_scale_uses_many_cores_and_two_as_before(tmp_path):
    spec, folders = load_spec(checkout(), "stabilizing-lth", "mini"), Folders(tmp_path)
    expected = {2: 1.95, 8: 7.0, 16: 11, 32: 17}
    found = {cores: speed_up(spec, folders, cores) for cores in expected}
    assert found[2][0] == found[2][1]
    for cores, least in expected.items():
        assert found[cores][1] >= least, found
    assert found[32][0] < 8  # what the scale's own jobs allow: one for a stack


def test_claims_about_one_chain_use_both_cores(tmp_path):
    spec = selected(load_spec(checkout(), "stabilizing-lth", "paper"), ["C1", "C2", "C3", "C4"])
    before, after = speed_up(spec, Folders(tmp_path), 2)
    assert before < 1.1
    assert after > 1.5
