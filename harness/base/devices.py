"""One GPU for each job on a machine with several GPUs: one lock per GPU, held until the job ends.

The kernel releases the lock however the job ends. All users of a machine share its GPUs, but the library filelock
refuses another user's lock file in a folder like /tmp; so this module calls flock itself.
"""

import fcntl
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables

DEVICE = variable("device")
GPUS = variable("gpus")  # ids of the GPUs of this machine that jobs share, such as 0,1,2,3
LOCKS = variable("gpu_locks")  # the folder of the locks, which all jobs of the machine must see
VISIBLE = "CUDA_VISIBLE_DEVICES"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/-]*")  # 0, GPU-8932f937-..., MIG-GPU-...
POLL_SECONDS = 0.2

_held: list[IO[str]] = []


def shared_gpus() -> list[str]:
    """The ids of the GPUs that jobs share: CUDA_VISIBLE_DEVICES if it names several, else HARNESS_GPUS.

    HARNESS_DEVICE=cuda:N leaves the one at place N of them. Empty if there is nothing to share: on the CPU, or when a
    queue assigns a job at most one GPU with CUDA_VISIBLE_DEVICES. Raises HarnessError for invalid or duplicate ids.
    """
    visible, device = os.environ.get(VISIBLE), variables().device
    if device == "cpu" or (visible is not None and "," not in visible):
        return []
    name, text = (GPUS, variables().gpus) if visible is None else (VISIBLE, visible)
    if not text:
        return []
    ids = [part.strip() for part in text.split(",")]
    if not all(NAME.fullmatch(gpu) for gpu in ids) or len(set(ids)) != len(ids):
        raise HarnessError(f"{name}={text}: give different ids of GPUs, such as 0,1,2,3")
    _, _, place = device.partition(":")
    if place and int(place) >= len(ids):
        raise HarnessError(f"{DEVICE}={device}: {name}={text} has {len(ids)} GPUs; give a smaller number, or cuda")
    return [ids[int(place)]] if place else ids


def take_device(wait: float | None = None) -> str:
    """Wait for a free GPU of `shared_gpus`, lock it until this process ends, and hide all others. Returns its id.

    Call it before CUDA starts. Returns "" if there is nothing to share. Raises HarnessError for invalid ids, and after
    `wait` seconds without a free GPU (None: waits forever).
    """
    ids = shared_gpus()
    if not ids:
        return ""
    folder = _folder()
    started, told = time.monotonic(), False
    while True:
        for gpu in ids:
            lock = _try(folder / f"{gpu.replace('/', '_')}.lock")
            if lock:
                _held.append(lock)
                os.environ[VISIBLE] = gpu
                if variables().device != "auto":
                    os.environ[DEVICE] = "cuda"  # the only one that this process sees
                return gpu
        if wait is not None and time.monotonic() - started > wait:
            raise HarnessError(f"GPUs {','.join(ids)}: none was free for {wait:g} s; run fewer jobs at once")
        if not told:
            told = True
            print(f"waiting for a free GPU of {','.join(ids)}", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)


def has_device() -> bool:
    """Whether this process was assigned a GPU, by `take_device` or a queue."""
    return os.environ.get(VISIBLE, "") not in ("", "-1", "NoDevFiles")


def check_device() -> None:
    """Raise HarnessError if this process was assigned a GPU but PyTorch can't use it."""
    visible = os.environ.get(VISIBLE, "")
    if has_device() and variables().device == "auto":
        import torch

        if not torch.cuda.is_available():
            raise HarnessError(
                f"{VISIBLE}={visible}: PyTorch finds no such GPU. In a container pass it through (apptainer: --nv) and "
                "use the cuda image; to compute on the CPU set HARNESS_DEVICE=cpu"
            )


def _folder() -> Path:
    chosen = variables().gpu_locks
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "harness-gpus"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not chosen and folder.stat().st_uid == os.getuid():
            folder.chmod(0o1777)  # all users share the machine's GPUs, and so their locks
    except OSError as error:
        raise HarnessError(f"{folder}: can't be created ({error.strerror}); name another folder in {LOCKS}") from None
    return folder


def _try(path: Path) -> IO[str] | None:
    """The lock's open file, or None if another process holds the lock."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
        if os.fstat(file.fileno()).st_uid == os.getuid():
            os.fchmod(file.fileno(), 0o666)  # regardless of the umask
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
