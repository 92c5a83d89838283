"""Every training and every compared pair of a scale, grouped into stages. Pure data, nothing is run here."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from harness.base.errors import HarnessError
from harness.lottery.branches import BRANCHES
from harness.paper import Spec
from harness.paper.models import Branch, Setting, Sweep


@dataclass(frozen=True, order=True)
class Run:
    """One trained network.

    The dense run is (k 0, level 0, dense, order 0); the dense network trained again from snapshot k with another data
    order is (k, level 0, dense, order 1).
    """

    experiment: str
    replicate: int
    k: int
    level: int
    branch: Branch
    data_order: int

    @property
    def id(self) -> str:
        """Its name in tables and, with a suffix, its file below runs/."""
        return f"{self.experiment}/r{self.replicate}/k{self.k}/L{self.level}-{self.branch}-o{self.data_order}"


@dataclass(frozen=True, order=True)
class Pair:
    """Two compared networks of one replicate; `interpolated` pairs are also compared along the straight line."""

    run: Run
    run_b: Run
    comparison: str  # "data_order" or "pruning"
    interpolated: bool


@dataclass(frozen=True)
class Stage:
    """One job of the workflow: stacks of replicates trained in turn, pairs compared, or tickets packed.

    `branch`: whose masks a stage of levels makes, and one of branches trains with.
    """

    kind: str  # dense, orders, levels, branches, stability, tickets
    experiment: str
    chunk: int
    replicates: tuple[int, ...]
    k: int | None = None
    levels: tuple[int, ...] = ()
    branch: Branch = "imp"

    @property
    def name(self) -> str:
        """Its name below stages/: lenet/c0/dense, lenet/c0/k20-L1-5, lenet/c0/k20-L5-branches; -snip if not of imp."""
        own = "" if self.branch == "imp" else f"-{self.branch}"
        detail = {
            "levels": f"k{self.k}-L{self.levels[0]}-{self.levels[-1]}{own}" if self.levels else "",
            "branches": f"k{self.k}-L{self.levels[0]}-branches{own}" if self.levels else "",
            "stability": "dense-stability" if self.k is None else f"k{self.k}-stability",
        }.get(self.kind, self.kind)
        return f"{self.experiment}/c{self.chunk}/{detail}"


def is_dense(run: Run) -> bool:
    """Whether a run is the dense run of its replicate."""
    return run == dense_run(run.experiment, run.replicate)


def makes_mask(run: Run) -> bool:
    """Whether a run prunes the previous level. Other branches and data orders of its level reuse its mask.

    What starts from the previous level's weights prunes them in every data order, to the same mask.
    """
    branch = BRANCHES[run.branch]
    return branch.source == "level" and (run.data_order == 0 or branch.weights == "trained")


def owner(name: Branch) -> Branch:
    """The branch whose masks a branch has where its own run does not make one."""
    branch = BRANCHES[name]
    return branch.of if branch.source == "mask" else name


def parent(run: Run, style: str) -> Run:
    """The run whose final weights or mask a run starts from, under iterative or one_shot pruning."""
    dense = dense_run(run.experiment, run.replicate)
    if BRANCHES[run.branch].source == "dense":
        return dense
    if not makes_mask(run):
        return Run(run.experiment, run.replicate, run.k, run.level, owner(run.branch), 0)
    if run.level == 1 or style == "one_shot":
        return dense
    return Run(run.experiment, run.replicate, run.k, run.level - 1, run.branch, 0)


def dense_run(experiment: str, replicate: int) -> Run:
    """The dense run of a replicate."""
    return Run(experiment, replicate, 0, 0, "dense", 0)


def chains(sweep: Sweep, style: str) -> dict[Branch, list[int]]:
    """The branches of a sweep that are pruned level by level, IMP first, and the levels that each is trained at.

    IMP has all levels. Another has those down to the last at which it is named or, in one shot, these alone.
    """
    levels = {"imp": list(sweep.trained())}
    for name, branch in BRANCHES.items():
        asked = [level for level, orders in sweep.at.items() if orders.of(name)]
        if name != "imp" and branch.source == "level" and asked:
            levels[name] = sorted(asked) if style == "one_shot" else list(range(sweep.first_level, max(asked) + 1))
    return levels


def stages(spec: Spec) -> list[Stage]:
    """All stages of the scale that train or compare networks or pack tickets, parents before children."""
    return list(_by_name(spec).values())


@lru_cache(maxsize=8)
def _by_name(spec: Spec) -> dict[str, Stage]:
    """The scale's stages by name, cached: the workflow looks stages up thousands of times."""
    planned = (stage for name, setting in spec.scale.experiments.items() for stage in _stages(name, setting))
    return {stage.name: stage for stage in planned}


