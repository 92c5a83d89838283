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


def shared_gpus() -> list[str]:
    """The ids to be shared out among jobs: CUDA_VISIBLE_DEVICES if it names several, else HARNESS_GPUS.

    Empty where there is nothing to share: a queue that gives a job one GPU, or none, names it in
    CUDA_VISIBLE_DEVICES. Raises HarnessError for ids that can't be.
    """
    given = os.environ.get(VISIBLE)
    if given is not None and "," not in given:
        return []
    name = GPUS if given is None else VISIBLE
    text = os.environ.get(name, "")
    if not text:
        return []
    ids = [part.strip() for part in text.split(",")]
    if not all(NAME.fullmatch(one) for one in ids) or len(set(ids)) != len(ids):
        raise HarnessError(f"{name}={text}: give different ids of GPUs, such as 0,1,2,3")
    return ids


def take_device(wait: float | None = None) -> str:
    """Wait for a free GPU of `shared_gpus`, hold it until this process ends and make it the only one to be seen.

    Call it before CUDA is started. Does nothing ("") where there is nothing to share. Raises HarnessError for ids that
    can't be, and after `wait` seconds (None: never).
    """
    ids = shared_gpus()
    if not ids:
        return ""
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
            raise HarnessError(f"GPUs {','.join(ids)}: none was free for {wait:g} s; run fewer jobs at once")
        time.sleep(POLL_SECONDS)


def check_device() -> None:
    """Refuse to compute on the CPU where a GPU was given to this process. Raises HarnessError."""
    given = os.environ.get(VISIBLE, "")
    if given not in ("", "-1", "NoDevFiles") and "HARNESS_DEVICE" not in os.environ:
        import torch

        if not torch.cuda.is_available():
            raise HarnessError(
                f"{VISIBLE}={given}: PyTorch finds no such GPU. In a container pass it through (apptainer: --nv) and "
                "take the cuda image; HARNESS_DEVICE=cpu computes without"
            )


def uses_device(stage: str) -> bool:
    """Whether a stage trains or compares networks: "lenet/c0/dense", not "prepare/digits", "collect" or tickets."""
    return "/" in stage and not stage.startswith("prepare/") and not stage.endswith("/tickets")


def _folder() -> Path:
    chosen = os.environ.get(LOCKS)
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "harness-gpus"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not chosen and folder.stat().st_uid == os.getuid():
            folder.chmod(0o1777)  # the machine's GPUs, and so their locks, are everybody's
    except OSError as error:
        raise HarnessError(f"{folder}: can't be made ({error.strerror}); name another folder in {LOCKS}") from None
    return folder


def _try(path: Path) -> IO[str] | None:
    """The lock's open file, or None where another process holds it."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
        if os.fstat(file.fileno()).st_uid == os.getuid():
            os.fchmod(file.fileno(), 0o666)  # whatever the umask
    except OSError as error:
        raise HarnessError(f"{path}: can't be opened ({error.strerror}); name another folder in {LOCKS}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:  # a file system without locks
        raise HarnessError(f"{path}: can't be locked ({error.strerror}); name a local folder in {LOCKS}") from None
    return file
