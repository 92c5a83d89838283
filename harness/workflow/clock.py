"""Wall clock and energy of a run over all passes of `harness reproduce`: what happens between passes does not count."""

import time
from typing import Any

from harness.files import read_json, write_json
from harness.workflow.context import Folders
from harness.workflow.energy import Meter
from harness.workflow.progress import read_heartbeats

_meters: dict[Folders, Meter] = {}  # of the passes that this process runs


def start_clock(folders: Folders) -> None:
    """Begin a pass. An earlier pass that was killed counts until its last heartbeat, its energy as last told."""
    clock = _read(folders)
    earlier, started = clock["earlier_seconds"], clock["started"]
    if started:
        last = max((beat.get("time", 0.0) for beat in read_heartbeats(folders.progress)), default=0.0)
        earlier += max(0.0, last - started)
    now = {"earlier_seconds": earlier, "started": time.time()}
    _meters[folders] = Meter(clock["joules"], lambda joules: write_json(folders.clock, {**now, "joules": joules}))


def stop_clock(folders: Folders) -> None:
    """End a pass. A pass that found nothing to do adds its seconds too: they were spent."""
    meter = _meters.pop(folders, None)
    clock = {"earlier_seconds": wall_clock_seconds(folders), "started": 0.0, "joules": meter.end() if meter else None}
    write_json(folders.clock, clock)


def wall_clock_seconds(folders: Folders) -> float:
    """Seconds of all passes so far; 0 when the workflow was only ever started without `harness reproduce`."""
    clock = _read(folders)
    return float(clock["earlier_seconds"]) + (time.time() - clock["started"] if clock["started"] else 0.0)


def energy_joules(folders: Folders) -> float | None:
    """Joules that the machine used in all passes so far, up to some seconds ago; None where it does not tell."""
    return float(joules) if folders.clock.exists() and (joules := _read(folders)["joules"]) else None


def _read(folders: Folders) -> dict[str, Any]:
    """Seconds and joules of earlier passes, the joules of the present one too, and when that began (0 between passes).

    A clock of an earlier version knows no energy, nor does what is added to it.
    """
    if not folders.clock.exists():
        return {"earlier_seconds": 0.0, "started": 0.0, "joules": 0.0}
    return {"joules": None, **read_json(folders.clock)}