@lru_cache(maxsize=8)
def _by_chunk(spec: Spec) -> dict[tuple[str, int], list[Stage]]:
    groups: dict[tuple[str, int], list[Stage]] = {}
    for stage in _by_name(spec).values():
        groups.setdefault((stage.experiment, stage.chunk), []).append(stage)
    return groups


def _stages(name: str, setting: Setting) -> Iterator[Stage]:
    size = setting.replicates_per_job
    for chunk, first in enumerate(range(0, setting.replicates, size)):
        replicates = tuple(range(first, min(first + size, setting.replicates)))
        yield Stage("dense", name, chunk, replicates)
        if setting.dense_orders:
            yield Stage("orders", name, chunk, replicates)
        for sweep in setting.sweeps:
            for k in sweep.k:
                for branch, levels in chains(sweep, setting.pruning.style).items():
                    for start in range(0, len(levels), setting.levels_per_job):
                        part = tuple(levels[start : start + setting.levels_per_job])
                        yield Stage("levels", name, chunk, replicates, k, part, branch)
                for level in sorted(sweep.at):
                    trained = {_home(run.branch): None for run in _branch_runs(name, 0, setting, k, level)}
                    for branch in sorted(trained, key=lambda branch: (branch != "imp", branch)):
                        yield Stage("branches", name, chunk, replicates, k, (level,), branch)
        if setting.dense_orders:
            yield Stage("stability", name, chunk, replicates)
        for k in setting.rewind_grid():
            yield Stage("stability", name, chunk, replicates, k)
        if setting.sweeps:
            yield Stage("tickets", name, chunk, replicates)


def data_sets(spec: Spec) -> list[str]:
    """The data sets of the scale, in the order of their names."""
    return sorted({setting.data for setting in spec.scale.experiments.values()})


def parents(spec: Spec, stage: Stage) -> list[Stage]:
    """The stages whose results a stage reads."""
    siblings = _by_chunk(spec)[stage.experiment, stage.chunk]
    if stage.kind == "dense":
        return []
    if stage.kind == "orders":
        return [other for other in siblings if other.kind == "dense"]
    if stage.kind == "levels":
        one_shot = spec.scale.experiments[stage.experiment].pruning.style == "one_shot"
        before = (
            []
            if one_shot
            else [
                other
                for other in siblings
                if (other.kind, other.k, other.branch) == ("levels", stage.k, stage.branch)
                and other.levels[-1] == stage.levels[0] - 1
            ]
        )
        return before or [other for other in siblings if other.kind == "dense"]
    if stage.kind == "branches":
        # of masks that are made level by level, the stage of the level; of others, that of the branches beside it
        by_level = BRANCHES[stage.branch].source == "level"
        home = ("levels", stage.branch) if by_level else ("branches", _home(stage.branch))
        spans = [other for other in siblings if (other.kind, other.branch) == home and other.k == stage.k]
        return [span for span in spans if stage.levels[0] in span.levels]
    if stage.kind == "tickets":
        packed = set(tickets(spec, stage))
        return [
            other
            for other in siblings
            if other.kind == "dense" or any(not packed.isdisjoint(stack) for stack in stacks(spec, other))
        ]
    if stage.k is None:  # a stability stage of dense networks
        return [other for other in siblings if other.kind in ("dense", "orders")]
    own = [other for other in siblings if other.kind in ("levels", "branches") and other.k == stage.k]
    return [other for other in siblings if other.kind == "dense"] + own


def find_stage(spec: Spec, name: str) -> Stage:
    """The stage of a name. Raises HarnessError if the scale has no such stage."""
    if name in _by_name(spec):
        return _by_name(spec)[name]
    raise HarnessError(f"stage {name!r}: not in scale {spec.scale_name}; `harness plan --stages` lists them")


def stacks(spec: Spec, stage: Stage) -> list[list[Run]]:
    """The stage's trainings in order, each a list with one run per replicate."""
    setting = spec.scale.experiments[stage.experiment]
    return [
        list(runs) for runs in zip(*(_runs(stage, replicate, setting) for replicate in stage.replicates), strict=True)
    ]


