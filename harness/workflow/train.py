"""The training stages: what each run starts from, and how a stack is trained, recorded and found again."""

import os
import signal
import threading
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.feed import Feed
from harness.data.images import Images
from harness.files import digest
from harness.networks import build, initialise, prunable_names
from harness.plan import Run, Stage, dense_run, stacks, steps_of
from harness.pruning import Masks, dense_masks, keep_count, keep_largest, prune_by_magnitude, remaining, shuffled
from harness.pruning.snip import sensitivity
from harness.training.batches import Batches
from harness.training.loop import Trained, evaluate, train, use_threads
from harness.training.partial import read_partial, write_partial
from harness.training.state import State, read_network, stacked, write_network
from harness.training.store import SNAPSHOTS, final_tensors, snapshot_tensors, state_of
from harness.workflow.context import Context
from harness.workflow.progress import Heartbeat

TRAIN_SAMPLES = 5000  # of the training split, on which the training accuracy is measured
_terminated = threading.Event()  # set by SIGTERM, which a cluster sends before it takes a machine back
KEEP_STATE_SECONDS = float(os.environ.get("HARNESS_KEEP_STATE_SECONDS", "120"))


def train_stage(context: Context, stage: Stage, threads: int, heartbeat: Heartbeat) -> dict[str, Any]:
    """Train what the stage's stacks lack.

    Returns the stage's runs, the steps and seconds trained now, and the seconds that its networks took whenever they
    were trained.
    """
    use_threads(threads)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _terminated.set())
    seconds, network_seconds, steps = 0.0, 0.0, 0
    runs: list[str] = []
    for stack in stacks(context.spec, stage):
        runs += [run.id for run in stack]
        found = {run: finished(context, run) for run in stack}
        records = [record for record in found.values() if record is not None]
        heartbeat.found_steps += sum(record["steps"] for record in records)
        missing = [run for run, record in found.items() if record is None]
        if missing:
            trained = train_stack(context, missing, heartbeat)
            seconds += max((record["stack_seconds"] for record in trained), default=0.0)
            steps += sum(record["steps"] for record in trained)
            records += trained
        network_seconds += max((record["stack_seconds"] for record in records), default=0.0)
        heartbeat.done += len(stack)
        accuracies = [record["test_accuracy"] for record in records if record["test_accuracy"] is not None]
        heartbeat.accuracy = sum(accuracies) / len(accuracies) if accuracies else heartbeat.accuracy
        heartbeat.beat(now=True)
    return {"runs": runs, "training_seconds": seconds, "network_seconds": network_seconds, "steps": steps}


def finished(context: Context, run: Run) -> dict[str, Any] | None:
    """The record of a run made with these settings from these very inputs, here or where else it may lie, or None."""
    inputs, snapshots = _inputs(context, run), set(context.setting.snapshot_steps() if _is_dense(run) else ())
    return context.store.find(
        run.id,
        context.key(run),
        lambda record: record.get("inputs") == inputs and snapshots <= set(record.get("snapshots", ())),
    )


def _is_dense(run: Run) -> bool:
    return run == dense_run(run.experiment, run.replicate)


def _inputs(context: Context, run: Run) -> dict[str, str]:
    """Checksums of the stored network and the snapshot that a run starts from, by their places in the experiment.

    Of the snapshots, which lie in one file, that of its k alone counts: others beside it change nothing.
    """
    if _is_dense(run):
        return {}
    parent = _parent(context, run)
    record = context.store.read(parent.id)
    found = {_place(parent.id): record["sha256"]}
    if record["status"] == "ok" and run.branch != "random_reinit":
        snapshots = f"{dense_run(run.experiment, run.replicate).id}{SNAPSHOTS}"
        found[f"{_place(snapshots)}/k{run.k}"] = context.store.read(snapshots)["parts"][f"k{run.k}"]
    return found


def _place(run: str) -> str:
    """A run's id without its experiment, which may have another name where it is stored too."""
    return run.partition("/")[2]


