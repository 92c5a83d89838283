"""What `harness stage` does: one stage by name, timed and recorded. The workflow's rules call nothing else."""

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

import psutil

from harness.digest import PACKAGE
from harness.errors import HarnessError
from harness.files import file_sha256, write_json
from harness.paths import checkout
from harness.plan import find_stage, parents, stacks
from harness.spec import Spec
from harness.workflow.context import Context, Folders
from harness.workflow.image import place


def run_stage(spec: Spec, folders: Folders, name: str, threads: int, expected: str = "") -> None:
    """Run one stage: prepare/<data set>, collect, claims, report, card, or one of `harness.plan.stages`.

    `expected` is the digest with which the workflow was made, for stages that train, compare or pack. Raises
    HarnessError if code or settings here have another one.
    """
    if name == "card":
        from harness.share.card import card_stage

        card_stage(spec, folders)
        return
    if name in ("collect", "claims", "report"):
        from harness.workflow import judging  # needs pandas, which costs every training job a third of a second

        {"collect": judging.collect_stage, "claims": judging.claims_stage, "report": judging.report_stage}[name](
            spec, folders
        )
        return
    started = time.time()
    facts = (
        _prepare(folders, name, threads)
        if name.startswith("prepare/")
        else _experiment_stage(spec, folders, name, threads, expected)
    )
    finished = time.time()
    record = {
        "stage": name,
        **facts,
        **made_with(),
        "started": started,
        "finished": finished,
        "seconds": finished - started,
        "threads": threads,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    write_json(folders.stage(name), record)


def made_with() -> dict[str, Any]:
    """What can differ between machines and days: code revision, packages, processor, container image."""
    from harness.workflow.environment import environment

    facts = environment()
    return {key: facts[key] for key in ("code_revision", "tree_clean", "packages", "hardware", "image")}


def _prepare(folders: Folders, name: str, threads: int) -> dict[str, Any]:
    """Make a data set. Returns the facts for the stage's record."""
    from harness import data
    from harness.training.loop import use_threads

    use_threads(threads)  # ImageNet is converted on so many
    set_name = name.removeprefix("prepare/")
    data.prepare(set_name, folders.data(set_name))
    outputs = {"data": file_sha256(folders.data(set_name))}
    nothing = {"training_seconds": 0.0, "steps": 0, "experiment": "", "digest": "", "inputs": {}}
    return {"kind": "prepare", "outputs": outputs, **nothing}


def _experiment_stage(spec: Spec, folders: Folders, name: str, threads: int, expected: str) -> dict[str, Any]:
    """Train, compare or pack. Returns the facts for the stage's record: what it read, what it wrote, by checksum."""
    from harness.training.loop import Stopped
    from harness.training.store import SNAPSHOTS
    from harness.workflow.compare import compare_stage
    from harness.workflow.progress import Heartbeat, heartbeat_path
    from harness.workflow.rules import stage_digest
    from harness.workflow.train import train_stage

    stage = find_stage(spec, name)
    context = Context(spec, folders, stage.experiment)
    facts: dict[str, Any] = {
        "kind": stage.kind,
        "experiment": stage.experiment,
        "digest": stage_digest(spec, folders, stage),
        "inputs": {parent.name: file_sha256(folders.stage(parent.name)) for parent in parents(spec, stage)},
    }
    if not facts["digest"].startswith(expected):
        raise HarnessError(
            f"{name}: the code in {PACKAGE} or the settings in {checkout()} are not those of the checkout that started "
            f"the workflow (digest {facts['digest'][: len(expected)]}, not {expected}). Build the image, or install "
            "the package, from that checkout"
        )
    if stage.kind == "stability":
        compared = compare_stage(context, stage, threads)
        written = (folders.pairs(name), folders.curves(name))
        outputs = {path.name: file_sha256(path) for path in written}
        return {**facts, "training_seconds": 0.0, "steps": 0, **compared, "outputs": outputs}
    if stage.kind == "tickets":
        from harness.share.tickets import tickets_stage

        return {**facts, "training_seconds": 0.0, "steps": 0, "outputs": tickets_stage(context, stage)}
    networks = sum(len(stack) for stack in stacks(spec, stage))
    heartbeat = Heartbeat(heartbeat_path(folders.progress, name), name, networks)
    try:
        done = train_stage(context, stage, threads, heartbeat)
    except Stopped as stopped:
        print(f"stopped by SIGTERM after step {stopped}; the state is kept and the next run goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    stored = done.pop("runs")
    if stage.kind == "dense":
        stored += [f"{run}{SNAPSHOTS}" for run in stored if context.store.read(run)["status"] == "ok"]
    return {**facts, **done, "outputs": {name: context.store.read(name)["sha256"] for name in stored}}


def end_with_parent() -> None:
    """End this process when the workflow engine that started it is gone (kill -9 leaves its jobs running)."""
    pid, _, host = os.environ.get("HARNESS_PARENT", "").partition("@")
    if not pid or host != place():
        return
    try:
        parent = psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        os._exit(70)

    def watch() -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                if parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.5)
                    continue
            os._exit(70)

    threading.Thread(target=watch, daemon=True).start()
