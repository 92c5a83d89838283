"""Small data sets in the real on-disk formats, as their publishers wrote them, each with its `Published`."""

import dataclasses
import gzip
import io
import struct
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from harness.base.files import digest
from harness.data.archives import Published, file_md5, md5
from harness.data.ilsvrc import META, TRUTH, PublishedImages
from harness.data.sets.cifar10 import CIFAR10, TEST, TRAINING
from harness.data.sets.imagenet import IMAGENET
from harness.data.sets.mnist import MNIST

SIZES = {"train": 48, "validation": 12, "test": 10}
WNIDS = ("n01440764", "n01443537", "n02119789")
IMAGES = {"train": (5, 4, 6), "test": 7}  # training images of each class, test images


def with_files(published: Published, folder: Path, sizes: dict[str, int], **changes: object) -> Published:
    """The same set with the sizes and checksums of the files in `folder`, and no addresses."""
    archives = [dataclasses.replace(archive, urls=()) for archive in published.archives]
    for at, archive in enumerate(archives):
        path = folder / archive.path
        if path.is_file():
            archives[at] = dataclasses.replace(archive, md5=file_md5(path))
    return dataclasses.replace(published, archives=tuple(archives), sizes=sizes, **changes)


def idx(values: np.ndarray) -> bytes:
    """A uint8 array in MNIST's form, gzipped."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)


def write_mnist(folder: Path) -> tuple[Published, np.ndarray, np.ndarray]:
    """MNIST's four files; returns what they are and all images [70, 28, 28] and labels, training first."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (70, 28, 28), dtype=np.uint8), rng.integers(0, 10, 70, dtype=np.uint8)
    archives = []
    for archive, values in zip(MNIST.archives, (x[:60], y[:60], x[60:], y[60:]), strict=True):
        path, content = folder / archive.path, idx(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        members = {path.stem: md5(gzip.decompress(content))}
        archives.append(dataclasses.replace(archive, members=partial(dict, members)))
    return with_files(dataclasses.replace(MNIST, archives=tuple(archives)), folder, SIZES), x, y


def cifar_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle wrote it: pixels uint8 [N, 3072], labels 0 to 9."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    content = pixels.tobytes()
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + text(b"|") + b"NNN"
    dtype += integer(-1) * 2 + b"K\x00tb"
    shape = integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"image_%d.png" % at) for at in range(len(labels))) + b"e"
    items = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels") + listed
    return b"\x80\x02}(" + items + text(b"data") + array + text(b"filenames") + names + b"u."


def tar(members: dict[str, bytes], compressed: bool = False) -> bytes:
    """An archive with these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if compressed else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def cifar_members() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """The members of CIFAR-10's archive, small; all images [70, 3, 32, 32] and labels, training first."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 70)
    parts = np.split(np.arange(70), [12, 24, 36, 48, 60])
    batches = [cifar_batch(x[part].reshape(len(part), -1), y[part].tolist()) for part in parts]
    members = dict(zip((*TRAINING, *TEST), batches, strict=True))
    return {"cifar-10-batches-py/readme.html": b"<html>", **members}, x, y


def write_cifar10(folder: Path, members: dict[str, bytes]) -> Published:
    """CIFAR-10's archive with these members; its checksum is that of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CIFAR10.archives[0].path).write_bytes(tar(members, compressed=True))
    return with_files(CIFAR10, folder, SIZES)


def jpeg(rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> bytes:
    """A smooth picture as JPEG."""
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(out, "JPEG", quality=92)
    return out.getvalue()


def imagenet_images() -> tuple[list[dict[str, bytes]], dict[str, bytes], list[int]]:
    """Training images of each class by name, validation images by name, and the classes of those."""
    rng = np.random.default_rng(2)
    sizes = [(50, 40), (40, 60), (33, 33), (90, 38), (37, 80), (64, 48)]
    train = [
        # a grey picture and one for the press are among ImageNet's too
        {f"{wnid}_{at}.JPEG": jpeg(rng, *sizes[at], ("RGB", "L", "CMYK")[at % 3]) for at in range(count)}
        for wnid, count in zip(WNIDS, IMAGES["train"], strict=True)
    ]
    tests = {f"ILSVRC2012_val_{at + 1:08d}.JPEG": jpeg(rng, *sizes[at % 6]) for at in range(IMAGES["test"])}
    return train, tests, [2, 0, 1, 1, 0, 2, 0]


def write_imagenet(folder: Path, unpacked: bool = False, side: int = 32, crop: int = 28) -> PublishedImages:
    """ILSVRC2012's devkit with its two archives, or with torchvision's unpacked folders."""
    train, tests, labels = imagenet_images()
    root = folder / "imagenet"
    root.mkdir(parents=True, exist_ok=True)
    # ids are not in the order of the WordNet ids, and one synset is no leaf: as in the real devkit
    ids = (3, 1, 2)
    rows = [(4, "n99999999", "b, c", "a group", 3, 1, 2, 0)]
    rows += [(ids[at], WNIDS[at], "a, b", "gloss", 0, 0, 0, len(train[at])) for at in range(3)]
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    meta, written = np.array(rows, dtype=[(name, object) for name in (*fields, "num_train_images")]), io.BytesIO()
    savemat(written, {"synsets": meta})
    truth = "".join(f"{ids[label]}\n" for label in labels).encode()
    devkit = tar({META: written.getvalue(), TRUTH: truth}, compressed=True)
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(devkit)
    if unpacked:
        for wnid, images in zip(WNIDS, train, strict=True):
            write_all(root / "train" / wnid, images)
        for (name, image), label in zip(tests.items(), labels, strict=True):
            write_all(root / "val" / WNIDS[label], {name: image})
    else:
        inner = {f"{wnid}.tar": tar(images) for wnid, images in zip(WNIDS, train, strict=True)}
        (root / "ILSVRC2012_img_train.tar").write_bytes(tar(inner))
        (root / "ILSVRC2012_img_val.tar").write_bytes(tar(tests))
    sizes = {"train": sum(IMAGES["train"]), "validation": 0, "test": IMAGES["test"]}
    known = digest([sorted(WNIDS), labels])
    return with_files(IMAGENET, folder, sizes, classes=3, shape=(3, crop, crop), side=side, labels=known)


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
