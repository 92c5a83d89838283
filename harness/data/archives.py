"""Published archives: found in the data folder or downloaded by torchvision, checked by MD5, read without unpacking.

The folder is laid out as torchvision lays out its own, so that a folder it has filled serves as it is.
"""

import contextlib
import hashlib
import math
import socket
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import URLError

from harness.base.errors import HarnessError
from harness.base.files import digest, write_atomically
from harness.base.paths import checkout
from harness.base.variables import variables

MADE = 1  # raise it when the same files are made into other arrays: trained networks are found again by the checksum
WAITS = (2.0, 8.0)  # seconds before the second and the third try
UNREADABLE = (tarfile.TarError, EOFError, zlib.error, OSError)  # what a damaged archive raises
TIMEOUT = 30.0  # seconds without a byte after which a try has failed


@dataclass(frozen=True)
class Archive:
    """A published file; without addresses it can only be put there by hand."""

    path: str  # below the data folder
    md5: str
    urls: tuple[str, ...] = ()
    size: int = 0  # bytes, to plan with


@dataclass(frozen=True)
class Published:
    """What was published of a data set and how it is used; a test gives a small one of the same form.

    Pixels are stored as they are (uint8) and become (pixel / 255 - mean) / std, channel by channel, when loaded.
    """

    name: str
    shape: tuple[int, ...]  # (C, *S) of a sample
    classes: int
    sizes: Mapping[str, int]  # samples of train, validation and test
    mean: tuple[float, ...]
    std: tuple[float, ...]
    archives: tuple[Archive, ...]

    @property
    def checksum(self) -> str:
        """SHA-256 of all that settles the content: the archives' published MD5s, and what is made of them."""
        archives = [[archive.path, archive.md5] for archive in self.archives]
        use = [MADE, self.name, self.shape, self.classes, dict(self.sizes), self.mean, self.std]
        return digest([use, archives])

    def stored_bytes(self) -> int:
        """About what is stored of it: a byte a pixel, and each sample's label and index."""
        return sum(self.sizes.values()) * (math.prod(self.shape) + 16)


def data_folder() -> Path:
    """Where archives and converted images are kept: HARNESS_DATA, or data/ beside results/."""
    named = Path(variables().data or "data").expanduser()
    return named if named.is_absolute() else checkout().resolve() / named


def file_md5(path: Path) -> str:
    """MD5 (32 hex digits) of a file's bytes: it is what torchvision publishes, and no protection by itself."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def fetch(published: Published) -> list[Path]:
    """The archives in the data folder, downloaded where missing or damaged.

    Raises HarnessError with the way to do it by hand when one can't be had.
    """
    paths = [data_folder() / archive.path for archive in published.archives]
    for archive, path in zip(published.archives, paths, strict=True):
        found = file_md5(path) if path.is_file() else ""
        if found != archive.md5:
            reason = _download(published.name, archive, path)
            if reason:
                there = f" (the file there is damaged: MD5 {found} instead of {archive.md5})" if found else ""
                raise HarnessError(
                    f"data set {published.name}: {path.name} can't be downloaded: {reason}{there}. {by_hand(published)}"
                )
    return paths


def by_hand(published: Published) -> str:
    """What a person must put where."""
    names = ", ".join(PurePosixPath(archive.path).name for archive in published.archives)
    addresses = {url.rpartition("/")[0] + "/": None for archive in published.archives for url in archive.urls}
    where = " or ".join(addresses) or "https://image-net.org (a free account is needed)"
    folder = data_folder() / PurePosixPath(published.archives[0].path).parent
    return f"By hand: put {names} from {where} into {folder} (HARNESS_DATA names another data folder) and run again."


def _download(name: str, archive: Archive, path: Path) -> str:
    """Download with retries, each address in turn. Returns why it failed, or ""."""
    if find_spec("torchvision") is None:  # as in the cpu image
        return "torchvision, which downloads it, is not installed here"
    reason = "no address is known"
    for wait in (0.0, *WAITS) if archive.urls else ():
        time.sleep(wait)
        for url in archive.urls:
            print(f"data set {name}: downloading {url}", file=sys.stderr, flush=True)
            try:
                _download_once(url, archive.md5, path)
                return ""
            except (OSError, HTTPException) as error:
                why = error.reason if type(error) is URLError else error
                reason = f"{url}: {str(why) or type(why).__name__}"
            except RuntimeError:  # torchvision's word for a wrong checksum
                reason = f"{url}: what arrived is not the published file"
            print(f"failed: {reason}", file=sys.stderr, flush=True)
    return reason


def _download_once(url: str, md5: str, path: Path) -> None:
    """torchvision's download, its progress on stderr; nothing is left at `path` unless it has the MD5."""
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none, and would wait for a dead connection for ever
    try:
        write_atomically(path, lambda part: download_url(url, part.parent, part.name, md5))
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def open_tar(path: Path, file: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    """An archive to read from, or `file`, one within another; HarnessError for one missing, damaged or cut short."""
    try:
        with tarfile.open(path, fileobj=file) as tar:
            yield tar
    except UNREADABLE as error:
        raise HarnessError(
            f"{path}: can't be read as an archive ({error}). Replace it by a complete copy and run again."
        ) from None


def members(tar: tarfile.TarFile, largest: int) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive, in its order, to be read in memory: nothing is ever unpacked, no link followed.

    Raises HarnessError for a path that leads out of the archive, and for a file of more than `largest` bytes.
    """
    for member in tar:
        path, fault = PurePosixPath(member.name), ""
        if path.is_absolute() or ".." in path.parts:
            fault = "leads out of the archive"
        elif member.size > largest:
            fault = f"is larger than {largest:,} bytes"
        if fault:
            raise HarnessError(f"{tar.name!s}: its member {member.name!r} {fault}: this is not the published archive")
        if member.isreg():
            yield member


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member; HarnessError when the archive is damaged or ends before them."""
    try:
        file = tar.extractfile(member)
        found = file.read() if file else b""
    except UNREADABLE as error:
        found, fault = b"", f" ({error})"
    else:
        fault = ""
    if len(found) != member.size:
        raise HarnessError(
            f"{tar.name!s}: its member {member.name!r} is damaged{fault}. Replace the archive by a complete copy."
        )
    return found


def pick(names: Sequence[str], tar: tarfile.TarFile, largest: int) -> dict[str, bytes]:
    """The named members of an archive, in the order of the names. Raises HarnessError for one that is missing."""
    known = ((str(PurePosixPath(member.name)), member) for member in members(tar, largest))  # ./a is a
    found = {name: content(tar, member) for name, member in known if name in names}
    for name in names:
        if name not in found:
            raise HarnessError(f"{tar.name!s}: has no member {name!r}: this is not the published archive")
    return {name: found[name] for name in names}
