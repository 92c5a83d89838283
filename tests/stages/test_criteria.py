"""Criteria in a whole stage: networks pruned by them are trained, their records say what they keep, packs hold them."""

import pytest
import torch

from harness.lottery.criteria import CRITERIA
from harness.networks import build
from harness.plan.runs import Run, dense_run, stages
from harness.stages.tickets import open_pack, pack_path
from harness.stages.train import starting_point
from harness.training.loop import evaluate
from harness.training.state import State, write_network
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context

BRANCHES = ("imp", "random_prune", "random_reinit", "snip", "fine_tune", "snip_shuffled")
STYLES = {
    "lasso": {"style": "one_shot", "densities": [0.3, 0.107]},
    "l1": {"style": "iterative", "fraction": 0.5},
    "random_erdos_renyi": {"style": "iterative", "fraction": 0.5},
}


@pytest.fixture(scope="module", params=STYLES)
def pruned(request, tmp_path_factory):
    """A criterion's name, and a finished tiny run of it, with the branches that share its mask and with SNIP."""
    context = tiny_context(
        tmp_path_factory.mktemp(request.param),
        change={"steps": 8},
        replicates=1,
        replicates_per_job=1,
        dense_orders=[],
        pruning={**STYLES[request.param], "criterion": request.param, "snip_batches": 6},
        sweeps=[{"k": [0], "levels": 2, "at": {2: dict.fromkeys(BRANCHES, 1)}}],
    )
    for stage in stages(context.spec):
        if stage.kind != "stability":
            run_stage(context.spec, context.folders, stage.name, 1)
    return request.param, context


def test_networks_keep_what_their_criterion_and_their_level_say(pruned):
    name, context = pruned
    due = {level: round(50_200 * context.setting.pruning.density(level)) for level in (1, 2)}
    masks = {}
    for branch, level in (("imp", 1), *((branch, 2) for branch in BRANCHES)):
        run = Run("lenet", 0, 0, level, branch, 0)
        record, masks[branch, level] = context.store.read(run.id), context.store.load_part(run.id, "mask/")
        kept = sum(int(mask.sum()) for mask in masks[branch, level].values())
        assert (record["status"], record["remaining"]) == ("ok", kept)
        units = CRITERIA[name].units and not branch.startswith("snip")  # SNIP has a criterion of its own
        assert kept == due[level] or (units and 0.9 * due[level] < kept < due[level])
        assert ("kept weights in whole units" in record["invariants"]) == (units and branch != "random_prune")
        assert ("exact number of kept weights" in record["invariants"]) != units
        final = context.store.load_part(run.id, "final/weights/")
        assert not any(final[weight][mask == 0].any() for weight, mask in masks[branch, level].items())
    if CRITERIA[name].units:
        for mask in masks["imp", 2].values():
            assert torch.equal(mask, torch.outer(mask.amax(1), mask.amax(0)))
    first, second = masks["imp", 1], masks["imp", 2]
    if context.setting.pruning.style == "iterative":
        assert all((second[weight] <= first[weight]).all() for weight in first)
    trained = masks["fine_tune", 2]
    assert (context.setting.pruning.style == "iterative") or all(
        torch.equal(trained[weight], mask) for weight, mask in second.items()
    )
    pack = open_pack(pack_path(context.folders, "lenet", 0))
    assert all(torch.equal(pack.mask("imp", 0, 2)[weight].bool(), mask.bool()) for weight, mask in second.items())


def test_fine_tuning_starts_from_the_criterions_new_values(pruned):
    name, context = pruned
    run = Run("lenet", 0, 0, 1, "fine_tune", 0)
    network = build("lenet-300-100", 1, context.data.input_shape, context.data.classes)
    start, masks = starting_point(context, [run], network)
    dense = context.store.load_part(dense_run("lenet", 0).id, "final/weights/")
    kept = {weight: (start.weights[weight][0] * mask[0], dense[weight] * mask[0]) for weight, mask in masks.items()}
    same = {weight: torch.equal(*pair) for weight, pair in kept.items()}
    if CRITERIA[name].refit is None:
        assert all(same.values())
        return
    assert same == {"hidden1.weight": True, "hidden2.weight": False, "output.weight": False}
    x, y = context.data.x["train"], context.data.y["train"]
    losses = []
    for place in (0, 1):
        state = State(0, start.weights | {weight: pair[place][None] for weight, pair in kept.items()}, {})
        write_network(network, state)
        losses.append(float(evaluate(network, x, y)[1][0]))
    assert losses[0] < losses[1]
