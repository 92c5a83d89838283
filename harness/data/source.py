"""Where a data set comes from: what every file of harness/data/sets says of its sets."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from harness.data.archives import Archive, Published


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
    details: Mapping[str, Any] = field(default_factory=dict)  # more to keep in the record
    found: Callable[[], Mapping[str, Any]] = dict  # and what is only known once it is made
    require: Callable[[], None] | None = None  # raises HarnessError if files are missing that can't be downloaded
    archives: tuple[Archive, ...] = ()
    stored_bytes: int = 0  # about what is kept of it, to plan with

    @property
    def on_disk(self) -> bool:
        """Whether it stays on disk: its x are `Images`, and training reads them through a `Feed`."""
        return "folder" in self.details


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


def generated(
    shape: tuple[int, ...], sizes: Mapping[str, int], make: Callable[[], Any], checksum: str, classes: int = 10
) -> Source:
    """The source of a set that is made here: float32 samples with label and index."""
    size = sum(sizes.values()) * (4 * math.prod(shape) + 16)
    return Source(shape, sizes["train"], make, checksum, classes, stored_bytes=size)
