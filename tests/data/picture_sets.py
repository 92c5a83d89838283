"""Tiny pictures of one's own, as files, folders and archives."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")
SIZES = {"train": 4, "test": 2}  # of each class


def encoded(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    """Pixels [H, W] or [H, W, 3] as a picture file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def colours(seed: int, height: int = 6, width: int = 6) -> np.ndarray:
    """Random pixels [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pixels_by_name() -> dict[str, np.ndarray]:
    """A set of 12 + 6 colour pictures of 6 x 6 in three classes."""
    names = [f"{part}/{label}/{at}.png" for part in SIZES for label in CLASSES for at in range(SIZES[part])]
    return {name: colours(seed) for seed, name in enumerate(names)}


def picture_set() -> dict[str, bytes]:
    """The same as files."""
    return {name: encoded(pixels) for name, pixels in pixels_by_name().items()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", above: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{above}{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes], above: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{above}{name}", content)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file from its parts: what Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
