"""Data sets by name: shape, size, the function that makes the arrays, and the pinned checksum of their content."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness.data import digits, mnist1d
from harness.data.base import DataSet, load, store
from harness.errors import HarnessError

__all__ = ["SOURCES", "DataSet", "Source", "checksum", "load", "prepare"]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from; `make` is None for one that can be planned for but not loaded yet."""

    shape: tuple[int, ...]  # (C, *S) of a sample
    training_samples: int
    make: Callable[[], dict[str, np.ndarray]] | None = None
    checksum: str = ""


SOURCES: dict[str, Source] = {
    "digits": Source(
        (1, 8, 8),
        digits.SIZES["train"],
        digits.arrays,
        "67e7cf849a2d55113a73b44209de6a215661ec6f2ace4f0ede5dbb44e4bc5bdc",
    ),
    "mnist1d": Source(
        (1, 40),
        mnist1d.SIZES["mnist1d"]["train"],
        partial(mnist1d.arrays, "mnist1d"),
        "55e7a9b8bf3ca462ecd898e4a0a97e45b5ba01dba76a8b4e02cc92b2ea43e996",
    ),
    "mnist1d-hard": Source(
        (1, 40),
        mnist1d.SIZES["mnist1d-hard"]["train"],
        partial(mnist1d.arrays, "mnist1d-hard"),
        "891f5e587403bc71e4b50d400c77d375a24c251e2be45284285c2b2227fec540",
    ),
    "mnist": Source((1, 28, 28), 55_000),
    "cifar10": Source((3, 32, 32), 45_000),
}


def checksum(name: str) -> str:
    """The pinned checksum of a data set. Raises HarnessError for an unknown name or a set without a loader."""
    if name not in SOURCES:
        raise HarnessError(f"data set {name!r} is unknown: choose one of {', '.join(SOURCES)}")
    if SOURCES[name].make is None:
        there = ", ".join(known for known, source in SOURCES.items() if source.make)
        raise HarnessError(f"data set {name!r} has no loader in this version: only {there} can be run")
    return SOURCES[name].checksum


def prepare(name: str, record: Path) -> None:
    """Make a data set and store it beside `record`.

    Raises HarnessError as `checksum` does, or for content that is not the pinned one.
    """
    expected, make = checksum(name), SOURCES[name].make
    if make:
        store(name, make(), expected, record)
