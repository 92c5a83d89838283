"""The training stages: the starting point of each run, and the training, storing and reuse of stacks."""

import os
import signal
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base import processes
from harness.base.errors import HarnessError
from harness.base.files import digest
from harness.base.seeds import DATA_ORDER, INITIALISATION
from harness.base.variables import variables
from harness.data.feed import Feed
from harness.data.images import Images
from harness.lottery.branch import Origin, Span
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.lottery.masks import Masks, dense_masks, remaining
from harness.networks import build, initialise, operations, prunable_names
from harness.networks.layers import Stack
from harness.plan.cut import Cut, cut, is_chain
from harness.plan.runs import Run, Stage, dense_run, is_dense, makes_mask, stacks
from harness.results.context import DATA, Context, Work
from harness.results.environment import computed_with
from harness.results.heartbeats import Heartbeat, clear_heartbeats, heartbeat_path
from harness.results.store import SNAPSHOTS, final_tensors, part_of, snapshot_tensors, state_of
from harness.stages import invariants
from harness.training.audit import Audit, Broken, require, schedule
from harness.training.batches import Batches
from harness.training.changes import Changes
from harness.training.loop import Stopped, Trained, evaluate, train, use_threads
from harness.training.objective import Objective
from harness.training.partial import read_partial, write_partial
from harness.training.state import State, read_network, stacked, write_network

TRAIN_SAMPLES = 5000  # of the training split, on which the training accuracy is measured
_terminated = threading.Event()  # set by SIGTERM, which a cluster sends before it reclaims a machine


