"""Derives the `tiny` scale from a paper's `paper` scale: the same experiments, networks, data sets and branches."""

from typing import Any

from harness.spec import Spec
from harness.spec.models import Recipe, Setting, Sweep

STEPS = 4
BATCH = 4
LEVELS = 2
MOST = {"imp": 2, "random_prune": 2, "random_reinit": 1, "snip": 1}  # data orders of a branch: a pair where it has any


def tiny(spec: Spec) -> dict[str, Any]:
    """The scale, as its YAML would be read."""
    networks = {name: spec.paper.networks[spec.experiments[name].network].recipe for name in spec.scale.experiments}
    settings = {name: tiny_setting(one, networks[name]) for name, one in spec.scale.experiments.items()}
    return {"description": "a rehearsal", "judges_claims": False, "hardware": "any", "experiments": settings}


def tiny_setting(setting: Setting, recipe: Recipe) -> dict[str, Any]:
    """An experiment with a few steps, two levels and one k of each sweep."""
    facts = setting.model_dump(mode="json", exclude={"calibration", "snapshots"})
    stack = min(2, setting.replicates_per_job)
    pruning = dict(facts["pruning"])
    if setting.pruning.densities:
        pruning["densities"] = [setting.pruning.densities[0], setting.pruning.densities[-1]]
    line = {"points": 3, "train_samples": BATCH, "test_samples": BATCH}
    return {
        **facts,
        "change": tiny_recipe(recipe),
        "pruning": pruning,
        "replicates": stack,
        "replicates_per_job": stack,
        "levels_per_job": LEVELS,
        "dense_orders": cut(setting.dense_orders, recipe.steps, 2),
        "sweeps": tiny_sweeps(setting.sweeps),
        "line": line,
    }


def tiny_recipe(recipe: Recipe) -> dict[str, Any]:
    """What changes of the recipe: its length and what is counted in steps, in proportion."""
    return {
        "steps": STEPS,
        "batch_size": min(BATCH, recipe.batch_size),
        "warmup": cut([recipe.warmup], recipe.steps, 1)[0],
        "drops": cut(recipe.drops, recipe.steps, STEPS),
    }


def tiny_sweeps(sweeps: tuple[Sweep, ...]) -> list[dict[str, Any]]:
    """The sweeps at k = 0, 1, ..., a single one at both; each branch once, in the first sweep that has it."""
    made: list[dict[str, Any]] = []
    had: set[str] = set()
    for k, sweep in enumerate(sweeps * 2 if len(sweeps) == 1 else sweeps):
        levels = min(LEVELS, sweep.levels)
        asked = {branch: max((getattr(at, branch) for at in sweep.at.values()), default=0) for branch in MOST}
        orders = {branch: min(MOST[branch], count) for branch, count in asked.items() if count and branch not in had}
        had |= set(orders)
        at = {levels: orders} if orders else {}
        made.append({"k": [k], "levels": levels, "first_level": min(levels, sweep.first_level), "at": at})
    return made


def cut(counts: Any, steps: int, most: int) -> list[int]:
    """Steps of the paper's training as steps of the rehearsal's, rising, the first `most` of those that differ."""
    return sorted({min(STEPS - 1, -(-count * STEPS // steps)) for count in counts})[:most]
