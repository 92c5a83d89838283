"""Training a network of somebody's run again from its recorded inputs, to hold it against networks.json."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from harness import data
from harness.data import source_of
from harness.errors import HarnessError
from harness.files import file_sha256, write_json
from harness.networks import build
from harness.plan import Run, Stage, dense_run, stacks, stages
from harness.pruning import Masks
from harness.share.given import Given, Network
from harness.share.packs import prunable, rewound_differences, rewound_fault
from harness.share.tickets import open_pack, pack_path
from harness.training.loop import use_threads
from harness.training.store import SNAPSHOTS, Store
from harness.workflow.context import Context, Folders
from harness.workflow.progress import Heartbeat
from harness.workflow.stages import made_with
from harness.workflow.train import _parent, train_stack

#: how far a network may end from the recorded one on another kind of machine, whose last bits differ: over thousands
#: of steps that grows towards the difference which another data order makes
ACCURACY_POINTS = 2.0
#: L2 norm of the difference of the final weights over that of the recorded ones. Networks that have nothing in common
#: are 1.4 apart; the kernels and PyTorch end 0.02 to 0.08 apart with LeNet, 0.9 with a ResNet-20 trained from its start
RELATIVE_DISTANCE = 1.2
#: share of SNIP's mask, which is ranked by gradients, that may differ
MASK_SHARE = 0.01
_OPTIMIZERS = ("momentum", "adam")  # that the CPU kernels know


@dataclass
class Outcome:
    """What came of training a network again: its differences, and how it agrees in words."""

    run: str
    bits: bool = False  # the same bits
    exact: bool = False  # the same bits were to be expected
    words: str = ""
    differences: list[str] = field(default_factory=list)


def choose(names: list[str], number: int, seed: int) -> list[str]:
    """`number` of the names, each equally likely, the same for the same seed whatever the machine and their order."""
    ranked = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest())
    return ranked[:number]


def retrain(given: Given, run: Run, scratch: Path) -> Outcome:
    """Train a run again in a folder of its own and compare. Raises HarnessError where its inputs can't be had.

    A network that ends with the same bits is kept, in `again(scratch)`.
    """
    use_threads(1)
    folders = Folders(scratch / hashlib.sha256(run.id.encode()).hexdigest()[:16])
    context = Context(given.spec, folders, run.experiment)
    lay_data(given, folders, scratch / "data", context.setting.data)
    known = _lay_inputs(given, context, run)
    train_stack(context, [run], Heartbeat(folders.progress / "beat.json", run.id, 1), known)
    stage = next(one for one in stages(given.spec) if any(run in stack for stack in stacks(given.spec, one)))
    outcome = Outcome(run.id, exact=exact(given, stage, "training"))
    _compare(given, context, run, outcome)
    if outcome.bits:
        path = again(scratch).tensors_path(run.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(context.store.tensors_path(run.id), path)
    shutil.rmtree(folders.runs, ignore_errors=True)
    return outcome


def again(scratch: Path) -> Store:
    """Where networks lie that were trained again to the same bits."""
    return Store(scratch / "again")


def lay_data(given: Given, folders: Folders, shared: Path, name: str) -> None:
    """The data set: made anew, or the run's own where it was downloaded and is as its record says."""
    record = shared / f"{name}.json"
    if not record.exists():
        own, source = given.folders.data(name), source_of(name)
        written = given.record(f"prepare/{name}")["outputs"].get("data")
        if not source.generated and own.is_file() and file_sha256(own) == written:
            record.parent.mkdir(parents=True, exist_ok=True)
            for path in (own, own.with_suffix(".safetensors")):
                (record.parent / path.name).symlink_to(path.resolve())
        else:
            data.prepare(name, record)
    folders.base.mkdir(parents=True, exist_ok=True)
    if not (folders.base / "data").exists():
        (folders.base / "data").symlink_to(shared.resolve())


