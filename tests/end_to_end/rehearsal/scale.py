"""Derives the `tiny` scale from a paper's `paper` scale: the same experiments, networks, data sets and branches."""

from typing import Any

from harness.paper import Spec
from harness.paper.models import Recipe, Setting, Sweep

STEPS = 2
BATCH = 2  # batch normalisation needs two, and Inception-v3 takes a second and a half for them
SMALL_SETS = ("mnist", "mnist-0-to-1", "cifar10")  # two replicates and two levels there, except of VGG
BRANCHES = ("imp", "random_prune", "random_reinit", "snip")


def tiny(spec: Spec) -> dict[str, Any]:
    """The scale, as its YAML would be read."""
    networks = {name: spec.paper.networks[spec.experiments[name].network].recipe for name in spec.scale.experiments}
    settings = {name: tiny_setting(one, networks[name]) for name, one in spec.scale.experiments.items()}
    return {"description": "a rehearsal", "judges_claims": False, "hardware": "any", "experiments": settings}


def tiny_setting(setting: Setting, recipe: Recipe) -> dict[str, Any]:
    """An experiment with a few steps, one or two levels, and one k for all its sweeps."""
    facts = setting.model_dump(mode="json", exclude={"calibration", "snapshots"})
    size = 2 if setting.data in SMALL_SETS and "vgg" not in setting.network else 1
    stack = min(size, setting.replicates_per_job)
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
        "levels_per_job": size,
        "dense_orders": cut(setting.dense_orders, recipe.steps, 2),
        "sweeps": tiny_sweeps(setting.sweeps, size),
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


def tiny_sweeps(sweeps: tuple[Sweep, ...], levels: int) -> list[dict[str, Any]]:
    """One sweep at k = 1 with every branch that a sweep of the paper scale asks for."""
    asked = [at for sweep in sweeps for at in sweep.at.values()]
    most = {branch: max((at.of(branch) for at in asked), default=0) for branch in BRANCHES}
    pair = {"imp": 2, "random_prune": levels}  # data orders: a pair of IMP's, and of random pruning's where it is cheap
    orders = {branch: min(pair.get(branch, 1), count) for branch, count in most.items() if count}
    return [{"k": [1], "levels": levels, "at": {levels: orders} if orders else {}}] if sweeps else []


def cut(counts: Any, steps: int, most: int) -> list[int]:
    """Steps of the paper's training as steps of the rehearsal's, rising, the first `most` of those that differ."""
    return sorted({min(STEPS - 1, -(-count * STEPS // steps)) for count in counts})[:most]
