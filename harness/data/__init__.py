"""Data sets by name: each a function that returns arrays, and the pinned checksum of their content."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from harness.data import digits, mnist1d
from harness.data.base import DataSet, load, store
from harness.errors import HarnessError

__all__ = ["DATA_SETS", "NOT_YET", "DataSet", "checksum", "load", "prepare"]

DATA_SETS: dict[str, tuple[Callable[[], dict[str, np.ndarray]], str]] = {
    "digits": (digits.arrays, "67e7cf849a2d55113a73b44209de6a215661ec6f2ace4f0ede5dbb44e4bc5bdc"),
    "mnist1d": (partial(mnist1d.arrays, "mnist1d"), "55e7a9b8bf3ca462ecd898e4a0a97e45b5ba01dba76a8b4e02cc92b2ea43e996"),
    "mnist1d-hard": (
        partial(mnist1d.arrays, "mnist1d-hard"),
        "891f5e587403bc71e4b50d400c77d375a24c251e2be45284285c2b2227fec540",
    ),
}

# samples (train, test) and shape of the paper's sets: a plan can be made for them, a run can't yet
NOT_YET: dict[str, tuple[int, ...]] = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def checksum(name: str) -> str:
    """The pinned checksum of a data set. Raises HarnessError for an unknown name or a set without a loader."""
    if name in NOT_YET:
        raise HarnessError(f"data set {name!r} has no loader in this version: only {', '.join(DATA_SETS)} can be run")
    if name not in DATA_SETS:
        raise HarnessError(f"data set {name!r} is unknown: choose one of {', '.join([*DATA_SETS, *NOT_YET])}")
    return DATA_SETS[name][1]


def prepare(name: str, record: Path) -> None:
    """Make a data set and store it beside `record`.

    Raises HarnessError as `checksum` does, or for content that is not the pinned one.
    """
    expected = checksum(name)
    store(name, DATA_SETS[name][0](), expected, record)