def _lay_inputs(given: Given, context: Context, run: Run) -> Masks | None:
    """Put into the scratch store what a run starts from. Returns IMP's masks where the parent's weights are not there.

    The inputs are the run's own networks where they lie with it, else its pack of tickets. Copies of the dense network
    continue with the optimizer's memory, which no pack has, and of an IMP network that diverged it has no mask: then
    what they start from is trained first.
    """
    dense = dense_run(run.experiment, run.replicate)
    if run == dense:
        return None
    parent, snapshots = _parent(context, run), f"{dense.id}{SNAPSHOTS}"
    real, inputs = Store(given.folders.runs), {name: given.network(name) for name in (parent.id, snapshots)}
    if f"k{run.k}" not in inputs[snapshots].parts:
        raise HarnessError(f"{given.folders.networks}: {snapshots}: has no checksum of step {run.k}. Pull it again")
    if all(at_hand(real, name, network) for name, network in inputs.items()):
        for name, network in inputs.items():
            link(real, context.store, name, network)
        return None
    if run.branch == "dense" or (run.branch == "imp" and given.network(run.id).status != "ok"):
        _train_ancestors(context, run)
        return None
    pack = open_pack(pack_path(given.folders, run.experiment, run.replicate))
    fault = rewound_fault(given, run.experiment, pack, run.k)
    if fault or pack.prunable != prunable(given, run.experiment):
        raise HarnessError(
            f"{pack.path}: {fault or 'its prunable weights are not those of the network'}. Pull it again"
        )
    rewound = {f"k{run.k}/{name}": value for name, value in pack.rewound(run.k).items()}
    context.store.write(snapshots, {}, rewound)
    # the recorded checksum, of the whole snapshot, names the input; the file's own is that of what the pack has of it
    record = context.store.read(snapshots)
    write_json(context.store.record_path(snapshots), {**record, "parts": inputs[snapshots].parts})
    own = {"sha256": inputs[parent.id].sha256, "status": inputs[parent.id].status}
    write_json(context.store.record_path(parent.id), own)
    if run.branch == "snip":
        return None
    mask = pack.mask("imp", run.k, run.level)
    return {name: part.float().unsqueeze(0) for name, part in mask.items()}


def _train_ancestors(context: Context, run: Run) -> None:
    """Train what a run starts from, after what that starts from."""
    parent = _parent(context, run)
    if parent != dense_run(run.experiment, run.replicate):
        _train_ancestors(context, parent)
    train_stack(context, [parent], Heartbeat(context.folders.progress / "beat.json", parent.id, 1))


def at_hand(store: Store, name: str, network: Network) -> bool:
    """Whether a store has a network's tensors with the checksum of networks.json."""
    path = store.tensors_path(name)
    return path.is_file() and file_sha256(path) == network.sha256


def link(source: Store, target: Store, name: str, network: Network) -> None:
    """Make a stored network readable in another store, under the checksums of networks.json."""
    path = target.tensors_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(source.tensors_path(name).resolve())
    record = {"sha256": network.sha256, "parts": network.parts, "status": network.status}
    write_json(target.record_path(name), record)


def exact(given: Given, stage: Stage, part: str) -> bool:
    """Whether a stage gives the same bits here: the same code (`part` of it), kind of machine and libraries.

    In the CPU kernels a replicate has the same bits in a stack of any size; in PyTorch in one of the same size only.
    """
    then, now = given.record(stage.name), made_with()
    same = given.same_code(part) and all(
        _facts(then, group, name) == now[group].get(name)
        for group, names in (("hardware", ("cpu", "gpu", "kernels")), ("packages", ("torch", "numpy")))
        for name in names
    )
    setting, recipe = given.spec.scale.experiments[stage.experiment], given.spec.recipe(stage.experiment)
    source = source_of(setting.data)
    written = hasattr(build(setting.network, 1, source.shape, source.classes), "write")
    in_kernels = written and recipe.optimizer in _OPTIMIZERS and not now["hardware"]["gpu"]
    in_kernels = in_kernels and now["hardware"]["kernels"] != "torch" and recipe.precision == "float32"
    return same and (in_kernels or len(stage.replicates) == 1)


def _facts(record: dict[str, Any], group: str, name: str) -> object:
    found = record.get(group)
    return found.get(name) if isinstance(found, dict) else None