def _runs(stage: Stage, replicate: int, setting: Setting) -> list[Run]:
    name = stage.experiment
    if stage.kind == "dense":
        return [dense_run(name, replicate)]
    if stage.kind == "orders":
        return [copy for k in setting.dense_orders for copy in _dense_copies(name, replicate, setting, k)]
    if stage.kind == "levels" and stage.k is not None:
        return [Run(name, replicate, stage.k, level, stage.branch, 0) for level in stage.levels]
    if stage.kind == "branches" and stage.k is not None:
        runs = _branch_runs(name, replicate, setting, stage.k, stage.levels[0])
        return [run for run in runs if _home(run.branch) == stage.branch]
    return []


def _home(name: Branch) -> Branch:
    """Whose masks the stage of branches has that trains a branch: what makes masks of the dense run is with IMP's."""
    return "imp" if BRANCHES[name].source == "dense" else owner(name)


def _dense_copies(name: str, replicate: int, setting: Setting, k: int) -> list[Run]:
    """The dense network trained again from snapshot k, with data orders other than the dense run's."""
    return [Run(name, replicate, k, 0, "dense", order) for order in range(1, setting.dense_copies + 1)]


def _branch_runs(experiment: str, replicate: int, setting: Setting, k: int, level: int) -> Iterator[Run]:
    """The baselines and further data orders that the scale runs at a level."""
    for sweep in setting.sweeps:
        if k not in sweep.k or level not in sweep.at:
            continue
        for name, branch in BRANCHES.items():
            first = 1 if branch.source == "level" else 0  # the first order is trained with the levels
            for order in range(first, sweep.at[level].of(name)):
                yield Run(experiment, replicate, k, level, name, order)


def tickets(spec: Spec, stage: Stage) -> list[Run]:
    """The runs whose masks a tickets stage packs: the first data order of each replicate and each packed branch."""
    name, runs = stage.experiment, []
    packed = {name: branch for name, branch in BRANCHES.items() if branch.packed}
    for replicate, sweep in itertools.product(stage.replicates, spec.scale.experiments[stage.experiment].sweeps):
        named = {branch: [level for level in sorted(sweep.at) if sweep.at[level].of(branch)] for branch in packed}
        levels = named | chains(sweep, spec.scale.experiments[stage.experiment].pruning.style)
        runs += [
            Run(name, replicate, k, level, branch, 0) for k in sweep.k for branch in packed for level in levels[branch]
        ]
    return runs


def all_runs(spec: Spec) -> list[Run]:
    """Every network that the scale trains."""
    return [run for stage in stages(spec) for stack in stacks(spec, stage) for run in stack]


def pairs(spec: Spec, stage: Stage) -> list[list[Pair]]:
    """The stability stage's pairs in order, each a list with one pair per replicate."""
    setting = spec.scale.experiments[stage.experiment]
    return [list(group) for group in zip(*(_pairs(stage, r, setting) for r in stage.replicates), strict=True)]


def _pairs(stage: Stage, replicate: int, setting: Setting) -> list[Pair]:
    name, has_line = stage.experiment, setting.line.points > 0
    dense = dense_run(name, replicate)
    if stage.k is None:
        # the dense run counts as a copy: from snapshot k on, it is a training with data order 0
        own = [] if setting.restart else [dense]
        return [
            Pair(run, other, "data_order", has_line)
            for k in setting.dense_orders
            for run, other in itertools.combinations([*own, *_dense_copies(name, replicate, setting, k)], 2)
        ]
    sweep = next(sweep for sweep in setting.sweeps if stage.k in sweep.k)
    levels = chains(sweep, setting.pruning.style)
    runs = [Run(name, replicate, stage.k, level, branch, 0) for branch in levels for level in levels[branch]]
    runs += [run for level in sorted(sweep.at) for run in _branch_runs(name, replicate, setting, stage.k, level)]
    # freshly drawn weights are unrelated to the dense network, and a restarted network has no dense network of equal
    # steps: these are compared between data orders only
    pruned = [run for run in runs if BRANCHES[run.branch].near_dense and run.data_order == 0]
    pruned = [] if setting.restart else pruned
    compared = [Pair(dense, run, "pruning", False) for run in pruned]
    for run, other in itertools.combinations(runs, 2):
        if (run.level, run.branch) == (other.level, other.branch):
            compared.append(Pair(run, other, "data_order", has_line))
    return compared