def train_stack(
    context: Context, stack: list[Run], heartbeat: Heartbeat, known: Masks | None = None
) -> list[dict[str, Any]]:
    """Train one run per replicate side by side and store them. Replicates whose ancestors diverged are left out.

    `known` are IMP's masks of the stack's level, for a stack whose parents' weights are not at hand.
    """
    healthy = [run for run in stack if not _ancestor_diverged(context, run)]
    records = [_record_skipped(context, run) for run in stack if run not in healthy]
    if not healthy:
        return records
    first = healthy[0]
    data, setting = context.data, context.setting
    network = build(setting.network, len(healthy), data.input_shape, data.classes).to(context.device)
    start, masks = starting_point(context, healthy, network, known)
    if setting.restart and not _is_dense(first):
        start = State(0, start.weights, start.buffers)
    orders: list[tuple[str | int, ...]] = [
        (context.draws, run.replicate, "data order", run.data_order) for run in healthy
    ]
    batches = _batches(context, orders)
    snapshot_steps = setting.snapshot_steps() if _is_dense(first) else []
    settled = digest([[_record(context, run) for run in healthy], snapshot_steps])
    partial = context.folders.state / f"{settled[:32]}.safetensors"
    kept = read_partial(partial)
    earlier = None
    if kept:
        heartbeat.found_steps += (kept[0].step - start.step) * len(healthy)
        start, earlier = kept
    heartbeat.running = f"{first.id} and {len(healthy) - 1} more" if len(healthy) > 1 else first.id
    before, begin = heartbeat.steps, start.step

    def each_check(step: int, losses: Tensor) -> None:
        heartbeat.steps = before + (step - begin) * len(healthy)
        heartbeat.beat()

    trained = train(
        network,
        context.recipe,
        batches,
        start,
        masks,
        snapshot_steps=snapshot_steps,
        each_check=each_check,
        keep_state=lambda state, trained: write_partial(partial, state, trained),
        keep_every_seconds=KEEP_STATE_SECONDS,
        stopping=_terminated.is_set,
        earlier=earlier,
    )
    records += _store(context, healthy, network, masks, trained)
    partial.unlink(missing_ok=True)
    return records


def _batches(context: Context, orders: list[tuple[str | int, ...]]) -> Batches | Feed:
    """Training batches in named data orders, one per replicate: of arrays in memory, or of images on disk."""
    x, y, recipe = context.data.x["train"], context.data.y["train"], context.recipe
    if isinstance(x, Images):
        return Feed(x, y, recipe.batch_size, orders, device=context.device)
    return Batches(x, y, recipe.batch_size, orders, recipe.augmentation)


def starting_point(
    context: Context, stack: list[Run], network: nn.Module, known: Masks | None = None
) -> tuple[State, Masks]:
    """The state and masks that a stack trains from, by branch (STAB section 3; DESIGN's branches)."""
    first = stack[0]
    if _is_dense(first):
        initialise(network, [(context.draws, run.replicate, "initialisation") for run in stack])
        return read_network(network, 0), {}
    snapshots = stacked([_snapshot(context, run) for run in stack])
    if first.branch == "dense":  # a copy of the dense run from k on: the whole state, another data order
        return snapshots, {}
    if first.branch == "snip":
        return snapshots.rewound(), _snip_masks(context, stack, network, snapshots)
    masks = known or (_imp_masks(context, stack, network) if _makes_mask(first) else _stored_masks(context, stack))
    if first.branch == "random_prune":
        masks = shuffled(masks, [(context.draws, run.replicate, "random prune", run.k, run.level) for run in stack])
    if first.branch == "random_reinit":
        initialise(network, [(context.draws, run.replicate, "reinitialisation", run.k, run.level) for run in stack])
        return read_network(network, first.k), masks
    return snapshots.rewound(), masks


def _makes_mask(run: Run) -> bool:
    """Whether a run prunes; other branches and data orders of its level take the mask that it stored."""
    return run.branch == "imp" and run.data_order == 0


def _imp_masks(context: Context, stack: list[Run], network: nn.Module) -> Masks:
    """Prune the parents' final weights to the level's exact count."""
    pruning = context.setting.pruning
    finals, parent_masks = [], []
    names = prunable_names(network)
    for run in stack:
        tensors = context.store.load(_parent(context, run).id)
        finals.append({name: tensors[f"final/weights/{name}"] for name in names})
        parent_masks.append({name: tensors[f"mask/{name}"].float() for name in names if f"mask/{name}" in tensors})
    weights = {name: torch.stack([final[name] for final in finals]) for name in names}
    masks = dense_masks(weights, names)
    if all(parent_masks):
        masks = {name: torch.stack([mask[name] for mask in parent_masks]) for name in names}
    total = sum(mask[0].numel() for mask in masks.values())
    return prune_by_magnitude(weights, masks, keep_count(total, pruning.density(stack[0].level)))


