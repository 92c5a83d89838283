"""Where a data set comes from: the form of the entries in harness/data/sets."""

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

    `checksum`: of the content for a generated set; of the archives and how they are used for a downloaded set.
    """

    shape: tuple[int, ...]  # (C, *S) of a sample
    training_samples: int
    test_samples: int
    make: Callable[[], dict[str, np.ndarray]]  # the arrays to store
    checksum: str
    classes: int = 10
    generated: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)  # more fields of the record
    provenance: Callable[[], Mapping[str, Any]] = dict  # more for the record, known once the arrays are made
    require: Callable[[], None] | None = None  # raises HarnessError if files are missing that can't be downloaded
    archives: tuple[Archive, ...] = ()
    stored_bytes: int = 0  # about how many bytes are stored, to plan with

    @property
    def on_disk(self) -> bool:
        """Whether it stays on disk: its x are `Images`, and training reads them through a `Feed`."""
        return "folder" in self.details


def published(files: Published, make: Callable[[Published], dict[str, np.ndarray]]) -> Source:
    """The source of a set that is downloaded and held in memory."""
    return Source(
        files.shape,
        files.sizes["train"],
        files.sizes["test"],
        partial(make, files),
        files.checksum,
        files.classes,
        generated=False,
        archives=files.archives,
        stored_bytes=files.stored_bytes(),
    )


def generated(
    shape: tuple[int, ...], sizes: Mapping[str, int], make: Callable[[], Any], checksum: str, classes: int = 10
) -> Source:
    """The source of a set that is generated here: float32 samples with label and index."""
    size = sum(sizes.values()) * (4 * math.prod(shape) + 16)
    return Source(shape, sizes["train"], sizes["test"], make, checksum, classes, stored_bytes=size)
