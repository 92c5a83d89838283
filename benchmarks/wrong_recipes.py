"""Wrong recipes and steps on the mini scale's networks, and what catches each: ``benchmarks/results/wrong_recipes.md``.

A recipe is wrong in its data: the bands of the scale are held against its dense networks, in three replicates. A step
is wrong in the code, which is changed for one run: the invariants end the stage, or else the bands judge its networks.

Run: ``python -m benchmarks.wrong_recipes`` from the root of the repository. It trains for about 10 core-minutes and
writes the file. ``tests/stages/test_wrong_recipes.py`` runs the same cases.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.calibration import dense_only, table_of
from harness import kernels
from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.claims.calibration import COLUMNS, calibrated
from harness.claims.table import Table
from harness.lottery import branch
from harness.lottery.branch import Criterion, Origin
from harness.lottery.branches import BRANCHES, random_prune
from harness.lottery.criteria import CRITERIA
from harness.lottery.masks import Masks, keep_largest
from harness.networks.architectures.lenet import LeNet
from harness.networks.layers import Linear
from harness.paper import Spec, load_spec
from harness.paper.models import Setting
from harness.plan.runs import dense_run
from harness.stages import train as stage
from harness.training import loop, step
from harness.training.batches import Batches
from harness.training.state import State
from harness.training.updates import Updater

RESULT = Path(__file__).parent / "results" / "wrong_recipes.md"
LENET, RESNET = "lenet", "resnet20-standard"
PAPER, REPLICATES, BAND = "stabilizing-lth", 3, "band"
Patch = Callable[[], AbstractContextManager[Any]]
STEPS = 200  # of a chain of subnetworks, which no band judges
CHAIN: dict[str, Any] = {
    "change": {"steps": STEPS},
    "replicates": 2,
    "replicates_per_job": 2,
    "dense_orders": (0,),
    "snapshots": (),
    "calibration": {},
    "sweeps": [{"k": [20], "levels": 2, "at": {2: {"imp": 2, "random_prune": 1, "random_reinit": 1}}}],
    "line": {"points": 0},
}


@dataclass(frozen=True)
class Case:
    """One mistake: in the setting's `change` or other fields, or in code that `mistake` replaces.

    `caught` is BAND or the invariant that must catch it, empty if nothing does, and `why` says what else there is.
    `chain`: it shows in subnetworks only.
    """

    name: str
    caught: str
    experiment: str = LENET
    change: dict[str, Any] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)
    mistake: Patch | None = None
    chain: bool = False
    why: str = ""


@dataclass(frozen=True)
class Caught:
    """What caught a case: BAND or the name of an invariant, empty if nothing did; and in words."""

    by: str
    words: str


NOTHING = Caught("", "")


def spec_of(case: Case) -> Spec:
    """The mini scale with one experiment: its dense networks in two orders, or a short chain of subnetworks."""
    shipped = load_spec(checkout(), PAPER, "mini")
    plain = shipped if case.chain else dense_only(shipped, REPLICATES)
    content = plain.scale.experiments[case.experiment].model_dump(mode="json")
    content |= {**(CHAIN if case.chain else {}), **case.setting}
    content["change"] = {**content["change"], **case.change}
    return with_setting(plain, case.experiment, Setting.model_validate(content))


def outcome(case: Case, ready: Path | None = None) -> Caught:
    """Run a case and say what catches it. `ready`: a folder with what is right of the run, which is used.

    The copies of the dense networks, for the distance between data orders, are trained only if their other bands fit.
    """
    spec = spec_of(case)
    with tempfile.TemporaryDirectory() as scratch, case.mistake() if case.mistake else nullcontext():
        folder = Path(scratch) / "run"
        if ready:
            shutil.copytree(ready, folder)
        try:
            if case.chain:
                table_of(spec, folder)
                return NOTHING
            setting = spec.scale.experiments[case.experiment].model_copy(update={"dense_orders": ()})
            caught = _missed(with_setting(spec, case.experiment, setting), folder)
            return _missed(spec, folder) if caught == NOTHING else caught
        except HarnessError as error:
            invariant = str(error).partition("broken invariant: ")[2].partition(". The code")[0]
            return Caught(invariant.partition(" (")[0], f"invariant: {invariant}")


def with_setting(spec: Spec, experiment: str, setting: Setting) -> Spec:
    """A scale of one experiment."""
    return replace(spec, scale=spec.scale.model_copy(update={"experiments": {experiment: setting}}))


def _missed(spec: Spec, folder: Path) -> Caught:
    """Train, and name the bands that are missed."""
    table = Table(table_of(spec, folder), COLUMNS)
    ((experiment, setting),) = spec.scale.experiments.items()
    values = {name: calibrated(table, experiment, name, band) for name, band in setting.bands.items()}
    out = {name: found for name, found in values.items() if not found.fits}
    told = [
        f"{measure.name} {'none' if value is None else f'{value:.3g}'}{measure.unit}"
        for measure, value, _ in out.values()
    ]
    return Caught(BAND, f"band: {', '.join(told)}") if out else NOTHING


def right_chain(folder: Path) -> Path:
    """Train the dense networks of the chain as they should be, once for all cases."""
    spec = spec_of(Case("right", "", chain=True))
    setting = spec.scale.experiments[LENET].model_copy(update={"sweeps": (), "snapshots": (0, 20)})
    table_of(with_setting(spec, LENET, setting), folder)
    return folder


def replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """A patch that replaces an attribute by what `make` makes of it."""
    return lambda: patch.object(target, name, make(getattr(target, name)))


def _recipe_of_updater(**changes: Any) -> Patch:
    def make(old: Any) -> Any:
        return lambda recipe, *rest: Updater(recipe.model_copy(update=changes), *rest)

    return replaced(loop, "Updater", make)


def _branch(name: str, **changes: Any) -> Patch:
    return lambda: patch.dict(BRANCHES, {name: replace(BRANCHES[name], **changes)})


def _score(score: Callable[[torch.Tensor], torch.Tensor]) -> Patch:
    wrong = Criterion(lambda subject: {name: score(weight) for name, weight in subject.weights.items()})
    return lambda: patch.dict(CRITERIA, {"magnitude": wrong})


def _by_layer(origin: Origin, criterion: Criterion, state: State, masks: Masks, order: str) -> Masks:
    """Masks that prune each layer to the level's density."""
    return {
        name: keep_largest({name: state.weights[name].abs()}, {name: mask}, round(mask[0].numel() * origin.density))[
            name
        ]
        for name, mask in masks.items()
    }


