"""Trained networks on disk: one safetensors file and one JSON record per run, identified by a digest of the settings.

A record is written after its tensors, so a run with a record is complete. The files are not workflow outputs: an
interrupted stage reuses the runs that it had finished, and identical runs of another scale, paper or experiment.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.files import digest, file_sha256, read_json, write_atomically, write_json
from harness.results.environment import computed_with
from harness.training.state import State, from_tensors

RECORD = ".json"
TENSORS = ".safetensors"
PULLED = "pulled"  # set in a run's record if its tensors were not pulled with it
SNAPSHOTS = ".snapshots"  # suffix of a dense run's id: its snapshots, stored beside it


@dataclass(frozen=True)
class Store:
    """Runs below `folder`, by id: "<experiment>/<name>".

    `others` are folders of other experiments, by name, whose runs may be identical; they are only read.
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
        """The record of a run with this `key` that `fits`, or None if there is none.

        An unaltered run in `others` is reused: its files are linked into this store, or copied if links fail.
        """
        for store, name, record in self.candidates(run, key):
            if fits(record) and (store is self or self._take(run, store, name)):
                return self.read(run)
        return None

    def candidates(self, run: str, key: str) -> Iterator[tuple["Store", str, dict[str, Any]]]:
        """Every stored copy of a run with this `key`: the store, its id there and its record.

        A copy elsewhere counts only if the package versions of this environment computed it.
        """
        suffix = run.partition("/")[2]
        for store, name in ((self, run), *((Store(other.parent), f"{other.name}/{suffix}") for other in self.others)):
            path = store.record_path(name)
            if not path.exists() or not store.tensors_path(name).exists():
                continue
            try:
                record = store.read(name)
            except HarnessError:
                if store is self:
                    raise
                continue  # another scale's run: that scale repairs it
            if record.get("key") == key and (store is self or record.get("computed_with") == computed_with()):
                yield store, name, record

    def _take(self, run: str, store: "Store", name: str) -> bool:
        """Link a run of another store, its snapshots first. False if a file there does not match its record."""
        parts = [suffix for suffix in (SNAPSHOTS, "") if store.record_path(f"{name}{suffix}").exists()]
        try:
            records = [(suffix, store.read(f"{name}{suffix}"), store.checked(f"{name}{suffix}")) for suffix in parts]
        except (HarnessError, OSError):
            return False
        for suffix, record, tensors in records:
            own = {"id": f"{run}{suffix}", "trained_as": record.get("trained_as", tensors.as_posix())}
            if "experiment" in record:
                own["experiment"] = run.partition("/")[0]
            write_atomically(self.tensors_path(f"{run}{suffix}"), partial(link, tensors))
            self.write_record(f"{run}{suffix}", {**record, **own})
        return True

    def read(self, run: str) -> dict[str, Any]:
        """The record of a stored run. Raises HarnessError if it is missing, broken or altered."""
        record = read_json(self.record_path(run))
        if not isinstance(record, dict) or "sha256" not in record:
            raise HarnessError(f"{self.record_path(run)}: field sha256 is missing. {self._fix(run)}")
        if "checksum" not in record:
            raise HarnessError(f"{self.record_path(run)}: has no checksum: an older version wrote it. {self._fix(run)}")
        if record["checksum"] != record_checksum(record):
            raise HarnessError(f"{self.record_path(run)}: checksum: the record was altered. {self._fix(run)}")
        return record

    def write_record(self, run: str, record: Mapping[str, Any]) -> None:
        """Write the record of a run with its own checksum, so that `read` detects a later change."""
        write_json(self.record_path(run), {**record, "checksum": record_checksum(record)})

    def write(self, run: str, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Store a run: its tensors, then its record with the checksums of the file and of each group of tensors."""
        path = self.tensors_path(run)
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        write_atomically(path, lambda temporary: save_file(contiguous, temporary))
        self.write_record(run, {**record, "sha256": file_sha256(path), "parts": tensor_checksums(contiguous)})

    def load(self, run: str) -> dict[str, Tensor]:
        """All tensors of a run, checked against the record. Raises HarnessError for a missing or altered file."""
        path = self.checked(run)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def load_part(self, run: str, prefix: str) -> dict[str, Tensor]:
        """The tensors of a run whose names start with `prefix`, without it."""
        path = self.checked(run)
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise HarnessError(f"{path}: can't be read ({error}). {self._fix(run)}") from None

    def checked(self, run: str) -> Path:
        """The file of a run's tensors. Raises HarnessError unless it matches the record."""
        path = self.tensors_path(run)
        expected = self.read(run)["sha256"]
        if not path.exists():
            raise HarnessError(f"{path}: missing. {self._fix(run)}")
        if file_sha256(path) != expected:
            raise HarnessError(f"{path}: its checksum is not the one in its record. {self._fix(run)}")
        return path

    def _fix(self, run: str) -> str:
        return f"Delete {self.record_path(run)} and run `harness reproduce` again: it trains this network again."


def record_checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its own checksum and its PULLED mark."""
    return digest({name: value for name, value in record.items() if name not in ("checksum", PULLED)})


def tensor_checksums(tensors: dict[str, Tensor]) -> dict[str, str]:
    """SHA-256 of each group of tensors, by the first part of their names, so that each snapshot has its own."""
    groups: dict[str, list[object]] = {}
    for name in sorted(tensors):
        value = tensors[name]
        content = hashlib.sha256(value.detach().cpu().flatten().view(torch.uint8).numpy().data).hexdigest()
        groups.setdefault(name.partition("/")[0], []).append([name, str(value.dtype), list(value.shape), content])
    return {group: digest(parts) for group, parts in groups.items()}


def link(source: Path, path: Path) -> None:
    """Hard-link a file, or copy it to another file system."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def final_tensors(state: State, masks: dict[str, Tensor], position: int) -> dict[str, Tensor]:
    """One replicate's tensors: final weights with the mask applied, buffers, and the mask as bytes."""
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


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def state_of(tensors: dict[str, Tensor], step: int, optimizer_steps: int = 0) -> State:
    """A stack of one replicate from stored tensors "weights/...", "buffers/...", "optimizer/..."."""
    return from_tensors({name: value.unsqueeze(0) for name, value in tensors.items()}, step, optimizer_steps)
