"""Wall clock and energy of a run over all passes of `harness reproduce`; time between passes does not count."""

import time
from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.results.energy import Meter
from harness.results.folders import Folders
from harness.results.heartbeats import read_heartbeats

_meters: dict[Folders, Meter] = {}  # of the passes that this process runs


def start_clock(folders: Folders) -> None:
    """Begin a pass. An earlier pass that was killed counts until its last heartbeat and last energy reading.

    Of a broken clock the earlier passes are lost, and the energy is not known.
    """
    try:
        clock = _read(folders)
    except HarnessError:
        clock = {"earlier_seconds": 0.0, "started": 0.0, "joules": None}
    earlier, started = clock["earlier_seconds"], clock["started"]
    if started:
        last = max((beat.get("time", 0.0) for beat in read_heartbeats(folders.progress)), default=0.0)
        earlier += max(0.0, last - started)
    now = {"earlier_seconds": earlier, "started": time.time()}
    _meters[folders] = Meter(clock["joules"], lambda joules: write_json(folders.clock, {**now, "joules": joules}))


def stop_clock(folders: Folders) -> None:
    """End a pass. Its seconds count even if it had nothing to do."""
    meter = _meters.pop(folders, None)
    clock = {"earlier_seconds": wall_clock_seconds(folders), "started": 0.0, "joules": meter.end() if meter else None}
    write_json(folders.clock, clock)


def wall_clock_seconds(folders: Folders) -> float:
    """Seconds of all passes so far; 0 when the workflow was only ever started without `harness reproduce`."""
    clock = _read(folders)
    current = max(0.0, time.time() - clock["started"]) if clock["started"] else 0.0  # a clock may be set back
    return float(clock["earlier_seconds"]) + current


def energy_joules(folders: Folders) -> float | None:
    """Joules that the machine used in all passes until a few seconds ago; None if it has no energy counters."""
    return float(joules) if folders.clock.exists() and (joules := _read(folders)["joules"]) else None


def _read(folders: Folders) -> dict[str, Any]:
    """Seconds of earlier passes, joules of all passes, and the start of the current pass (0 between passes).

    A clock that an earlier version wrote has no energy: its joules stay None. Raises HarnessError for a broken one.
    """
    if not folders.clock.exists():
        return {"earlier_seconds": 0.0, "started": 0.0, "joules": 0.0}
    clock = read_json(folders.clock)
    try:
        seconds = {name: float(clock[name]) for name in ("earlier_seconds", "started")}
        joules = clock.get("joules")
        return {**seconds, "joules": None if joules is None else float(joules)}
    except (KeyError, TypeError, ValueError):
        raise HarnessError(f"{folders.clock}: a field is missing or is no number. Delete the file") from None
