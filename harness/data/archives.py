"""Published archives: located or downloaded by torchvision, checked by MD5, read without unpacking.

The data folder has torchvision's layout. What lies elsewhere in it, unpacked or packed again, is used too if its
content is the published one.
"""

import contextlib
import gzip
import hashlib
import lzma
import math
import os
import re
import shlex
import socket
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import URLError

from harness.base.errors import HarnessError, system_error
from harness.base.files import digest, write_atomically
from harness.base.paths import checkout
from harness.base.variables import variables

FORM = 1  # raise it when the same files become other arrays: stored networks are found by the checksum
WAITS = (2.0, 8.0)  # seconds before the second and the third try
# what a damaged archive raises
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError)
TIMEOUT = 30.0  # seconds without a byte after which a try has failed
DEPTH, WIDTH, ENTRIES = 3, 1_000, 100_000  # levels that are searched, folders of each, entries of each folder
CLASS_FOLDER = re.compile(r"n\d{8}")  # ImageNet's: a thousand, with over a million files
LARGEST_HEADER = 2**20  # bytes of a member's name and attributes
LARGEST_MEMBER = 64 * 2**20  # bytes; MNIST's largest has 47 MB, CIFAR-10's 31 MB


@dataclass(frozen=True)
class Archive:
    """A published file. One without addresses is put into the data folder by hand.

    `members`: names within the archive and their MD5s, by which unpacked files are recognised; empty if unknown.
    """

    path: str  # below the data folder
    md5: str
    urls: tuple[str, ...] = ()
    size: int = 0  # bytes, to plan with
    members: Callable[[], Mapping[str, str]] = field(default=dict, repr=False)


@dataclass(frozen=True)
class Published:
    """The published files of a data set and how they are used. Tests use small sets of the same form.

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
        """SHA-256 of all that determines the content: the archives' published MD5s, and how they are used."""
        archives = [[archive.path, archive.md5] for archive in self.archives]
        use = [FORM, self.name, self.shape, self.classes, dict(self.sizes), self.mean, self.std]
        return digest([use, archives])

    def stored_bytes(self) -> int:
        """About how many bytes the stored set takes: one per pixel, and 16 per sample for label and index."""
        return sum(self.sizes.values()) * (math.prod(self.shape) + 16)


def data_folder() -> Path:
    """Where archives and converted images are kept: HARNESS_DATA, or data/ beside results/."""
    named = Path(variables().data or "data").expanduser()
    return named if named.is_absolute() else checkout().resolve() / named


