"""ImageNet (ILSVRC2012) from its own archives, or from torchvision's unpacked train/ and val/: converted once.

It can't be downloaded without an account. The archives, or the two folders, and in both cases the devkit's archive lie
in imagenet/ of the data folder, as for torchvision.datasets.ImageNet. What they are converted to, and why, is told in
`harness.data.images`. A conversion that was stopped goes on at the file it was at; it needs memory for a few images a
thread. All 1,281,167 training images are trained on: the paper's runs have 1,251 steps of 1,024 an epoch.
"""

import io
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from harness.base.errors import HarnessError
from harness.base.files import write_atomically
from harness.base.seeds import STORED_ORDER, numpy_generator
from harness.data.archives import Archive, by_hand, data_folder
from harness.data.ilsvrc import (
    FOLDERS,
    Item,
    PublishedImages,
    converted_folder,
    devkit,
    shards,
    test_images,
    training_images,
    unpacked,
)
from harness.data.images import DIGEST_BYTES, image_digest, shard_path, threads
from harness.data.normalise import normalisation
from harness.data.source import Source

FORM = "1"  # of the converted files; a new one converts anew
EMPTY = {
    "shard": np.empty(0, np.uint32),
    "offset": np.empty(0, np.uint64),
    "height": np.empty(0, np.uint32),
    "width": np.empty(0, np.uint32),
    "digest": np.empty((0, DIGEST_BYTES), np.uint8),
    "y": np.empty(0, np.int64),
}

IMAGENET = PublishedImages(
    name="imagenet",
    shape=(3, 224, 224),  # crop and resize as in the authors' later code (open_lth), which has them from torchvision
    classes=1000,
    sizes={"train": 1_281_167, "validation": 0, "test": 50_000},
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    archives=(
        Archive("imagenet/ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", size=147_897_477_120),
        Archive("imagenet/ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", size=6_744_924_160),
        Archive("imagenet/ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf", size=2_568_145),
    ),
)


def require(published: PublishedImages = IMAGENET) -> None:
    """Raise HarnessError with the way to get the files if there is nothing to convert and nothing converted."""
    if not _missing(published):
        return
    for archive, folder in zip(published.archives, ("train", "val", ""), strict=True):
        path = data_folder() / archive.path
        if not path.is_file() and not (folder and unpacked(published, folder).is_dir()):
            raise HarnessError(
                f"data set {published.name}: {path} is missing and can't be downloaded. {by_hand(published)} "
                "Folders train and val, unpacked as torchvision does, serve as well as their archives."
            )


def arrays(published: PublishedImages = IMAGENET) -> dict[str, np.ndarray]:
    """Convert what is not converted yet; returns the index of the images (`images.COLUMNS`), y and the normalisation.

    Training images are indexed in an order drawn by the seed (name, "order"), so that the first of them are a sample of
    all classes. Raises HarnessError for files that are missing or not what was published, and names a broken image.
    """
    require(published)
    todo = _missing(published)
    if todo:
        _convert(published, todo)
    found: dict[str, np.ndarray] = normalisation(published)
    for split, size in published.sizes.items():
        part = _index(published, split)
        if len(part["y"]) != size:
            raise HarnessError(
                f"data set {published.name}: {len(part['y']):,} images instead of {size:,} in split {split}. Give the "
                f"published files, delete {data_folder() / converted_folder(published)} and run again."
            )
        order = numpy_generator(published.name, STORED_ORDER).permutation(size) if split == "train" else np.arange(size)
        found |= {f"{split}_{column}": values[order] for column, values in part.items()} | {f"{split}_index": order}
    return found


def unchecked(published: PublishedImages = IMAGENET) -> dict[str, list[str]]:
    """For the record: the unpacked folders whose images were converted though no checksum vouches for them.

    Of an unpacked folder only names and numbers of files are compared with the devkit.
    """
    folder, found = data_folder() / converted_folder(published), []
    for split, name in FOLDERS.items():
        for shard in range(len(shards(published)[split])):
            if _metadata(shard_path(folder, split, shard)).get("checked") != "md5":
                found.append(f"imagenet/{name}")
                break
    return {"not_verified_by_checksum": found}


def _missing(published: PublishedImages) -> list[tuple[str, int]]:
    """Split and number of the files still to be made."""
    wanted = [(split, shard) for split, parts in shards(published).items() for shard in range(len(parts))]
    folder = data_folder() / converted_folder(published)
    return [(split, shard) for split, shard in wanted if not _is_whole(shard_path(folder, split, shard))]


def _is_whole(path: Path) -> bool:
    """Whether a file was converted to the end, in this form, and still has its size."""
    made = _metadata(path)
    try:
        return made.get("form") == FORM and int(made.get("bytes", "")) == path.stat().st_size
    except (OSError, ValueError):
        return False


