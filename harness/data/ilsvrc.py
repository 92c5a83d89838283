"""ILSVRC2012's files as published: the devkit and the images, from the archives or from unpacked folders.

Archives are read in memory. Layouts, names and numbers of images are checked before the first image is read.
"""

import csv
import io
import os
import re
import shlex
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from harness.base.errors import HarnessError
from harness.base.files import digest, read_json, write_json
from harness.data.archives import (
    CLASS_FOLDER,
    Published,
    by_hand,
    content,
    data_folder,
    denied,
    file_md5,
    folders,
    in_the_way,
    is_file,
    is_folder,
    listing,
    members,
    open_tar,
    pick,
    read_members,
    unreadable,
    visible_entries,
)

CLASSES, TESTS = 20, 1000  # of training, test images, what is converted into one file: few enough to stay open
LARGEST_IMAGE, LARGEST_CLASS = 64 * 2**20, 2**30  # bytes of an image in an archive, of a class's inner archive
META = "ILSVRC2012_devkit_t12/data/meta.mat"
TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
KAGGLE = "LOC_val_solution.csv"  # Kaggle's copy has this instead of the devkit
#: split -> names of its unpacked folder: torchvision's, then what others use
FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "test": ("val", "ILSVRC2012_img_val", "validation")}
PACKED = re.compile(r"n\d{8}\.tar")
UNPACK = "for f in *.tar; do mkdir -p ${f%.tar} && tar -xf $f -C ${f%.tar}; done"  # torchvision's layout of train

Item = tuple[str, int, bytes]  # an image file's name, class and content
Shards = Iterator[tuple[int, Iterator[Item]]]  # number and images of each converted file to make


@dataclass(frozen=True)
class Labels:
    """The classes' WordNet ids, sorted as by torchvision, so that a class's number is its place; and the labels."""

    wnids: list[str]
    truth: list[int]  # class of each test image in the order of their numbers; these are ILSVRC's validation images
    counts: tuple[int, ...] = ()  # training images of each class; empty if unknown


@dataclass(frozen=True)
class Split:
    """The images of a split, checked and ready to be read."""

    read: Callable[[list[int]], Shards]  # the converted files to make -> their images
    checked: bool  # whether they come from an archive with its published checksum


@dataclass(frozen=True)
class PublishedImages(Published):
    """Archives: training images, validation images, devkit. `side`: pixels of the shorter side that are stored.

    `labels`: digest of [wnids, truth], by which labels outside the devkit's archive are recognised.
    """

    side: int = 256
    labels: str = ""

    @property
    def checksum(self) -> str:
        """SHA-256 of all that determines the content; the side is part of it."""
        return digest([super().checksum, self.side])

    def stored_bytes(self) -> int:
        """About how many bytes the converted images take: their sides are 3 to 4 on average."""
        return sum(self.sizes.values()) * 4 * self.side**2


def converted_folder(published: PublishedImages) -> str:
    """The folder of the converted images, below the data folder."""
    return f"imagenet/converted-{published.side}"


def shards(published: PublishedImages) -> dict[str, list[range]]:
    """The contents of each split's converted files: ranges of classes (train) or of images (test)."""
    parts = {"train": (published.classes, CLASSES), "validation": (0, 1), "test": (published.sizes["test"], TESTS)}
    return {
        split: [range(first, min(first + step, count)) for first in range(0, count, step)]
        for split, (count, step) in parts.items()
    }


def root(published: PublishedImages) -> Path:
    """The folder with the archives or the unpacked images."""
    return (data_folder() / published.archives[0].path).parent


def unpacked(split: str, below: Path, depth: int = 4) -> Path | None:
    """The nearest folder with a split's unpacked images, in torchvision's or Kaggle's layout; None if there is none."""
    places = (folder / name for folder in folders(below, depth) for name in FOLDERS[split])
    return next((place for place in places if _holds_images(place)), None)


