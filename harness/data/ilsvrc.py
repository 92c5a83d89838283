"""ILSVRC2012's files as published, image by image: the devkit, and the archives or torchvision's unpacked folders.

Nothing is unpacked: images are read from the archives in memory.
"""

import io
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.base.errors import HarnessError
from harness.base.files import digest, read_json, write_json
from harness.data.archives import Published, by_hand, content, data_folder, file_md5, members, open_tar, pick

CLASSES, TESTS = 20, 1000  # of training, test images, what is converted into one file: few enough to stay open
LARGEST_IMAGE, LARGEST_CLASS = 64 * 2**20, 2**30  # bytes of an image in an archive, of a class's inner archive
META = "ILSVRC2012_devkit_t12/data/meta.mat"
TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"

Item = tuple[str, int, bytes]  # an image file's name, class and content
Read = Iterator[tuple[int, Iterator[Item]]]  # number and images of each converted file to make


@dataclass(frozen=True)
class PublishedImages(Published):
    """Archives: training images, validation images, devkit. `side`: pixels of the shorter side that are stored."""

    side: int = 256

    @property
    def checksum(self) -> str:
        """SHA-256 of all that settles the content; the side is part of it."""
        return digest([super().checksum, self.side])

    def stored_bytes(self) -> int:
        """About what its converted images take: sides of 3 to 4 on average."""
        return sum(self.sizes.values()) * 4 * self.side**2


def converted_folder(published: PublishedImages) -> str:
    """Where the converted images are, below the data folder."""
    return f"imagenet/converted-{published.side}"


def shards(published: PublishedImages) -> dict[str, list[range]]:
    """What each split's converted files hold: a range of the classes (train), of the images (test)."""
    parts = {"train": (published.classes, CLASSES), "validation": (0, 1), "test": (published.sizes["test"], TESTS)}
    return {
        split: [range(first, min(first + step, count)) for first in range(0, count, step)]
        for split, (count, step) in parts.items()
    }


FOLDERS = {"train": "train", "test": "val"}  # torchvision's, by split


def unpacked(published: PublishedImages, name: str) -> Path:
    """torchvision's train/ or val/, which serves instead of the archive."""
    return (data_folder() / published.archives[0].path).parent / name


def devkit(published: PublishedImages) -> tuple[list[str], list[int]]:
    """The classes' WordNet ids, in the order of their numbers (sorted, as torchvision), and the test images' classes.

    The test images are ILSVRC's validation images, in the order of their file names.
    """
    from scipy.io import loadmat

    with open_tar(_verified(published, 2)) as tar:
        found = pick((META, TRUTH), tar, LARGEST_IMAGE)
        try:
            synsets = loadmat(io.BytesIO(found[META]), squeeze_me=True)["synsets"]
            ids = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if int(one["num_children"]) == 0}
            wnids = sorted(ids.values())
            truth = [wnids.index(ids[int(line)]) for line in found[TRUTH].split()]
        except Exception as error:  # a broken file can raise nearly anything
            raise HarnessError(f"{tar.name!s}: can't be read as ImageNet's devkit ({error!r})") from None
    sizes = (len(wnids), len(truth))
    if sizes != (published.classes, published.sizes["test"]) or not all(re.fullmatch(r"n\d{8}", one) for one in wnids):
        raise HarnessError(
            f"{tar.name!s}: {sizes[0]} classes and {sizes[1]} labels instead of {published.classes} and "
            f"{published.sizes['test']}: this is not the published archive"
        )
    return wnids, truth


def _verified(published: PublishedImages, which: int) -> Path:
    """An archive that has its published MD5. 138 GB take minutes to read, so what was found is kept with size and time.

    Raises HarnessError for any other file.
    """
    archive = published.archives[which]
    path = data_folder() / archive.path
    kept = data_folder() / converted_folder(published) / f"{path.name}.json"
    try:
        identity = [archive.md5, path.stat().st_size, path.stat().st_mtime_ns]
        if kept.exists() and read_json(kept) == identity:
            return path
        print(f"data set {published.name}: checking {path.name}", file=sys.stderr, flush=True)
        found = file_md5(path)
    except OSError as error:
        raise HarnessError(f"{path}: can't be read ({error.strerror}). {by_hand(published)}") from None
    if found != archive.md5:
        raise HarnessError(f"{path}: damaged: MD5 {found} instead of {archive.md5}. {by_hand(published)}")
    write_json(kept, identity)
    return path


