"""Wall clock of a run over all passes of `harness reproduce`: the time between passes does not count."""

import time

from harness.files import read_json, write_json
from harness.workflow.context import Folders
from harness.workflow.progress import read_heartbeats


def start_clock(folders: Folders) -> None:
    """Begin a pass. An earlier pass that was killed counts until its last heartbeat."""
    earlier, started = _read(folders)
    if started:
        last = max((beat.get("time", 0.0) for beat in read_heartbeats(folders.progress)), default=0.0)
        earlier += max(0.0, last - started)
    write_json(folders.clock, {"earlier_seconds": earlier, "started": time.time()})


def stop_clock(folders: Folders) -> None:
    """End a pass. A pass that found nothing to do adds its seconds too: they were spent."""
    write_json(folders.clock, {"earlier_seconds": wall_clock_seconds(folders), "started": 0.0})


def wall_clock_seconds(folders: Folders) -> float:
    """Seconds of all passes so far; 0 when the workflow was only ever started without `harness reproduce`."""
    earlier, started = _read(folders)
    return earlier + (time.time() - started if started else 0.0)


def _read(folders: Folders) -> tuple[float, float]:
    """Seconds of earlier passes, and when the present one began (0 between passes)."""
    if not folders.clock.exists():
        return 0.0, 0.0
    clock = read_json(folders.clock)
    return float(clock["earlier_seconds"]), float(clock["started"])
