"""Training a network of somebody's run again from its recorded inputs, to hold it against networks.json."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from harness import data
from harness.base.cores import usable_cores
from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.data import source_of
from harness.lottery.branches import BRANCHES
from harness.lottery.masks import Masks
from harness.plan.cut import cut
from harness.plan.runs import Run, Stage, dense_run, owner, stacks, stages
from harness.results.context import Context
from harness.results.environment import made_with
from harness.results.folders import Folders
from harness.results.heartbeats import Heartbeat
from harness.results.store import SNAPSHOTS, Store
from harness.stages.tickets import Pack, open_pack, pack_path
from harness.stages.train import train_stack
from harness.training.loop import use_threads
from harness.verify.lineage import SCORES
from harness.verify.packs import described, rewound_differences, rewound_fault
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
COUNTS = ("start_test_accuracy", "operations")


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

    A network that ends with the same bits is kept: see `at_hand`.
    """
    stage = next(stage for stage in stages(shared.spec) if any(run in stack for stack in stacks(shared.spec, stage)))
    use_threads(threads(shared, stage), shared.spec.recipe(run.experiment).precision)
    folders = Folders(scratch / hashlib.sha256(run.id.encode()).hexdigest()[:16])
    context = Context(shared.spec, folders, run.experiment)
    lay_data(shared, folders, scratch, context.setting.data)
    known = _lay_inputs(shared, context, run, scratch)
    train_stack(context, [run], Heartbeat(folders.progress / "beat.json", run.id, 1), known)
    outcome = Outcome(run.id, exact=exact(shared, stage, "training"))
    outcome.differences += _compare(shared, context, run, scratch, outcome)
    if outcome.bits:
        path = _again(scratch).tensors_path(run.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(context.store.tensors_path(run.id), path)
    shutil.rmtree(folders.runs, ignore_errors=True)
    return outcome


def _again(scratch: Path) -> Store:
    """Where networks lie that were trained again to the same bits."""
    return Store(scratch / "again")


def at_hand(shared: SharedRun, name: str, scratch: Path) -> Path | None:
    """The tensors of a network with the checksum of networks.json: just trained again, or with the run."""
    paths = [store.tensors_path(name) for store in (_again(scratch), Store(shared.folders.runs))]
    checksum = shared.network(name).sha256
    return next((path for path in paths if path.is_file() and file_sha256(path) == checksum), None)


def link(shared: SharedRun, name: str, scratch: Path, store: Store) -> bool:
    """Make a network readable in another store, under the checksums of networks.json. False if it is not at hand."""
    path, place, network = at_hand(shared, name, scratch), store.tensors_path(name), shared.network(name)
    if path and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
        store.write_record(name, {"sha256": network.sha256, "parts": network.parts, "status": network.status})
    return path is not None


def lay_data(shared: SharedRun, folders: Folders, scratch: Path, name: str) -> None:
    """The data set: made anew, or the run's own where it was downloaded and is as its record says."""
    record = scratch / "data" / f"{name}.json"
    if not record.exists():
        own, source = shared.folders.data(name), source_of(name, shared.spec.scale.data)
        written = shared.record(f"prepare/{name}")["outputs"].get("data")
        if not source.generated and own.is_file() and file_sha256(own) == written:
            record.parent.mkdir(parents=True, exist_ok=True)
            for path in (own, own.with_suffix(".safetensors")):
                (record.parent / path.name).symlink_to(path.resolve())
        else:
            data.prepare(name, record, shared.spec.scale.data)
    folders.base.mkdir(parents=True, exist_ok=True)
    if not (folders.base / "data").exists():
        (folders.base / "data").symlink_to(record.parent.resolve())


def _lay_inputs(shared: SharedRun, context: Context, run: Run, scratch: Path) -> Masks | None:
    """Put into the scratch store what a run starts from. Returns IMP's masks where the parent's weights are not there.

    The inputs are the run's own networks where they lie with it, else its pack of tickets. Copies of the dense network
    continue with the optimizer's memory, which no pack has, and other networks from trained weights, which none has
    either; of the dense network's last state, and of an IMP network that diverged, it has nothing: then what they start
    from is trained first.
    """
    dense = dense_run(run.experiment, run.replicate)
    if run == dense:
        return None
    parent, snapshots = context.parent(run).id, f"{dense.id}{SNAPSHOTS}"
    branch = BRANCHES[run.branch]
    names = (parent, snapshots, dense.id) if branch.reads_dense else (parent, snapshots)
    linked = [link(shared, name, scratch, context.store) for name in names]
    if f"k{run.k}" not in shared.network(snapshots).parts:
        raise HarnessError(f"{shared.folders.networks}: {snapshots}: has no checksum of step {run.k}. Pull it again")
    if all(linked):
        return None
    diverged = branch.source == "level" and shared.network(run.id).status != "ok"
    if run.branch == "dense" or branch.weights == "trained" or branch.reads_dense or diverged:
        _train_ancestors(context, run)
        return None
    return _unpack(shared, context, run, parent, snapshots)


def _pack(shared: SharedRun, run: Run) -> Pack:
    return open_pack(pack_path(shared.folders, run.experiment, run.replicate))


def _unpack(shared: SharedRun, context: Context, run: Run, parent: str, snapshots: str) -> Masks | None:
    """Put weights of a pack of tickets into the scratch store. Returns the masks of an IMP network."""
    pack, network = _pack(shared, run), shared.network(parent)
    fault = rewound_fault(shared, run.experiment, pack, run.k)
    if fault or pack.prunable != described(shared, run.experiment, run.replicate).prunable:
        raise HarnessError(
            f"{pack.path}: {fault or 'its prunable weights are not those of the network'}. Pull it again"
        )
    context.store.write(snapshots, {}, {f"k{run.k}/{part}": value for part, value in pack.rewound(run.k).items()})
    # the recorded checksum, of the whole snapshot, names the input; the file's own is that of what the pack has of it
    record = {**context.store.read(snapshots), "parts": shared.network(snapshots).parts}
    context.store.write_record(snapshots, record)
    context.store.write_record(parent, {"sha256": network.sha256, "status": network.status})
    if BRANCHES[run.branch].source == "dense":
        return None
    masks = pack.mask(owner(run.branch), run.k, run.level)
    return {weight: mask.float().unsqueeze(0) for weight, mask in masks.items()}


def _train_ancestors(context: Context, run: Run) -> None:
    """Train what a run starts from, after what that starts from."""
    parent = context.parent(run)
    if parent != dense_run(run.experiment, run.replicate):
        _train_ancestors(context, parent)
    train_stack(context, [parent], Heartbeat(context.folders.progress / "beat.json", parent.id, 1))


def threads(shared: SharedRun, stage: Stage) -> int:
    """The threads that each process of a stage's job had, or all that there are here. PyTorch's bits depend on them."""
    had = max(1, shared.record(stage.name)["threads"])
    return min(had // cut(shared.spec, stage, had).workers, usable_cores())


def exact(shared: SharedRun, stage: Stage, part: str) -> bool:
    """Whether a stage gives the same bits here: the same code (`part` of it), kind of machine and libraries.

    A replicate has the same bits in a stack of any size.
    """
    then, now = shared.record(stage.name), made_with()
    return shared.same_code(part) and all(
        then[group].get(name) == now[group].get(name)
        for group, names in (("hardware", ("cpu", "gpu", "kernels")), ("packages", ("torch", "numpy")))
        for name in names
    )


def _compare(shared: SharedRun, context: Context, run: Run, scratch: Path, outcome: Outcome) -> Iterator[str]:
    """A line for each difference of a network that was trained again from networks.json, or of its tickets from it."""
    trained, recorded = context.store.read(run.id), shared.network(run.id)
    endings = {"status": "ended", "diverged_at": "diverged at step"} if outcome.exact else {"status": "ended"}
    for name, words in endings.items():
        if trained[name] != getattr(recorded, name):
            yield f"{words} {trained[name]}, networks.json says {getattr(recorded, name)}"
            return
    dense, snapshots = run == dense_run(run.experiment, run.replicate), f"{run.id}{SNAPSHOTS}"
    other = [name for name in ACCURACIES if trained[name] != getattr(recorded, name)]
    for name, words in {run.id: "", **({snapshots: f" of {snapshots}"} if dense else {})}.items():
        parts = context.store.read(name)["parts"]
        other += [part + words for part, due in shared.network(name).parts.items() if parts.get(part) != due]
    outcome.bits = not other
    if outcome.bits:
        outcome.words = "the same bits"
        if dense and pack_path(shared.folders, run.experiment, run.replicate).exists():
            yield from rewound_differences(shared, _pack(shared, run), context.store.load(snapshots))
        scores = {name: (trained[name], getattr(recorded, name)) for name in (*SCORES, *COUNTS)}
        yield from (f"{name}: {a}, networks.json says {b}" for name, (a, b) in scores.items() if a != b)
    elif trained["status"] == "diverged":
        outcome.words = f"diverged again, at step {trained['diverged_at']} (recorded {recorded.diverged_at})"
    elif outcome.exact:
        yield f"other bits on the same kind of machine with the same code: {', '.join(other)}"
    else:
        yield from _within(shared, context, run, scratch, outcome)


def _within(shared: SharedRun, context: Context, run: Run, scratch: Path, outcome: Outcome) -> Iterator[str]:
    """Compare where the last bits may differ."""
    trained, recorded = context.store.read(run.id), shared.network(run.id)
    tensors, said = context.store.load(run.id), []
    for name in ACCURACIES:
        accuracy, before = trained[name], getattr(recorded, name)
        if accuracy is None or before is None:
            continue
        said.append(f"{name.replace('_', ' ')} {accuracy:.2f} (recorded {before:.2f})")
        if abs(accuracy - before) > ACCURACY_POINTS:
            yield f"{said[-1]}: more than {ACCURACY_POINTS:g} points apart"
    if recorded.parts.get("mask") != trained["parts"].get("mask"):
        yield from _mask_differences(shared, run, tensors)
    if path := at_hand(shared, run.id, scratch):
        distance = relative_distance(tensors, load_file(path))
        said.append(f"weights {distance:.2g} apart")
        if distance > RELATIVE_DISTANCE:
            yield f"final weights: {distance:.2g} apart, more than {RELATIVE_DISTANCE:g}"
    outcome.words = "within tolerance: " + ", ".join(said)


def _mask_differences(shared: SharedRun, run: Run, tensors: dict[str, Tensor]) -> Iterator[str]:
    """A mask that is made anew, from weights, is the same one; SNIP's, from gradients, nearly."""
    if BRANCHES[run.branch].source != "dense":
        yield "its mask is not the one in networks.json"
        return
    recorded = _pack(shared, run).mask(run.branch, run.k, run.level)
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