def training_images(published: PublishedImages, wnids: list[str], _: list[int], wanted: list[int]) -> Read:
    """The images of each class, sorted by name; from train/ if it is there, else from the archive of archives."""
    classes, folder = shards(published)["train"], unpacked(published, "train")
    if folder.is_dir():
        files = [_files(folder / wnid) for wnid in wnids]
        total = sum(map(len, files))
        if total != published.sizes["train"]:
            raise HarnessError(
                f"{folder}: {total:,} images in the devkit's classes instead of {published.sizes['train']:,}. Unpack "
                "the published archive anew, or remove the folder and keep the archive, and run again."
            )
        for wnid, found in zip(wnids, files, strict=True):
            for file in found:
                if not file.name.startswith(f"{wnid}_"):
                    raise HarnessError(f"{file}: no image of class {wnid} has that name. Unpack the archive anew.")
        for shard in wanted:
            yield shard, (_read(file, label) for label in classes[shard] for file in files[label])
        return
    path = _verified(published, 0)
    with open_tar(path) as outer:
        inner = {PurePosixPath(member.name).stem: member for member in members(outer, LARGEST_CLASS)}
        if sorted(inner) != wnids:
            raise HarnessError(f"{path}: {len(inner)} classes, which are not the devkit's: not the published archive")
        for shard in wanted:
            yield shard, (item for label in classes[shard] for item in _class(outer, inner[wnids[label]], label))


def _class(outer: tarfile.TarFile, member: tarfile.TarInfo, label: int) -> Iterator[Item]:
    """The images of a class's archive, which lies in the archive of archives."""
    with open_tar(Path(f"{outer.name!s}: {member.name}"), outer.extractfile(member)) as tar:
        for image in sorted(members(tar, LARGEST_IMAGE), key=lambda image: image.name):
            yield f"{tar.name!s}: {image.name}", label, content(tar, image)


def test_images(published: PublishedImages, wnids: list[str], truth: list[int], wanted: list[int]) -> Read:
    """ILSVRC's validation images, sorted by name; from val/ if it is there, else from the archive."""
    parts, folder = shards(published)["test"], unpacked(published, "val")
    if folder.is_dir():
        files = sorted((file for wnid in wnids for file in _files(folder / wnid)), key=lambda file: file.name)
        _check_tests(str(folder), len(files), truth)
        for file, label in zip(files, truth, strict=True):
            if file.parent.name != wnids[label]:
                raise HarnessError(f"{file}: the devkit has it in class {wnids[label]}. Unpack the archive anew.")
        for shard in wanted:
            yield shard, (_read(files[at], truth[at]) for at in parts[shard])
        return
    path = _verified(published, 1)
    with open_tar(path) as tar:
        found = sorted(members(tar, LARGEST_IMAGE), key=lambda member: PurePosixPath(member.name).name)
        _check_tests(str(path), len(found), truth)
        for shard in wanted:
            yield shard, ((f"{path}: {found[at].name}", truth[at], content(tar, found[at])) for at in parts[shard])


def _check_tests(where: str, found: int, truth: list[int]) -> None:
    if found != len(truth):
        raise HarnessError(
            f"{where}: {found:,} images instead of the devkit's {len(truth):,}. Replace it by a complete copy."
        )


def _files(folder: Path) -> list[Path]:
    """The images of an unpacked class, sorted by name."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpeg", ".jpg"))
    except OSError as error:
        raise HarnessError(f"{folder}: can't be listed ({error.strerror}). Unpack the archive anew.") from None


def _read(file: Path, label: int) -> Item:
    try:
        return str(file), label, file.read_bytes()
    except OSError as error:
        raise HarnessError(
            f"{file}: can't be read ({error.strerror}). Replace it by a complete copy and run again."
        ) from None
