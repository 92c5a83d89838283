"""Files and hashes. Files are written under a temporary name and renamed, so a kill leaves no partial file."""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError, system_error

# a full or read-only disk, or a path that can't be created or written: the user can fix these
PATH_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG),
)

_UMASK = os.umask(0)  # it can only be read by setting it, which is safe before there are threads
os.umask(_UMASK)
MODE = 0o666 & ~_UMASK  # of every file that the harness writes


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, NaN refused. The basis of every digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and rename the result to `path`; a failure leaves no temporary file.

    Raises HarnessError when the disk is full or the path can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if temporary.stat().st_nlink == 1:  # a hard link has the mode of the file that it shares
            temporary.chmod(MODE)  # some libraries write files that only their owner can read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # renaming onto a hard link of the same file keeps the temporary name
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        number = re.search(r"os error (\d+)", str(error))  # safetensors reports system errors as its own
        if number and not isinstance(error, OSError):
            error = OSError(int(number[1]), os.strerror(int(number[1])))
        if isinstance(error, OSError) and error.errno in PATH_ERRORS:
            raise system_error(error, path, "can't be written") from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing, broken or unreadable file is a HarnessError that says what to do."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Run `harness reproduce` again: it makes what is missing.") from None
    except OSError as error:
        raise system_error(error, path) from None
    except (ValueError, RecursionError) as error:  # huge integers and deep nesting too
        raise HarnessError(f"{path}: not valid JSON ({error}). Delete it and run `harness reproduce` again.") from None
