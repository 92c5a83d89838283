"""Runs one stage by name, timed and recorded: `harness stage`, the only command that the workflow's rules call."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import psutil

from harness.base.devices import check_device, has_device, take_device
from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_json
from harness.base.paths import checkout
from harness.base.processes import cpu_seconds, end_with, start_server
from harness.base.variables import variables
from harness.paper import Spec
from harness.plan.kinds import kind_of
from harness.plan.runs import parents
from harness.results.code import PACKAGE
from harness.results.context import Work
from harness.results.environment import made_with, place
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.training.device import choose
from harness.workflow.locks import working


def prepare_process(spec: Spec, name: str) -> None:
    """Lock a GPU for a stage that computes on one. Call it before CUDA starts."""
    choose(spec)
    if kind_of(name).on_device:
        take_device()
        check_device()


def run_stage(spec: Spec, folders: Folders, name: str, threads: int, expected: str = "") -> None:
    """Run one stage of the plan or of the whole run, and write its record if its kind has one.

    `expected` is the stage's digest where the workflow was started, or its first digits. Raises HarnessError if the
    digest of the code and settings here differs.
    """
    kind, work, digest = kind_of(name), Work(spec, folders, name, threads), stage_digest(spec, folders, name)
    if not digest.startswith(expected):
        raise HarnessError(
            f"{name}: the code in {PACKAGE} or the settings in {checkout()} are not those of the checkout that started "
            f"the workflow (digest {digest[: len(expected)]}, not {expected}). Build the image, or install the "
            "package, from that checkout"
        )
    module, _, function = kind.compute.partition(":")
    if kind.on_device and threads > 1 and not has_device():
        start_server([module])  # it imports while this process does
    planned = not kind.whole and kind.name != "prepare"
    before = parents(spec, work.stage) if planned else []
    with working(folders):
        try:
            inputs = {parent.name: file_sha256(folders.stage(parent.name)) for parent in before}
        except FileNotFoundError as error:
            raise HarnessError(f"{error.filename}: was removed. Run `harness reproduce` to make it again") from None
        with _processor_time(folders.progress / f"{name.replace('/', '.')}.cpu", digest) as spent:
            started, began = time.time(), time.monotonic()  # the clock may be set while the stage runs
            compute = getattr(import_module(module), function)  # imported here: a stage loads only its own packages
            outcome = compute(work)
            seconds = time.monotonic() - began
        if kind.whole:
            return
        record = {
            "stage": name,
            "kind": kind.name,
            "experiment": work.stage.experiment if planned else "",
            "digest": digest,
            "inputs": inputs,
            **outcome,
            **made_with(),
            "started": started,
            "finished": started + seconds,
            "seconds": seconds,
            "cpu_seconds": spent(),
            "threads": threads,
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        write_json(folders.stage(name), record)


@contextmanager
def _processor_time(path: Path, digest: str) -> Iterator[Callable[[], float]]:
    """Yields a function for the seconds of processor time of a stage so far, those of its stopped passes included.

    A pass that an error or SIGTERM stops leaves its sum at `path`, for the next with this digest of code and settings;
    of a killed one nothing is known.
    """
    began, earlier = cpu_seconds(), _earlier_seconds(path, digest)

    def spent() -> float:
        return earlier + cpu_seconds() - began

    try:
        yield spent
    except BaseException:
        with suppress(HarnessError):  # what stopped the stage says more than a full disk
            write_json(path, {"digest": digest, "cpu_seconds": spent()})
        raise
    path.unlink(missing_ok=True)


def _earlier_seconds(path: Path, digest: str) -> float:
    try:
        left = read_json(path)
        return max(0.0, float(left["cpu_seconds"])) if left["digest"] == digest else 0.0
    except (HarnessError, KeyError, TypeError, ValueError):
        return 0.0


def end_with_parent() -> None:
    """End this process when the workflow engine that started it ends (kill -9 leaves its jobs running)."""
    pid, _, host = variables().parent.partition("@")
    if not pid or host != place():
        return
    try:
        end_with(psutil.Process(int(pid)))
    except psutil.NoSuchProcess:
        os._exit(70)
