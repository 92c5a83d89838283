"""ImageNet (ILSVRC2012) from its own archives, or from unpacked folders: converted once.

It can't be downloaded without an account. The files lie in imagenet/ of the data folder: `harness.data.ilsvrc` knows
which. `harness.data.images` describes the converted form. A stopped conversion continues at the file that it was
writing; it needs memory for a few images per thread. All 1,281,167 training images are used: the paper's runs have
1,251 steps of 1,024 images per epoch.
"""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from harness.base.errors import HarnessError
from harness.base.files import write_atomically
from harness.base.seeds import STORED_ORDER, numpy_generator
from harness.data.archives import Archive, data_folder
from harness.data.decode import Progress, in_windows, opened
from harness.data.ilsvrc import (
    FOLDERS,
    Item,
    PublishedImages,
    converted_folder,
    missing,
    read_labels,
    shards,
    test_images,
    training_images,
)
from harness.data.images import DIGEST_BYTES, image_digest, shard_path
from harness.data.normalise import normalisation
from harness.data.source import Source

FORM = "1"  # of the converted files; with another form they are converted again
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
    # of the devkit's two files, and the same of published lists that sort the validation images into classes
    labels="8934c67e8d40b00e0f9e8a13632142ecd0b66cf15c511354f643911d545ada0f",
)


def require(published: PublishedImages = IMAGENET) -> None:
    """Raise HarnessError, with how to get the files, if images are neither converted nor there to be converted."""
    fault = missing(published) if _unconverted(published) else ""
    if fault:
        raise HarnessError(f"data set {published.name}: {fault}")


def arrays(published: PublishedImages = IMAGENET) -> dict[str, np.ndarray]:
    """Convert the images that are not converted yet. Returns their index (`images.COLUMNS`), y and the normalisation.

    Training images are indexed in an order drawn by the seed (name, "order"), so that the first of them are a sample of
    all classes. Raises HarnessError for files that are missing, broken or not the published ones.
    """
    require(published)
    todo = _unconverted(published)
    if todo:
        _convert(published, todo)
    index: dict[str, np.ndarray] = normalisation(published)
    for split, size in published.sizes.items():
        part = _index(published, split)
        if len(part["y"]) != size:
            raise HarnessError(
                f"data set {published.name}: {len(part['y']):,} images instead of {size:,} in split {split}. Give the "
                f"published files, delete {data_folder() / converted_folder(published)} and run again."
            )
        order = numpy_generator(published.name, STORED_ORDER).permutation(size) if split == "train" else np.arange(size)
        index |= {f"{split}_{column}": values[order] for column, values in part.items()} | {f"{split}_index": order}
    return index


def unchecked(published: PublishedImages = IMAGENET) -> dict[str, list[str]]:
    """For the record: the unpacked folders whose images were converted though no checksum vouches for them.

    Of an unpacked folder only names and numbers of files are compared with the devkit.
    """
    folder, names = data_folder() / converted_folder(published), []
    for split, (name, *_) in FOLDERS.items():
        paths = (shard_path(folder, split, shard) for shard in range(len(shards(published)[split])))
        if any(_metadata(path).get("checked") != "md5" for path in paths):
            names.append(f"imagenet/{name}")
    return {"not_verified_by_checksum": names}


def _unconverted(published: PublishedImages) -> list[tuple[str, int]]:
    """Split and number of the files still to be made."""
    wanted = [(split, shard) for split, parts in shards(published).items() for shard in range(len(parts))]
    folder = data_folder() / converted_folder(published)
    return [(split, shard) for split, shard in wanted if not _is_whole(shard_path(folder, split, shard))]


def _is_whole(path: Path) -> bool:
    """Whether a file was converted to the end, in this form, and still has its size."""
    noted = _metadata(path)
    try:
        return noted.get("form") == FORM and int(noted.get("bytes", "")) == path.stat().st_size
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
        stored = load_file(path)
        height, width = stored["height"], stored["width"]
        sizes = 3 * height.astype(np.uint64) * width
        offset, digests = np.cumsum(sizes) - sizes, stored["digest"].reshape(len(height), DIGEST_BYTES)
        numbers = np.full(len(height), shard, np.uint32)
        columns = {"shard": numbers, "offset": offset, "height": height, "width": width, "digest": digests}
        return {**columns, "y": stored["label"].reshape(len(height))}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise HarnessError(f"{path}: can't be read ({error}). Delete it and run again.") from None


