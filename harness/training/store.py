"""Trained networks on disk: one safetensors file and one JSON record a run, found again by a digest of the settings.

A record is written after its tensors, so a run is there when its record is. Nothing is a workflow output: a stage
that is cut off finds here what it had finished.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import HarnessError
from harness.files import file_sha256, read_json, write_atomically, write_json
from harness.training.state import State, from_tensors

RECORD = ".json"
TENSORS = ".safetensors"
SNAPSHOTS = ".snapshots"  # after the id of a dense run: its snapshots, stored beside it


@dataclass(frozen=True)
class Store:
    """Runs below `folder`, by id."""

    folder: Path

    def record_path(self, run: str) -> Path:
        """The JSON record of a run."""
        return self.folder / f"{run}{RECORD}"

    def tensors_path(self, run: str) -> Path:
        """The tensors of a run."""
        return self.folder / f"{run}{TENSORS}"

    def find(self, run: str, key: str) -> dict[str, Any] | None:
        """The record of a run that was made with the settings of `key`, or None if there is none."""
        path = self.record_path(run)
        if not path.exists() or not self.tensors_path(run).exists():
            return None
        record = read_json(path)
        return record if isinstance(record, dict) and record.get("key") == key else None

    def read(self, run: str) -> dict[str, Any]:
        """The record of a run that must be there. Raises HarnessError otherwise."""
        record = read_json(self.record_path(run))
        if not isinstance(record, dict) or "sha256" not in record:
            raise HarnessError(f"{self.record_path(run)}: field sha256 is missing. {self._fix(run)}")
        return record

    def write(self, run: str, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Store a run: its tensors, then its record, with the tensors' checksum."""
        path = self.tensors_path(run)
        plain = {name: value.contiguous() for name, value in tensors.items()}
        write_atomically(path, lambda temporary: save_file(plain, temporary))
        write_json(self.record_path(run), {**record, "sha256": file_sha256(path)})

    def load(self, run: str) -> dict[str, Tensor]:
        """All tensors of a run, checked against the record. Raises HarnessError for a missing or altered file."""
        path = self._checked(run)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def load_part(self, run: str, prefix: str) -> dict[str, Tensor]:
        """The tensors of a run whose names start with `prefix`, which is cut off."""
        path = self._checked(run)
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def _checked(self, run: str) -> Path:
        path = self.tensors_path(run)
        expected = self.read(run)["sha256"]
        if not path.exists():
            raise HarnessError(f"{path}: missing. {self._fix(run)}")
        if file_sha256(path) != expected:
            raise HarnessError(f"{path}: its checksum is not the one in its record. {self._fix(run)}")
        return path

    def _fix(self, run: str) -> str:
        return f"Delete {self.record_path(run)} and run `harness reproduce` again: it trains this network anew."


def final_tensors(state: State, masks: dict[str, Tensor], position: int) -> dict[str, Tensor]:
    """One replicate's file: final weights with the mask applied, buffers, and the mask as bytes."""
    tensors = {f"final/{name}": value[position] for name, value in state.tensors().items()}
    for name, mask in masks.items():
        tensors[f"final/weights/{name}"] = tensors[f"final/weights/{name}"] * mask[position]
        tensors[f"mask/{name}"] = mask[position].to(torch.uint8)
    return tensors


def snapshot_tensors(snapshots: dict[int, State], position: int) -> dict[str, Tensor]:
    """One replicate's snapshots, "k<step>/weights/<name>" and so on."""
    return {
        f"k{step}/{name}": value[position]
        for step, state in snapshots.items()
        for name, value in state.tensors().items()
    }


def state_of(tensors: dict[str, Tensor], step: int, optimizer_steps: int = 0) -> State:
    """A stack of one from stored tensors "weights/...", "buffers/...", "optimizer/..."."""
    return from_tensors({name: value.unsqueeze(0) for name, value in tensors.items()}, step, optimizer_steps)
