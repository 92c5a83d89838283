"""The plan: nothing twice, everything a claim needs, parents before children."""

import time
from dataclasses import replace

import pytest

from harness.base.errors import HarnessError
from harness.base.files import digest
from harness.base.paths import checkout
from harness.paper import load_spec
from harness.paper.claims import expand_parts
from harness.plan.kinds import kind_of
from harness.plan.runs import Run, all_runs, dense_run, pairs, parent, parents, stacks, stages, tickets
from harness.plan.settings import check_settings
from tests.tiny import tiny_spec


def test_nothing_is_trained_twice():
    for scale in ("smoke", "mini", "wide", "paper"):
        runs = all_runs(load_spec(checkout(), "stabilizing-lth", scale))
        assert len(runs) == len(set(runs))
        assert len({run.id for run in runs}) == len(runs)


def test_one_dense_run_serves_every_rewind_iteration():
    runs = all_runs(tiny_spec())
    assert [run for run in runs if run.level == 0 and run.data_order == 0] == [
        Run("lenet", replicate, 0, 0, "dense", 0) for replicate in range(2)
    ]


def test_the_tiny_scales_runs_by_hand():
    """Each replicate: dense, 2 further orders; for each of 2 k: 2 levels, 1 further order, 2 random, 1 fresh."""
    assert len(all_runs(tiny_spec())) == 2 * (1 + 2 + 2 * (2 + 1 + 2 + 1))
    compared = {stage.name: pairs(tiny_spec(), stage) for stage in stages(tiny_spec()) if stage.kind == "stability"}
    # dense 2; for each k: pruning of imp L1, L2, random L2; data order of imp and random at L2
    counts = {name: len(groups) for name, groups in compared.items()}
    assert counts == {"lenet/c0/dense-stability": 2, "lenet/c0/k0-stability": 5, "lenet/c0/k5-stability": 5}


def test_copies_of_a_dense_network_are_compared_with_it_and_with_each_other():
    spec = tiny_spec(dense_orders=[0, 5], dense_copies=2)
    assert len(all_runs(spec)) == len(all_runs(tiny_spec())) + 2 * 2
    (stability,) = [stage for stage in stages(spec) if stage.kind == "stability" and stage.k is None]
    orders = [(pair.run.data_order, pair.run_b.data_order, pair.run_b.k) for (pair, _) in pairs(spec, stability)]
    assert orders == [(0, 1, 0), (0, 2, 0), (1, 2, 0), (0, 1, 5), (0, 2, 5), (1, 2, 5)]


def test_every_branch_with_two_data_orders_is_compared():
    sweeps = [{"k": [0], "levels": 1, "at": {1: {"imp": 3, "random_prune": 2, "random_reinit": 2}}}]
    spec = tiny_spec(sweeps=sweeps, dense_orders=[])
    (stability,) = [stage for stage in stages(spec) if stage.kind == "stability"]
    found = [(pair.comparison, pair.run_b.branch) for (pair, _) in pairs(spec, stability)]
    # fresh weights are not held against the dense network
    assert sorted(found) == [
        *[("data_order", "imp")] * 3,
        ("data_order", "random_prune"),
        ("data_order", "random_reinit"),
        ("pruning", "imp"),
        ("pruning", "random_prune"),
    ]


def test_parents_come_first_and_exist():
    for scale in ("smoke", "mini", "wide", "paper"):
        spec = load_spec(checkout(), "stabilizing-lth", scale)
        seen = set()
        for stage in stages(spec):
            assert {parent.name for parent in parents(spec, stage)} <= seen
            seen.add(stage.name)
        assert len(seen) == len(stages(spec))


def test_chunks_cover_every_replicate_once():
    for size in (1, 2, 3, 5):
        spec = tiny_spec(replicates=5, replicates_per_job=size)
        assert sorted(run.id for run in all_runs(spec)) == sorted(run.id for run in all_runs(tiny_spec(replicates=5)))
        for stage in stages(spec):
            assert all(len(stack) == len(stage.replicates) <= size for stack in stacks(spec, stage))