def _holds_images(folder: Path) -> bool:
    """Whether images, packed classes, or folders of classes with images lie in a folder.

    Kaggle has folders of annotations, and other sets have folders of images, by the same names.
    """
    for entry in visible_entries(folder):
        if CLASS_FOLDER.fullmatch(entry.name):
            names = [image.name for image in visible_entries(Path(entry))]
            if names:
                return any(map(_is_image, names))
        elif _is_image(entry.name) or PACKED.fullmatch(entry.name):
            return True
    return False


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpeg", ".jpg"))


def missing(published: PublishedImages) -> str:
    """The files that a conversion lacks and how to get them, or "". Quick: opens no file and counts no images."""
    folder = root(published)
    names = [folder / name for names in FOLDERS.values() for name in names if not is_file(folder / name)]
    fault = denied(data_folder(), folder, *names)
    if fault:
        return fault
    absent, moves = [], []
    for archive, split in zip(published.archives, ("train", "test", ""), strict=True):
        path = data_folder() / archive.path
        if is_folder(path):
            return in_the_way(path)
        if not (os.path.lexists(path) or _unpacked(split, folder)):
            elsewhere = [place / path.name for place in folders(data_folder(), 4) if is_file(place / path.name)]
            places = elsewhere[:1] or _unpacked(split, data_folder())
            moves += places
            absent += [] if places else [path]
    command = f"{shlex.join(['mkdir', '-p', str(folder)])} && {shlex.join(['mv', *map(str, moves), str(folder)])}"
    misplaced = f"{', '.join(map(str, moves))}: not where they are looked for. Run `{command}`. " if moves else ""
    if absent:
        return (
            f"{misplaced}{absent[0]} is missing and can't be downloaded. {by_hand(published)} Folders train and val, "
            "unpacked as torchvision or Kaggle do, serve as well as their archives; the unpacked devkit or Kaggle's "
            f"{KAGGLE} serves as well as the devkit."
        )
    return misplaced.rstrip()


def _unpacked(split: str, below: Path) -> list[Path]:
    """The folder that replaces the archive of a split, or the files that replace the devkit (split ""), if any."""
    if split:
        images = unpacked(split, below)
        return [images] if images else []
    files = _label_files(below)[:1]
    return files + [file.with_name("meta.mat") for file in files if file.name != KAGGLE]


def _label_files(folder: Path) -> list[Path]:
    """Files with the labels of the test images, outside the devkit's archive, nearest first."""
    names = (PurePosixPath(TRUTH).name, KAGGLE)
    return [place / name for place in folders(folder, 4) for name in names if is_file(place / name)]


def read_labels(published: PublishedImages) -> Labels:
    """The labels from the devkit's archive, else from an unpacked devkit or Kaggle's table.

    Raises HarnessError for a damaged archive and for other labels.
    """
    path = data_folder() / published.archives[2].path
    if os.path.lexists(path):
        with open_tar(_verified(published, 2)) as tar:
            return _devkit(published, str(path), pick((META, TRUTH), tar, LARGEST_IMAGE))
    for path in _label_files(root(published)):
        if path.name == KAGGLE:
            labels = _kaggle(path)
        else:
            labels = _devkit(published, str(path), read_members(path.parent, (META, TRUTH), LARGEST_IMAGE))
        if digest([labels.wnids, labels.truth]) == published.labels:
            return labels
        raise HarnessError(f"{path}: these are not the published labels. Give the devkit's archive and run again.")
    raise HarnessError(f"data set {published.name}: {missing(published)}")