def _finals_as_snapshots(context: Any, run: Any) -> State:
    tensors = context.store.load_part(context.parent(run).id, "final/")
    return stage.state_of(tensors, run.k, optimizer_steps=run.k)


def _from_the_dense(context: Any, stack: Any, prunable: Any) -> tuple[State, Masks]:
    tensors = [context.store.load_part(dense_run(run.experiment, run.replicate).id, "final/") for run in stack]
    state = stage.stacked([stage.state_of(part, context.recipe.steps) for part in tensors])
    return state, stage.dense_masks(state.weights, prunable)


def _one_back(old: Any) -> Any:
    def keep(scores: Any, masks: Masks, count: int) -> Masks:
        kept: Masks = old(scores, masks, count)
        name = next(iter(masks))
        for own, before in zip(kept[name], masks[name], strict=True):
            if (pruned := torch.nonzero(before == 0)).numel():
                own[tuple(pruned[0])], own[tuple(torch.nonzero(own)[0])] = 1.0, 0.0
        return kept

    return keep


def _late_snapshots(old: Any) -> Any:
    def train(*args: Any, snapshot_steps: list[int], **options: Any) -> Any:
        trained = old(*args, snapshot_steps=[step + 1 for step in snapshot_steps], **options)
        trained.snapshots = {step - 1: state for step, state in trained.snapshots.items()}
        return trained

    return train


def _shuffled_over_all(masks: Masks, seeds: Any) -> Masks:
    row = torch.cat([mask.flatten(1) for mask in masks.values()], 1)
    row = row[:, torch.randperm(row.shape[1], generator=torch.Generator().manual_seed(1))]
    parts = row.split([mask[0].numel() for mask in masks.values()], 1)
    return {name: part.view_as(mask).clone() for (name, mask), part in zip(masks.items(), parts, strict=True)}


def _reinit_kept(origin: Origin) -> tuple[State, Masks]:
    return origin.snapshots().rewound(), origin.stored_masks()


def _reinit_shuffled(origin: Origin) -> tuple[State, Masks]:
    state, masks = BRANCHES["random_prune"].start(origin)
    return replace(state, weights={name: -value for name, value in state.weights.items()}), masks


def _noisy_labels(old: Any) -> Any:
    def selected(self: Batches, step: int) -> Any:
        x, y = old(self, step)
        wrong = torch.rand(y.shape, generator=torch.Generator().manual_seed(step)) < 0.05
        return x, torch.where(wrong, (y + 1) % 10, y)

    return selected


@contextmanager
def _softmax_in_lenet() -> Iterator[None]:
    """The network itself ends in a softmax, so its loss and gradient fit each other."""
    alone = LeNet.alone
    with kernels.without(), patch.object(LeNet, "alone", lambda self, x: alone(self, x).softmax(-1)):
        yield


@contextmanager
def _softmax_in_loss() -> Iterator[None]:
    loss = step.cross_entropy
    with kernels.without(), patch.object(step, "cross_entropy", lambda logits, y: loss(logits.softmax(-1), y)):
        yield


