"""Commands killed at seeded moments: what runs in a folder, and what a kill meets of it."""

import contextlib
import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Kill:
    """A signal, and whom it meets: the `run` itself, its `group`, or the jobs whose command starts with this word."""

    target: str
    number: signal.Signals

    def processes(self, process: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
        """The processes that the kill meets; the command itself while it has no such process."""
        run, jobs = psutil.Process(process.pid), jobs_of(folder)
        if self.target == "run":
            return [run]
        met = jobs if self.target == "group" else [job for job in jobs if self.target in words(job)[1:4]]
        return met or [run]


def kills(number: int, draw: random.Random, *targets: str) -> list[Kill]:
    """This many kills in random order, all targets and signals about as often."""
    kinds = [Kill(*kind) for kind in itertools.product(targets, SIGNALS)]
    return [kill for _ in range(-(-number // len(kinds))) for kill in draw.sample(kinds, len(kinds))][:number]


def strike(process: subprocess.Popen[str], folder: Path, kill: Kill, moment: float) -> tuple[bool, str, str]:
    """Kill a command that works in a folder after `moment` seconds, and wait until nothing works there.

    Returns whether it was still running then, and what it printed. Fails if it printed a traceback.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        out, err = process.communicate(timeout=moment)
        return False, out, err
    for met in kill.processes(process, folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            met.send_signal(kill.number)
    out, err = process.communicate(timeout=400)
    assert "Traceback" not in out + err, (kill, out, err)
    wait_for(lambda: not jobs_of(folder), 30)  # no orphan goes on writing
    return True, out, err


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def jobs_of(folder: Path) -> list[psutil.Process]:
    """What works in a folder, this process's own child included."""
    jobs = psutil.process_iter(["cwd", "status"])
    return [job for job in jobs if job.info["cwd"] == str(folder) and job.info["status"] != psutil.STATUS_ZOMBIE]


def words(job: psutil.Process) -> list[str]:
    """A process's command line, empty if it has ended."""
    with contextlib.suppress(psutil.Error):
        return job.cmdline()
    return []
