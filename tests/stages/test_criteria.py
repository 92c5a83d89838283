"""Criteria in a whole stage: networks pruned by them are trained, their records say what they keep, packs hold them."""

import pytest
import torch

from harness.lottery.criteria import CRITERIA
from harness.plan.runs import Run, stages
from harness.stages.tickets import open_pack, pack_path
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context

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
        sweeps=[{"k": [0], "levels": 2, "at": {2: {"imp": 1, "random_prune": 1, "random_reinit": 1, "snip": 1}}}],
    )
    for stage in stages(context.spec):
        if stage.kind != "stability":
            run_stage(context.spec, context.folders, stage.name, 1)
    return request.param, context


def test_networks_keep_what_their_criterion_and_their_level_say(pruned):
    name, context = pruned
    due = {level: round(50_200 * context.setting.pruning.density(level)) for level in (1, 2)}
    masks = {}
    for branch, level in (("imp", 1), *((branch, 2) for branch in ("imp", "random_prune", "random_reinit", "snip"))):
        run = Run("lenet", 0, 0, level, branch, 0)
        record, masks[branch, level] = context.store.read(run.id), context.store.load_part(run.id, "mask/")
        kept = sum(int(mask.sum()) for mask in masks[branch, level].values())
        assert (record["status"], record["remaining"]) == ("ok", kept)
        units = CRITERIA[name].units and branch != "snip"  # SNIP has a criterion of its own
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
    pack = open_pack(pack_path(context.folders, "lenet", 0))
    assert all(torch.equal(pack.mask("imp", 0, 2)[weight].bool(), mask.bool()) for weight, mask in second.items())