def _large_start(old: Any) -> Any:
    def initialise(network: Any, names: Any) -> None:
        old(network, names)
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, Linear):
                    module.weight.mul_(2)

    return initialise


def _by_test_set(old: Any) -> Any:
    def batches(context: Any, orders: Any) -> Any:
        x, y = context.data.x, context.data.y
        return Batches(x["test"], y["test"], context.recipe.batch_size, orders, "none")

    return batches


CASES = (
    Case("nothing (the right recipe)", ""),
    Case("learning rate x10", BAND, change={"learning_rate": 0.012}),
    Case("learning rate x3", BAND, change={"learning_rate": 0.0036}),
    Case("learning rate x0.5", BAND, change={"learning_rate": 0.0006}),
    Case("learning rate /10", BAND, change={"learning_rate": 0.00012}),
    Case("500 steps for 2,000", BAND, change={"steps": 500}),
    Case(
        "1,980 steps for 2,000",
        "",
        change={"steps": 1980},
        why="so short a cut changes less than another replicate does; the page prints the steps",
    ),
    Case("batches of 120 for 60", BAND, change={"batch_size": 120}),
    Case("weight decay of 0.0001, for none", BAND, change={"weight_decay": 0.0001}),
    Case("SGD with momentum for Adam", BAND, change={"optimizer": "momentum", "learning_rate": 0.1, "momentum": 0.9}),
    Case("a linear decay", BAND, change={"decay": "linear", "final_learning_rate": 0.00012}),
    Case("a warm-up of 200 steps", BAND, change={"warmup": 200}),
    Case("softmax in the network", BAND, mistake=_softmax_in_lenet),
    Case("weights drawn twice as wide", BAND, mistake=replaced(stage, "initialise", _large_start)),
    Case("one label in 20 is wrong", BAND, mistake=replaced(Batches, "selected", _noisy_labels)),
    Case("trained on the test set", BAND, mistake=replaced(stage, "_batches", _by_test_set)),
    Case(
        "the same data order for every copy",
        BAND,
        mistake=replaced(stage, "_batches", lambda old: lambda c, orders: old(c, [(*o[:-1], 0) for o in orders])),
    ),
    Case(
        "the same order of samples in every epoch",
        BAND,
        mistake=replaced(
            Batches, "plan", lambda old: lambda self, epoch: old(self, 0) or setattr(self, "_epoch", epoch)
        ),
    ),
    Case("softmax fed into the cross-entropy", "loss", mistake=_softmax_in_loss),
    Case(
        "learning rate x10 in the code",
        "learning rate of every step",
        mistake=replaced(loop, "learning_rate", lambda old: lambda *at: 10 * old(*at)),
    ),
    Case("weight decay added by the optimizer", "weight decay", mistake=_recipe_of_updater(weight_decay=1e-4)),
    Case(
        "one step too few",
        "number of steps",
        mistake=replaced(
            stage,
            "train",
            lambda old: lambda n, recipe, *rest, **o: old(n, recipe.model_copy(update={"steps": 1999}), *rest, **o),
        ),
    ),
    Case(
        "snapshots one step late",
        "snapshots at their steps",
        setting={"snapshots": [20]},
        mistake=replaced(stage, "train", _late_snapshots),
    ),
    Case(
        "no rewinding",
        "start is snapshot * mask",
        chain=True,
        mistake=replaced(stage, "_snapshot", lambda _: _finals_as_snapshots),
    ),
    Case(
        "rewinding to another step",
        "start is snapshot * mask",
        chain=True,
        mistake=replaced(stage, "_snapshot", lambda old: lambda c, run: replace(old(c, replace(run, k=0)), step=run.k)),
    ),
    Case(
        "the schedule begins anew after a rewind",
        "step of the start",
        chain=True,
        mistake=replaced(stage, "_snapshot", lambda old: lambda c, run: replace(old(c, run), step=0)),
    ),
    Case(
        "the optimizer's memory kept",
        "optimizer is fresh",
        chain=True,
        mistake=replaced(State, "rewound", lambda _: lambda self: self),
    ),
    Case(
        "masks undone in training",
        "pruned weights stay zero",
        chain=True,
        mistake=replaced(
            loop, "Updater", lambda _: lambda recipe, named, masks, *rest: Updater(recipe, named, {}, *rest)
        ),
    ),
    Case("pruned by sign", "magnitude threshold", chain=True, mistake=_score(lambda w: w - w.min())),
    Case("the largest pruned", "magnitude threshold", chain=True, mistake=_score(lambda w: 1 / (w.abs() + 1e-9))),
    Case("pruned at random", "magnitude threshold", chain=True, mistake=_score(lambda w: torch.rand(w.shape))),
    Case(
        "pruned layer by layer",
        "magnitude threshold",
        chain=True,
        mistake=lambda: patch.object(Origin, "pruned", _by_layer),
    ),
    Case(
        "one weight too many",
        "exact number of kept weights",
        chain=True,
        mistake=replaced(branch, "keep_count", lambda old: lambda *of: old(*of) + 1),
    ),
    Case(
        "every level pruned from the dense network",
        "magnitude threshold",
        chain=True,
        mistake=replaced(stage, "_parents_finals", lambda _: _from_the_dense),
    ),
    Case(
        "a pruned weight that comes back",
        "masks nest",
        chain=True,
        mistake=replaced(branch, "keep_largest", _one_back),
    ),
    Case(
        "another replicate's mask",
        "magnitude threshold",
        chain=True,
        mistake=replaced(
            branch, "keep_largest", lambda old: lambda *of: {n: m.roll(1, 0) for n, m in old(*of).items()}
        ),
    ),
    Case(
        "random pruning that does not shuffle",
        "IMP's mask, shuffled in each layer",
        chain=True,
        mistake=replaced(random_prune, "shuffled", lambda _: lambda masks, _: masks),
    ),
    Case(
        "random pruning over all layers",
        "IMP's mask, shuffled in each layer",
        chain=True,
        mistake=replaced(random_prune, "shuffled", lambda _: _shuffled_over_all),
    ),
    Case(
        "random reinit that keeps the weights",
        "weights drawn anew",
        chain=True,
        mistake=_branch("random_reinit", start=_reinit_kept),
    ),
    Case(
        "random reinit under a shuffled mask",
        "IMP's mask",
        chain=True,
        mistake=_branch("random_reinit", start=_reinit_shuffled),
    ),
    Case(
        "pruned in one shot, in the setting",
        "",
        chain=True,
        setting={"pruning": {"fraction": 0.36, "style": "one_shot"}},
        why="a recipe of its own; the page prints it",
    ),
    Case(
        "20% pruned for 36%, in the setting",
        "",
        chain=True,
        setting={"pruning": {"fraction": 0.2}},
        why="the loader refuses the scale: no level reaches the densities of its claims",
    ),
)
_FAST: dict[str, Any] = {"steps": 500, "drops": [250, 375]}
RESNET_CASES = tuple(
    replace(case, experiment=RESNET)
    for case in (
        Case("nothing (the right recipe)", ""),
        Case("learning rate x10", BAND, change={"learning_rate": 1.0}),
        Case("learning rate x3", BAND, change={"learning_rate": 0.3}),
        Case("learning rate x0.5", BAND, change={"learning_rate": 0.05}),
        Case("learning rate /10", BAND, change={"learning_rate": 0.01}),
        Case("no momentum", BAND, change={"momentum": 0.0}),
        Case(
            "no weight decay",
            "",
            change={"weight_decay": 0.0},
            why="in 3,000 steps it changes less than another replicate does; forgotten in code it breaks an invariant",
        ),
        Case("tenfold weight decay", BAND, change={"weight_decay": 0.001}),
        Case("no drops", BAND, change={"drops": []}),
        Case("drops at 25% and 50% for 50% and 75%", BAND, change={"drops": [750, 1500]}),
        Case("500 steps for 3,000", BAND, change=_FAST),
        Case("batches of 128 for 64", BAND, change={"batch_size": 128}),
        Case("a warm-up of 1,000 steps", BAND, change={"warmup": 1000}),
        Case("ResNet-8 for ResNet-20", BAND, setting={"network": "resnet8-1d"}),
        Case("the easier MNIST-1D", BAND, setting={"data": "mnist1d"}),
        Case("softmax fed into the cross-entropy", "loss", mistake=_softmax_in_loss),
        Case("weight decay forgotten by the optimizer", "weight decay", mistake=_recipe_of_updater(weight_decay=0.0)),
        Case("momentum forgotten by the optimizer", "momentum", mistake=_recipe_of_updater(momentum=0.0)),
        Case(
            "drops forgotten",
            "learning rate of every step",
            mistake=replaced(loop, "learning_rate", lambda old: lambda recipe, step: recipe.learning_rate),
        ),
    )
)


def main() -> None:
    lines = [
        "# What catches a wrong recipe or a wrong step",
        "",
        "On the mini scale's networks: the bands of `papers/*/scales/mini.yaml` that the mean of three dense networks",
        "misses, or the invariant that ends the stage. The distance is measured only where the other bands hold.",
        "Written by `python -m benchmarks.wrong_recipes`.",
        "",
        "| network | wrong | caught by |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        ready = right_chain(Path(scratch) / "right")
        for case in (*CASES, *RESNET_CASES):
            caught = outcome(case, ready if case.chain else None)
            assert caught.by == case.caught, (case, caught)
            words = caught.words or ("**not caught**: " + case.why if case.why else "nothing: it is right")
            lines.append(f"| {case.experiment} | {case.name} | {words} |")
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
