"""Training a network of somebody's run again from its recorded inputs, to hold it against networks.json."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from harness import data
from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.data import source_of
from harness.lottery.branches import BRANCHES
from harness.lottery.masks import Masks
from harness.networks import build
from harness.plan.runs import Run, Stage, dense_run, stacks, stages
from harness.results.context import Context
from harness.results.environment import made_with
from harness.results.folders import Folders
from harness.results.heartbeats import Heartbeat
from harness.results.store import SNAPSHOTS, Store
from harness.stages.tickets import open_pack, pack_path
from harness.stages.train import train_stack
from harness.training.loop import use_threads
from harness.verify.lineage import SCORES
from harness.verify.packs import prunable, rewound_differences, rewound_fault
from harness.verify.records import Network
from harness.verify.shared_run import SharedRun

#: how far a network may end from the recorded one on another kind of machine, whose last bits differ: over thousands
#: of steps that grows towards the difference which another data order makes
ACCURACY_POINTS = 2.0
#: L2 norm of the difference of the final weights over that of the recorded ones. Networks that have nothing in common
#: are 1.4 apart; the kernels and PyTorch end 0.02 to 0.08 apart with LeNet, 0.9 with a ResNet-20 trained from its start
RELATIVE_DISTANCE = 1.2
#: share of SNIP's mask, which is ranked by gradients, that may differ
MASK_SHARE = 0.01
ACCURACIES = ("test_accuracy", "train_accuracy")
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


def retrain(shared: SharedRun, run: Run, scratch: Path) -> Outcome:
    """Train a run again in a folder of its own and compare. Raises HarnessError where its inputs can't be had.

    A network that ends with the same bits is kept, in `again(scratch)`.
    """
    use_threads(1)
    folders = Folders(scratch / hashlib.sha256(run.id.encode()).hexdigest()[:16])
    context = Context(shared.spec, folders, run.experiment)
    lay_data(shared, folders, scratch, context.setting.data)
    known = _lay_inputs(shared, context, run)
    train_stack(context, [run], Heartbeat(folders.progress / "beat.json", run.id, 1), known)
    stage = next(stage for stage in stages(shared.spec) if any(run in stack for stack in stacks(shared.spec, stage)))
    outcome = Outcome(run.id, exact=exact(shared, stage, "training"))
    _compare(shared, context, run, outcome)
    if outcome.bits:
        path = again(scratch).tensors_path(run.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(context.store.tensors_path(run.id), path)
    shutil.rmtree(folders.runs, ignore_errors=True)
    return outcome


def again(scratch: Path) -> Store:
    """Where networks lie that were trained again to the same bits."""
    return Store(scratch / "again")


def lay_data(shared: SharedRun, folders: Folders, scratch: Path, name: str) -> None:
    """The data set: made anew, or the run's own where it was downloaded and is as its record says."""
    record = scratch / "data" / f"{name}.json"
    if not record.exists():
        own, source = shared.folders.data(name), source_of(name)
        written = shared.record(f"prepare/{name}")["outputs"].get("data")
        if not source.generated and own.is_file() and file_sha256(own) == written:
            record.parent.mkdir(parents=True, exist_ok=True)
            for path in (own, own.with_suffix(".safetensors")):
                (record.parent / path.name).symlink_to(path.resolve())
        else:
            data.prepare(name, record)
    folders.base.mkdir(parents=True, exist_ok=True)
    if not (folders.base / "data").exists():
        (folders.base / "data").symlink_to(record.parent.resolve())


