"""Data sets by name: shape, size, the function that makes the arrays, and the pinned checksum of their content."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import cifar10, digits, imagenet, mnist, mnist1d
from harness.data.archives import Archive, Published
from harness.data.base import DataSet, check_content, in_memory, load_arrays, store
from harness.data.ilsvrc import PublishedImages, converted_folder
from harness.data.images import open_images
from harness.errors import HarnessError

__all__ = ["SOURCES", "DataSet", "Source", "checksum", "images", "load", "prepare", "published", "require"]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    `checksum` is that of the content for a generated set, and that of the archives and their use for a downloaded one.
    """

    shape: tuple[int, ...]  # (C, *S) of a sample
    training_samples: int
    make: Callable[[], dict[str, np.ndarray]]  # the arrays to store
    checksum: str
    classes: int = 10
    generated: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)  # more to keep in the record
    found: Callable[[], Mapping[str, Any]] = dict  # and what is only known once it is made
    require: Callable[[], None] | None = None  # raises HarnessError if files are missing that can't be downloaded
    archives: tuple[Archive, ...] = ()
    stored_bytes: int = 0  # about what is kept of it, to plan with

    @property
    def on_disk(self) -> bool:
        """Whether it stays on disk: its x are `Images`, and training reads them through a `Feed`."""
        return "folder" in self.facts


def published(what: Published, make: Callable[[Published], dict[str, np.ndarray]]) -> Source:
    """The source of a set that is downloaded and held in memory."""
    return Source(
        what.shape,
        what.sizes["train"],
        partial(make, what),
        what.checksum,
        what.classes,
        generated=False,
        archives=what.archives,
        stored_bytes=what.stored_bytes(),
    )


def generated(shape: tuple[int, ...], sizes: Mapping[str, int], make: Callable[[], Any], checksum: str) -> Source:
    """The source of a set that is made here: float32 samples with label and index."""
    size = sum(sizes.values()) * (4 * math.prod(shape) + 16)
    return Source(shape, sizes["train"], make, checksum, stored_bytes=size)


def images(what: PublishedImages) -> Source:
    """The source of a set that stays on disk."""
    return Source(
        what.shape,
        what.sizes["train"],
        partial(imagenet.arrays, what),
        what.checksum,
        what.classes,
        generated=False,
        facts={"folder": converted_folder(what), "crop": what.shape[-1]},
        found=partial(imagenet.unchecked, what),
        require=partial(imagenet.require, what),
        archives=what.archives,
        stored_bytes=what.stored_bytes(),
    )


SOURCES: dict[str, Source] = {
    "digits": generated(
        (1, 8, 8),
        digits.SIZES,
        digits.arrays,
        "67e7cf849a2d55113a73b44209de6a215661ec6f2ace4f0ede5dbb44e4bc5bdc",
    ),
    "mnist1d": generated(
        (1, 40),
        mnist1d.SIZES["mnist1d"],
        partial(mnist1d.arrays, "mnist1d"),
        "55e7a9b8bf3ca462ecd898e4a0a97e45b5ba01dba76a8b4e02cc92b2ea43e996",
    ),
    "mnist1d-hard": generated(
        (1, 40),
        mnist1d.SIZES["mnist1d-hard"],
        partial(mnist1d.arrays, "mnist1d-hard"),
        "891f5e587403bc71e4b50d400c77d375a24c251e2be45284285c2b2227fec540",
    ),
    "mnist": published(mnist.MNIST, mnist.arrays),
    "cifar10": published(cifar10.CIFAR10, cifar10.arrays),
    "imagenet": images(imagenet.IMAGENET),
    # Inception-v3's auxiliary head takes no less; the same ratio of crop to shorter side
    "imagenet-299": images(replace(imagenet.IMAGENET, shape=(3, 299, 299), side=342)),
}


def source_of(name: str) -> Source:
    """The source of a data set. Raises HarnessError for an unknown name."""
    if name not in SOURCES:
        raise HarnessError(f"data set {name!r} is unknown: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def checksum(name: str) -> str:
    """The pinned checksum of a data set, known before it is there. Raises HarnessError for an unknown name."""
    return source_of(name).checksum


def require(name: str) -> None:
    """Raise HarnessError, with what to do, for a set whose files a person must get first; cheap, for before a run."""
    check = source_of(name).require
    if check:
        check()


def prepare(name: str, record: Path) -> None:
    """Make a data set and store it beside `record`.

    Raises HarnessError for an unknown name, content that is not the pinned one, and files that can't be had.
    """
    source = source_of(name)
    arrays = source.make()
    if source.generated:
        check_content(name, arrays, source.checksum)
    facts = {"name": name, "classes": source.classes, "checksum": source.checksum}
    store(arrays, record, {**facts, **source.facts, **source.found()})


def load(record: Path) -> DataSet:
    """Read a stored data set, refusing arrays that are not those of the record.

    Raises HarnessError for a missing, broken or altered file.
    """
    facts, arrays = load_arrays(record)
    return open_images(facts, arrays, record) if "folder" in facts else in_memory(facts, arrays)
