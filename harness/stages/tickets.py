"""A run's tickets, one file per replicate: the masks of every level as bits, and the weights that they rewind to.

`tickets/<experiment>/r<replicate>.safetensors` holds "k<step>/weights/<name>" and "k<step>/buffers/<name>" of each
rewind iteration, and "mask/<branch>/k<k>/L<level>": the keep-mask over all prunable weights, concatenated in
the order of the metadata's `prunable`, packed eight weights per byte, the first in the highest bit.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Json, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.base.errors import HarnessError, system_error
from harness.base.files import canonical_json, file_sha256, write_atomically
from harness.base.untrusted import check_name, check_safetensors
from harness.data import source_of
from harness.networks import build, prunable_names
from harness.paper.load import describe, dump
from harness.paper.models import Recipe
from harness.plan.runs import Run, Stage, dense_run, tickets
from harness.results.store import SNAPSHOTS, Store

if TYPE_CHECKING:
    from harness.paper import Spec
    from harness.results.context import Context, Work
    from harness.results.folders import Folders

MASK = re.compile(r"mask/([a-z][a-z0-9_]*)/k(\d+)/L(\d+)")
REWOUND = re.compile(r"k(\d+)/(weights|buffers)/([A-Za-z0-9_.]+)")
FILE = re.compile(r"r\d+\.safetensors")


class Metadata(BaseModel):
    """A pack's metadata. Every value is stored as text; lists and objects as JSON."""

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
    """The path of a replicate's tickets."""
    return check_name(folders.tickets, f"{experiment}/r{replicate}.safetensors")


def tickets_stage(work: "Work") -> dict[str, Any]:
    """Write the packs of a stage's replicates. Returns fields of the stage's record: the packs' checksums by name."""
    outputs = {}
    context = work.context
    for replicate in work.stage.replicates:
        path = pack_path(context.folders, context.experiment, replicate)
        write_atomically(path, partial(save, *pack(context, replicate)))
        outputs[path.relative_to(context.folders.base).as_posix()] = file_sha256(path)
    return {"training_seconds": 0.0, "steps": 0, "outputs": outputs}