def md5(content: bytes) -> str:
    """MD5 (32 hex digits) of bytes. It is the checksum that torchvision publishes; it does not resist forgery."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def file_md5(path: Path) -> str:
    """MD5 (32 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def fetch(published: Published) -> list[Path]:
    """For each archive a path from which `read_members` reads its content. What is missing is downloaded.

    Raises HarnessError if a download fails: with the files that were found instead, and how to get it by hand.
    """
    return [_locate(archive) or _get(published, archive) for archive in published.archives]


def _locate(archive: Archive) -> Path | None:
    """The first candidate with the published content."""
    return next((path for path in candidates(archive) if not _fault(archive, path)), None)


def _get(published: Published, archive: Archive) -> Path:
    path = data_folder() / archive.path
    if is_folder(path):
        raise HarnessError(f"data set {published.name}: {in_the_way(path)}")
    reason = denied(data_folder(), path.parent) or _download(published.name, archive, path)
    if reason:
        faults = [f"{place}: {_fault(archive, place)}" for place in candidates(archive)]
        rejected = f" (there is {'; '.join(faults[:3])})" if faults else _contents(path.parent)
        raise HarnessError(
            f"data set {published.name}: {path.name} can't be downloaded: {reason}{rejected}. {by_hand(published)}"
        )
    return path


def in_the_way(path: Path) -> str:
    """What to do about a folder at an archive's path."""
    command = shlex.join(["mv", str(path), f"{path}.folder"])
    return f"{path} is a folder where the archive belongs: `{command}` and run again."


def candidates(archive: Archive) -> Iterator[Path]:
    """Where an archive's content may lie: at the published path, then anywhere in the data folder, packed or not.

    Browsers and tools leave out .gz, write idx files as x.idx3-ubyte, or unpack into a folder of the file's name.
    """
    published = data_folder() / archive.path
    members = [PurePosixPath(member).name for member in archive.members()]
    names = [published.name, published.name.removesuffix(".gz")]
    names = list(dict.fromkeys([*names, *(name.replace("-idx", ".idx") for name in names), *members[:1]]))
    seen = set()
    places = (folder / name for folder in folders(data_folder()) for name in names)
    for place in (published, *places):
        unpacked = len(members) > 1 and place.name == members[0]
        path = place.parent if unpacked else place
        exists = is_file(place) if unpacked or (members and place != published) else os.path.lexists(place)
        if exists and path not in seen:
            seen.add(path)
            yield path


def folders(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """A folder and the folders below it, level by level. ImageNet's class folders and unreadable ones are left out."""
    level = [root]
    for _ in range(depth + 1):
        yield from level[:WIDTH]
        entries = [entry for folder in level[:WIDTH] for entry in visible_entries(folder)]
        level = [Path(entry) for entry in entries if is_folder(entry) and not CLASS_FOLDER.fullmatch(entry.name)]


def is_folder(place: "Path | os.DirEntry[str]") -> bool:
    """Whether a folder, or a link to one, can be reached."""
    with contextlib.suppress(OSError):
        return place.is_dir()
    return False


def is_file(place: "Path | os.DirEntry[str]") -> bool:
    """Whether a file, or a link to one, can be reached."""
    with contextlib.suppress(OSError):
        return place.is_file()
    return False


def denied(*places: Path) -> str:
    """The first of these folders that exists and can't be read, with the reason; or ""."""
    for place in places:
        try:
            os.scandir(place).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{place} can't be read ({error.strerror}): make it readable"
    return ""


def unreadable(path: Path | str, error: Exception) -> HarnessError:
    """The error for a file or folder that is damaged or that the user may not read."""
    if isinstance(error, OSError) and error.errno:  # gzip tells damage as an OSError without a number
        return system_error(error, path, "can't be read")
    return HarnessError(f"{path}: can't be read ({error}). Replace it by a complete copy and run again.")


def visible_entries(folder: Path) -> list["os.DirEntry[str]"]:
    """A folder's entries as `listing` gives them; none if the folder can't be listed."""
    with contextlib.suppress(OSError):
        return listing(folder)
    return []


def listing(folder: Path) -> list["os.DirEntry[str]"]:
    """A folder's entries sorted by name, without hidden ones. Raises OSError."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in islice(entries, ENTRIES) if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _fault(archive: Archive, path: Path) -> str:
    """Why a file or folder does not have an archive's published content, or ""."""
    checksum = ""
    try:
        checksum = file_md5(path) if is_file(path) else ""
        if checksum == archive.md5:
            return ""
        expected = archive.members()
        contents = read_members(path, tuple(expected)) if expected else {}
        altered = [name for name in contents if md5(contents[name]) != expected[name]]
        if expected and not altered:
            return ""
        fault = f"{altered[0]} is altered" if altered else "not a file"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    except HarnessError as error:
        fault = str(error)
    return f"damaged: MD5 {checksum} is not the published one" if checksum else fault


def _contents(folder: Path) -> str:
    """The contents of a folder, or of the data folder if it is empty, in brackets."""
    for place in (folder, data_folder()):
        names = [entry.name for entry in visible_entries(place)]
        if names:
            return f" ({place} holds only {', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
    return ""


def by_hand(published: Published) -> str:
    """How to get the files by hand."""
    names = ", ".join(PurePosixPath(archive.path).name for archive in published.archives)
    addresses = {url.rpartition("/")[0] + "/": None for archive in published.archives for url in archive.urls}
    source = " or ".join(addresses) or "https://image-net.org (a free account is needed)"
    folder = data_folder() / PurePosixPath(published.archives[0].path).parent
    return f"By hand: put {names} from {source} into {folder} (HARNESS_DATA names another data folder) and run again."


def _download(name: str, archive: Archive, path: Path) -> str:
    """Download with retries, each address in turn. Returns why it failed, or ""."""
    if find_spec("torchvision") is None:  # as in the cpu image
        return "torchvision, which downloads it and knows the checksums of unpacked files, is not installed here"
    reason = "no address is known"
    for wait in (0.0, *WAITS) if archive.urls else ():
        time.sleep(wait)
        for url in archive.urls:
            print(f"data set {name}: downloading {url}", file=sys.stderr, flush=True)
            try:
                _download_once(url, archive.md5, path)
                return ""
            except (OSError, HTTPException) as error:
                cause = error.reason if type(error) is URLError else error
                reason = f"{url}: {str(cause) or type(cause).__name__}"
            except RuntimeError:  # torchvision's word for a wrong checksum
                reason = f"{url}: the downloaded file is not the published one"
            print(f"failed: {reason}", file=sys.stderr, flush=True)
    return reason


def _download_once(url: str, checksum: str, path: Path) -> None:
    """torchvision's download, its progress on stderr; nothing is left at `path` unless it has the MD5."""
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none, and would wait for a dead connection for ever
    try:
        write_atomically(path, lambda part: download_url(url, part.parent, part.name, checksum))
    finally:
        socket.setdefaulttimeout(before)


class Bounded(tarfile.TarInfo):
    """A member. A long name or an extended header, which tarfile reads whole, is refused if it is large."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = self.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if extended and self.type != tarfile.GNUTYPE_SPARSE and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


@contextlib.contextmanager
def open_tar(path: Path, file: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    """Open an archive, or an archive `file` within another. HarnessError if it is missing, damaged or truncated."""
    try:
        with tarfile.open(path, fileobj=file, tarinfo=Bounded) as tar:
            yield tar
    except UNREADABLE as error:
        header = re.search(r"a header of \d+ bytes", str(error))  # told once for each compression that was tried
        raise unreadable(path, tarfile.ReadError(header[0]) if header else error) from None


def members(tar: tarfile.TarFile, largest: int) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive, in its order. Nothing is written to disk, and no link is followed.

    Raises HarnessError for a path that leads out of the archive, and for a file of more than `largest` bytes.
    """
    for member in tar:
        if fault := unsafe(member.name, member.size, largest):
            raise HarnessError(f"{tar.name!s}: its member {member.name!r} {fault}: this is not the published archive")
        if member.isreg():
            yield member


def unsafe(name: str, size: int, largest: int) -> str:
    """Why a member of an archive, of `size` bytes, is not read; or ""."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return "leads out of the archive"
    return f"is larger than {largest:,} bytes" if size > largest else ""


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member. Raises HarnessError for a damaged or truncated archive."""
    fault = ""
    try:
        file = tar.extractfile(member)
        data = file.read() if file else b""
    except UNREADABLE as error:
        data, fault = b"", f" ({error})"
    if len(data) != member.size:
        raise HarnessError(
            f"{tar.name!s}: its member {member.name!r} is damaged{fault}. Replace the archive by a complete copy."
        )
    return data


def pick(names: Sequence[str], tar: tarfile.TarFile, largest: int) -> dict[str, bytes]:
    """The named members of an archive, in the order of the names. Raises HarnessError for a missing member."""
    known = ((str(PurePosixPath(member.name)), member) for member in members(tar, largest))  # ./a is a
    contents = {name: content(tar, member) for name, member in known if name in names}
    for name in names:
        if name not in contents:
            raise HarnessError(f"{tar.name!s}: has no member {name!r}: this is not the published archive")
    return {name: contents[name] for name in names}


def read_members(path: Path, names: Sequence[str], largest: int = LARGEST_MEMBER) -> dict[str, bytes]:
    """The named members of an archive, or of a folder in which they lie unpacked.

    With several names `path` is a tar archive or a folder; with one, it can also be the member's file, gzipped or not.
    Raises HarnessError for a member that is missing, damaged or larger than `largest` bytes.
    """
    if is_folder(path):
        return {name: _read(path / PurePosixPath(name).name, largest) for name in names}
    if len(names) == 1:
        return {names[0]: _read(path, largest)}
    with open_tar(path) as tar:
        return pick(names, tar, largest)


def _read(path: Path, largest: int) -> bytes:
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else path.open("rb") as file:
            data = file.read(largest + 1)
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    if len(data) > largest:
        raise HarnessError(f"{path}: holds more than {largest:,} bytes: this is not the published file")
    return data