def train_stage(work: Work) -> dict[str, Any]:
    """Train the missing runs of the stage's stacks. Returns fields of the stage's record.

    On a CPU the job's threads are processes that train parts of the stacks, as `harness.plan.cut` says.
    On SIGTERM it keeps a checkpoint and exits with 128 + SIGTERM; the next run resumes from there.
    """
    stage, context = work.stage, work.context
    _heed_sigterm()
    shares = cut(work.spec, stage, work.threads if context.device.type == "cpu" else 1)
    try:
        if shares.workers > 1:
            totals = _train_in_parts(work, shares)
        else:
            use_threads(work.threads, context.recipe.precision)
            totals = train_stacks(context, stage, _heartbeat(work))
    except Stopped as stopped:
        print(f"stopped by SIGTERM after step {stopped}; the next run resumes from its checkpoint", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    names = [run.id for stack in stacks(work.spec, stage) for run in stack]
    if stage.kind == "dense":
        names += [f"{run}{SNAPSHOTS}" for run in names if context.store.read(run)["status"] == "ok"]
    records = {name: context.store.read(name) for name in names}
    held = {name: None for record in records.values() for name in record.get("invariants", ())}
    outputs = {name: record["sha256"] for name, record in records.items()}
    return {**totals, "invariants": list(held), "outputs": outputs}


def _heed_sigterm() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


def _heartbeat(work: Work, part: str = "") -> Heartbeat:
    """The heartbeat of the stage, or of a process that trains parts of it."""
    networks = sum(len(stack) for stack in stacks(work.spec, work.stage))
    return Heartbeat(heartbeat_path(work.folders.progress, work.name, part), work.name, networks)


@dataclass
class _Trainer:
    """A process that trains parts of a stage's stacks."""

    work: Work
    heartbeat: Heartbeat


def _trainer(work: Work) -> _Trainer:
    use_threads(work.threads, work.context.recipe.precision)
    _heed_sigterm()
    return _Trainer(work, _heartbeat(work, str(os.getpid())))


def _train_part(trainer: _Trainer, index: int, replicates: tuple[int, ...]) -> dict[str, Any]:
    """Train some replicates of the stage's stack of this index."""
    work = trainer.work
    stack = stacks(work.spec, replace(work.stage, replicates=replicates))[index]
    return _train_missing(work.context, stack, trainer.heartbeat)


def _train_in_parts(work: Work, shares: Cut) -> dict[str, Any]:
    """Train the stage's stacks in several processes. Returns the totals as `train_stacks`."""
    totals = _no_totals()
    length, chain = len(stacks(work.spec, work.stage)), is_chain(work.spec, work.stage)
    threads = work.threads // shares.workers
    clear_heartbeats(work.folders.progress, work.name)
    with processes.crew(shares.workers, _trainer, replace(work, threads=threads)) as crew:
        first = range(1 if chain else length)
        running: dict[Future[Any], tuple[int, tuple[int, ...]]] = {
            crew.start(_train_part, index, part): (index, part) for index in first for part in shares.parts
        }
        while running:
            if _terminated.is_set():
                crew.stop()  # each keeps a checkpoint and raises Stopped
            for future in processes.finished(running):
                index, part = running.pop(future)
                _add(totals, future.result())
                if chain and index + 1 < length:
                    running[crew.start(_train_part, index + 1, part)] = (index + 1, part)
    totals["training_seconds"] /= shares.workers  # of the job, in which so many train at once
    return totals


def train_stacks(context: Context, stage: Stage, heartbeat: Heartbeat) -> dict[str, Any]:
    """Train the missing runs of the stage's stacks.

    Returns the steps and seconds of this training, and the core-seconds of all its networks, whenever they were
    trained.
    """
    totals = _no_totals()
    for stack in stacks(context.spec, stage):
        _add(totals, _train_missing(context, stack, heartbeat))
    return totals


def _no_totals() -> dict[str, Any]:
    return {"training_seconds": 0.0, "network_seconds": 0.0, "steps": 0}


def _add(totals: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        totals[name] += value


def _train_missing(context: Context, stack: list[Run], heartbeat: Heartbeat) -> dict[str, Any]:
    """Train the missing runs of a stack. Returns its totals, as `train_stacks`."""
    totals = _no_totals()
    stored = {run: finished(context, run) for run in stack}
    records = [record for record in stored.values() if record is not None]
    heartbeat.found_steps += sum(record["steps"] for record in records)
    missing = [run for run, record in stored.items() if record is None]
    for part in _by_checkpoint(context, missing):
        trained = train_stack(context, part, heartbeat)
        totals["training_seconds"] += max((record["stack_seconds"] for record in trained), default=0.0)
        totals["steps"] += sum(record["steps"] for record in trained)
        records += trained
    totals["network_seconds"] = sum(record["seconds"] for record in records)
    heartbeat.done += len(stack)
    accuracies = [record["test_accuracy"] for record in records if record["test_accuracy"] is not None]
    heartbeat.accuracy = sum(accuracies) / len(accuracies) if accuracies else heartbeat.accuracy
    heartbeat.beat(now=True)
    return totals


def finished(context: Context, run: Run) -> dict[str, Any] | None:
    """The record of a finished run with these settings and exactly these inputs, here or in another store, or None."""
    inputs, snapshots = _inputs(context, run), set(context.setting.snapshot_steps() if is_dense(run) else ())
    return context.store.find(
        run.id,
        context.key(run),
        lambda record: record.get("inputs") == inputs and snapshots <= set(record.get("snapshots", ())),
    )


def _inputs(context: Context, run: Run) -> dict[str, str]:
    """Digests of what a run reads: its data set as training sees it, and the stored network and the snapshot that it
    starts from, by their names in the experiment.

    All snapshots share one file; only the digest of the snapshot at the run's k counts.
    """
    inputs = {DATA: context.data_content}
    if is_dense(run):
        return inputs
    parent = context.parent(run)
    record = context.store.read(parent.id)
    inputs[place_of(parent.id)] = record["sha256"]
    if record["status"] == "ok" and BRANCHES[run.branch].rewinds:
        snapshots = f"{dense_run(run.experiment, run.replicate).id}{SNAPSHOTS}"
        inputs[f"{place_of(snapshots)}/k{run.k}"] = context.store.read(snapshots)["parts"][f"k{run.k}"]
    if record["status"] == "ok" and BRANCHES[run.branch].reads_dense:
        dense = dense_run(run.experiment, run.replicate).id
        inputs[place_of(dense)] = context.store.read(dense)["sha256"]
    return inputs


def place_of(run: str) -> str:
    """A run's id without its experiment: the same run may be stored under another experiment's name."""
    return run.partition("/")[2]


def train_stack(
    context: Context, stack: list[Run], heartbeat: Heartbeat, stored_masks: Masks | None = None
) -> list[dict[str, Any]]:
    """Train one run per replicate, all together, and store them. Replicates whose ancestors diverged are skipped.

    `stored_masks`: the masks of the stack's level that its branch reuses, if the parents are not on this machine.
    """
    healthy = [run for run in stack if not _ancestor_diverged(context, run)]
    records = [_record_skipped(context, run) for run in stack if run not in healthy]
    if not healthy:
        return records
    first, data, setting = healthy[0], context.data, context.setting
    network = build(setting.network, len(healthy), data.input_shape, data.classes).to(context.device)
    start, masks = starting_point(context, healthy, network, stored_masks)
    if setting.restart and not is_dense(first):
        start = replace(start.rewound(), step=context.course(first).first)
    first_accuracy = _accuracy_at_start(context, first, network, start, masks)
    changes, objective = _methods(context, healthy, network, start.step, stored_masks)
    try:
        held = require(invariants.of_start(context, healthy, prunable_names(network), start, masks, stored_masks))
        trained, watched = _trained(context, healthy, network, start, masks, changes, objective, heartbeat)
        masks, trained.final = trained.final.masks or masks, replace(trained.final, masks={})
        held += [*watched, *require(invariants.of_end(context, healthy, prunable_names(network), trained.final, masks))]
    except Broken as broken:
        raise HarnessError(
            f"{healthy[broken.position].id}: broken invariant: {broken}. The code is wrong, or a file that the network "
            "starts from: nothing of it was stored. Put the code right, or delete that file, and run again"
        ) from None
    records += _store(context, healthy, network, masks, trained, held, first_accuracy)
    for run in healthy:
        _checkpoint(context, run).unlink(missing_ok=True)
    return records


def _snapshot_steps(context: Context, run: Run) -> list[int]:
    """The steps at which a run keeps snapshots."""
    return context.setting.snapshot_steps() if is_dense(run) else []


def _checkpoint(context: Context, run: Run) -> Path:
    """The checkpoint of an unfinished run: each replicate has its own, so that a stack can be cut anew at any time."""
    settled = digest([_record(context, run), _snapshot_steps(context, run)])
    return context.folders.state / f"{settled[:32]}.safetensors"


def _by_checkpoint(context: Context, stack: list[Run]) -> list[list[Run]]:
    """The runs of a stack in parts that can go on together: those whose checkpoints are of the same step."""
    parts: dict[int, list[Run]] = {}
    for run in stack:
        kept = None if _ancestor_diverged(context, run) else read_partial(_checkpoint(context, run))
        parts.setdefault(kept[0].step if kept else -1, []).append(run)
    return list(parts.values())


def _kept(context: Context, stack: list[Run]) -> tuple[State, Trained] | None:
    """The stack's state and results so far, by its runs' checkpoints; None if any is missing or of another step."""
    kept = [part for run in stack if (part := read_partial(_checkpoint(context, run)))]
    if len(kept) < len(stack) or len({state.step for state, _ in kept}) > 1:
        return None
    state, results = stacked([state for state, _ in kept]), [trained for _, trained in kept]
    snapshots = {step: stacked([part.snapshots[step] for part in results]) for step in results[0].snapshots}
    diverged = {place: step for place, part in enumerate(results) for step in part.diverged.values()}
    counts = {name: [part.weight_steps[name][0] for part in results] for name in results[0].weight_steps}
    return state, Trained(state, snapshots, diverged, max(part.seconds for part in results), counts)


def _keep(context: Context, stack: list[Run], state: State, trained: Trained) -> None:
    """Write each replicate's checkpoint."""
    for place, run in enumerate(stack):
        snapshots = {step: snapshot.select([place]) for step, snapshot in trained.snapshots.items()}
        diverged = {0: trained.diverged[place]} if place in trained.diverged else {}
        own, counts = state.select([place]), {name: [kept[place]] for name, kept in trained.weight_steps.items()}
        write_partial(_checkpoint(context, run), own, Trained(own, snapshots, diverged, trained.seconds, counts))


def _trained(
    context: Context,
    stack: list[Run],
    network: Stack,
    start: State,
    masks: Masks,
    changes: Changes | None,
    objective: Objective | None,
    heartbeat: Heartbeat,
) -> tuple[Trained, list[str]]:
    """Train a stack from its starting point, or from the checkpoints of an earlier process, under an audit.

    Returns the names of the invariants that held too. Raises Broken.
    """
    orders = [(*name, run.data_order) for name, run in zip(_names(context, stack, DATA_ORDER), stack, strict=True)]
    kept, earlier = _kept(context, stack), None
    if kept:
        heartbeat.found_steps += (kept[0].step - start.step) * len(stack)
        start, earlier = kept
        masks = start.masks or masks
    heartbeat.running = f"{stack[0].id} and {len(stack) - 1} more" if len(stack) > 1 else stack[0].id
    before, begin = heartbeat.steps, start.step

    def each_check(step: int, losses: Tensor) -> None:
        heartbeat.steps = before + (step - begin) * len(stack)
        heartbeat.beat()

    recipe = context.course(stack[0]).recipe
    rates = schedule(context.recipe, recipe.steps, BRANCHES[stack[0].branch].rates)
    audit = Audit(network, recipe, start.step, masks, _snapshot_steps(context, stack[0]), rates)
    trained = train(
        network,
        recipe,
        _batches(context, orders),
        start,
        masks,
        snapshot_steps=_snapshot_steps(context, stack[0]),
        each_check=each_check,
        keep_state=lambda state, trained: _keep(context, stack, state, trained),
        keep_every_seconds=variables().keep_state_seconds,
        stopping=_terminated.is_set,
        earlier=earlier,
        audit=audit,
        changes=changes,
        objective=objective,
    )
    return trained, audit.finish(trained.final.step, trained.snapshots)


def _batches(context: Context, orders: list[tuple[str | int, ...]]) -> Batches | Feed:
    """Training batches in named data orders, one per replicate: of arrays in memory, or of images on disk."""
    x, y, recipe = context.data.x["train"], context.data.y["train"], context.recipe
    if isinstance(x, Images):
        return Feed(x, y, recipe.batch_size, orders, device=context.device)
    return Batches(x, y, recipe.batch_size, orders, recipe.augmentation)


def starting_point(
    context: Context, stack: list[Run], network: Stack, stored_masks: Masks | None = None
) -> tuple[State, Masks]:
    """The state and masks that a stack trains from: new random weights for dense runs, else as its branch defines."""
    if is_dense(stack[0]):
        initialise(network, _names(context, stack, INITIALISATION))
        return read_network(network, 0), {}
    return BRANCHES[stack[0].branch].start(_origin(context, stack, network, stored_masks))


def _methods(
    context: Context, stack: list[Run], network: Stack, first: int, stored_masks: Masks | None
) -> tuple[Changes | None, Objective | None]:
    """What changes a stack's masks while it trains from step `first`, and what it minimises; None is the usual."""
    branch, recipe = BRANCHES[stack[0].branch], context.course(stack[0]).recipe
    if not branch.changes and not branch.objective:
        return None, None
    origin = _origin(context, stack, network, stored_masks)
    span = Span(first, recipe.steps, len(context.data.y["train"]) // recipe.batch_size)
    changes = branch.changes(origin, span) if branch.changes else None
    return changes, branch.objective(origin, span) if branch.objective else None


def _origin(context: Context, stack: list[Run], network: Stack, stored_masks: Masks | None = None) -> Origin:
    """What the branch of a stack makes its starting point from."""
    first, pruning, prunable = stack[0], context.setting.pruning, prunable_names(network)
    return Origin(
        network,
        prunable,
        first.k,
        first.level,
        pruning.density(first.level),
        makes_mask(first) and stored_masks is None,
        CRITERIA[pruning.criterion],
        snapshots=lambda: stacked([_snapshot(context, run) for run in stack]),
        dense=lambda: _finals(context, [dense_run(run.experiment, run.replicate) for run in stack])[0],
        parent=lambda: _parents_finals(context, stack, prunable),
        stored_masks=lambda: stored_masks or _stored_masks(context, stack),
        minibatches=lambda order: _minibatches(context, stack, order, pruning.snip_batches),
        names=lambda purpose: _names(context, stack, purpose),
    )


def _names(context: Context, stack: list[Run], purpose: str) -> list[tuple[str | int, ...]]:
    """The name of each replicate's random draw for a purpose."""
    return [(context.draws, run.replicate, purpose) for run in stack]


def _minibatches(context: Context, stack: list[Run], order: str, count: int) -> list[tuple[Tensor, Tensor]]:
    """Minibatches drawn as in training, but in a separate order that all levels and data orders share."""
    batches = _batches(context, _names(context, stack, order))
    return [batches.batch(step) for step in range(count)]


def _parents_finals(context: Context, stack: list[Run], prunable: list[str]) -> tuple[State, Masks]:
    """The parents' final states and their masks."""
    state, finals = _finals(context, [context.parent(run) for run in stack])
    masks = [part_of(tensors, "mask/") for tensors in finals]
    if not all(masks):
        return state, dense_masks(state.weights, prunable)
    return state, {name: torch.stack([mask[name].float() for mask in masks]) for name in prunable}


def _finals(context: Context, runs: list[Run]) -> tuple[State, list[dict[str, Tensor]]]:
    """The final states of runs as one stack, and all the tensors that each has stored."""
    stored = [context.store.load(run.id) for run in runs]
    return stacked([state_of(part_of(tensors, "final/"), context.recipe.steps) for tensors in stored]), stored


def _stored_masks(context: Context, stack: list[Run]) -> Masks:
    """The masks that the parents have."""
    parts = [context.store.load_part(context.parent(run).id, "mask/") for run in stack]
    return {name: torch.stack([part[name].float() for part in parts]) for name in parts[0]}


def _snapshot(context: Context, run: Run) -> State:
    dense = dense_run(run.experiment, run.replicate).id
    tensors = context.store.load_part(f"{dense}{SNAPSHOTS}", f"k{run.k}/")
    return state_of(tensors, run.k, optimizer_steps=run.k)


def _ancestor_diverged(context: Context, run: Run) -> bool:
    if is_dense(run):
        return False
    return bool(context.store.read(context.parent(run).id)["status"] != "ok")


def _accuracy_at_start(context: Context, run: Run, network: Stack, start: State, masks: Masks) -> Tensor | None:
    """Test accuracy in percent [R] of the pruned weights that a stack trains on from; None where it is rewound."""
    if BRANCHES[run.branch].weights != "trained":
        return None
    pruned = {name: start.weights[name] * mask for name, mask in masks.items()}
    write_network(network, replace(start, weights=start.weights | pruned))
    return evaluate(network, context.data.x["test"], context.data.y["test"])[0]


def _operations(context: Context, run: Run, trained: Trained, position: int) -> float:
    """The multiply-adds of a training's forward passes, of the weights that were kept alone."""
    course, total = context.course(run), 0.0
    for name, count in operations(context.setting.network, context.data.input_shape, context.data.classes).items():
        size = trained.final.weights[name][0].numel()
        kept = trained.weight_steps[name][position] if name in trained.weight_steps else size * course.steps
        total += count / size * kept
    return total * course.recipe.batch_size


def _store(
    context: Context,
    stack: list[Run],
    network: Stack,
    masks: Masks,
    trained: Trained,
    held: list[str],
    first_accuracy: Tensor | None,
) -> list[dict[str, Any]]:
    """Evaluate and store each replicate of a trained stack; its record names the invariants that held."""
    data = context.data
    scores = {
        split: evaluate(network, data.x[split][:most], data.y[split][:most])
        for split, most in (("train", TRAIN_SAMPLES), ("test", None))  # no claim, figure or page reads the validation's
    }
    records = []
    for position, run in enumerate(stack):
        record = _record(context, run) | _outcome(scores, trained, position)
        record["operations"] = _operations(context, run, trained, position)
        record["start_test_accuracy"] = None if first_accuracy is None else float(first_accuracy[position])
        if masks:
            kept, total = remaining(masks)[position], sum(mask[position].numel() for mask in masks.values())
            record |= {"remaining": kept, "prunable": total, "density": kept / total}
        record |= {"seconds": trained.seconds / len(stack), "stack_seconds": trained.seconds, "invariants": held}
        if is_dense(run):
            record["snapshots"] = sorted(trained.snapshots)
            snapshots = f"{run.id}{SNAPSHOTS}"
            context.store.write(
                snapshots, {"id": snapshots, "key": record["key"]}, snapshot_tensors(trained.snapshots, position)
            )
        context.store.write(run.id, record, final_tensors(trained.final, masks, position))
        records.append(record)
    return records


def _outcome(scores: dict[str, tuple[Tensor, Tensor]], trained: Trained, position: int) -> dict[str, Any]:
    """A replicate's outcome: status, accuracies in percent and losses (None if it diverged)."""
    diverged_at = trained.diverged.get(position)
    outcome: dict[str, Any] = {"status": "ok" if diverged_at is None else "diverged", "diverged_at": diverged_at}
    for split, (accuracy, loss) in scores.items():
        outcome[f"{split}_accuracy"] = float(accuracy[position]) if diverged_at is None else None
        outcome[f"{split}_loss"] = float(loss[position]) if diverged_at is None else None
    return outcome


def _record(context: Context, run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "key": context.key(run),
        "inputs": _inputs(context, run),
        "experiment": run.experiment,
        "replicate": run.replicate,
        "k": run.k,
        "level": run.level,
        "branch": run.branch,
        "data_order": run.data_order,
        "density": 1.0,
        "steps": context.course(run).steps,
        "computed_with": computed_with(),
    }


def _record_skipped(context: Context, run: Run) -> dict[str, Any]:
    """Store and return the record of a run that can't be trained because its ancestor diverged."""
    record = {**_record(context, run), "status": "ancestor_diverged", "diverged_at": None, "density": None}
    record |= {f"{split}_{measure}": None for split in ("train", "test") for measure in ("accuracy", "loss")}
    record |= {"seconds": 0.0, "stack_seconds": 0.0}
    context.store.write(run.id, record, {})
    return record