def _index(published: PublishedImages, split: str) -> dict[str, np.ndarray]:
    """Columns and labels of a split's images, file after file."""
    folder = data_folder() / converted_folder(published)
    parts = [shard_index(shard_path(folder, split, at), at) for at in range(len(shards(published)[split]))]
    return {column: np.concatenate([empty, *(part[column] for part in parts)]) for column, empty in EMPTY.items()}


def _convert(published: PublishedImages, todo: list[tuple[str, int]]) -> None:
    """Make the files of `todo`, after the layout of all images is checked."""
    folder = data_folder() / converted_folder(published)
    _check_writable(folder)
    _check_space(published, len(todo))
    labels = read_labels(published)
    wanted = {split: [shard for at, shard in todo if at == split] for split in FOLDERS}
    images = {"train": training_images, "test": test_images}
    splits = {split: images[split](published, labels) for split in FOLDERS if wanted[split]}
    progress = Progress(published.name, "files", len(todo), every_seconds=0.0)
    for split, source in splits.items():
        for shard, items in source.read(wanted[split]):
            convert_shard(shard_path(folder, split, shard), items, published.side, source.checked)
            progress.add()


def _check_writable(folder: Path) -> None:
    """Raise HarnessError if the converted images can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HarnessError(
            f"{folder}: can't be written ({error.strerror}), and the converted images are kept there. Name your own "
            "data folder with HARNESS_DATA, link each archive or folder of images into its imagenet/, and run again."
        ) from None


def _check_space(published: PublishedImages, files: int) -> None:
    """Raise HarnessError if the disk is too small for the converted images."""
    need = published.stored_bytes() * files / sum(map(len, shards(published).values()))
    free = shutil.disk_usage(data_folder()).free
    if need > free:
        raise HarnessError(
            f"{data_folder()}: {free / 1e9:,.0f} GB free, and the images still to be converted take about "
            f"{need / 1e9:,.0f} GB. Free some space, or name another data folder with HARNESS_DATA, and run again."
        )


def convert_shard(path: Path, items: Iterable[Item], side: int, checked: bool = False) -> None:
    """Write resized images to `path` and their part of the index beside it. Neither file is ever seen half-written.

    `checked`: they come from an archive that has its published checksum.
    """
    rows: list[tuple[int, int, int]] = []
    digests: list[bytes] = []

    def write(temporary: Path) -> None:
        beside.unlink(missing_ok=True)  # one of another form must not vouch for the new file
        with temporary.open("wb") as file:
            for (_, label, _), pixels in in_windows(lambda item: resized(item[0], item[2], side), items):
                file.write(pixels.tobytes())
                rows.append((label, *pixels.shape[:2]))
                digests.append(image_digest(pixels))

    beside = path.with_suffix(".safetensors")
    write_atomically(path, write)
    label, height, width = np.array(rows, np.int64).reshape(-1, 3).T
    columns: dict[str, np.ndarray] = {
        "label": label.copy(),
        "height": height.astype(np.uint32),
        "width": width.astype(np.uint32),
        "digest": np.frombuffer(b"".join(digests), np.uint8),
    }
    metadata = {"form": FORM, "bytes": str(path.stat().st_size), "checked": "md5" if checked else "no"}
    write_atomically(beside, lambda temporary: save_file(columns, temporary, metadata))


def resized(name: str, encoded: bytes, side: int) -> np.ndarray:
    """An image file as uint8 [height, width, 3], its shorter side `side`, as torchvision's loader and Resize make it.

    Raises HarnessError that names the file when it can't be decoded.
    """
    with opened(name, encoded) as image:
        short = min(image.size)
        size = (int(side * image.width / short), int(side * image.height / short))
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def images(published: PublishedImages) -> Source:
    """The source of a set that stays on disk."""
    return Source(
        published.shape,
        published.sizes["train"],
        published.sizes["test"],
        partial(arrays, published),
        published.checksum,
        published.classes,
        generated=False,
        details={"folder": converted_folder(published), "crop": published.shape[-1]},
        provenance=partial(unchecked, published),
        require=partial(require, published),
        archives=published.archives,
        stored_bytes=published.stored_bytes(),
    )


SOURCES = {
    "imagenet": images(IMAGENET),
    # Inception-v3's auxiliary head takes no less; the same ratio of crop to shorter side
    "imagenet-299": images(replace(IMAGENET, shape=(3, 299, 299), side=342)),
}