def test_every_cell_of_a_claim_has_rows_at_its_scale():
    """A claim about rows that no stage makes would be `not tested` for ever."""
    for scale in ("mini", "wide", "paper"):
        spec = load_spec(checkout(), "stabilizing-lth", scale)
        networks = set()
        compared = set()
        for stage in stages(spec):
            if stage.kind == "stability":
                for group in pairs(spec, stage):
                    run = group[0].run_b
                    compared.add((run.experiment, run.branch, run.level, run.k, group[0].comparison))
            for stack in stacks(spec, stage):
                networks.add((stack[0].experiment, stack[0].branch, stack[0].level, stack[0].k))
        for claim in spec.claims:
            for part in expand_parts(claim.scales[scale]) if scale in claim.scales else []:
                for cell, k_values, densities in part.cells_and_grids():
                    pruning = spec.scale.experiments[cell.experiment].pruning
                    levels = [
                        level
                        for density in densities
                        for level in range(1, 25)
                        if abs(pruning.density(level) - density) < 0.02 * density
                    ] or [0]
                    for level in levels:
                        for k in k_values or [0]:
                            key = (cell.experiment, cell.branch, level, k)
                            found = (*key, cell.comparison) in compared if cell.comparison else key in networks
                            assert found or cell.branch == "dense", (claim.id, part.name, key)


@pytest.mark.parametrize(
    ("scale", "counts", "sums"),
    [
        ("smoke", (29, 58, 46), ("d7002207135e0bba", "f9ebc2b67f9edd31")),
        ("mini", (47, 764, 651), ("852df40ae14b72ca", "e2997d14ac27ae5b")),
    ],
)
def test_the_small_scales_keep_their_plan(scale, counts, sums):
    """Stages, runs and pairs in their order: what a new branch or style of pruning must not move."""
    spec = load_spec(checkout(), "stabilizing-lth", scale)
    names = [stage.name for stage in stages(spec) if stage.kind != "tickets"]
    runs = [run.id for stage in stages(spec) for stack in stacks(spec, stage) for run in stack]
    compared = [
        [pair.run.id, pair.run_b.id, pair.comparison, pair.interpolated]
        for stage in stages(spec)
        if stage.kind == "stability"
        for group in pairs(spec, stage)
        for pair in group
    ]
    assert (len(names), len(runs), len(compared)) == counts
    assert (digest([names, runs])[:16], digest(compared)[:16]) == sums


def test_each_chunk_packs_the_tickets_of_its_levels_after_they_are_trained():
    sweeps = [{"k": [0, 5], "levels": 3, "at": {2: {"imp": 2, "random_prune": 1, "snip": 2}, 3: {"imp": 2}}}]
    spec = tiny_spec(sweeps=sweeps, replicates=3, levels_per_job=2)
    packing = [stage for stage in stages(spec) if stage.kind == "tickets"]
    assert [(stage.name, stage.replicates) for stage in packing] == [
        ("lenet/c0/tickets", (0, 1)),
        ("lenet/c1/tickets", (2,)),
    ]
    # not the branches of level 3, which ask for no SNIP
    assert [parent.name for parent in parents(spec, packing[1])] == [
        "lenet/c1/dense",
        *(f"lenet/c1/k{k}-{part}" for k in (0, 5) for part in ("L1-2", "L3-3", "L2-branches")),
    ]
    assert [(run.k, run.level, run.branch, run.data_order) for run in tickets(spec, packing[1])] == [
        (k, level, branch, 0) for k in (0, 5) for level, branch in ((1, "imp"), (2, "imp"), (3, "imp"), (2, "snip"))
    ]
    assert stacks(spec, packing[0]) == []
    assert not [stage for stage in stages(tiny_spec(sweeps=[])) if stage.kind == "tickets"]


ONE_SHOT = {"style": "one_shot", "densities": [0.7, 0.5, 0.1]}


def test_one_shot_levels_start_from_the_dense_run_alone_and_any_may_be_first():
    sweeps = [{"k": [0], "levels": 3}, {"k": [5], "levels": 2, "first_level": 2, "at": {2: {"imp": 2}}}]
    spec = tiny_spec(pruning=ONE_SHOT, sweeps=sweeps, dense_orders=[], levels_per_job=1)
    assert [(run.k, run.level) for run in all_runs(spec) if run.replicate == 0 and run.data_order == 0] == [
        *((0, level) for level in range(4)),
        (5, 2),
    ]
    for stage in stages(spec):
        if stage.kind == "levels":
            assert [parent.kind for parent in parents(spec, stage)] == ["dense"]
    assert [spec.scale.experiments["lenet"].pruning.density(level) for level in range(4)] == [1.0, 0.7, 0.5, 0.1]


AFTER = {1: {"lr_rewind": 1}, 2: {"fine_tune": 2, "snip": 1, "snip_shuffled": 2, "snip_reinit": 1, "scratch_b": 1}}


