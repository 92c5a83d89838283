"""Processes that share a job's work: each is set up once, does one task after another, and ends with the job."""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any

import psutil

from harness.base.errors import HarnessError

POLL_SECONDS = 0.5
#: of a process that copies itself: a copy has the imports already
_CONTEXT = multiprocessing.get_context("forkserver")
_state: Any = None  # of a worker: what its set-up returned
_workers_seconds = 0.0  # processor time of the workers of crews that have ended


def start_server(modules: Sequence[str]) -> None:
    """Start the process that workers are copied from; it imports the modules while this process goes on."""
    _CONTEXT.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def end_with(process: psutil.Process) -> None:
    """End this process when another ends."""

    def watch() -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(POLL_SECONDS)
                    continue
            os._exit(70)

    threading.Thread(target=watch, daemon=True).start()


def cpu_seconds() -> float:
    """Processor time of this process and of the workers of its ended crews, in seconds.

    Workers are children of the server, so the system counts none of their time as this process's. A worker that was
    killed has no time; the server's imports count for nobody.
    """
    return time.process_time() + _workers_seconds


class Crew:
    """Worker processes. A task is a function of what the set-up returned and of the task's own arguments."""

    def __init__(self, pool: ProcessPoolExecutor):
        self._pool = pool

    def start(self, task: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Put a task into the queue."""
        return self._pool.submit(_do, task, *arguments)

    def cpu_seconds(self) -> float:
        """Processor time of the workers that still run."""
        total = 0.0
        for process in multiprocessing.active_children():
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(process.pid).cpu_times()
                total += times.user + times.system
        return total

    def stop(self) -> None:
        """Send SIGTERM to every worker."""
        for process in multiprocessing.active_children():
            process.terminate()


@contextmanager
def crew(workers: int, set_up: Callable[..., Any], *arguments: Any) -> Iterator[Crew]:
    """A crew of processes that call `set_up` with the arguments first.

    An error inside the block stops them. Raises HarnessError if one of them was killed.
    """
    global _workers_seconds
    pool = ProcessPoolExecutor(workers, _CONTEXT, initializer=_begin, initargs=(os.getpid(), set_up, arguments))
    made = Crew(pool)
    try:
        yield made
    except BrokenProcessPool:
        made.stop()
        raise HarnessError(
            "a process that shares this job's work ended, perhaps for lack of memory. Run again: finished work is "
            "kept; --cores 1 needs the least memory"
        ) from None
    except BaseException:
        made.stop()
        raise
    finally:
        _workers_seconds += made.cpu_seconds()
        pool.shutdown(cancel_futures=True)


def finished(futures: "dict[Future[Any], Any]") -> "set[Future[Any]]":
    """Wait until some of the tasks have ended, or for a moment; returns those that have."""
    return wait(futures, POLL_SECONDS, FIRST_COMPLETED).done


def _begin(job: int, set_up: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _state
    try:
        end_with(psutil.Process(job))
    except psutil.NoSuchProcess:
        os._exit(70)
    _state = set_up(*arguments)


def _do(task: Callable[..., Any], *arguments: Any) -> Any:
    return task(_state, *arguments)
