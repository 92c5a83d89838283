"""CIFAR-10 from its Python archive (Krizhevsky 2009): 50,000 and 10,000 images of 32 x 32 in three colours.

The archive's members are pickles. They are read by an unpickler to which all names but those of a NumPy array are
unknown, and those three stand for classes below that can only hold bytes: not even NumPy's own code runs on them.
"""

import io
import math
import pickle
from importlib.util import find_spec
from typing import Any

import numpy as np

from harness.base.errors import HarnessError
from harness.data.archives import Archive, Published, fetch, read_members
from harness.data.base import published_split
from harness.data.source import published

TRAINING = tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6))
TEST = ("cifar-10-batches-py/test_batch",)


def batch_md5s() -> dict[str, str]:
    """The batches' names and published MD5s, from torchvision; empty if it is not installed."""
    if find_spec("torchvision") is None:
        return {}
    from torchvision.datasets import CIFAR10

    return {f"{CIFAR10.base_folder}/{name}": md5 for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list)}


CIFAR10 = Published(
    name="cifar10",
    shape=(3, 32, 32),
    classes=10,
    sizes={"train": 45_000, "validation": 5_000, "test": 10_000},  # LTH; the paper's epochs imply 45,000
    mean=(0.485, 0.456, 0.406),  # ImageNet's, as in the authors' later code (open_lth)
    std=(0.229, 0.224, 0.225),
    archives=(
        Archive(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            170_498_071,
            batch_md5s,
        ),
    ),
)


def arrays(published: Published = CIFAR10) -> dict[str, np.ndarray]:
    """Train, validation and test arrays: x uint8 [N, 3, 32, 32], y int64 [N]; the test set is the published one.

    Raises HarnessError for an archive that can't be read or downloaded, and for other content than published.
    """
    (path,) = fetch(published)
    contents = read_members(path, (*TRAINING, *TEST))
    batches = [read_batch(content, f"{path}: {name}") for name, content in contents.items()]
    tests = sum(len(labels) for _, labels in batches[len(TRAINING) :])
    if tests != published.sizes["test"]:
        raise HarnessError(
            f"{path}: {tests} test images instead of {published.sizes['test']}: not the published archive"
        )
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return published_split(published, x.reshape(-1, *published.shape), y)


def read_batch(content: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [N, 3072] and labels [N] of one pickled batch; `source` names it in errors.

    Raises HarnessError for a pickle that asks for any other class or function, and for other content.
    """
    try:
        batch = _Unpickler(content, source).load()
        pixels, labels = batch[b"data"].values, batch[b"labels"]
        if pixels.shape != (len(labels), 3072) or not all(type(label) is int for label in labels):
            raise ValueError(f"{pixels.shape} pixels, {len(labels)} labels")
        return pixels, np.array(labels, np.int64)
    except HarnessError:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        raise HarnessError(f"{source}: not a CIFAR-10 batch ({type(error).__name__}: {error})") from None


class _Dtype:
    """Stands for numpy.dtype: holds its code."""

    def __init__(self, code: bytes, *_: Any):
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: nothing to keep of single bytes."""


class _Array:
    """Stands for a NumPy array of uint8; anything else is refused."""

    def __init__(self, *_: Any):
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if type(dtype) is not _Dtype or dtype.code != b"u1" or len(content) != math.prod(shape):
            raise ValueError("an array of another type than bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",  # only ever an argument of the first
    ("numpy", "dtype"): _Dtype,
}


class _Unpickler(pickle.Unpickler):
    """Builds containers, numbers, bytes and the stand-ins; refuses everything else by name."""

    def __init__(self, content: bytes, source: str):
        super().__init__(io.BytesIO(content), encoding="bytes")  # written by Python 2
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise HarnessError(
                f"{self.source}: asks for {module}.{name}, which no CIFAR-10 batch does: refused, not run. "
                "Delete the archive and run again."
            )
        return _KNOWN[module, name]


SOURCES = {"cifar10": published(CIFAR10, arrays)}
