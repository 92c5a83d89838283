"""How a stage's work is cut among processes: against a simulation of the processes, and what any cut must hold."""

from dataclasses import replace

import pytest

from harness.base.paths import checkout
from harness.paper import load_spec
from harness.plan.cut import PER_STACK, cut, is_chain
from harness.plan.runs import pairs, stacks, stages
from tests.tiny import tiny_spec

ONE_SHOT = {"style": "one_shot", "densities": [0.6, 0.4, 0.2]}


def simulated(spec, stage, made):
    """The trainings of the busiest process when each takes the next that is ready, first come first served."""
    length = len(pairs(spec, stage) if stage.kind == "stability" else stacks(spec, stage))
    chain = is_chain(spec, stage)
    queue = [(0, part) for part in made.parts] if chain else [(i, part) for i in range(length) for part in made.parts]
    turns = 0
    while queue:
        taken, queue, turns = queue[: made.workers], queue[made.workers :], turns + 1
        queue += [(index + 1, part) for index, part in taken if chain and index + 1 < length]
    return turns


@pytest.mark.parametrize("replicates", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("pruning", [{"fraction": 0.36}, ONE_SHOT])
def test_the_rounds_of_a_cut_are_those_that_its_processes_take(replicates, pruning):
    spec = tiny_spec(
        replicates=replicates,
        replicates_per_job=9,
        levels_per_job=3,
        pruning=pruning,
        sweeps=[{"k": [0], "levels": 3, "at": {3: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}],
    )
    for stage in stages(spec):
        if stage.kind == "tickets":
            continue
        for processes in range(1, 13):
            made = cut(spec, stage, processes)
            assert tuple(sorted(r for part in made.parts for r in part)) == stage.replicates
            sizes = {len(part) for part in made.parts}
            assert max(sizes) - min(sizes) <= 1
            assert 1 <= made.workers <= processes
            assert made.rounds == simulated(spec, stage, made), (stage.name, processes)


def test_one_process_has_the_whole_stack_and_more_processes_are_never_slower():
    for paper in ("stabilizing-lth", "linear-mode-connectivity"):
        spec = load_spec(checkout(), paper, "mini")
        for stage in (stage for stage in stages(spec) if stage.kind != "tickets"):
            weights = [cut(spec, stage, processes).weight for processes in range(1, 33)]
            assert cut(spec, stage, 1).parts == (stage.replicates,)
            assert weights == sorted(weights, reverse=True), stage.name


def test_by_hand():
    """Three replicates and two processes: five levels of a chain, three alone, are eight rounds of one and not five of
    two; four separate stacks are six."""
    spec = tiny_spec(
        replicates=3,
        replicates_per_job=3,
        levels_per_job=5,
        sweeps=[{"k": [0], "levels": 5, "at": {5: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}],
    )
    by_kind = {stage.kind: stage for stage in stages(spec)}
    levels, branches = cut(spec, by_kind["levels"], 2), cut(spec, by_kind["branches"], 2)
    assert (levels.parts, levels.rounds) == (((0,), (1,), (2,)), 8)
    assert levels.weight == pytest.approx(8 * (1 + PER_STACK))
    assert (branches.parts, branches.rounds) == (((0, 1, 2),), 2)  # one process has two stacks, the other two
    assert cut(spec, by_kind["dense"], 2).parts == ((0, 1), (2,))
    assert cut(spec, replace(by_kind["dense"], replicates=(7,)), 8).workers == 1
