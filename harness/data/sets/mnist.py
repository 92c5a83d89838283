"""MNIST from its own idx files (LeCun, Cortes, Burges): 60,000 and 10,000 scans of 28 x 28."""

import math
import struct
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from harness.base.errors import HarnessError
from harness.data.archives import Archive, Published, fetch, read_members
from harness.data.base import published_split
from harness.data.source import published

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")  # torchvision's
FILES = {  # with their published MD5s
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

SIZES = (9_912_422, 28_881, 1_648_877, 4_542)  # bytes of these
UNPACKED = (  # MD5s of the idx files in them
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)

MNIST = Published(
    name="mnist",
    shape=(1, 28, 28),
    classes=10,
    sizes={"train": 55_000, "validation": 5_000, "test": 10_000},  # LTH
    mean=(0.1307,),  # the authors' later code (open_lth)
    std=(0.3081,),
    archives=tuple(
        Archive(
            f"MNIST/raw/{name}",
            md5,
            tuple(mirror + name for mirror in MIRRORS),
            size,
            partial(dict, {name.removesuffix(".gz"): unpacked}),
        )
        for (name, md5), size, unpacked in zip(FILES.items(), SIZES, UNPACKED, strict=True)
    ),
)


def arrays(published: Published = MNIST) -> dict[str, np.ndarray]:
    """Train, validation and test arrays: x uint8 [N, 1, 28, 28], y int64 [N]; the test set is the published one.

    Raises HarnessError for a file that can't be read or downloaded, and for other content than published.
    """
    sizes = published.sizes
    training, test = sizes["train"] + sizes["validation"], sizes["test"]
    image = published.shape[1:]
    shapes = ((training, *image), (training,), (test, *image), (test,))  # of images, labels, images, labels
    contents = []
    for archive, path, shape in zip(published.archives, fetch(published), shapes, strict=True):
        (content,) = read_members(path, (PurePosixPath(archive.path).stem,)).values()
        contents.append(read_idx(content, str(path), shape))
    x, y, test_x, test_y = contents
    return published_split(published, np.concatenate([x, test_x])[:, None], np.concatenate([y, test_y]))


def read_idx(content: bytes, source: str, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of an idx file, which must have this shape; `source` names the file in errors.

    Raises HarnessError for any other content.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)  # 8: unsigned bytes
    if content[: len(header)] != header or len(content) != len(header) + math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise HarnessError(f"{source}: does not hold {sizes} bytes in idx form. Delete it and run again.")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


SOURCES = {
    "mnist": published(MNIST, arrays),
    "mnist-0-to-1": published(replace(MNIST, mean=(0.0,), std=(1.0,)), arrays),  # pixels from 0 to 1, same split
}
