"""Decoding of picture files on a pool of threads, for every data set that is converted from them."""

import io
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from harness.base.errors import HarnessError
from harness.base.words import duration
from harness.data.images import threads

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")

LARGEST = 2**27  # pixels of a picture: more is a bomb; ImageNet's largest has half of that


@contextmanager
def opened(name: str, encoded: bytes, formats: Collection[str] | None = None) -> Iterator[ImageFile.ImageFile]:
    """A picture file, opened with Pillow; `formats`: the only ones that are tried.

    Raises HarnessError that names the file when it can't be decoded, there or in the block.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=list(formats) if formats else None) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels")
            yield image
    except HarnessError:
        raise
    except Exception as error:  # a broken file can raise nearly anything
        unknown = f"not a picture in {', '.join(formats or ('any known format',))}"
        fault = unknown if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise HarnessError(
            f"{name}: can't be decoded ({fault}). Replace it by a complete copy and run again."
        ) from None


def in_windows(work: Callable[[Item], Decoded], items: Iterable[Item]) -> Iterator[tuple[Item, Decoded]]:
    """Each item and `work` of it, in order, computed by the pool of threads; only a few items a thread are held."""
    rest = iter(items)
    while window := list(islice(rest, 4 * torch.get_num_threads())):
        yield from zip(window, threads().map(work, window), strict=True)


class Progress:
    """Tells on stderr how far a conversion is, at most once in `every_seconds`; `total` 0: not known."""

    def __init__(self, data_set: str, what: str, total: int, every_seconds: float = 5.0):
        self.data_set, self.what, self.total, self.every_seconds = data_set, what, total, every_seconds
        self.done, self.began = 0, time.monotonic()
        self.told = self.began

    def add(self) -> None:
        """Count one more."""
        self.done += 1
        now = time.monotonic()
        if now - self.told < self.every_seconds:
            return
        self.told = now
        left = duration((now - self.began) / self.done * (self.total - self.done))
        part = f"{self.done:,} of {self.total:,} {self.what} converted, about {left} left"
        text = part if self.total else f"{self.done:,} {self.what} checked"
        print(f"data set {self.data_set}: {text}", file=sys.stderr, flush=True)