def _lay_inputs(shared: SharedRun, context: Context, run: Run) -> Masks | None:
    """Put into the scratch store what a run starts from. Returns IMP's masks where the parent's weights are not there.

    The inputs are the run's own networks where they lie with it, else its pack of tickets. Copies of the dense network
    continue with the optimizer's memory, which no pack has, and of an IMP network that diverged it has no mask: then
    what they start from is trained first.
    """
    dense = dense_run(run.experiment, run.replicate)
    if run == dense:
        return None
    parent, snapshots = context.parent(run).id, f"{dense.id}{SNAPSHOTS}"
    real, inputs = Store(shared.folders.runs), {name: shared.network(name) for name in (parent, snapshots)}
    if f"k{run.k}" not in inputs[snapshots].parts:
        raise HarnessError(f"{shared.folders.networks}: {snapshots}: has no checksum of step {run.k}. Pull it again")
    if all(at_hand(real, name, network) for name, network in inputs.items()):
        for name, network in inputs.items():
            link(real, context.store, name, network)
    elif run.branch == "dense" or (BRANCHES[run.branch].source == "level" and shared.network(run.id).status != "ok"):
        _train_ancestors(context, run)
    else:
        return _unpack(shared, context, run, inputs[parent], inputs[snapshots])
    return None


def _unpack(shared: SharedRun, context: Context, run: Run, parent: Network, snapshots: Network) -> Masks | None:
    """Put weights of a pack of tickets into the scratch store. Returns the masks of an IMP network."""
    pack = open_pack(pack_path(shared.folders, run.experiment, run.replicate))
    fault = rewound_fault(shared, run.experiment, pack, run.k)
    if fault or pack.prunable != prunable(shared, run.experiment):
        raise HarnessError(
            f"{pack.path}: {fault or 'its prunable weights are not those of the network'}. Pull it again"
        )
    name = f"{dense_run(run.experiment, run.replicate).id}{SNAPSHOTS}"
    context.store.write(name, {}, {f"k{run.k}/{part}": value for part, value in pack.rewound(run.k).items()})
    # the recorded checksum, of the whole snapshot, names the input; the file's own is that of what the pack has of it
    context.store.write_record(name, {**context.store.read(name), "parts": snapshots.parts})
    own = {"sha256": parent.sha256, "status": parent.status}
    context.store.write_record(context.parent(run).id, own)
    if BRANCHES[run.branch].source == "dense":
        return None
    return {weight: mask.float().unsqueeze(0) for weight, mask in pack.mask("imp", run.k, run.level).items()}


def _train_ancestors(context: Context, run: Run) -> None:
    """Train what a run starts from, after what that starts from."""
    parent = context.parent(run)
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
    target.write_record(name, record)


def exact(shared: SharedRun, stage: Stage, part: str) -> bool:
    """Whether a stage gives the same bits here: the same code (`part` of it), kind of machine and libraries.

    In the CPU kernels a replicate has the same bits in a stack of any size; in PyTorch in one of the same size only.
    """
    then, now = shared.record(stage.name), made_with()
    same = shared.same_code(part) and all(
        then[group].get(name) == now[group].get(name)
        for group, names in (("hardware", ("cpu", "gpu", "kernels")), ("packages", ("torch", "numpy")))
        for name in names
    )
    setting, recipe = shared.spec.scale.experiments[stage.experiment], shared.spec.recipe(stage.experiment)
    source = source_of(setting.data)
    written = hasattr(build(setting.network, 1, source.shape, source.classes), "write")
    in_kernels = written and recipe.optimizer in _OPTIMIZERS and not now["hardware"]["gpu"]
    in_kernels = in_kernels and now["hardware"]["kernels"] != "torch" and recipe.precision == "float32"
    return same and (in_kernels or len(stage.replicates) == 1)


