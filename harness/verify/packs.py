"""Packs of tickets and stored networks against networks.json and the spec: a line for every disagreement."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.data import source_of
from harness.lottery.branches import keeps_units
from harness.lottery.masks import keep_count
from harness.lottery.units import fewest_kept
from harness.networks import build, prunable_names
from harness.networks.layers import Stack
from harness.paper import Spec
from harness.plan.runs import Run, Stage, dense_run, tickets
from harness.results.store import SNAPSHOTS, Store, tensor_checksums
from harness.stages.tickets import Metadata, Pack, describe_pack, open_pack
from harness.verify.differences import differences
from harness.verify.shared_run import SharedRun


def masks(shared: SharedRun) -> Iterator[str]:
    """Every pack of tickets: its facts against the spec, its masks and first weights against networks.json."""
    for experiment, replicate, path in shared.packs():
        try:
            pack = open_pack(path)
        except HarnessError as error:
            yield str(error)
            continue
        place = path.relative_to(shared.folders.base).as_posix()
        recorded, expected = dict(pack.metadata), dict(described(shared, experiment, replicate))
        if not shared.same_code("data"):
            expected["data_checksum"] = recorded["data_checksum"]
        wrong = list(differences(place, recorded, expected, "the spec says"))
        yield from wrong
        if not wrong:  # else masks are of other weights
            yield from (f"{place}: {line}" for line in _masks(shared, experiment, replicate, pack))
        yield from (f"{place}: {line}" for line in _weights(shared, experiment, replicate, pack))


def described(shared: SharedRun, experiment: str, replicate: int) -> Metadata:
    """What the metadata of a pack have to say."""
    return Metadata.model_validate(describe_pack(shared.spec, experiment, replicate))


def _masks(shared: SharedRun, experiment: str, replicate: int, pack: Pack) -> Iterator[str]:
    """A mask for each healthy ticket: of its level's density, and the one that its network was trained with."""
    planned = tickets(shared.spec, Stage("tickets", experiment, 0, (replicate,)))
    healthy = {(run.branch, run.k, run.level): run for run in planned if _ok(shared, run)}
    for key in sorted(set(healthy) ^ set(pack.masks())):
        yield f"mask {key}: is {'missing' if key in healthy else 'not of a network that trained'}"
    for key in sorted(set(healthy) & set(pack.masks())):
        run, mask = healthy[key], pack.mask(*key)
        kept, (due, total) = sum(int(part.sum()) for part in mask.values()), remaining(shared, run)
        if kept != due:
            yield f"mask {key}: keeps {kept:,} of {total:,} weights, not the level's {due:,}"
        checksum = tensor_checksums({f"mask/{name}": part for name, part in mask.items()})["mask"]
        if checksum != shared.networks[run.id].parts.get("mask"):
            yield f"mask {key}: is not the one that {run.id} was trained with, by networks.json"


def _weights(shared: SharedRun, experiment: str, replicate: int, pack: Pack) -> Iterator[str]:
    """Weights of every rewind iteration, that fit the network; those of step 0 are the ones in networks.json."""
    dense = dense_run(experiment, replicate)
    steps = sorted(set(shared.spec.scale.experiments[experiment].rewind_grid())) if _ok(shared, dense) else []
    if pack.steps != steps:
        yield f"has weights of the steps {pack.steps}, the spec asks for {steps}"
    yield from filter(None, (rewound_fault(shared, experiment, pack, k) for k in pack.steps))
    if 0 in pack.steps:  # before the first step there is no optimizer's memory, so nothing of the checksum is missing
        checksum = tensor_checksums({f"k0/{name}": value for name, value in pack.rewound(0).items()}).get("k0")
        snapshots = shared.networks.get(f"{dense.id}{SNAPSHOTS}")
        if checksum != (snapshots.parts.get("k0") if snapshots else None):
            yield "weights of step 0: are not those of the snapshot in networks.json"


def rewound_fault(shared: SharedRun, experiment: str, pack: Pack, k: int) -> str:
    """What of the weights and buffers of step k does not fit the network, or ""."""
    network = network_of(shared.spec, experiment)
    expected: dict[str, Tensor] = {f"weights/{name}": value for name, value in network.named_parameters()}
    expected |= {f"buffers/{name}": value for name, value in network.named_buffers()}
    weights = pack.rewound(k)
    for name in sorted({*expected, *weights}):
        if name not in expected or name not in weights:
            return f"{name} of step {k}: is {'missing' if name in expected else 'none of the network'}"
        if (weights[name].shape, weights[name].dtype) != (expected[name].shape[1:], expected[name].dtype):
            return f"{name} of step {k}: has another shape or type than the network's"
    return ""


def rewound_differences(shared: SharedRun, pack: Pack, snapshots: dict[str, Tensor]) -> Iterator[str]:
    """A pack's weights and buffers against those of the dense network's snapshots, all named "k<step>/..."."""
    place = pack.path.relative_to(shared.folders.base).as_posix()
    for k in pack.steps:
        for name, value in pack.rewound(k).items():
            own = snapshots.get(f"k{k}/{name}")
            if own is None or own.dtype != value.dtype or not torch.equal(own, value):
                yield f"{place}: {name} of step {k} is not what the dense network had then"


def stored(shared: SharedRun) -> Iterator[str]:
    """The networks themselves, where they lie here too, against networks.json, and packs against their snapshots."""
    store, altered = Store(shared.folders.runs), set()
    for name, network in shared.networks.items():
        path = store.tensors_path(name)
        if path.is_file() and file_sha256(path) != network.sha256:
            altered.add(name)
            yield f"runs/{name}.safetensors: its checksum is not that of networks.json"
    for experiment, replicate, pack in shared.packs():
        name = f"{dense_run(experiment, replicate).id}{SNAPSHOTS}"
        path = store.tensors_path(name)
        if path.is_file() and pack.is_file() and name not in altered:
            yield from rewound_differences(shared, open_pack(pack), load_file(path))


def without_snapshots(shared: SharedRun) -> int:
    """How many packs have weights of later steps than 0, and no snapshots here to compare them with."""
    store, experiments = Store(shared.folders.runs), shared.spec.scale.experiments
    later = [(name, replicate) for name, replicate, _ in shared.packs() if any(experiments[name].rewind_grid())]
    return sum(not store.tensors_path(f"{dense_run(*place).id}{SNAPSHOTS}").is_file() for place in later)


def _ok(shared: SharedRun, run: Run) -> bool:
    return run.id in shared.networks and shared.status(run) == "ok"


def remaining(shared: SharedRun, run: Run) -> tuple[int, int]:
    """How many of the network's prunable weights a run must have left, and how many there are."""
    network = network_of(shared.spec, run.experiment)
    sizes = {name: value.numel() for name, value in network.named_parameters()}
    total = sum(sizes[name] for name in prunable_names(network))
    pruning = shared.spec.scale.experiments[run.experiment].pruning
    due = total if run.branch == "dense" else keep_count(total, pruning.density(run.level))
    recorded = shared.networks[run.id].remaining if run.id in shared.networks else None
    if recorded is not None and keeps_units(run.branch, pruning.criterion):
        due = min(max(recorded, fewest_kept(network)), due)  # whole units: as recorded, if that can be
    return due, total


@lru_cache(maxsize=8)
def network_of(spec: Spec, experiment: str) -> Stack:
    """An experiment's network, of one replicate, as it is built here."""
    setting = spec.scale.experiments[experiment]
    source = source_of(setting.data, spec.scale.data)
    return build(setting.network, 1, source.shape, source.classes)
