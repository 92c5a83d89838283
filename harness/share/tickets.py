"""A run's tickets in one file a replicate: the masks of every level as bits, and the weights that they are rewound to.

`tickets/<experiment>/r<replicate>.safetensors` holds "k<step>/weights/<name>" and "k<step>/buffers/<name>" of each
rewind iteration, and "mask/<branch>/k<k>/L<level>": the keep-mask over the prunable weights one after the other, in the
order of the metadata's `prunable`, eight weights a byte, the first in the highest bit.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Json, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.data import source_of
from harness.errors import HarnessError
from harness.files import canonical_json, file_sha256, write_atomically
from harness.networks import build, prunable_names
from harness.plan import Run, Stage, dense_run, tickets
from harness.share.untrusted import check_name, check_safetensors
from harness.spec.load import describe, dump
from harness.spec.models import Recipe
from harness.training.store import SNAPSHOTS, Store

if TYPE_CHECKING:
    from harness.workflow.context import Context, Folders

MASK = re.compile(r"mask/(imp|snip)/k(\d+)/L(\d+)")
REWOUND = re.compile(r"k(\d+)/(weights|buffers)/([A-Za-z0-9_.]+)")
FILE = re.compile(r"r\d+\.safetensors")


class Facts(BaseModel):
    """What a pack's metadata say; each value is text, lists and objects as JSON."""

    model_config = ConfigDict(frozen=True)

    format: str
    paper: str
    experiment: str
    replicate: int
    network: str
    input_shape: Json[tuple[int, ...]]
    classes: int
    data: str
    data_checksum: str
    recipe: Json[Recipe]
    restart: bool
    prunable: Json[list[tuple[str, tuple[int, ...]]]]


def pack_path(folders: "Folders", experiment: str, replicate: int) -> Path:
    """Where a replicate's tickets lie."""
    return check_name(folders.tickets, f"{experiment}/r{replicate}.safetensors")


def tickets_stage(context: "Context", stage: Stage) -> dict[str, str]:
    """Write the packs of a stage's replicates. Returns their checksums by their names in the run's folder."""
    outputs = {}
    for replicate in stage.replicates:
        path = pack_path(context.folders, stage.experiment, replicate)
        write_atomically(path, partial(save, *pack(context, replicate)))
        outputs[path.relative_to(context.folders.base).as_posix()] = file_sha256(path)
    return outputs


def pack(context: "Context", replicate: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a replicate's tickets. Diverged runs are left out."""
    setting, name = context.setting, context.experiment
    source = source_of(setting.data)
    network = build(setting.network, 1, source.shape, source.classes)
    shapes = {name: list(value.shape[1:]) for name, value in network.named_parameters()}
    prunable = prunable_names(network)
    tensors: dict[str, Tensor] = {}
    dense = dense_run(name, replicate)
    if context.store.read(dense.id)["status"] == "ok":
        tensors |= _rewound(context.store, dense, setting.rewind_grid())
    for run in tickets(context.spec, Stage("tickets", name, 0, (replicate,))):
        if context.store.read(run.id)["status"] == "ok":
            masks = context.store.load_part(run.id, "mask/")
            bits = np.packbits(np.concatenate([masks[name].numpy().ravel() for name in prunable]))
            tensors[f"mask/{run.branch}/k{run.k}/L{run.level}"] = torch.from_numpy(bits)
    facts = {
        "format": "1",
        "paper": context.spec.paper.id,
        "experiment": name,
        "replicate": str(replicate),
        "network": setting.network,
        "input_shape": canonical_json(source.shape),
        "classes": str(source.classes),
        "data": setting.data,
        "data_checksum": source.checksum,
        "recipe": canonical_json(dump(context.recipe)),
        "restart": canonical_json(setting.restart),
        "prunable": canonical_json([[name, shapes[name]] for name in prunable]),
    }
    return tensors, facts


def _rewound(store: Store, dense: Run, steps: list[int]) -> dict[str, Tensor]:
    """Weights and buffers of the dense run's snapshots at some steps; the optimizer starts fresh after a rewind."""
    wanted = tuple(f"k{step}/{group}/" for step in steps for group in ("weights", "buffers"))
    with safe_open(store.checked(f"{dense.id}{SNAPSHOTS}"), framework="pt") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys()) if name.startswith(wanted)}


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write safetensors whose bytes depend on the content alone: the library writes metadata in any order."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata=dict(metadata))
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) != length:
            raise ValueError(f"{path}: header of {len(text)} bytes instead of {length}")
        file.seek(8)
        file.write(text)