def _compare(shared: SharedRun, context: Context, run: Run, outcome: Outcome) -> None:
    """Hold a network that was trained again against networks.json, and the dense one against its tickets."""
    trained, recorded = context.store.read(run.id), shared.network(run.id)
    if trained["status"] != recorded.status:
        outcome.differences.append(f"ended {trained['status']}, networks.json says {recorded.status}")
        return
    if outcome.exact and trained["diverged_at"] != recorded.diverged_at:
        outcome.differences.append(
            f"diverged at step {trained['diverged_at']}, networks.json says {recorded.diverged_at}"
        )
        return
    dense = run == dense_run(run.experiment, run.replicate)
    other = [name for name in ACCURACIES if trained[name] != getattr(recorded, name)]
    for name in (run.id, f"{run.id}{SNAPSHOTS}") if dense else (run.id,):
        parts = context.store.read(name)["parts"]
        different = [part for part, checksum in shared.network(name).parts.items() if parts.get(part) != checksum]
        other += [part if name == run.id else f"{part} of {name}" for part in different]
    outcome.bits = not other
    if outcome.bits:
        outcome.words = "the same bits"
        path = pack_path(shared.folders, run.experiment, run.replicate)
        if dense and path.exists():
            snapshots = context.store.load(f"{run.id}{SNAPSHOTS}")
            outcome.differences += rewound_differences(shared, open_pack(path), snapshots)
        scores = {name: (trained[name], getattr(recorded, name)) for name in SCORES}
        outcome.differences += [f"{name}: {a}, networks.json says {b}" for name, (a, b) in scores.items() if a != b]
    elif trained["status"] == "diverged":
        outcome.words = f"diverged again, at step {trained['diverged_at']} (recorded {recorded.diverged_at})"
    elif outcome.exact:
        outcome.differences.append(f"other bits on the same kind of machine with the same code: {', '.join(other)}")
    else:
        _within(shared, context, run, outcome)


def _within(shared: SharedRun, context: Context, run: Run, outcome: Outcome) -> None:
    """Compare where the last bits may differ."""
    trained, recorded = context.store.read(run.id), shared.networks[run.id]
    tensors, said = context.store.load(run.id), []
    for name in ACCURACIES:
        accuracy, before = trained[name], getattr(recorded, name)
        if accuracy is None or before is None:
            continue
        said.append(f"{name.replace('_', ' ')} {accuracy:.2f} (recorded {before:.2f})")
        if abs(accuracy - before) > ACCURACY_POINTS:
            outcome.differences.append(f"{said[-1]}: more than {ACCURACY_POINTS:g} points apart")
    if recorded.parts.get("mask") != trained["parts"].get("mask"):
        outcome.differences += _mask_differences(shared, run, tensors)
    real = Store(shared.folders.runs)
    if at_hand(real, run.id, recorded):
        distance = relative_distance(tensors, real.load(run.id))
        said.append(f"weights {distance:.2g} apart")
        if distance > RELATIVE_DISTANCE:
            outcome.differences.append(f"final weights: {distance:.2g} apart, more than {RELATIVE_DISTANCE:g}")
    outcome.words = "within tolerance: " + ", ".join(said)


def _mask_differences(shared: SharedRun, run: Run, tensors: dict[str, Tensor]) -> Iterator[str]:
    """A mask that is made anew, from weights, is the same one; SNIP's, from gradients, nearly."""
    if BRANCHES[run.branch].source != "dense":
        yield "its mask is not the one in networks.json"
        return
    recorded = open_pack(pack_path(shared.folders, run.experiment, run.replicate)).mask(run.branch, run.k, run.level)
    changed = sum(int((tensors[f"mask/{name}"] != value).sum()) for name, value in recorded.items())
    total = sum(value.numel() for value in recorded.values())
    if changed > MASK_SHARE * total:
        yield f"its mask differs in {changed:,} of {total:,} weights, more than {MASK_SHARE:.0%}"


def relative_distance(trained: dict[str, Tensor], recorded: dict[str, Tensor]) -> float:
    """L2 norm of the difference of all final weights over that of the recorded ones."""
    names = [name for name in recorded if name.startswith("final/weights/")]
    gap = sum(float((trained[name].double() - recorded[name].double()).pow(2).sum()) for name in names)
    size = sum(float(recorded[name].double().pow(2).sum()) for name in names)
    return (gap / size) ** 0.5 if size else 0.0
