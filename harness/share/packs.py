"""Packs of tickets and stored networks against networks.json and the spec: a line for every disagreement."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data import source_of
from harness.errors import HarnessError
from harness.files import file_sha256
from harness.networks import build, prunable_names
from harness.plan import Run, Stage, dense_run, stages, tickets
from harness.pruning import keep_count
from harness.share.given import Given
from harness.share.tickets import Pack, open_pack, pack_path
from harness.spec.load import dump
from harness.training.store import SNAPSHOTS, Store, _checksums
from harness.workflow.context import Context


def masks(given: Given) -> Iterator[str]:
    """Every pack of tickets: its facts against the spec, its masks and first weights against networks.json."""
    for stage in [stage for stage in stages(given.spec) if stage.kind == "tickets"]:
        for replicate in stage.replicates:
            path = pack_path(given.folders, stage.experiment, replicate)
            place = path.relative_to(given.folders.base).as_posix()
            try:
                pack = open_pack(path)
            except HarnessError as error:
                yield str(error)
                continue
            yield from (f"{place}: {line}" for line in _pack(given, stage.experiment, replicate, pack))


def _pack(given: Given, experiment: str, replicate: int, pack: Pack) -> Iterator[str]:
    context = Context(given.spec, given.folders, experiment)
    setting, named = context.setting, pack.facts
    said: dict[str, tuple[object, object]] = {
        "experiment": (named.experiment, experiment),
        "replicate": (named.replicate, replicate),
        "network": (named.network, setting.network),
        "data": (named.data, setting.data),
        "recipe": (dump(named.recipe), dump(context.recipe)),
        "restart": (named.restart, setting.restart),
        "prunable": (pack.prunable, prunable(given, experiment)),
    }
    for name, (one, other) in said.items():
        if one != other:
            yield f"its {name} is {one!r:.100}, the spec says {other!r:.100}"
    if pack.prunable != prunable(given, experiment):
        return
    planned = tickets(given.spec, Stage("tickets", experiment, 0, (replicate,)))
    healthy = {(run.branch, run.k, run.level): run for run in planned if _ok(given, run)}
    for key in sorted(set(healthy) ^ set(pack.masks())):
        yield f"mask {key}: is {'missing' if key in healthy else 'not of a network that trained'}"
    for key in sorted(set(healthy) & set(pack.masks())):
        run, mask = healthy[key], pack.mask(*key)
        kept, total = sum(int(part.sum()) for part in mask.values()), sum(part.numel() for part in mask.values())
        if kept / total != density(given, run):
            yield f"mask {key}: keeps {kept:,} of {total:,} weights, not the level's {density(given, run):.6g}"
        if _checksums({f"mask/{name}": part for name, part in mask.items()}).get("mask") != _part(
            given, run.id, "mask"
        ):
            yield f"mask {key}: is not the one that {run.id} was trained with, by networks.json"
    for k in pack.steps:
        fault = rewound_fault(given, experiment, pack, k)
        if fault:
            yield fault
    dense = dense_run(experiment, replicate)
    steps = sorted(set(setting.rewind_grid())) if _ok(given, dense) else []
    if pack.steps != steps:
        yield f"has weights of the steps {pack.steps}, the spec asks for {steps}"
    if 0 in pack.steps:  # before the first step there is no optimizer's memory, so nothing of the checksum is missing
        first = {f"k0/{name}": value for name, value in pack.rewound(0).items()}
        if _checksums(first).get("k0") != _part(given, f"{dense.id}{SNAPSHOTS}", "k0"):
            yield "weights of step 0: are not those of the snapshot in networks.json"


def rewound_differences(given: Given, pack: Pack, snapshots: dict[str, Tensor]) -> Iterator[str]:
    """A pack's weights and buffers against those of the dense network's snapshots, all named "k<step>/..."."""
    place = pack.path.relative_to(given.folders.base).as_posix()
    for k in pack.steps:
        for name, value in pack.rewound(k).items():
            own = snapshots.get(f"k{k}/{name}")
            if own is None or own.dtype != value.dtype or not torch.equal(own, value):
                yield f"{place}: {name} of step {k} is not what the dense network had then"


def without_snapshots(given: Given) -> int:
    """How many packs have weights of later steps than 0, and no snapshots here to compare them with."""
    store, found = Store(given.folders.runs), 0
    for stage in [stage for stage in stages(given.spec) if stage.kind == "tickets"]:
        if any(Context(given.spec, given.folders, stage.experiment).setting.rewind_grid()):
            names = [f"{dense_run(stage.experiment, replicate).id}{SNAPSHOTS}" for replicate in stage.replicates]
            found += sum(not store.tensors_path(name).is_file() for name in names)
    return found


def rewound_fault(given: Given, experiment: str, pack: Pack, k: int) -> str:
    """What of the weights and buffers of step k does not fit the network, or ""."""
    network = _built(given, experiment)
    expected: dict[str, Tensor] = {f"weights/{name}": value for name, value in network.named_parameters()}
    expected |= {f"buffers/{name}": value for name, value in network.named_buffers()}
    found = pack.rewound(k)
    for name in sorted({*expected, *found}):
        if name not in expected or name not in found:
            return f"{name} of step {k}: is {'missing' if name in expected else 'none of the network'}"
        if (found[name].shape, found[name].dtype) != (expected[name].shape[1:], expected[name].dtype):
            return f"{name} of step {k}: has another shape or type than the network's"
    return ""


def _ok(given: Given, run: Run) -> bool:
    return run.id in given.networks and given.networks[run.id].status == "ok"


def _part(given: Given, name: str, part: str) -> str | None:
    return given.networks[name].parts.get(part) if name in given.networks else None


def stored(given: Given) -> Iterator[str]:
    """The networks themselves, where they lie here too, against networks.json, and packs against their snapshots."""
    store, altered = Store(given.folders.runs), set()
    for name, network in given.networks.items():
        path = store.tensors_path(name)
        if path.is_file() and file_sha256(path) != network.sha256:
            altered.add(name)
            yield f"runs/{name}.safetensors: its checksum is not that of networks.json"
    for stage in [stage for stage in stages(given.spec) if stage.kind == "tickets"]:
        for replicate in stage.replicates:
            name = f"{dense_run(stage.experiment, replicate).id}{SNAPSHOTS}"
            pack, path = pack_path(given.folders, stage.experiment, replicate), store.tensors_path(name)
            if path.is_file() and pack.is_file() and name not in altered:
                yield from rewound_differences(given, open_pack(pack), _tensors(path))


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise HarnessError(f"{path}: can't be read ({error}). Pull it again") from None


def density(given: Given, run: Run) -> float:
    """The density that a run must have: an exact count of the network's prunable weights."""
    if run.branch == "dense":
        return 1.0
    pruning, total = given.spec.scale.experiments[run.experiment].pruning, prunable_total(given, run.experiment)
    return keep_count(total, pruning.density(run.level)) / total


def prunable_total(given: Given, experiment: str) -> int:
    """Prunable weights of an experiment's network."""
    return sum(int(np.prod(shape)) for _, shape in prunable(given, experiment))


def prunable(given: Given, experiment: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights that masks are about, as the network is built here."""
    network = _built(given, experiment)
    shapes = {weight: tuple(value.shape[1:]) for weight, value in network.named_parameters()}
    return [(weight, shapes[weight]) for weight in prunable_names(network)]


def _built(given: Given, experiment: str) -> nn.Module:
    """An experiment's network, of one replicate."""
    setting = given.spec.scale.experiments[experiment]
    source = source_of(setting.data)
    return _build(setting.network, source.shape, source.classes)


@lru_cache(maxsize=8)
def _build(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    return build(name, 1, shape, classes)
