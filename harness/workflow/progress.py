"""Heartbeats: each training stage writes how far it is, a small file that whoever watches can read."""

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import write_json

EVERY_SECONDS = 1.0


@dataclass
class Heartbeat:
    """The progress of one stage: networks done of all, network steps of this process, what trains now."""

    path: Path
    stage: str
    networks: int
    done: int = 0
    steps: int = 0
    found_steps: int = 0  # of networks, or parts of one, that an earlier process trained
    running: str = ""
    accuracy: float | None = None
    started: float = field(default_factory=time.time)
    _written: float = 0.0

    def beat(self, now: bool = False) -> None:
        """Write the file, at most once in EVERY_SECONDS unless `now`."""
        if not now and time.time() - self._written < EVERY_SECONDS:
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


def heartbeat_path(folder: Path, stage: str) -> Path:
    """The heartbeat file of a stage."""
    return folder / f"{stage.replace('/', '.')}.json"


def read_heartbeats(folder: Path) -> list[dict[str, Any]]:
    """All heartbeats there are; a file that is being replaced or is broken is passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            beat = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(beat, dict):
                found.append(beat)
    return found
