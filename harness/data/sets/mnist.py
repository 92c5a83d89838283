"""MNIST from its own idx files (LeCun, Cortes, Burges): 60,000 and 10,000 scans of 28 x 28."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from harness.base.errors import HarnessError
from harness.data.archives import Archive, Published, fetch
from harness.data.base import published_split
from harness.data.source import published

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")  # torchvision's
FILES = {  # with their published MD5
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

SIZES = (9_912_422, 28_881, 1_648_877, 4_542)  # bytes of these

MNIST = Published(
    name="mnist",
    shape=(1, 28, 28),
    classes=10,
    sizes={"train": 55_000, "validation": 5_000, "test": 10_000},  # LTH
    mean=(0.1307,),  # the authors' later code (open_lth)
    std=(0.3081,),
    archives=tuple(
        Archive(f"MNIST/raw/{name}", md5, tuple(mirror + name for mirror in MIRRORS), size)
        for (name, md5), size in zip(FILES.items(), SIZES, strict=True)
    ),
)


def arrays(published: Published = MNIST) -> dict[str, np.ndarray]:
    """Train, validation and test arrays: x uint8 [N, 1, 28, 28], y int64 [N]; the test set is the published one.

    Raises HarnessError for a file that can't be had or is not what was published.
    """
    paths = fetch(published)  # images and labels for training, images and labels for test
    sizes = published.sizes
    counts = (sizes["train"] + sizes["validation"], sizes["test"])
    images = [read_idx(path, (count, *published.shape[1:])) for path, count in zip(paths[::2], counts, strict=True)]
    labels = [read_idx(path, (count,)) for path, count in zip(paths[1::2], counts, strict=True)]
    return published_split(published, np.concatenate(images)[:, None], np.concatenate(labels))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of a gzipped idx file, which must have this shape.

    Raises HarnessError for a damaged or shortened file and for any other shape. Reads no more than the shape asks for.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)  # 8: unsigned bytes
    size = len(header) + math.prod(shape)
    try:
        with gzip.open(path) as file:
            found = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise HarnessError(f"{path}: can't be read ({error}). Delete it and run again.") from None
    if found[: len(header)] != header or len(found) != size:
        sizes = " x ".join(map(str, shape))
        raise HarnessError(f"{path}: does not hold {sizes} bytes in idx form. Delete it and run again.")
    return np.frombuffer(found, np.uint8, offset=len(header)).reshape(shape)


SOURCES = {"mnist": published(MNIST, arrays)}
