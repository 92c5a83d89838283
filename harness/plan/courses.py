"""The course of each run's training: the step that it begins at, and the recipe that it follows from there.

Everything that counts or takes a run's steps asks here: training, its audit and invariants, records, estimates and the
live view.
"""

from dataclasses import dataclass
from functools import lru_cache

from harness.data import source_of
from harness.lottery.branches import BRANCHES
from harness.lottery.masks import keep_count
from harness.networks import build, operations, prunable_names
from harness.paper import Spec
from harness.paper.models import Recipe
from harness.plan.runs import Run
from harness.training.recipe import at_last_rate, stretched

MOST_TIMES = 2  # the steps of the dense training: the longest Scratch-B of Liu et al. (2019)


@dataclass(frozen=True)
class Course:
    """Training from step `first` to the last step of `recipe`, the experiment's as the run's branch changes it."""

    first: int
    recipe: Recipe

    @property
    def steps(self) -> int:
        """How many steps are trained."""
        return self.recipe.steps - self.first


def course(spec: Spec, run: Run) -> Course:
    """The course of a run: from its rewind iteration (0 for the dense run) or, restarted, from the beginning."""
    return _course(spec, run.experiment, run.branch, run.k, run.level)


def steps_of(spec: Spec, run: Run) -> int:
    """How many steps a run trains."""
    return course(spec, run).steps


@lru_cache(maxsize=4096)
def _course(spec: Spec, experiment: str, name: str, k: int, level: int) -> Course:
    recipe, branch = _recipe(spec, experiment), BRANCHES[name]
    first = 0 if spec.scale.experiments[experiment].restart else k
    if branch.steps == "operations":
        first, recipe = 0, stretched(recipe, equal_steps(spec, experiment, level))
    return Course(first, at_last_rate(recipe) if branch.rates == "last" else recipe)


@lru_cache(maxsize=64)
def _recipe(spec: Spec, experiment: str) -> Recipe:
    return spec.recipe(experiment)


@lru_cache(maxsize=256)
def equal_steps(spec: Spec, experiment: str, level: int) -> int:
    """Steps of a level's subnetwork that take the operations of the dense training, rounded down, at most MOST_TIMES.

    A pruned weight costs nothing; a kept one costs its multiply-adds in a sample's forward pass, to which those of the
    backward pass are in proportion. The share of kept weights counts as the same in each prunable layer, so that the
    number is known before a mask is: for fully connected networks that is exact, and where a convolutional one is
    pruned to less than about half, MOST_TIMES is reached anyway.
    """
    setting, steps = spec.scale.experiments[experiment], _recipe(spec, experiment).steps
    source = source_of(setting.data, spec.scale.data)
    of_weight = operations(setting.network, source.shape, source.classes)
    network = build(setting.network, 1, source.shape, source.classes)
    prunable = {name: network.get_parameter(name).numel() for name in prunable_names(network)}
    total = sum(prunable.values())
    kept = keep_count(total, setting.pruning.density(level))
    dense = sum(of_weight.values())
    pruned = sum(of_weight.get(name, 0) for name in prunable)
    cost = (dense - pruned) * total + pruned * kept  # in units of dense * total, the dense network's
    return min(MOST_TIMES * steps, steps * dense * total // max(1, cost))