def _compare(given: Given, context: Context, run: Run, outcome: Outcome) -> None:
    made, told = context.store.read(run.id), given.network(run.id)
    if made["status"] != told.status:
        outcome.differences.append(f"ended {made['status']}, networks.json says {told.status}")
        return
    if outcome.exact and made["diverged_at"] != told.diverged_at:
        outcome.differences.append(f"diverged at step {made['diverged_at']}, networks.json says {told.diverged_at}")
        return
    names = [run.id, f"{run.id}{SNAPSHOTS}"] if run == dense_run(run.experiment, run.replicate) else [run.id]
    parts = [(name, part) for name in names for part in given.network(name).parts]
    other = [
        f"{part} of {name}" if name != run.id else part
        for name, part in parts
        if context.store.read(name)["parts"].get(part) != given.networks[name].parts[part]
    ]
    scores = ("test_accuracy", "train_accuracy")
    other += [name for name in scores if made[name] != getattr(told, name)]
    outcome.bits = not other
    if outcome.bits:
        outcome.words = "the same bits"
        outcome.differences += _pack_differences(given, context, run)
        outcome.differences += _score_differences(told, made)
    elif made["status"] == "diverged":
        outcome.words = f"diverged again, at step {made['diverged_at']} (recorded {told.diverged_at})"
    elif outcome.exact:
        outcome.differences.append(f"other bits on the same kind of machine with the same code: {', '.join(other)}")
    else:
        _within(given, context, run, outcome)


def _pack_differences(given: Given, context: Context, run: Run) -> Iterator[str]:
    """The weights that tickets are rewound to against the snapshots of the dense run, just trained."""
    path = pack_path(given.folders, run.experiment, run.replicate)
    if run != dense_run(run.experiment, run.replicate) or not path.exists():
        return
    yield from rewound_differences(given, open_pack(path), context.store.load(f"{run.id}{SNAPSHOTS}"))


def _score_differences(told: Network, made: dict[str, Any]) -> Iterator[str]:
    """Losses and validation accuracy."""
    for name in ("train_loss", "test_loss", "validation_loss", "validation_accuracy"):
        if getattr(told, name) != made[name]:
            yield f"{name}: {made[name]}, networks.json says {getattr(told, name)}"


def _within(given: Given, context: Context, run: Run, outcome: Outcome) -> None:
    """Compare where the last bits may differ."""
    made, told = context.store.read(run.id), given.networks[run.id]
    tensors = context.store.load(run.id)
    said = []
    for name in ("test_accuracy", "train_accuracy"):
        one, other = made[name], getattr(told, name)
        if one is None or other is None:
            continue
        said.append(f"{name.replace('_', ' ')} {one:.2f} (recorded {other:.2f})")
        if abs(one - other) > ACCURACY_POINTS:
            outcome.differences.append(
                f"{name}: {one:.2f}, recorded {other:.2f}: more than {ACCURACY_POINTS:g} points apart"
            )
    real = Store(given.folders.runs)
    recorded = real.load(run.id) if at_hand(real, run.id, told) else {}
    mask = {name: value for name, value in tensors.items() if name.startswith("mask/")}
    if told.parts.get("mask") != made["parts"].get("mask"):
        outcome.differences += _mask_differences(given, run, mask)
    if recorded:
        distance = relative_distance(tensors, recorded)
        said.append(f"weights {distance:.2g} apart")
        if distance > RELATIVE_DISTANCE:
            outcome.differences.append(f"final weights: {distance:.2g} apart, more than {RELATIVE_DISTANCE:g}")
    outcome.words = "within tolerance: " + ", ".join(said)


def _mask_differences(given: Given, run: Run, mask: dict[str, Tensor]) -> Iterator[str]:
    """A mask that is made anew, from weights, is the same one; SNIP's, from gradients, nearly."""
    if run.branch != "snip":
        yield "its mask is not the one in networks.json"
        return
    told = open_pack(pack_path(given.folders, run.experiment, run.replicate)).mask("snip", run.k, run.level)
    changed = sum(int((mask[f"mask/{name}"] != value).sum()) for name, value in told.items())
    total = sum(value.numel() for value in told.values())
    if changed > MASK_SHARE * total:
        yield f"its mask differs in {changed:,} of {total:,} weights, more than {MASK_SHARE:.0%}"


def relative_distance(made: dict[str, Tensor], recorded: dict[str, Tensor]) -> float:
    """L2 norm of the difference of all final weights over that of the recorded ones."""
    names = [name for name in recorded if name.startswith("final/weights/")]
    gap = sum(float((made[name].double() - recorded[name].double()).pow(2).sum()) for name in names)
    size = sum(float(recorded[name].double().pow(2).sum()) for name in names)
    return (gap / size) ** 0.5 if size else 0.0
