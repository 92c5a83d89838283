"""The data-set protocol: plain arrays, one fixed split, a checksum of the content, stored without pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from harness.errors import HarnessError
from harness.files import digest, file_sha256, read_json, write_atomically, write_json

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSet:
    """Arrays in memory: x[split] is [N, C, *S] float32, y[split] is [N] int64."""

    name: str
    classes: int
    x: Mapping[str, Tensor]
    y: Mapping[str, Tensor]
    checksum: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, *S) of one sample."""
        return tuple(self.x["train"].shape[1:])


def content_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the arrays' names, shapes and values to three decimals.

    Three decimals, because generated sets pass through library code whose last bits differ between machines.
    """
    parts = {}
    for name in sorted(arrays):
        values = np.round(np.asarray(arrays[name], dtype=np.float64) * 1000).astype("<i4")
        parts[name] = [list(values.shape), digest(values.tobytes().hex())]
    return digest(parts)


def split_arrays(x: np.ndarray, y: np.ndarray, sizes: Mapping[str, int], order: np.ndarray) -> dict[str, np.ndarray]:
    """Cut samples into train, validation and test, in that order along `order`; the indexes are kept too.

    Raises ValueError when the sizes don't add up to the number of samples.
    """
    if sum(sizes[split] for split in SPLITS) != len(y):
        raise ValueError(f"splits {dict(sizes)} don't add up to {len(y)} samples")
    arrays = {}
    start = 0
    for split in SPLITS:
        index = order[start : start + sizes[split]]
        start += sizes[split]
        arrays[f"{split}_x"] = np.ascontiguousarray(x[index], dtype=np.float32)
        arrays[f"{split}_y"] = y[index].astype(np.int64)
        arrays[f"{split}_index"] = index.astype(np.int64)
    return arrays


def store(name: str, arrays: dict[str, np.ndarray], expected: str, record: Path) -> None:
    """Write the arrays beside `record` (JSON) after comparing their content with the pinned checksum.

    Raises HarnessError when the content is not the pinned one.
    """
    checksum = content_checksum(arrays)
    if checksum != expected:
        raise HarnessError(
            f"data set {name}: content checksum {checksum[:16]} instead of {expected[:16]}. The library that provides "
            "it has changed its data; install the versions that envs/ or pyproject.toml name, and run again."
        )
    path = record.with_suffix(".safetensors")
    write_atomically(path, lambda temporary: save_file(arrays, temporary))
    shapes = {key: list(value.shape) for key, value in arrays.items()}
    classes = int(max(arrays[f"{split}_y"].max() for split in SPLITS)) + 1
    write_json(
        record,
        {"name": name, "classes": classes, "checksum": checksum, "sha256": file_sha256(path), "shapes": shapes},
    )


def load(record: Path) -> DataSet:
    """Read a stored data set, refusing arrays that are not those of the record.

    Raises HarnessError for a missing, broken or altered file.
    """
    facts = read_json(record)
    path = record.with_suffix(".safetensors")
    fix = f"Delete {record} and run `harness reproduce` again."
    try:
        if file_sha256(path) != facts["sha256"]:
            raise HarnessError(f"{path}: its checksum is not the one in {record.name}. {fix}")
        arrays = load_file(path)
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. {fix}") from None
    except (SafetensorError, KeyError) as error:
        raise HarnessError(f"{path}: can't be read ({error}). {fix}") from None
    return DataSet(
        name=facts["name"],
        classes=facts["classes"],
        x={split: torch.from_numpy(arrays[f"{split}_x"]) for split in SPLITS},
        y={split: torch.from_numpy(arrays[f"{split}_y"]) for split in SPLITS},
        checksum=facts["checksum"],
    )
