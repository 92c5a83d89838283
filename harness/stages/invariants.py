"""The invariants of a stack's start, from the files that it starts from, which are read here once more."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from harness.lottery import invariants
from harness.lottery.branches import BRANCHES, keeps_units
from harness.lottery.criteria import CRITERIA
from harness.lottery.masks import Masks
from harness.networks import build
from harness.paper.models import Pruning
from harness.plan.runs import Run, dense_run, is_dense, makes_mask
from harness.results.context import Context
from harness.results.store import SNAPSHOTS
from harness.training.audit import Check
from harness.training.state import State, from_tensors


def of_start(
    context: Context, stack: list[Run], prunable: list[str], start: State, masks: Masks, own: Masks | None
) -> Iterator[Check]:
    """What must hold of the state and masks that a stack starts from; `own`: what masks it reuses, if no file has them.

    The step of the start is the branch's, as the paper defines it: not by the course that the plan makes of it.
    """
    first, pruning = stack[0], context.setting.pruning
    branch, restart = BRANCHES[first.branch], context.setting.restart and not is_dense(first)
    stepwise = pruning.style == "iterative" and first.level > 1
    parents = [
        replace(run, level=run.level - 1, data_order=0).id if stepwise else dense_run(*_place(run)).id for run in stack
    ]
    before, weights = None, branch.weights
    if weights == "trained" and first.level and CRITERIA[pruning.criterion].refit:
        weights = "own"  # the trained ones, with the criterion's new values
    if weights == "trained":
        before = from_tensors(_read(context, parents, "final/"), first.k)
    elif not is_dense(first) and weights != "own":
        dense = [dense_run(*_place(run)).id for run in stack]
        before = from_tensors(_read(context, [f"{name}{SNAPSHOTS}" for name in dense], f"k{first.k}/"), first.k)
    step = 0 if restart or branch.steps == "operations" else first.k
    yield from invariants.started(start, step, masks, before, weights, not first.level and not restart)
    if not first.level or branch.changes:
        return
    density, units = _density(pruning, first.level), _units(context, first)
    if not units:
        yield from invariants.counted(masks, prunable, density)
    elif branch.mask != "shuffled":  # which scatters units; its layers' counts are compared below
        yield from invariants.counted_units(masks, prunable, density, units)
    if makes_mask(first) and own is None:
        finals = _read(context, parents, "final/weights/")
        earlier = _read(context, parents, "mask/") if stepwise else None
        yield from invariants.pruned(masks, earlier, finals, pruning.criterion == "magnitude")
    elif not makes_mask(first) and branch.mask != "own":
        of = first.branch if branch.source == "level" else branch.of
        own = own or _read(context, [replace(run, branch=of, data_order=0).id for run in stack], "mask/")
        yield from invariants.related(masks, own, branch.mask, BRANCHES[of].label)


def of_end(context: Context, stack: list[Run], prunable: list[str], final: State, masks: Masks) -> Iterator[Check]:
    """What must hold of the state and masks that a stack's training ends with."""
    yield from invariants.ended(final, masks)
    if BRANCHES[stack[0].branch].changes:
        density, units = _density(context.setting.pruning, stack[0].level), _units(context, stack[0])
        if units:
            yield from invariants.counted_units(masks, prunable, density, units)
        else:
            yield from invariants.counted(masks, prunable, density)


def _units(context: Context, run: Run) -> dict[str, str]:
    """The units of which a run keeps whole ones; none if it keeps weights."""
    if not keeps_units(run.branch, context.setting.pruning.criterion):
        return {}
    with torch.device("meta"):
        return build(context.setting.network, 1, context.data.input_shape, context.data.classes).units()


def _place(run: Run) -> tuple[str, int]:
    return run.experiment, run.replicate


def _density(pruning: Pruning, level: int) -> float:
    """Share of weights that a level keeps."""
    return pruning.densities[level - 1] if pruning.fraction is None else float((1 - pruning.fraction) ** level)


def _read(context: Context, names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """Stored tensors of one run per replicate, stacked, by their names without the prefix."""
    parts = [context.store.load_part(name, prefix) for name in names]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