@dataclass(frozen=True)
class Pack:
    """A file of tickets, checked when it was opened; tensors are read when they are asked for."""

    path: Path
    facts: Facts
    names: tuple[str, ...]

    @property
    def prunable(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights that masks are about, in their order."""
        return self.facts.prunable

    @cached_property
    def steps(self) -> list[int]:
        """The rewind iterations whose weights are there."""
        return sorted({int(found[1]) for name in self.names if (found := REWOUND.fullmatch(name))})

    def masks(self) -> list[tuple[str, int, int]]:
        """(branch, k, level) of every mask."""
        found = [MASK.fullmatch(name) for name in self.names]
        return sorted((one[1], int(one[2]), int(one[3])) for one in found if one)

    def mask(self, branch: str, k: int, level: int) -> dict[str, Tensor]:
        """A keep-mask: uint8 ones and zeros by name, shaped as the weights. Raises HarnessError if there is none."""
        name = f"mask/{branch}/k{k}/L{level}"
        if name not in self.names:
            raise HarnessError(f"{self.path}: has no mask {branch}, k = {k}, level {level}; it has {self._listed()}")
        sizes = [math.prod(shape) for _, shape in self.prunable]
        flat = torch.from_numpy(np.unpackbits(self._tensors([name])[name].numpy(), count=sum(sizes)))
        return {
            weight: part.reshape(shape).clone()
            for (weight, shape), part in zip(self.prunable, flat.split(sizes), strict=True)
        }

    def rewound(self, k: int) -> dict[str, Tensor]:
        """The network at step k: "weights/<name>" and "buffers/<name>". Raises HarnessError if it is not there."""
        if k not in self.steps:
            raise HarnessError(f"{self.path}: has no weights of step {k}; it has {', '.join(map(str, self.steps))}")
        found = self._tensors([name for name in self.names if name.startswith(f"k{k}/")])
        return {name.partition("/")[2]: value for name, value in found.items()}

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise HarnessError(f"{self.path}: can't be read ({error}). Pull it again") from None

    def _listed(self) -> str:
        return ", ".join(f"{branch} k = {k} level {level}" for branch, k, level in self.masks()) or "none"


def open_pack(path: Path) -> Pack:
    """A file of tickets, whoever made it. Raises HarnessError for one that is missing or is not as described above."""
    tensors, metadata = check_safetensors(path)
    try:
        facts = Facts.model_validate(metadata)
    except ValidationError as error:
        raise HarnessError(f"{path}: metadata: {describe(error, Facts)}. Pull it again") from None
    fault = _fault(facts, tensors)
    if fault:
        raise HarnessError(f"{path}: {fault}. Pull it again")
    return Pack(path, facts, tuple(sorted(tensors)))


def _fault(facts: Facts, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """What is wrong with a pack's tensors, or ""."""
    if facts.format != "1":
        return f"format {facts.format!r:.40} is not one that this version reads"
    shapes = dict(facts.prunable)
    if not shapes or len(shapes) != len(facts.prunable) or min(min(shape, default=0) for shape in shapes.values()) < 1:
        return "its prunable weights are described wrongly"
    packed = (sum(math.prod(shape) for shape in shapes.values()) + 7) // 8
    for name, (kind, shape) in tensors.items():
        weight = REWOUND.fullmatch(name)
        if not weight and not MASK.fullmatch(name):
            return f"tensor {name!r:.80} has no place in a file of tickets"
        if not weight and (kind, shape) != ("U8", (packed,)):
            return f"tensor {name!r:.80} is {kind} {list(shape)!s:.80}, not U8 [{packed}]"
        if weight and weight[2] == "weights" and shapes.get(weight[3], shape) != shape:
            return f"tensor {name!r:.80} has the shape {list(shape)!s:.80}, its mask {list(shapes[weight[3]])!s:.80}"
    for step in {found[1] for name in tensors if (found := REWOUND.fullmatch(name))}:
        missing = [name for name in shapes if f"k{step}/weights/{name}" not in tensors]
        if missing:
            return f"tensor k{step}/weights/{missing[0]} is missing"
    return ""
