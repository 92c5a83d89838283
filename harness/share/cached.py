"""What DVC fetched into its cache: lists of folders and files by checksum, checked before they are believed."""

import errno
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError
from harness.share.untrusted import check_name, read_checked_json

LONGEST = 255  # bytes of a name in a list; a file system takes no more in one part of it
MD5 = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class Kept:
    """A file that a revision's results hold: its place in the checkout, and its checksum (MD5, DVC's kind)."""

    path: str
    md5: str


@dataclass(frozen=True)
class Cache:
    """DVC's cache after a fetch from a remote, `remote` as messages call it."""

    folder: Path
    remote: str


def files(cache: Cache, outs: Iterable[Kept]) -> list[Kept]:
    """The files of some outputs, of a folder by its list.

    Raises HarnessError for a list that is not what dvc.lock names, and for names that lead elsewhere, stand there
    twice, are too long, or are those of a file and of a folder.
    """
    found = [file for one in outs for file in _listed(cache, one)]
    counts = Counter(file.path for file in found)
    for name, count in counts.items():
        above = next((str(one) for one in PurePosixPath(name).parents if str(one) in counts), "")
        if count > 1 or above:
            what = f"a name in {above!r:.200}, which is a file too" if above else "there twice"
            raise HarnessError(f"{name!r:.200}: {what} in what was pulled. Don't use these results")
    return found


def _listed(cache: Cache, kept: Kept) -> Iterator[Kept]:
    if not kept.md5.endswith(".dir"):
        yield kept
        return
    listed = read_checked_json(checked(cache, kept))
    for one in listed if isinstance(listed, list) else [None]:
        name, md5 = (one.get("relpath"), one.get("md5")) if isinstance(one, dict) else (None, None)
        check_name(Path(kept.path), name)
        if len(str(name).encode()) > LONGEST:
            raise HarnessError(f"{kept.path}: {name!r:.80}...: a name of over {LONGEST} bytes. Don't use these results")
        if not isinstance(md5, str) or not MD5.fullmatch(md5) or md5.endswith(".dir"):
            raise HarnessError(f"{kept.path}/{name!s:.200}: no checksum in what was pulled. Don't use these results")
        yield Kept(f"{kept.path}/{name}", md5)


def checked(cache: Cache, kept: Kept) -> Path:
    """The cached file of a checksum. Raises HarnessError if it is missing or has another content."""
    path = cache.folder / kept.md5[:2] / kept.md5[2:]
    if not path.is_file() or path.is_symlink():
        raise HarnessError(
            f"{kept.path}: not on the remote, or the remote can't be reached: {cache.remote}. "
            "Check the connection; if that is right, it has to be pushed again"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != kept.md5.removesuffix(".dir"):
        path.unlink()
        raise HarnessError(f"{kept.path}: altered on the remote: not what dvc.lock names. It has to be pushed again")
    return path


def second_name(source: Path, path: Path) -> None:
    """Give a cached file a second name, or a copy where the file system links nothing.

    Raises HarnessError where the name can't be made. What lies there is never written through: it may be the cache's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(source, path)
    except OSError as error:
        raise HarnessError(
            f"{path}: can't be written ({error.strerror}). Make room, or give the right to write"
        ) from None