def _devkit(published: PublishedImages, source: str, files: dict[str, bytes]) -> Labels:
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(files[META]), squeeze_me=True)["synsets"]
        leaves = [synset for synset in synsets if int(synset["num_children"]) == 0]
        ids = {int(leaf["ILSVRC2012_ID"]): str(leaf["WNID"]) for leaf in leaves}
        counts = {str(leaf["WNID"]): int(leaf["num_train_images"]) for leaf in leaves}
        wnids = sorted(ids.values())
        truth = [wnids.index(ids[int(line)]) for line in files[TRUTH].split()]
    except Exception as error:  # a broken file can raise nearly anything
        raise HarnessError(f"{source}: can't be read as ImageNet's devkit ({error!r})") from None
    sizes = (len(wnids), len(truth))
    if sizes != (published.classes, published.sizes["test"]) or not all(map(CLASS_FOLDER.fullmatch, wnids)):
        raise HarnessError(
            f"{source}: {sizes[0]} classes and {sizes[1]} labels instead of {published.classes} and "
            f"{published.sizes['test']}: this is not the published devkit"
        )
    return Labels(wnids, truth, tuple(counts[wnid] for wnid in wnids))


def _kaggle(path: Path) -> Labels:
    """Labels from Kaggle's table: ImageId, and a PredictionString that begins with the class."""
    (data,) = read_members(path, (path.name,), LARGEST_IMAGE).values()
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        classes = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        wnids = sorted(set(classes.values()))
        return Labels(wnids, [wnids.index(classes[image]) for image in sorted(classes)])
    except Exception as error:  # a broken file can raise nearly anything
        raise HarnessError(f"{path}: can't be read as Kaggle's table of labels ({error!r})") from None


