"""Checkpoints of unfinished trainings: an interrupted training resumes from one bit-identically."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.base.files import canonical_json, write_atomically
from harness.training.loop import Trained
from harness.training.state import State, from_tensors


def write_partial(path: Path, state: State, trained: Trained) -> None:
    """Write a state and the results so far to one file with a checksum."""
    tensors = {f"now/{name}": value.contiguous() for name, value in state.tensors().items()}
    for step, snapshot in trained.snapshots.items():
        tensors |= {f"k{step}/{name}": value.contiguous() for name, value in snapshot.tensors().items()}
    progress = {
        "step": state.step,
        "optimizer_steps": state.optimizer_steps,
        "snapshots": {str(step): snapshot.optimizer_steps for step, snapshot in trained.snapshots.items()},
        "diverged": sorted(trained.diverged.items()),
        "seconds": trained.seconds,
        "weight_steps": trained.weight_steps,
    }
    metadata = {"progress": json.dumps(progress), "checksum": _checksum(tensors, progress)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def read_partial(path: Path) -> tuple[State, Trained] | None:
    """The checkpoint of an interrupted training; None if the file is missing, altered or of another kind."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress = json.loads(metadata["progress"])
        if metadata["checksum"] != _checksum(tensors, progress):
            return None
        state = _part(tensors, "now/", progress["step"], progress["optimizer_steps"])
        snapshots = {int(step): _part(tensors, f"k{step}/", int(step), n) for step, n in progress["snapshots"].items()}
        diverged = {int(position): int(step) for position, step in progress["diverged"]}
        weight_steps = {name: [int(count) for count in counts] for name, counts in progress["weight_steps"].items()}
        return state, Trained(state, snapshots, diverged, float(progress["seconds"]), weight_steps)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _part(tensors: dict[str, Tensor], prefix: str, step: int, optimizer_steps: int) -> State:
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return from_tensors(own, step, optimizer_steps)


def _checksum(tensors: dict[str, Tensor], progress: dict[str, Any]) -> str:
    total = hashlib.sha256(canonical_json(progress).encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().numpy().tobytes())
    return total.hexdigest()