def _snip_masks(context: Context, stack: list[Run], network: nn.Module, snapshots: State) -> Masks:
    """Prune the snapshots by SNIP's sensitivity, to the level's exact count at once.

    The minibatches are drawn like those of training, in an order of their own that all levels and data orders share.
    """
    pruning, names = context.setting.pruning, prunable_names(network)
    batches = _batches(context, [(context.draws, run.replicate, "snip") for run in stack])
    write_network(network, snapshots)
    scores = sensitivity(network, [batches.batch(step) for step in range(pruning.snip_batches)], names)
    scores = {name: score.cpu() for name, score in scores.items()}
    total = sum(score[0].numel() for score in scores.values())
    return keep_largest(scores, dense_masks(scores, names), keep_count(total, pruning.density(stack[0].level)))


def _stored_masks(context: Context, stack: list[Run]) -> Masks:
    """The masks of the level's IMP runs."""
    parts = [context.store.load_part(_parent(context, run).id, "mask/") for run in stack]
    return {name: torch.stack([part[name].float() for part in parts]) for name in parts[0]}


def _parent(context: Context, run: Run) -> Run:
    """The run whose final weights or mask a run starts from."""
    dense = dense_run(run.experiment, run.replicate)
    if run.branch in ("dense", "snip"):
        return dense
    if not _makes_mask(run):
        return Run(run.experiment, run.replicate, run.k, run.level, "imp", 0)
    if run.level == 1 or context.setting.pruning.style == "one_shot":
        return dense
    return Run(run.experiment, run.replicate, run.k, run.level - 1, "imp", 0)


def _snapshot(context: Context, run: Run) -> State:
    dense = dense_run(run.experiment, run.replicate).id
    tensors = context.store.load_part(f"{dense}{SNAPSHOTS}", f"k{run.k}/")
    return state_of(tensors, run.k, optimizer_steps=run.k)


def _ancestor_diverged(context: Context, run: Run) -> bool:
    if _is_dense(run):
        return False
    return bool(context.store.read(_parent(context, run).id)["status"] != "ok")


def _store(
    context: Context, stack: list[Run], network: nn.Module, masks: Masks, trained: Trained
) -> list[dict[str, Any]]:
    """Evaluate and store each replicate of a trained stack."""
    data = context.data
    scores = {
        split: evaluate(network, data.x[split][:most], data.y[split][:most])
        for split, most in (("train", TRAIN_SAMPLES), ("validation", None), ("test", None))
        if len(data.y[split])  # the paper holds nothing out of ImageNet
    }
    records = []
    for position, run in enumerate(stack):
        diverged_at = trained.diverged.get(position)
        record = {
            **_record(context, run),
            "status": "ok" if diverged_at is None else "diverged",
            "diverged_at": diverged_at,
        }
        record |= {f"validation_{measure}": None for measure in ("accuracy", "loss")}
        for split, (accuracy, loss) in scores.items():
            record[f"{split}_accuracy"] = float(accuracy[position]) if diverged_at is None else None
            record[f"{split}_loss"] = float(loss[position]) if diverged_at is None else None
        if masks:
            kept, total = remaining(masks)[position], sum(mask[position].numel() for mask in masks.values())
            record |= {"remaining": kept, "prunable": total, "density": kept / total}
        record |= {"seconds": trained.seconds / len(stack), "stack_seconds": trained.seconds}
        if _is_dense(run):
            record["snapshots"] = sorted(trained.snapshots)
            snapshots = f"{run.id}{SNAPSHOTS}"
            context.store.write(
                snapshots, {"id": snapshots, "key": record["key"]}, snapshot_tensors(trained.snapshots, position)
            )
        context.store.write(run.id, record, final_tensors(trained.final, masks, position))
        records.append(record)
    return records


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
        "steps": steps_of(run, context.recipe.steps, context.setting.restart),
    }


def _record_skipped(context: Context, run: Run) -> dict[str, Any]:
    """The record of a run that can't be trained, because what it starts from diverged."""
    record = {**_record(context, run), "status": "ancestor_diverged", "diverged_at": None, "density": None}
    record |= {
        f"{split}_{measure}": None for split in ("train", "validation", "test") for measure in ("accuracy", "loss")
    }
    record |= {"seconds": 0.0, "stack_seconds": 0.0}
    context.store.write(run.id, record, {})
    return record