def _metadata(path: Path) -> dict[str, str]:
    """What is noted beside a converted file; nothing if that is broken or missing."""
    try:
        with safe_open(path.with_suffix(".safetensors"), "np") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def shard_index(path: Path, shard: int) -> dict[str, np.ndarray]:
    """Columns (`images.COLUMNS`) and y of a converted file's images, in its order."""
    path = path.with_suffix(".safetensors")
    try:
        made = load_file(path)
        height, width = made["height"], made["width"]
        sizes = 3 * height.astype(np.uint64) * width
        offset, digests = np.cumsum(sizes) - sizes, made["digest"].reshape(len(height), DIGEST_BYTES)
        numbers = np.full(len(height), shard, np.uint32)
        columns = {"shard": numbers, "offset": offset, "height": height, "width": width, "digest": digests}
        return {**columns, "y": made["label"].reshape(len(height))}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise HarnessError(f"{path}: can't be read ({error}). Delete it and run again.") from None


def _index(published: PublishedImages, split: str) -> dict[str, np.ndarray]:
    """Columns and labels of a split's images, file after file."""
    folder = data_folder() / converted_folder(published)
    parts = [shard_index(shard_path(folder, split, at), at) for at in range(len(shards(published)[split]))]
    return {column: np.concatenate([empty, *(part[column] for part in parts)]) for column, empty in EMPTY.items()}


def _convert(published: PublishedImages, todo: list[tuple[str, int]]) -> None:
    """Make the files of `todo`."""
    folder = data_folder() / converted_folder(published)
    _check_space(published, len(todo))
    wnids, truth = devkit(published)
    done, started = 0, time.monotonic()
    for split, read in (("train", training_images), ("test", test_images)):
        wanted = [shard for at, shard in todo if at == split]
        for shard, items in read(published, wnids, truth, wanted) if wanted else ():
            checked = not unpacked(published, FOLDERS[split]).is_dir()
            convert_shard(shard_path(folder, split, shard), items, published.side, checked)
            done += 1
            rest = (time.monotonic() - started) / done * (len(todo) - done) / 60
            progress = f"{done:,} of {len(todo):,} files converted, about {rest:.0f} min left"
            print(f"data set {published.name}: {progress}", file=sys.stderr, flush=True)


def _check_space(published: PublishedImages, files: int) -> None:
    """Refuse to begin what can't end: the disk would be full after an hour."""
    need = published.stored_bytes() * files / sum(map(len, shards(published).values()))
    free = shutil.disk_usage(data_folder()).free
    if need > free:
        raise HarnessError(
            f"{data_folder()}: {free / 1e9:,.0f} GB free, and the images still to be converted take about "
            f"{need / 1e9:,.0f} GB. Free some space, or name another data folder with HARNESS_DATA, and run again."
        )


def convert_shard(path: Path, items: Iterable[Item], side: int, checked: bool = False) -> None:
    """Write resized images to `path` and what the index needs of them beside it; each appears whole or not at all.

    `checked`: they come from an archive that has its published checksum.
    """
    rows: list[tuple[int, int, int]] = []
    digests: list[bytes] = []

    def write(temporary: Path) -> None:
        rest = iter(items)
        with temporary.open("wb") as file:
            while window := list(islice(rest, 4 * torch.get_num_threads())):  # so many in memory, no more
                decoded = threads().map(lambda item: resized(item[0], item[2], side), window)
                for (_, label, _), pixels in zip(window, decoded, strict=True):
                    file.write(pixels.tobytes())
                    rows.append((label, *pixels.shape[:2]))
                    digests.append(image_digest(pixels))

    beside = path.with_suffix(".safetensors")
    beside.unlink(missing_ok=True)  # one of another form must not vouch for the new file
    write_atomically(path, write)
    label, height, width = np.array(rows, np.int64).reshape(-1, 3).T
    made: dict[str, np.ndarray] = {
        "label": label.copy(),
        "height": height.astype(np.uint32),
        "width": width.astype(np.uint32),
        "digest": np.frombuffer(b"".join(digests), np.uint8),
    }
    metadata = {"form": FORM, "bytes": str(path.stat().st_size), "checked": "md5" if checked else "no"}
    write_atomically(beside, lambda temporary: save_file(made, temporary, metadata))


def resized(name: str, encoded: bytes, side: int) -> np.ndarray:
    """An image file as uint8 [height, width, 3], its shorter side `side`, as torchvision's loader and Resize make it.

    Raises HarnessError that names the file when it can't be decoded.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > 2**27:  # a bomb; ImageNet's largest has half of that
                raise ValueError(f"{image.width} x {image.height} pixels")
            short = min(image.size)
            size = (int(side * image.width / short), int(side * image.height / short))
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    except Exception as error:  # a broken file can raise nearly anything
        raise HarnessError(
            f"{name}: can't be decoded ({error}). Replace it by a complete copy and run again."
        ) from None


def images(what: PublishedImages) -> Source:
    """The source of a set that stays on disk."""
    return Source(
        what.shape,
        what.sizes["train"],
        partial(arrays, what),
        what.checksum,
        what.classes,
        generated=False,
        details={"folder": converted_folder(what), "crop": what.shape[-1]},
        found=partial(unchecked, what),
        require=partial(require, what),
        archives=what.archives,
        stored_bytes=what.stored_bytes(),
    )


SOURCES = {
    "imagenet": images(IMAGENET),
    # Inception-v3's auxiliary head takes no less; the same ratio of crop to shorter side
    "imagenet-299": images(replace(IMAGENET, shape=(3, 299, 299), side=342)),
}
