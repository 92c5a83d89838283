"""The files of a user's pictures, train/<class>/<file> and test/<class>/<file>, in a folder or a tar or zip archive.

Everything is read in memory. Links, devices, and members that lead out of an archive are refused. Hidden files, and
those that systems leave in any folder, are passed over.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from harness.base.errors import HarnessError
from harness.base.untrusted import LEFTOVERS
from harness.data.archives import LARGEST_MEMBER, UNREADABLE, Bounded, content, is_folder, open_tar, unreadable, unsafe

Content = TypeVar("Content")
PARTS = ("train", "test")
DEEPEST = 8  # levels of folders
ENTRY = "train/<class>/<file> or test/<class>/<file>"


def check_path(path: Path) -> None:
    """Raise HarnessError unless a path leads to a folder or to an archive that can be read."""
    try:
        if is_folder(path):
            os.scandir(path).close()
        elif not _is_tar(path) and not zipfile.is_zipfile(path):
            raise HarnessError(f"{path}: neither a folder nor a tar or zip archive. Give one of them")
    except FileNotFoundError:
        raise HarnessError(
            f"{path}: missing. Put the pictures there, or give their path: in full, or below HARNESS_DATA"
        ) from None
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def picture_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name from train/ or test/ on, and content, of every picture file, in the order of a folder or an archive.

    They may lie in one folder within `path`. Raises HarnessError for files that lie elsewhere, for what is no file,
    and for what can't be read.
    """
    check_path(path)
    if is_folder(path):
        yield from ((name, _content(Path(entry))) for name, entry in _placed(path, _entries(path)))
    elif _is_tar(path):  # asked first: a tar archive whose last member is a zip archive looks like both
        yield from _packed(path)
    else:
        yield from _zipped(path)


def fingerprint(path: Path) -> list[object]:
    """What changes when the files do, without reading them: their names, sizes and times of modification.

    Raises HarnessError as `picture_files`.
    """
    check_path(path)
    if not is_folder(path):
        return [path.stat().st_size, path.stat().st_mtime_ns]
    entries = ((name, entry.stat()) for name, entry in _placed(path, _entries(path)))
    return [[name, status.st_size, status.st_mtime_ns] for name, status in entries]


def _placed(path: Path, files: Iterable[tuple[str, Content]]) -> Iterator[tuple[str, Content]]:
    """The files of train and test by their names from there on; others beside the two folders are passed over."""
    above = None
    for whole, held in files:
        parts = [part for part in whole.split("/") if part not in ("", ".")]
        if any(map(_passed_over, parts)):
            continue
        outer = next((at for at in (0, 1) if len(parts) > at + 1 and parts[at] in PARTS), None)
        if outer is None and len(parts) <= 2:
            continue  # a README or a licence beside the two folders, or beside the one that holds them
        where = f"{path}: {whole!r:.200}"
        if outer is None:
            raise HarnessError(f"{where} lies in neither train nor test. Pictures lie at {ENTRY}; move others away")
        if len(parts) != outer + 3:
            raise HarnessError(f"{where}: pictures lie at {ENTRY}, no higher and no deeper. Move it there, or away")
        if above not in (None, parts[:outer]):
            raise HarnessError(f"{where}: train and test lie in more than one folder. Keep one of them")
        above = parts[:outer]
        yield "/".join(parts[outer:]), held


def _passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or left by a system."""
    return name.startswith((".", "__MACOSX")) or bool(LEFTOVERS.fullmatch(name))


def _entries(folder: Path, above: str = "") -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """The files below a folder with their names in it, sorted within each folder."""
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not _passed_over(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from None
    for entry in visible:
        name = f"{above}{entry.name}"
        if entry.is_symlink():
            raise _refused(folder, entry.name, "a link")
        if entry.is_dir(follow_symlinks=False):
            if name.count("/") >= DEEPEST:
                raise HarnessError(f"{entry.path}: more than {DEEPEST} folders deep: pictures lie at {ENTRY}")
            yield from _entries(Path(entry), f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield name, entry
        else:
            raise _refused(folder, entry.name, "neither a file nor a folder")


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_MEMBER + 1)
    except OSError as error:
        raise unreadable(file, error) from None
    if fault := unsafe(file.name, len(data), LARGEST_MEMBER):
        raise HarnessError(f"{file}: {fault}. Take it out, or make it smaller")
    return data


def _is_tar(path: Path) -> bool:
    """Whether a file is a tar archive, also one whose first header is refused when it is read."""
    try:
        with tarfile.open(path, tarinfo=Bounded):
            return True
    except tarfile.ReadError as error:
        return "a header of" in str(error)


def _packed(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a tar archive, in its order."""
    with open_tar(path) as tar:
        for name, member in _placed(path, _members(path, tar)):
            if not member.isreg():
                kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
                raise _refused(path, member.name, kind)
            if fault := unsafe(member.name, member.size, LARGEST_MEMBER):
                raise _unsafe(path, member.name, fault)
            yield name, content(tar, member)


def _members(path: Path, tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The members that are no folders, none of which is kept in memory."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]
        if fault := unsafe(member.name, 0, LARGEST_MEMBER):
            raise _unsafe(path, member.name, fault)
        if not member.isdir():
            yield member.name, member


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a zip archive, in its order."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if fault := unsafe(member.filename, 0, LARGEST_MEMBER):
                    raise _unsafe(path, member.filename, fault)
            files = ((member.filename, member) for member in archive.infolist() if not member.is_dir())
            for name, member in _placed(path, files):
                yield name, _unzipped(path, archive, member)
    except (*UNREADABLE, NotImplementedError) as error:  # the second: an unknown compression
        raise unreadable(path, error) from None


def _unzipped(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, of which no more are decompressed than the archive says that it has."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):  # 0: packed where files have no mode
        raise _refused(path, member.filename, "a link" if kind == stat.S_IFLNK else "not a file")
    fault = unsafe(member.filename, member.file_size, LARGEST_MEMBER)
    if member.flag_bits & 1:
        fault = "is encrypted"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fault = "is compressed by another method than deflate"  # which could make any number of bytes of a few
    if fault:
        raise _unsafe(path, member.filename, fault)
    with archive.open(member) as stream:
        data = stream.read(member.file_size)
        if stream.read(1):
            raise _unsafe(path, member.filename, "has more bytes than the archive says")
    return data


def _refused(place: Path, name: str, kind: str) -> HarnessError:
    return HarnessError(f"{place}: {name!r:.200} is {kind}, and none is followed. Put the picture itself there")


def _unsafe(path: Path, name: str, fault: str) -> HarnessError:
    return HarnessError(f"{path}: its member {name!r:.200} {fault}. Pack the pictures anew without it")
