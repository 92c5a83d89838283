"""The data-set protocol: plain arrays, one fixed split, a checksum of the content, stored without pickle."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.files import digest, file_sha256, read_json, write_atomically, write_json
from harness.base.seeds import SPLIT, numpy_generator
from harness.data.archives import Published, unreadable
from harness.data.normalise import normalisation, normalised

SPLITS = ("train", "validation", "test")
NEEDED = ("name", "classes", "checksum")  # fields of every record


@dataclass(frozen=True)
class DataSet:
    """Arrays in memory: x[split] is [N, C, *S] float32, y[split] is [N] int64.

    For ImageNet x[split] is `harness.data.images.Images`, which reads from disk only the samples asked for.
    """

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
    """SHA-256 of the arrays' names, shapes and values: unsigned integers exactly, the rest to three decimals.

    Three decimals, because generated sets pass through library code whose last bits differ between machines.
    """
    parts = {}
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.kind == "u":  # read from files, and too large for hexadecimal text
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            parts[name] = [list(array.shape), hashlib.sha256(little.tobytes()).hexdigest()]
        else:
            values = np.round(np.asarray(array, dtype=np.float64) * 1000).astype("<i4")
            parts[name] = [list(values.shape), digest(values.tobytes().hex())]
    return digest(parts)


def split_arrays(x: np.ndarray, y: np.ndarray, sizes: Mapping[str, int], order: np.ndarray) -> dict[str, np.ndarray]:
    """Cut samples, taken in the order `order`, into train, validation and test, and keep their indexes.

    uint8 samples stay so, others become float32. Raises ValueError when the sizes don't add up to their number.
    """
    if sum(sizes[split] for split in SPLITS) != len(y):
        raise ValueError(f"splits {dict(sizes)} don't add up to {len(y)} samples")
    arrays = {}
    start = 0
    dtype = np.uint8 if x.dtype == np.uint8 else np.float32
    for split in SPLITS:
        index = order[start : start + sizes[split]]
        start += sizes[split]
        arrays[f"{split}_x"] = np.ascontiguousarray(x[index], dtype=dtype)
        arrays[f"{split}_y"] = y[index].astype(np.int64)
        arrays[f"{split}_index"] = index.astype(np.int64)
    return arrays


def published_split(published: Published, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Split a published set: x uint8 [N, C, *S] and y [N], the published training samples first.

    Validation samples are drawn from those by the seed (name, "split"); the test set stays as published. The
    normalisation goes with the arrays. Raises HarnessError for other numbers of samples or labels than published.
    """
    sizes = published.sizes
    if len(y) != sum(sizes.values()) or y.min() < 0 or y.max() >= published.classes:
        raise HarnessError(
            f"data set {published.name}: {len(y)} samples of classes {y.min()} to {y.max()} instead of "
            f"{sum(sizes.values())} of 0 to {published.classes - 1}: these are not the published files"
        )
    training = sizes["train"] + sizes["validation"]
    shuffled = numpy_generator(published.name, SPLIT).permutation(training)
    arrays = split_arrays(x, y, sizes, np.concatenate([shuffled, np.arange(training, len(y))]))
    return arrays | normalisation(published)


def check_content(name: str, arrays: Mapping[str, np.ndarray], expected: str) -> None:
    """Compare generated arrays with the pinned checksum. Raises HarnessError when they differ."""
    checksum = content_checksum(arrays)
    if checksum != expected:
        raise HarnessError(
            f"data set {name}: content checksum {checksum[:16]} instead of {expected[:16]}. The library that provides "
            "it has changed its data. Install the versions in envs/ or pyproject.toml and run again."
        )


def store(arrays: dict[str, np.ndarray], record: Path, details: Mapping[str, Any]) -> None:
    """Write the arrays beside `record` (JSON), which holds the `details` (NEEDED and more) and checksums of the arrays.

    With these checksums a later change of the arrays is found, and arrays of two machines can be compared.
    """
    path = record.with_suffix(".safetensors")
    write_atomically(path, lambda temporary: save_file(arrays, temporary))
    checksums = {
        "content": content_checksum(arrays),
        "sha256": file_sha256(path),
        "shapes": {key: list(value.shape) for key, value in arrays.items()},
    }
    write_json(record, {**details, **checksums})


def load_arrays(record: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A stored set's record and arrays. Raises HarnessError for a missing, broken or altered file."""
    details = read_json(record)
    path = record.with_suffix(".safetensors")
    if not isinstance(details, dict) or not {*NEEDED, "sha256"} <= details.keys():
        raise HarnessError(f"{record}: not the record of a data set. {fix(record)}")
    try:
        if file_sha256(path) != details["sha256"]:
            raise HarnessError(f"{path}: its checksum is not the one in {record.name}. {fix(record)}")
        return details, load_file(path)
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. {fix(record)}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (SafetensorError, KeyError) as error:
        raise HarnessError(f"{path}: can't be read ({error}). {fix(record)}") from None


def content_as_read(data_set: DataSet) -> str:
    """SHA-256 of every sample and label as training reads them, exactly. For images on disk, of their index."""
    return digest(
        {"classes": data_set.classes}
        | {
            split: [_tensor_digest(part) if isinstance(part, Tensor) else part.content() for part in parts]
            for split, parts in ((split, (data_set.x[split], data_set.y[split])) for split in SPLITS)
        }
    )


def _tensor_digest(tensor: Tensor) -> list[object]:
    content = hashlib.sha256(np.ascontiguousarray(tensor.numpy()).data).hexdigest()
    return [str(tensor.dtype), list(tensor.shape), content]


def fix(record: Path) -> str:
    """What to do about a stored set that is damaged."""
    return f"Delete {record} and run `harness reproduce` again."


def in_memory(details: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> DataSet:
    """The data set of stored arrays; uint8 samples are normalised."""
    x = {split: torch.from_numpy(arrays[f"{split}_x"]) for split in SPLITS}
    if "mean" in arrays:
        mean, std = torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["std"])
        x = {split: normalised(pixels, mean, std) for split, pixels in x.items()}
    y = {split: torch.from_numpy(arrays[f"{split}_y"]) for split in SPLITS}
    return DataSet(details["name"], details["classes"], x, y, details["checksum"])
