"""Converted images on disk: uint8 pixels, resized once to a shorter side of 256, back to back in a hundred files.

Why raw pixels and no library: a training image then costs a crop and a resize, 0.51 ms of one core and no decoding,
six times as fast as one GPU asks of eight cores (`python -m benchmarks.imagenet_feed`); a test image is bit for bit the
standard resize 256 and centre crop 224, where a second JPEG would lose some; nothing depends on a decoder's version
after the conversion; and any step's batch can be read by itself, so a run goes on from a kept state. FFCV, the library
for this, needs numba, OpenCV and a decoder built on the spot; pre-resized JPEGs take about a tenth of the disk and two
to three times the processor. The price is 260 KB an image, 350 GB in all, and a disk that reads 0.5 GB/s while the page
cache is cold. Training crops come from the resized image, so small ones are softer than crops of the original: a tenth
of an image's area has 93 pixels a side, enlarged to 224. A shorter side of 384 would keep them about as sharp, but take
790 GB and a resize of every test image, whose standard view is a middle crop of 256. All networks that a claim compares
see the same crops.

Why `pread` and no memory map: it reads only the crop's rows, in one request, and a failing disk or a file cut short is
an error that names the file, where a map kills the process.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.base.errors import HarnessError
from harness.data.archives import data_folder
from harness.data.base import SPLITS, DataSet
from harness.data.normalise import normalised

COLUMNS = ("shard", "offset", "height", "width", "digest")  # of the index, which has a row for each image
DIGEST_BYTES = 16  # of an image's SHA-256
CHUNK = 16  # images a task of the thread pool


def shard_path(folder: Path, split: str, shard: int) -> Path:
    """A file of pixels."""
    return folder / f"{split}-{shard:04d}.u8"


def image_digest(pixels: Any) -> bytes:
    """The digest of an image's pixels, as the index stores it."""
    return hashlib.sha256(pixels).digest()[:DIGEST_BYTES]


@dataclass(frozen=True)
class Stored:
    """All images of a split: the place of each, and the files, opened when they are first read."""

    folder: Path
    split: str
    crop: int  # pixels of a sample's side
    mean: Tensor  # [3]
    std: Tensor  # [3]
    index: Mapping[str, np.ndarray]  # COLUMNS, each [N] (digest [N, 16])
    fix: str  # what to do about a damaged file
    seen: np.ndarray  # [N] bool: compared with its digest by this process
    files: dict[int, BinaryIO]

    def read_rows(self, image: int, top: int, rows: int) -> np.ndarray:
        """Rows of one image, uint8 [rows, width, 3]. The first call for an image compares all of it with its digest.

        Raises HarnessError for a file that can't be read and for altered pixels.
        """
        start, width = int(self.index["offset"][image]), int(self.index["width"][image])
        if self.seen[image]:
            return self._read(image, start + 3 * width * top, (rows, width, 3))
        whole = self._read(image, start, (int(self.index["height"][image]), width, 3))
        if image_digest(whole) != self.index["digest"][image].tobytes():
            path = shard_path(self.folder, self.split, int(self.index["shard"][image]))
            raise HarnessError(f"{path}: the image at byte {start} is not the one converted. {self.fix}")
        self.seen[image] = True
        return whole[top : top + rows]

    def _read(self, image: int, start: int, shape: tuple[int, int, int]) -> np.ndarray:
        shard = int(self.index["shard"][image])
        path = shard_path(self.folder, self.split, shard)
        try:
            file = self.files.get(shard) or self.files.setdefault(shard, path.open("rb", buffering=0))
            data = os.pread(file.fileno(), math.prod(shape), start)
        except OSError as error:
            raise HarnessError(f"{path}: can't be read ({error.strerror}). {self.fix}") from None
        if len(data) != math.prod(shape):
            raise HarnessError(f"{path}: is cut short. {self.fix}")
        return np.frombuffer(data, np.uint8).reshape(shape)

    def check_files(self) -> None:
        """Raise HarnessError for a missing or shortened file; pixels are compared when they are read."""
        expected = np.zeros(int(self.index["shard"].astype(np.int64).max(initial=-1)) + 1, np.int64)
        area = self.index["height"].astype(np.int64) * self.index["width"]
        np.maximum.at(expected, self.index["shard"], self.index["offset"].astype(np.int64) + 3 * area)
        for shard, length in enumerate(expected):
            path = shard_path(self.folder, self.split, shard)
            size = path.stat().st_size if path.is_file() else -1
            if size != length:
                fault = f"{size} bytes instead of {length}." if size >= 0 else "missing."
                raise HarnessError(f"{path}: {fault} {self.fix}")