def test_branches_that_are_pruned_level_by_level_have_chains_of_their_own():
    """Down to the last level at which they are named; what has SNIP's masks comes after SNIP."""
    spec = tiny_spec(sweeps=[{"k": [5], "levels": 3, "at": AFTER}], dense_orders=[], levels_per_job=2)
    by_name = {stage.name: stage for stage in stages(spec)}
    assert {name: [stack[0].id for stack in stacks(spec, stage)] for name, stage in by_name.items() if "L" in name} == {
        "lenet/c0/k5-L1-2": ["lenet/r0/k5/L1-imp-o0", "lenet/r0/k5/L2-imp-o0"],
        "lenet/c0/k5-L3-3": ["lenet/r0/k5/L3-imp-o0"],
        "lenet/c0/k5-L1-2-fine_tune": ["lenet/r0/k5/L1-fine_tune-o0", "lenet/r0/k5/L2-fine_tune-o0"],
        "lenet/c0/k5-L1-1-lr_rewind": ["lenet/r0/k5/L1-lr_rewind-o0"],
        "lenet/c0/k5-L2-branches": ["lenet/r0/k5/L2-scratch_b-o0", "lenet/r0/k5/L2-snip-o0"],
        "lenet/c0/k5-L2-branches-fine_tune": ["lenet/r0/k5/L2-fine_tune-o1"],
        "lenet/c0/k5-L2-branches-snip": [
            "lenet/r0/k5/L2-snip_reinit-o0",
            "lenet/r0/k5/L2-snip_shuffled-o0",
            "lenet/r0/k5/L2-snip_shuffled-o1",
        ],
    }
    before = {name: [parent.name for parent in parents(spec, stage)] for name, stage in by_name.items() if "L" in name}
    assert before == {
        "lenet/c0/k5-L1-2": ["lenet/c0/dense"],
        "lenet/c0/k5-L3-3": ["lenet/c0/k5-L1-2"],
        "lenet/c0/k5-L1-2-fine_tune": ["lenet/c0/dense"],
        "lenet/c0/k5-L1-1-lr_rewind": ["lenet/c0/dense"],
        "lenet/c0/k5-L2-branches": ["lenet/c0/k5-L1-2"],
        "lenet/c0/k5-L2-branches-fine_tune": ["lenet/c0/k5-L1-2-fine_tune"],
        "lenet/c0/k5-L2-branches-snip": ["lenet/c0/k5-L2-branches"],
    }
    assert all(kind_of(name).name == stage.kind for name, stage in by_name.items())
    packed = {(run.branch, run.level) for run in tickets(spec, by_name["lenet/c0/tickets"])}
    assert packed == {("imp", 1), ("imp", 2), ("imp", 3), ("snip", 2)}
    assert all(len(runs) == len(set(runs)) for runs in [all_runs(spec)])


def test_what_a_run_of_a_chain_starts_from():
    own = {level: Run("lenet", 0, 5, level, "fine_tune", 0) for level in (1, 2)}
    assert parent(own[1], "iterative") == dense_run("lenet", 0)
    assert parent(own[2], "iterative") == own[1]
    assert parent(replace(own[2], data_order=1), "iterative") == own[1]  # it trains the same weights on
    assert parent(own[2], "one_shot") == dense_run("lenet", 0)
    assert parent(replace(own[2], branch="snip_reinit"), "iterative") == replace(own[2], branch="snip")
    assert parent(replace(own[2], branch="scratch_b"), "iterative") == replace(own[2], branch="imp")


def test_in_one_shot_a_chain_has_the_levels_at_which_it_is_named():
    at = {3: {"lr_rewind": 1}}
    spec = tiny_spec(pruning=ONE_SHOT, sweeps=[{"k": [5], "levels": 3, "at": at}], dense_orders=[])
    assert [run.level for run in all_runs(spec) if run.branch == "lr_rewind"] == [3, 3]


def test_a_branch_that_lacks_the_run_whose_mask_it_has_is_refused():
    spec = tiny_spec(sweeps=[{"k": [0], "levels": 1, "at": {1: {"snip_reinit": 1}}}], dense_orders=[])
    with pytest.raises(HarnessError, match="at level 1: snip_reinit has the mask of snip; give snip: 1 there too"):
        check_settings(spec)


def test_restarted_subnetworks_are_compared_with_each_other_only():
    spec = tiny_spec(restart=True, dense_orders=[])
    found = {group[0].comparison for s in stages(spec) if s.kind == "stability" for group in pairs(spec, s)}
    assert found == {"data_order"}


def test_the_whole_workflow_of_the_paper_scale_is_planned_at_once():
    began = time.process_time()
    spec = load_spec(checkout(), "stabilizing-lth", "paper")
    made = {stage.name for stage in stages(spec)}
    assert {parent.name for stage in stages(spec) for parent in parents(spec, stage)} < made
    assert time.process_time() - began < 10  # a second or two
