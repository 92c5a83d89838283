"""Data sets of one's own: pictures in a folder or an archive, as a scale's `data` names them.

The pictures are identified by the digest of their files, not by their place or their name in the scale. They are
converted to arrays in memory: bytes [N, C, H, W] that become (pixel / 255 - mean) / std, with mean and standard
deviation of each channel over the training split.
"""

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageFile, ImageOps
from pydantic import ValidationError

from harness.base.errors import HarnessError
from harness.base.files import canonical_json, digest, read_json, write_json
from harness.base.seeds import SPLIT, numpy_generator
from harness.data.archives import data_folder
from harness.data.base import split_arrays
from harness.data.decode import Progress, in_windows, opened
from harness.data.picture_files import PARTS, check_path, fingerprint, picture_files
from harness.data.source import Source
from harness.paper.models import Pictures, Pinned

FORM = 1  # raise it when the same files become other arrays
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # as Pillow names them
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # grey levels and colours of up to 8 bits
MOST_FAULTS = 20  # that are told
SPLIT_NAME = "pictures"  # of the draw of the validation split: the same pictures have the same one everywhere


def own_pictures(name: str, pictures: Pictures) -> Source:
    """The source of a data set of one's own. Raises HarnessError for pictures that are not pinned and can't be read."""
    pinned = pictures.pinned or _pin(name, _path(pictures), pictures)
    shape = (pictures.channels, *pictures.size)
    return Source(
        shape,
        pinned.train - _validation(pictures, pinned),
        pinned.test,
        partial(arrays, name, pictures, pinned),
        digest([FORM, _use(pictures), pinned.model_dump()]),
        len(pinned.classes),
        generated=False,
        details={"pinned": pinned.model_dump(mode="json")},
        require=partial(check_path, _path(pictures)),
        stored_bytes=(pinned.train + pinned.test) * (math.prod(shape) + 16),
    )


def _use(pictures: Pictures) -> dict[str, object]:
    """How pictures are used: all that changes the arrays, without where the pictures lie."""
    return pictures.model_dump(mode="json", exclude={"folder", "pinned"})


def _path(pictures: Pictures) -> Path:
    return data_folder() / pictures.folder


def _validation(pictures: Pictures, pinned: Pinned) -> int:
    """How many pictures of train/ are held out."""
    return round(pictures.validation * pinned.train)


def _note(path: Path, pictures: Pictures) -> Path:
    return data_folder() / "pictures" / f"{digest([FORM, str(path), _use(pictures)])[:16]}.json"


@lru_cache(maxsize=64)  # asked for with each key of a run
def _pin(name: str, path: Path, pictures: Pictures) -> Pinned:
    """What pictures hold: read and checked once, and noted in the data folder until their files change."""
    note = _note(path, pictures)
    files = digest(fingerprint(path))
    try:
        noted = read_json(note) if note.is_file() else {}
        if noted.get("files") == files:
            return Pinned.model_validate_json(canonical_json(noted["pinned"]))
    except (HarnessError, AttributeError, KeyError, ValidationError):
        pass  # made anew
    pinned, _ = read(name, path, pictures, lambda *_: None)
    content = pinned.model_dump(mode="json")
    line = f"{path} is read. To hold the scale to these pictures, add to data.{name}: pinned: {json.dumps(content)}"
    print(f"data set {name}: {line}", file=sys.stderr, flush=True)
    with suppress(HarnessError):  # where the data folder can't be written, the next command reads them again
        write_json(note, {"files": files, "pinned": content})
    return pinned


def read(
    name: str, path: Path, pictures: Pictures, keep: Callable[[int, np.ndarray], None], total: int = 0
) -> tuple[Pinned, list[str]]:
    """Decode all pictures, and give each [C, H, W] with its number to `keep`. Returns what they hold, and their names.

    `total`: how many there are, if that is known. Raises HarnessError, with a line for each picture that can't be
    used, and for classes that are not the same in both parts.
    """
    names, sums, faults = [], [], []
    progress = Progress(name, "pictures", total)
    for number, ((file, encoded), decoded) in enumerate(in_windows(partial(_try, pictures), picture_files(path))):
        names.append(file)
        sums.append(hashlib.sha256(encoded).hexdigest())
        if isinstance(decoded, str):
            faults.append(decoded)
        elif not faults:
            keep(number, decoded)
        progress.add()
    faults += _wrong_names(names)
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        raise HarnessError(f"{path}: " + "\n  ".join([*faults[:MOST_FAULTS], *more]))
    parts = Counter(file.partition("/")[0] for file in names)
    classes = tuple(sorted({file.split("/")[1] for file in names}))
    content = digest(sorted(zip(names, sums, strict=True)))
    return Pinned(classes=classes, train=parts["train"], test=parts["test"], sha256=content), names


def _wrong_names(names: list[str]) -> list[str]:
    """Files of one name, parts without pictures, and classes that are not in both parts or can't be printed."""
    faults = [f"{file!r:.200}: twice in the archive" for file, times in Counter(names).items() if times > 1]
    train, test = ({file.split("/")[1] for file in names if file.startswith(f"{part}/")} for part in PARTS)
    faults += [f"{part}: has no pictures" for part, classes in zip(PARTS, (train, test), strict=True) if not classes]
    if train and test:
        faults += [f"class {label!r:.80}: has no pictures in test" for label in sorted(train - test)]
        faults += [f"class {label!r:.80}: has no pictures in train" for label in sorted(test - train)]
        if len(train) < 2:
            faults.append("has one class only")
    faults += [f"class {label!r:.80}: can't be printed; rename it" for label in train if not label.isprintable()]
    return faults