@dataclass(frozen=True)
class Images:
    """Images [N, 3, crop, crop] on disk, used like a tensor: indexing selects images, and `to` reads their pixels."""

    stored: Stored
    rows: np.ndarray  # [N] of the stored images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> "Images":
        return Images(self.stored, self.rows[index])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, crop, crop)."""
        return (len(self), 3, self.stored.crop, self.stored.crop)

    def content(self) -> list[object]:
        """What identifies the samples: the images' numbers, digests and places, and how they are cropped and scaled."""
        index = {name: hashlib.sha256(column.tobytes()).hexdigest() for name, column in self.stored.index.items()}
        scale = [self.stored.crop, self.stored.mean.tolist(), self.stored.std.tolist()]
        return [hashlib.sha256(self.rows.tobytes()).hexdigest(), index, scale]

    def to(self, device: Any) -> Tensor:
        """Read the test view of all of them, the middle crop x crop pixels: [N, 3, crop, crop] float32, normalised."""
        out = pixel_buffer(len(self), self.stored.crop)
        wait(in_chunks(lambda part: self._centres(out, part), len(self)))
        return normalised(out.to(device), self.stored.mean, self.stored.std)

    def _centres(self, out: Tensor, part: range) -> None:
        crop, into = self.stored.crop, out.numpy()
        for position in part:
            image = int(self.rows[position])
            lengths = (self.stored.index["height"][image], self.stored.index["width"][image])
            top, left = (round((int(side) - crop) / 2) for side in lengths)  # torchvision's middle
            into[position] = self.stored.read_rows(image, top, crop)[:, left : left + crop].transpose(2, 0, 1)

    def read_crops(self, out: Tensor, boxes: np.ndarray, flips: np.ndarray) -> list["Future[None]"]:
        """Start to fill out [N, 3, crop, crop] uint8 with boxes [N, 4] (top, left, height, width), resized.

        Bilinear with antialiasing, as in torchvision; mirrored where flips [N] is true. Returns tasks to `wait` for.
        """
        return in_chunks(lambda part: self._crops(out, boxes, flips, part), len(self))

    def _crops(self, out: Tensor, boxes: np.ndarray, flips: np.ndarray, part: range) -> None:
        size, into = (self.stored.crop,) * 2, out.numpy()
        for position in part:
            top, left, height, width = boxes[position].tolist()
            pixels = self.stored.read_rows(int(self.rows[position]), top, height)[:, left : left + width]
            image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
            resized = F.interpolate(image, size, mode="bilinear", antialias=True)[0].numpy()
            into[position] = resized[..., ::-1] if flips[position] else resized


def open_images(details: Mapping[str, Any], arrays: Mapping[str, np.ndarray], record: Path) -> DataSet:
    """The data set of a stored index; its x are Images.

    Raises HarnessError for a missing, shortened or unreadable file.
    """
    folder = data_folder() / details["folder"]
    advice = f"Delete {record}, and that file if it is there, and run `harness reproduce` again."
    mean, std = torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["std"])
    x = {}
    for split in SPLITS:
        index = {column: arrays[f"{split}_{column}"] for column in COLUMNS}
        count = len(index["shard"])
        stored = Stored(folder, split, details["crop"], mean, std, index, advice, np.zeros(count, bool), {})
        try:
            stored.check_files()
        except OSError as error:
            reason = f"can't be read ({error.strerror}). Make it readable and run again."
            raise HarnessError(f"{error.filename}: {reason}") from None
        x[split] = Images(stored, np.arange(count))
    y = {split: torch.from_numpy(arrays[f"{split}_y"]) for split in SPLITS}
    # Images stand in for tensors where those are only indexed, measured and moved to a device
    return DataSet(details["name"], details["classes"], cast(dict[str, Tensor], x), y, details["checksum"])


def pixel_buffer(count: int, crop: int, pinned: bool = False) -> Tensor:
    """Room for images [count, 3, crop, crop] uint8; pinned memory is copied to a GPU while it computes."""
    return torch.empty((count, 3, crop, crop), dtype=torch.uint8, pin_memory=pinned)


def in_chunks(work: Callable[[range], None], count: int) -> list["Future[None]"]:
    """Start `work` on all of range(count), in chunks, on as many threads as torch may use."""
    return [threads().submit(work, range(start, min(start + CHUNK, count))) for start in range(0, count, CHUNK)]


def wait(tasks: list["Future[None]"]) -> None:
    """Wait for tasks; the first error is raised here."""
    for task in tasks:
        task.result()


def threads() -> ThreadPoolExecutor:
    """The pool that reads and converts: as many threads as torch may use, see `harness.training.loop.use_threads`."""
    return _pool(torch.get_num_threads())


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    # threads, not processes: NumPy, Pillow and torch let go of Python's lock while they copy, decode, resize and hash
    return ThreadPoolExecutor(count, thread_name_prefix="images")
