"""The machine's energy counters: Linux's for processors and memory, NVIDIA's for GPUs."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from harness.base.devices import VISIBLE, shared_gpus
from harness.base.errors import HarnessError
from harness.training.device import pick

POWERCAP = Path("/sys/class/powercap")
EVERY_SECONDS = 5.0  # a counter of 262 kJ wraps around after a quarter of an hour at 300 W
Counters = dict[str, tuple[int, int]]  # name -> (microjoules so far, value at which it wraps around; 0 if never)


def read_counters(powercap: Path | None = None) -> Counters | None:
    """Counters of every processor package and its memory, and of every GPU that this process may use.

    None if a counter is missing or unreadable: no such counters, no permission, or a GPU without NVIDIA's library.
    """
    counters: Counters = {}
    # AMD's zones have this name too; "core" and "uncore" are parts of "package"
    for zone in sorted((powercap or POWERCAP).glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                used, most = ((zone / file).read_text() for file in ("energy_uj", "max_energy_range_uj"))
                counters[zone.name] = (int(used), int(most) + 1)
        except (OSError, ValueError):
            return None
    gpus = _gpus()
    return None if gpus is None or not counters else counters | gpus


def _gpus() -> Counters | None:
    """Counters of the GPUs that jobs may use; {} on the CPU, None if they can't be read.

    Asked of NVIDIA's library, not of torch, which would keep memory on a GPU that a job needs.
    """
    if pick().type == "cpu":
        return {}
    counters: Counters = {}
    with contextlib.suppress(Exception):  # the library's own errors, of which it has many
        import pynvml

        pynvml.nvmlInit()
        for gpu in _ids() or map(str, range(pynvml.nvmlDeviceGetCount())):
            by_number = gpu.isdigit()
            handle = (pynvml.nvmlDeviceGetHandleByIndex if by_number else pynvml.nvmlDeviceGetHandleByUUID)(
                int(gpu) if by_number else gpu
            )
            counters[f"gpu {gpu}"] = (1000 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0)
        return counters
    return None


def _ids() -> list[str]:
    """The ids of the GPUs that jobs share, or of the one that a queue assigned; [] if neither says so."""
    return shared_gpus() or [gpu for gpu in [os.environ.get(VISIBLE, "")] if gpu]


def used_joules(before: Counters, after: Counters) -> float | None:
    """Energy between two readings, at most one wrap-around apart. None if their counters differ."""
    if before.keys() != after.keys():
        return None
    total = 0
    for name, (now, turn) in after.items():
        used = now - before[name][0]
        if used < 0 and not turn:
            return None
        total += used % turn if turn else used
    return total / 1e6


class Meter:
    """Adds the energy used since its creation to `joules`, and passes the sum to `tell` every few seconds.

    `joules` is None if unknown; it stays None once a counter could not be read.
    """

    def __init__(
        self,
        joules: float | None,
        tell: Callable[[float | None], None],
        read: Callable[[], Counters | None] | None = None,
    ):
        self._read, self._tell = read or read_counters, tell
        self._last = None if joules is None else self._read()
        self.joules = None if self._last is None else joules
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        tell(self.joules)
        if self._last is not None:
            self._thread.start()

    def look(self) -> None:
        """Add the energy used since the last reading."""
        if self._last is None or self.joules is None:
            return
        now = self._read()
        used = None if now is None else used_joules(self._last, now)
        self.joules, self._last = None if used is None else self.joules + used, now

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self.look()
            with contextlib.suppress(HarnessError):  # whatever writes the results reports a full disk
                self._tell(self.joules)

    def end(self) -> float | None:
        """Stop after a last reading. Returns the sum."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()
        return self.joules
