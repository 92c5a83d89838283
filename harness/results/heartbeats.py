"""Heartbeats: each training stage writes its progress to a small file, for the live view."""

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.base.files import write_json

EVERY_SECONDS = 1.0
#: field of a heartbeat -> its type in JSON
FORM: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("stage", "running"), (str,)),
    **dict.fromkeys(("networks", "done", "steps", "found_steps"), (int,)),
    **dict.fromkeys(("started", "time"), (int, float)),
    "accuracy": (int, float, type(None)),
}


@dataclass
class Heartbeat:
    """The progress of one stage: networks in all and done, network steps of this process, and what it trains now."""

    path: Path
    stage: str
    networks: int
    done: int = 0
    steps: int = 0
    found_steps: int = 0  # steps that an earlier process trained, of whole networks or parts of them
    running: str = ""
    accuracy: float | None = None
    started: float = field(default_factory=time.time)
    _written: float = 0.0

    def beat(self, now: bool = False) -> None:
        """Write the file, at most once in EVERY_SECONDS unless `now`."""
        if not now and abs(time.time() - self._written) < EVERY_SECONDS:  # a clock may be set back
            return
        self._written = time.time()
        write_json(
            self.path,
            {
                "stage": self.stage,
                "networks": self.networks,
                "done": self.done,
                "steps": self.steps,
                "found_steps": self.found_steps,
                "running": self.running,
                "accuracy": self.accuracy,
                "started": self.started,
                "time": self._written,
            },
        )


def heartbeat_path(folder: Path, stage: str, part: str = "") -> Path:
    """The heartbeat file of a stage, or of a process that trains a part of it."""
    return folder / f"{'.'.join([*stage.split('/'), *filter(None, [part])])}.json"


def clear_heartbeats(folder: Path, stage: str = "") -> None:
    """Delete the heartbeats of earlier processes, of all stages or of one: the live view shows only new ones."""
    for path in folder.glob(f"{stage.replace('/', '.')}.*json" if stage else "*.json"):
        path.unlink(missing_ok=True)


def read_heartbeats(folder: Path) -> list[dict[str, Any]]:
    """All readable heartbeats; skips a file that is broken or being replaced."""
    beats = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            beat = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(beat, dict) and all(isinstance(beat.get(name), types) for name, types in FORM.items()):
                beats.append(beat)
    return beats
