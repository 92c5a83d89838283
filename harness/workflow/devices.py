"""One GPU for each job on a machine with several: a lock a device, held as long as the job lives.

The lock is the kernel's, so a job that ends in whatever way frees its GPU.
"""

import fcntl
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO

from harness.errors import HarnessError

GPUS = "HARNESS_GPUS"  # environment: ids of this machine's GPUs, such as 0,1,2,3, to be shared out among jobs
LOCKS = "HARNESS_GPU_LOCKS"  # environment: the folder of the locks, seen by all jobs of the machine
VISIBLE = "CUDA_VISIBLE_DEVICES"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/-]*")  # 0, GPU-8932f937-..., MIG-GPU-...
POLL_SECONDS = 0.2

_held: list[IO[str]] = []


def take_device(wait: float | None = None) -> str:
    """Wait for a free GPU of HARNESS_GPUS, hold it until this process ends and make it the only one to be seen.

    Call it before CUDA is started. Does nothing ("") without HARNESS_GPUS, or where CUDA_VISIBLE_DEVICES is set
    already, as a queue does. Raises HarnessError for ids that can't be, and after `wait` seconds (None: never).
    """
    text = os.environ.get(GPUS, "")
    if not text or VISIBLE in os.environ:
        return ""
    ids = [part.strip() for part in text.split(",")]
    if not all(NAME.fullmatch(one) for one in ids) or len(set(ids)) != len(ids):
        raise HarnessError(f"{GPUS}={text}: give different ids of GPUs, such as 0,1,2,3")
    folder = _folder()
    started = time.monotonic()
    while True:
        for one in ids:
            lock = _try(folder / f"{one.replace('/', '_')}.lock")
            if lock:
                _held.append(lock)
                os.environ[VISIBLE] = one
                return one
        if wait is not None and time.monotonic() - started > wait:
            raise HarnessError(f"{GPUS}={text}: none was free for {wait:g} s; run fewer jobs at once")
        time.sleep(POLL_SECONDS)


def uses_device(stage: str) -> bool:
    """Whether a stage trains or compares networks: "lenet/c0/dense", not "prepare/digits", "collect" or tickets."""
    return "/" in stage and not stage.startswith("prepare/") and not stage.endswith("/tickets")


def _folder() -> Path:
    chosen = os.environ.get(LOCKS)
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "harness-gpus"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"{folder}: can't be made ({error.strerror}); name another folder in {LOCKS}") from None
    return folder


def _try(path: Path) -> IO[str] | None:
    """The lock's open file, or None where another process holds it."""
    try:
        file = path.open("a")
    except OSError as error:
        raise HarnessError(f"{path}: can't be opened ({error.strerror}); name another folder in {LOCKS}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