def pack(context: "Context", replicate: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a replicate's tickets. Diverged runs are left out."""
    setting, name = context.setting, context.experiment
    metadata = describe_pack(context.spec, name, replicate)
    prunable = [weight for weight, _ in json.loads(metadata["prunable"])]
    tensors: dict[str, Tensor] = {}
    dense = dense_run(name, replicate)
    if context.store.read(dense.id)["status"] == "ok":
        tensors |= _rewound(context.store, dense, setting.rewind_grid())
    for run in tickets(context.spec, Stage("tickets", name, 0, (replicate,))):
        if context.store.read(run.id)["status"] == "ok":
            masks = context.store.load_part(run.id, "mask/")
            bits = np.packbits(np.concatenate([masks[weight].numpy().ravel() for weight in prunable]))
            tensors[f"mask/{run.branch}/k{run.k}/L{run.level}"] = torch.from_numpy(bits)
    return tensors, metadata


def describe_pack(spec: "Spec", experiment: str, replicate: int) -> dict[str, str]:
    """The metadata of a replicate's tickets, which the spec and the network settle."""
    setting = spec.scale.experiments[experiment]
    source = source_of(setting.data, spec.scale.data)
    network = build(setting.network, 1, source.shape, source.classes)
    shapes = {name: list(value.shape[1:]) for name, value in network.named_parameters()}
    return {
        "format": "1",
        "paper": spec.paper.id,
        "experiment": experiment,
        "replicate": str(replicate),
        "network": setting.network,
        "input_shape": canonical_json(source.shape),
        "classes": str(source.classes),
        "data": setting.data,
        "data_checksum": source.checksum,
        "recipe": canonical_json(dump(spec.recipe(experiment))),
        "restart": canonical_json(setting.restart),
        "prunable": canonical_json([[name, shapes[name]] for name in prunable_names(network)]),
    }


def _rewound(store: Store, dense: Run, steps: list[int]) -> dict[str, Tensor]:
    """Weights and buffers of the dense run's snapshots at some steps; the optimizer starts fresh after a rewind."""
    wanted = tuple(f"k{step}/{group}/" for step in steps for group in ("weights", "buffers"))
    with safe_open(store.checked(f"{dense.id}{SNAPSHOTS}"), framework="pt") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys()) if name.startswith(wanted)}


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write safetensors whose bytes depend only on the content: the library alone doesn't fix the metadata's order."""
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
    """A file of tickets, checked when opened; tensors are read on demand."""

    path: Path
    metadata: Metadata
    names: tuple[str, ...]

    @property
    def prunable(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights that the masks cover, in the masks' order."""
        return self.metadata.prunable

    @cached_property
    def steps(self) -> list[int]:
        """The rewind iterations whose weights the file has."""
        return sorted({int(match[1]) for name in self.names if (match := REWOUND.fullmatch(name))})

    def masks(self) -> list[tuple[str, int, int]]:
        """(branch, k, level) of every mask."""
        matches = [MASK.fullmatch(name) for name in self.names]
        return sorted((match[1], int(match[2]), int(match[3])) for match in matches if match)

    def mask(self, branch: str, k: int, level: int) -> dict[str, Tensor]:
        """A keep-mask: uint8 ones and zeros by weight name, in the weights' shapes. Raises HarnessError if missing."""
        name = f"mask/{branch}/k{k}/L{level}"
        if name not in self.names:
            raise HarnessError(
                f"{self.path}: has no mask {branch}, k = {k}, level {level}; it has {self._mask_names()}"
            )
        sizes = [math.prod(shape) for _, shape in self.prunable]
        flat = torch.from_numpy(np.unpackbits(self._tensors([name])[name].numpy(), count=sum(sizes)))
        return {
            weight: part.reshape(shape).clone()
            for (weight, shape), part in zip(self.prunable, flat.split(sizes), strict=True)
        }

    def rewound(self, k: int) -> dict[str, Tensor]:
        """The network at step k: "weights/<name>" and "buffers/<name>". Raises HarnessError if missing."""
        if k not in self.steps:
            raise HarnessError(f"{self.path}: has no weights of step {k}; it has {', '.join(map(str, self.steps))}")
        tensors = self._tensors([name for name in self.names if name.startswith(f"k{k}/")])
        return {name.partition("/")[2]: value for name, value in tensors.items()}

    def _tensors(self, names: list[str]) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in names}
        except OSError as error:
            raise system_error(error, self.path) from None
        except SafetensorError as error:
            raise HarnessError(f"{self.path}: can't be read ({error}). Pull it again") from None

    def _mask_names(self) -> str:
        return ", ".join(f"{branch} k = {k} level {level}" for branch, k, level in self.masks()) or "none"


def open_pack(path: Path) -> Pack:
    """Open a file of tickets, which may be untrusted. Raises HarnessError if it is missing or malformed."""
    tensors, texts = check_safetensors(path)
    try:
        metadata = Metadata.model_validate(texts)
    except ValidationError as error:
        raise HarnessError(f"{path}: metadata: {describe(error, Metadata)}. Pull it again") from None
    fault = _fault(metadata, tensors)
    if fault:
        raise HarnessError(f"{path}: {fault}. Pull it again")
    return Pack(path, metadata, tuple(sorted(tensors)))


def _fault(metadata: Metadata, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """What is wrong with a pack's tensors, or ""."""
    if metadata.format != "1":
        return f"format {metadata.format!r:.40} is unknown to this version"
    shapes = dict(metadata.prunable)
    sizes = [min(shape, default=0) for shape in shapes.values()]
    if not shapes or len(shapes) != len(metadata.prunable) or min(sizes) < 1:
        return "metadata: prunable: names must be unique and sizes positive"
    packed = (sum(math.prod(shape) for shape in shapes.values()) + 7) // 8
    for name, (kind, shape) in tensors.items():
        weight = REWOUND.fullmatch(name)
        if not weight and not MASK.fullmatch(name):
            return f"tensor {name!r:.80} does not belong in a file of tickets"
        if not weight and (kind, shape) != ("U8", (packed,)):
            return f"tensor {name!r:.80} is {kind} {list(shape)!s:.80}, not U8 [{packed}]"
        if weight and weight[2] == "weights" and shapes.get(weight[3], shape) != shape:
            return f"tensor {name!r:.80} has the shape {list(shape)!s:.80}, its mask {list(shapes[weight[3]])!s:.80}"
    for step in {match[1] for name in tensors if (match := REWOUND.fullmatch(name))}:
        missing = [name for name in shapes if f"k{step}/weights/{name}" not in tensors]
        if missing:
            return f"tensor k{step}/weights/{missing[0]} is missing"
    return ""
