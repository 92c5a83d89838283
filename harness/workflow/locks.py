"""One run at a time in a checkout and in a run's folder; only what a dead process left is removed."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from harness.base.errors import HarnessError
from harness.results.folders import Folders
from harness.workflow.engine import STATE, engine_folder

LOCK = ".harness.lock"  # in a run's folder, held by the run that writes there
STAGES = "stages.lock"  # in a run's progress/, shared by the stages that work there
ORPHANS_SECONDS = 20.0  # a stage ends by itself soon after the workflow that started it


@contextlib.contextmanager
def only_run(root: Path, base: Path) -> Iterator[None]:
    """Hold the locks of a checkout and of a run's folder `base`, and remove what a killed workflow left in both.

    Raises HarnessError if a run, or a stage of one, is active in either: other checkouts may write to the same folder.
    """
    place = engine_folder(root, base)
    engine = (place / STATE).resolve()  # in an image this is a link into the results folder
    for folder in (engine, base):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"{folder}: can't be created ({error.strerror}); give another folder with --results"
            ) from None
    with _locked(engine / "harness.lock"), _locked(base / LOCK):
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if process.info["cwd"] == str(place) and _is_snakemake(process.info["cmdline"] or []):
                raise HarnessError(f"another snakemake is active here (process {process.pid}): wait for it, or stop it")
        shutil.rmtree(engine / "locks", ignore_errors=True)
        with _no_stage(base):
            for half_written in base.rglob(".*.part"):
                half_written.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def working(folders: Folders) -> Iterator[None]:
    """Hold the stages' lock of a run's folder, together with other stages, while no run removes what was left there.

    Does nothing on a file system without locks, such as a volume that a cluster's pods share.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock = stack.enter_context(_open(folders.base))
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _no_stage(base: Path) -> Iterator[None]:
    """Wait until no stage works in a run's folder, and let none start. Raises HarnessError if one goes on."""
    end = time.monotonic() + ORPHANS_SECONDS
    with contextlib.ExitStack() as stack:
        with _file_errors(base / "progress" / STAGES):
            lock = stack.enter_context(_open(base))
            while not _try(lock):
                if time.monotonic() > end:
                    raise HarnessError(f"stages of another run are active in {base}: wait for them, or stop them")
                time.sleep(0.2)
        yield


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _open(base: Path) -> Iterator[int]:
    path = base / "progress" / STAGES
    path.parent.mkdir(exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock whose file names this process. The kernel releases it however the process ends."""
    lock = FileLock(path, blocking=False, fallback_to_soft=False)  # a soft lock would outlive a killed process
    with _file_errors(path):
        try:
            lock.acquire()
            path.write_text(str(os.getpid()), encoding="utf-8")
        except Timeout:
            owner = path.read_text(encoding="utf-8").strip() or "unknown"
            raise HarnessError(
                f"another run is active here (process {owner} in {path.parent}): wait for it, or stop it"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turn an error of the system about a lock into one line."""
    try:
        yield
    except PermissionError as error:
        raise HarnessError(
            f"{path}: can't be locked ({error.strerror}): it belongs to another user. Give a folder of your own with "
            "--results"
        ) from None
    except OSError as error:  # such as NFS without locks
        raise HarnessError(
            f"{path}: can't be locked ({error.strerror}). Put this folder on a file system with locks"
        ) from None


def _is_snakemake(command: list[str]) -> bool:
    """Whether a command line is `python -m snakemake ...` or `python .../bin/snakemake ...`."""
    return any(Path(word).name == "snakemake" for word in command[:3])
