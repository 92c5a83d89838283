"""Trained networks on disk: one safetensors file and one JSON record a run, found again by a digest of the settings.

A record is written after its tensors, so a run is there when its record is. Nothing is a workflow output: a stage
that is cut off finds here what it had finished, and what another scale, paper or experiment has trained alike.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import HarnessError
from harness.files import digest, file_sha256, read_json, write_atomically, write_json
from harness.training.state import State, from_tensors

RECORD = ".json"
TENSORS = ".safetensors"
SNAPSHOTS = ".snapshots"  # after the id of a dense run: its snapshots, stored beside it


@dataclass(frozen=True)
class Store:
    """Runs below `folder`, by id: "<experiment>/<place>".

    `others` are folders of other experiments' runs (by place) that may have been trained alike; they are only read.
    """

    folder: Path
    others: tuple[Path, ...] = ()

    def record_path(self, run: str) -> Path:
        """The JSON record of a run."""
        return self.folder / f"{run}{RECORD}"

    def tensors_path(self, run: str) -> Path:
        """The tensors of a run."""
        return self.folder / f"{run}{TENSORS}"

    def find(
        self, run: str, key: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any] | None:
        """The record of a run that was made with the settings of `key` and that `fits`, or None if there is none.

        One that lies in `others`, unaltered, is taken over: its files are linked here, or copied where they can't be.
        """
        for store, name, record in self.candidates(run, key):
            if fits(record) and (store is self or self._take(run, store, name)):
                return self.read(run)
        return None

    def candidates(self, run: str, key: str) -> Iterator[tuple["Store", str, dict[str, Any]]]:
        """Where a run lies that was made with the settings of `key`: the store, its name there and its record."""
        place = run.partition("/")[2]
        for store, name in ((self, run), *((Store(other.parent), f"{other.name}/{place}") for other in self.others)):
            path = store.record_path(name)
            if not path.exists() or not store.tensors_path(name).exists():
                continue
            try:
                record = read_json(path)
            except HarnessError:
                if store is self:
                    raise
                continue  # another scale's to mend
            if isinstance(record, dict) and record.get("key") == key:
                yield store, name, record

    def _take(self, run: str, store: "Store", name: str) -> bool:
        """Take over a run of another store, its snapshots first. False if a file there is not what its record says."""
        parts = [suffix for suffix in (SNAPSHOTS, "") if store.record_path(f"{name}{suffix}").exists()]
        try:
            records = [(suffix, store.read(f"{name}{suffix}"), store.checked(f"{name}{suffix}")) for suffix in parts]
        except (HarnessError, OSError):
            return False
        for suffix, record, tensors in records:
            own = {"id": f"{run}{suffix}", "trained_as": record.get("trained_as", tensors.as_posix())}
            if "experiment" in record:
                own["experiment"] = run.partition("/")[0]
            write_atomically(self.tensors_path(f"{run}{suffix}"), partial(_link, tensors))
            write_json(self.record_path(f"{run}{suffix}"), {**record, **own})
        return True

    def read(self, run: str) -> dict[str, Any]:
        """The record of a run that must be there. Raises HarnessError otherwise."""
        record = read_json(self.record_path(run))
        if not isinstance(record, dict) or "sha256" not in record:
            raise HarnessError(f"{self.record_path(run)}: field sha256 is missing. {self._fix(run)}")
        return record

    def write(self, run: str, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Store a run: its tensors, then its record, with the checksums of its file and of each group of tensors."""
        path = self.tensors_path(run)
        plain = {name: value.contiguous() for name, value in tensors.items()}
        write_atomically(path, lambda temporary: save_file(plain, temporary))
        write_json(self.record_path(run), {**record, "sha256": file_sha256(path), "parts": _checksums(plain)})

    def load(self, run: str) -> dict[str, Tensor]:
        """All tensors of a run, checked against the record. Raises HarnessError for a missing or altered file."""
        path = self.checked(run)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def load_part(self, run: str, prefix: str) -> dict[str, Tensor]:
        """The tensors of a run whose names start with `prefix`, which is cut off."""
        path = self.checked(run)
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def checked(self, run: str) -> Path:
        """The file of a run's tensors, if it is as its record says. Raises HarnessError otherwise."""
        path = self.tensors_path(run)
        expected = self.read(run)["sha256"]
        if not path.exists():
            raise HarnessError(f"{path}: missing. {self._fix(run)}")
        if file_sha256(path) != expected:
            raise HarnessError(f"{path}: its checksum is not the one in its record. {self._fix(run)}")
        return path

    def _fix(self, run: str) -> str:
        return f"Delete {self.record_path(run)} and run `harness reproduce` again: it trains this network anew."


def _checksums(tensors: dict[str, Tensor]) -> dict[str, str]:
    """SHA-256 of each group of tensors, by the first part of their names: a snapshot's, whatever lies beside it."""
    groups: dict[str, list[object]] = {}
    for name in sorted(tensors):
        value = tensors[name]
        content = hashlib.sha256(value.detach().cpu().flatten().view(torch.uint8).numpy().data).hexdigest()
        groups.setdefault(name.partition("/")[0], []).append([name, str(value.dtype), list(value.shape), content])
    return {group: digest(parts) for group, parts in groups.items()}


def _link(source: Path, path: Path) -> None:
    """A second name for a file, or a copy on another file system."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


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
