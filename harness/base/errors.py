"""The one error that a user sees without a traceback, and how errors of the system are told."""

import errno
import os

_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space and run again: finished work is kept."),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Ask its owner for access, or give a folder of your own."
    ),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "Move what lies there away and run again."),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "The disk or the network failed: check it and run again."),
    errno.ELOOP: "Its link leads back to itself: put a file or a folder in its place.",
    errno.ENOENT: "It was removed during the run, or never made. Run again.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.EFBIG: "Raise the limit of a file's size (`ulimit -f`), or give another file system.",
}


class HarnessError(Exception):
    """Bad input or a broken artefact. The message names the file, the field, the value and the fix."""


def system_error(error: OSError, path: str | os.PathLike[str] = "", problem: str = "") -> HarnessError:
    """An error of the operating system as one line: the file, the reason, and the fix where there is one.

    `path` names the file where the error does not, or where it names a temporary one; `problem` says what failed.
    """
    file = os.fsdecode(path or error.filename or "")
    if not file and error.errno == errno.ENOENT:
        return HarnessError("The working directory was removed. Change to another one and run again.")
    reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    told = f"{problem} ({reason})" if problem else reason
    return HarnessError(f"{f'{file}: ' if file else ''}{told}. {_FIXES.get(error.errno or 0, '')}".rstrip())


def reason(error: HarnessError | OSError | MemoryError) -> str:
    """What a user is told of an error that is no bug."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Free some, or run fewer jobs at once with --cores 1."
    return str(system_error(error) if isinstance(error, OSError) else error)