def _try(pictures: Pictures, file: tuple[str, bytes]) -> np.ndarray | str:
    """A decoded picture, or why it can't be used."""
    try:
        return decoded(pictures, *file)
    except HarnessError as error:
        return str(error)


def decoded(pictures: Pictures, name: str, encoded: bytes) -> np.ndarray:
    """A picture file as uint8 [C, H, W], upright as its EXIF orientation says, of the size that the scale gives.

    Palettes become their colours, colours become grey levels by ITU-R 601-2 where the scale has one channel, and grey
    levels become three equal channels where it has three. Raises HarnessError for what would lose something unsaid.
    """
    if not encoded:
        raise HarnessError(f"{name}: is empty. Replace it by a complete copy")
    with opened(name, encoded, FORMATS) as image:
        if fault := _unfit(image):
            raise HarnessError(f"{name}: {fault}")
        upright = ImageOps.exif_transpose(image).convert("RGB" if pictures.channels == 3 else "L")
        height, width = pictures.size
        if upright.size != (width, height):
            if pictures.resize == "refuse":
                raise HarnessError(
                    f"{name}: is {upright.height} x {upright.width} pixels, not {height} x {width}. Give resize: crop "
                    "or resize: stretch, or another size"
                )
            if pictures.resize == "crop":
                upright = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
            else:
                upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(upright).reshape(height, width, pictures.channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _unfit(image: ImageFile.ImageFile) -> str:
    """Why a picture can't become 8-bit grey levels or colours without losing something, and what to do; or ""."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's, whose first picture is the picture
        return f"has {frames} frames or pages. Save one of them as a picture"
    arguments = [part for tile in image.tile for part in (tile.args if isinstance(tile.args, tuple) else (tile.args,))]
    is_deep = any(isinstance(part, str) and ";16" in part for part in arguments)
    is_deep |= image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in arguments)
    if is_deep or image.mode.startswith(("I", "F")):
        return "has more than 8 bits a channel. Save it with 8"
    if image.mode not in MODES:
        return f"is {image.mode}, neither grey levels nor RGB. Save it as RGB"
    alpha = "A" in image.getbands() and image.getchannel("A").getextrema()[0] != 255
    if alpha or "transparency" in image.info:
        return "is partly transparent. Lay it on a background"
    return ""


def arrays(name: str, pictures: Pictures, pinned: Pinned) -> dict[str, np.ndarray]:
    """Convert the pictures: x uint8 [N, C, H, W], y int64 [N] of each split, mean and std float32 [C].

    Classes are numbered, and pictures ordered, by name. Raises HarnessError for pictures other than the pinned ones.
    """
    path, total = _path(pictures), pinned.train + pinned.test
    _check_memory(name, pictures, total)
    x = np.empty((total, pictures.channels, *pictures.size), np.uint8)

    def keep(number: int, pixels: np.ndarray) -> None:
        if number < total:  # more than that are other pictures, as the digest will say
            x[number] = pixels

    here, names = read(name, path, pictures, keep, total)
    if here != pinned and pictures.pinned is None:
        _note(path, pictures).unlink(missing_ok=True)
        raise HarnessError(f"data set {name}: {path}: the pictures have changed since they were read. Run again")
    if here != pinned:
        raise HarnessError(
            f"data set {name}: {path} holds other pictures than those that are pinned: {here.train:,} + {here.test:,} "
            f"of {len(here.classes)} classes, sha256 {here.sha256}, instead of {pinned.train:,} + {pinned.test:,} of "
            f"{len(pinned.classes)}, sha256 {pinned.sha256}. Give those, or change data.{name}.pinned"
        )
    parts, labels, _ = zip(*(file.split("/") for file in names), strict=True)
    order = sorted(range(total), key=lambda number: (PARTS.index(parts[number]), names[number]))
    x, y = x[order], np.array([pinned.classes.index(labels[number]) for number in order])
    held = _validation(pictures, pinned)
    sizes = {"train": pinned.train - held, "validation": held, "test": pinned.test}
    shuffled = numpy_generator(SPLIT_NAME, SPLIT).permutation(pinned.train)
    split = split_arrays(x, y, sizes, np.concatenate([shuffled, np.arange(pinned.train, total)]))
    mean, std = channel_statistics(split["train_x"])
    return split | {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [C] of pixels / 255, float64, of uint8 [N, C, H, W]; 1 where all pixels are equal.

    From counts of the 256 values, so they are exact whatever the number of pixels.
    """
    values, counts = np.arange(256) / 255, np.zeros((x.shape[1], 256))
    for sample in x:
        for channel, pixels in enumerate(sample):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _check_memory(name: str, pictures: Pictures, total: int) -> None:
    """Raise HarnessError if training could not hold the pictures: float32, and as bytes too while they are prepared."""
    need, present = int(6.4 * total * pictures.channels * math.prod(pictures.size)), psutil.virtual_memory().total
    if need > present:
        height, width = pictures.size
        raise HarnessError(
            f"data set {name}: {total:,} pictures of {height} x {width} take {need / 1e9:,.0f} GB of memory, "
            f"and this machine has {present / 1e9:,.0f} GB. Give a smaller size"
        )