def _verified(published: PublishedImages, which: int) -> Path:
    """An archive that has its published MD5. Reading 138 GB takes minutes, so the result is kept with size and time.

    Raises HarnessError for any other file.
    """
    archive = published.archives[which]
    path = data_folder() / archive.path
    kept = data_folder() / converted_folder(published) / f"{path.name}.json"
    try:
        identity = [archive.md5, path.stat().st_size, path.stat().st_mtime_ns]
        if kept.is_file() and read_json(kept) == identity:
            return path
        print(f"data set {published.name}: checking {path.name}", file=sys.stderr, flush=True)
        checksum = file_md5(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if checksum != archive.md5:
        raise HarnessError(f"{path}: damaged: MD5 {checksum} instead of {archive.md5}. {by_hand(published)}")
    write_json(kept, identity)
    return path


def training_images(published: PublishedImages, labels: Labels) -> Split:
    """The images of each class, sorted by name: from an unpacked folder, else from the archive.

    Raises HarnessError for classes, names or numbers of images other than published, before an image is read.
    """
    wnids, classes, folder = labels.wnids, shards(published)["train"], unpacked("train", root(published))
    if folder is None:
        path = _verified(published, 0)
        with open_tar(path) as outer:
            names = sorted(PurePosixPath(member.name).stem for member in members(outer, LARGEST_CLASS))
        if names != wnids:
            raise HarnessError(f"{path}: {len(names)} classes, which are not the devkit's: not the published archive")
        return Split(partial(_class_archives, path, wnids, classes), checked=True)
    files = [_images(folder / wnid) for wnid in wnids]
    for wnid, images in zip(wnids, files, strict=True):
        for image in images:
            if not image.name.startswith(f"{wnid}_"):
                raise HarnessError(f"{image}: no image of class {wnid} has that name. Unpack the archive anew.")
    total, size = sum(map(len, files)), published.sizes["train"]
    if total != size:
        raise HarnessError(
            f"{folder}: {total:,} images in the devkit's classes instead of {size:,}"
            f"{_first_fault(folder, files, labels)}. Unpack the published archive anew, or remove the folder and keep "
            "the archive, and run again."
        )
    return Split(
        lambda wanted: ((at, (_read(file, label) for label in classes[at] for file in files[label])) for at in wanted),
        checked=False,
    )


def _first_fault(folder: Path, files: list[list[Path]], labels: Labels) -> str:
    """The first class with missing or surplus images, in brackets; for a packed class, the command that unpacks it."""
    for label, (wnid, images) in enumerate(zip(labels.wnids, files, strict=True)):
        if not images and is_file(folder / f"{wnid}.tar"):
            return f" ({wnid}.tar is not unpacked: `cd {shlex.quote(str(folder))} && {UNPACK}`)"
        if not images:
            return f" ({wnid} has none)"
        if labels.counts and len(images) != labels.counts[label]:
            return f" ({wnid} has {len(images):,} instead of {labels.counts[label]:,})"
    return ""


def _class_archives(path: Path, wnids: list[str], classes: list[range], wanted: list[int]) -> Shards:
    with open_tar(path) as outer:
        inner = {PurePosixPath(member.name).stem: member for member in members(outer, LARGEST_CLASS)}
        for shard in wanted:
            yield shard, (item for label in classes[shard] for item in _class(outer, inner[wnids[label]], label))


def _class(outer: tarfile.TarFile, member: tarfile.TarInfo, label: int) -> Iterator[Item]:
    """The images of a class's archive, which lies in the archive of archives."""
    with open_tar(Path(f"{outer.name!s}: {member.name}"), outer.extractfile(member)) as tar:
        for image in sorted(members(tar, LARGEST_IMAGE), key=lambda image: image.name):
            yield f"{tar.name!s}: {image.name}", label, content(tar, image)


def test_images(published: PublishedImages, labels: Labels) -> Split:
    """ILSVRC's validation images by number: from an unpacked folder, else from the archive.

    The folder can be flat, since the labels are known by number, or have a folder for each class.
    Raises HarnessError for names or numbers of images other than published, before an image is read.
    """
    parts, truth, folder = shards(published)["test"], labels.truth, unpacked("test", root(published))
    if folder is None:
        path = _verified(published, 1)
        with open_tar(path) as tar:
            number = sum(1 for _ in members(tar, LARGEST_IMAGE))
        if number != len(truth):
            raise HarnessError(
                f"{path}: {number:,} images instead of the devkit's {len(truth):,}. Replace it by a complete copy."
            )
        return Split(partial(_validation_archive, path, truth, parts), checked=True)
    places = (folder, *(folder / wnid for wnid in labels.wnids))
    named = {file.name: file for place in places for file in _images(place)}
    files = [named[name] for name in sorted(named)]
    expected = [f"ILSVRC2012_val_{number:08d}" for number in range(1, len(truth) + 1)]
    pairs = zip(files, expected, strict=False)
    wrong = next((f" ({file.name} where {stem} belongs)" for file, stem in pairs if file.stem != stem), "")
    if wrong or len(files) != len(truth):
        raise HarnessError(
            f"{folder}: {len(files):,} images{wrong} instead of the devkit's {len(truth):,}. Unpack the archive anew."
        )
    for file, label in zip(files, truth, strict=True):
        if file.parent not in (folder, folder / labels.wnids[label]):
            raise HarnessError(f"{file}: the devkit has it in class {labels.wnids[label]}. Unpack the archive anew.")
    return Split(
        lambda wanted: ((shard, (_read(files[at], truth[at]) for at in parts[shard])) for shard in wanted),
        checked=False,
    )


def _validation_archive(path: Path, truth: list[int], parts: list[range], wanted: list[int]) -> Shards:
    with open_tar(path) as tar:
        images = sorted(members(tar, LARGEST_IMAGE), key=lambda member: PurePosixPath(member.name).name)
        for shard in wanted:
            yield shard, ((f"{path}: {images[at].name}", truth[at], content(tar, images[at])) for at in parts[shard])


def _images(folder: Path) -> list[Path]:
    """The images in a folder, sorted by name; none without a folder. HarnessError for one that can't be listed."""
    try:
        return [Path(entry) for entry in listing(folder) if _is_image(entry.name) and is_file(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from None


def _read(file: Path, label: int) -> Item:
    try:
        return str(file), label, file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from None
