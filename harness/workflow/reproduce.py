"""`harness reproduce`: runs the workflow, shows its progress, and recovers from an interrupted run."""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from harness.base.errors import HarnessError
from harness.base.yaml_text import read_yaml
from harness.data import require
from harness.estimate.show import Plan, chosen
from harness.estimate.timing import costs
from harness.paper import Spec
from harness.plan.kinds import prepares
from harness.plan.runs import stages
from harness.report.summary import verdicts_of
from harness.results.clock import start_clock, stop_clock
from harness.results.environment import place
from harness.results.fit import forget_broken, other_versions
from harness.results.folders import Folders
from harness.results.heartbeats import heartbeat_path
from harness.results.open import folders_of, load_scale
from harness.results.selection import as_selected, write_selection
from harness.workflow.adopt import adopt, is_new, remember
from harness.workflow.devices import shared_gpus
from harness.workflow.live import Watcher, finished_line, watch
from harness.workflow.rules import UNTIL, Rules
from harness.workflow.run_stage import end_with_parent

LOCK = ".harness.lock"  # in a run's folder, held by the run that writes there


@dataclass(frozen=True)
class Request:
    """The options of `harness reproduce`.

    `results` is the results folder, relative to the checkout if it is inside it. Without `claims` and `budget` the
    whole scale runs.
    """

    paper: str
    scale: str
    results: Path
    cores: int
    claims: str = ""
    budget: str = ""
    every_replicate: bool = False
    until: str = "report"
    profile: str = ""
    adopts: bool = False  # adopt the finished results in the run's folder, from whatever source


def reproduce(root: Path, request: Request, console: Console) -> None:
    """Run a scale, or the part that the chosen claims need, and show the verdicts.

    Raises HarnessError for invalid options, and if the run is stopped or does not finish.
    """
    end_with_dvc()
    if request.until not in UNTIL:
        raise HarnessError(f"--until: {request.until!r}: unknown; choose one of {', '.join(UNTIL)}")
    whole = load_scale(root, request.paper, request.scale)
    folders = folders_of(root, request.results, request.paper, request.scale)
    selection = chosen(Plan(whole, folders), request.claims, request.budget, console)
    spec = as_selected(whole, selection, request.every_replicate)
    for setting in spec.scale.experiments.values():
        if not folders.stage(prepares(setting.data)).exists():
            require(setting.data)  # refuses an unavailable data set before anything runs
    rules = Rules(request.paper, request.scale, str(request.results))
    with only_run(root, folders.base):
        write_selection(folders, selection, request.budget, request.every_replicate)
        _settle(root, spec, folders, rules, console, request.adopts)
        _run(root, request, spec, folders, rules, console)
        if request.until != "report":
            console.print(f"{folders.base}: {request.until} done")
            return
        write_selection(folders, selection, request.budget, request.every_replicate, finished=True)
        remember(root, folders)
    console.print(verdicts_of(folders))
    console.print(f"{finished_line(folders)}. Page: {folders.report / 'index.html'}")


def _settle(root: Path, spec: Spec, folders: Folders, rules: Rules, console: Console, adopts: bool) -> None:
    """Keep the earlier results that are still valid, and print what runs again."""
    if adopts or is_new(root, folders):
        fit, total = adopt(root, spec, folders, rules)
        console.print(f"{folders.base}: finished results; {fit} of {total} stages fit and stay as they are")
    for reason in forget_broken(spec, folders):
        console.print(f"running again {escape(reason)}")
    others = other_versions(spec, folders)
    if others:
        console.print(
            f"{folders.base}: networks were computed with {escape(', '.join(others))}, not the versions "
            "installed here; they are kept. To train them again use `harness check`",
            soft_wrap=True,
        )


def _run(root: Path, request: Request, spec: Spec, folders: Folders, rules: Rules, console: Console) -> None:
    """Run the workflow and watch it. Raises HarnessError if it is stopped or fails."""
    start_clock(folders)
    clear_heartbeats(spec, folders)
    cost = {estimate.experiment: estimate.step_seconds for estimate in costs(spec, at_most=0.5)}
    watcher = Watcher(spec, folders, cost, request.cores)
    began, log = time.time(), folders.logs / "workflow.log"
    console.print(f"{escape(spec.paper.title)}: scale {request.scale}, {request.cores} cores. Log: {log}")
    process = start_workflow(root, rules, request.cores, log, request.until, request.profile)
    try:
        status = watch(process, watcher, console)
    except KeyboardInterrupt:
        stop_workflow(process)
        raise HarnessError("stopped; finished work is kept: run the same command again to resume") from None
    finally:
        stop_clock(folders)
    if status:
        for reason in failures(folders, began):
            Console(stderr=True, highlight=False).print(f"error: {escape(reason)}", soft_wrap=True)
        raise HarnessError(f"the run did not finish; details in {log}")


@contextlib.contextmanager
def only_run(root: Path, base: Path) -> Iterator[None]:
    """Hold the locks of a checkout and of a run's folder `base`, and remove what a killed workflow left in both.

    Raises HarnessError if a run is active in either: other checkouts may write to the same folder.
    """
    engine = (root / ".snakemake").resolve()  # in an image this is a link into the results folder
    for folder in (engine, base):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"{folder}: can't be created ({error.strerror}); give another folder with --results"
            ) from None
    with _locked(engine / "harness.lock"), _locked(base / LOCK):
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if process.info["cwd"] == str(root) and _is_snakemake(process.info["cmdline"] or []):
                raise HarnessError(f"another snakemake is active here (process {process.pid}): wait for it, or stop it")
        shutil.rmtree(engine / "locks", ignore_errors=True)
        for half_written in base.rglob(".*.part"):
            half_written.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock whose file names this process. The kernel releases it however the process ends."""
    lock = FileLock(path, blocking=False, fallback_to_soft=False)  # a soft lock would outlive a killed process
    try:
        lock.acquire()
        path.write_text(str(os.getpid()), encoding="utf-8")
    except Timeout:
        owner = path.read_text(encoding="utf-8").strip() or "unknown"
        raise HarnessError(
            f"another run is active here (process {owner} in {path.parent}): wait for it, or stop it"
        ) from None
    except OSError as error:  # such as NFS without locks
        raise HarnessError(
            f"{path}: can't be locked ({error.strerror}). Put this folder on a file system with locks"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _is_snakemake(command: list[str]) -> bool:
    """Whether a command line is `python -m snakemake ...` or `python .../bin/snakemake ...`."""
    return any(Path(word).name == "snakemake" for word in command[:3])


def end_with_dvc() -> None:
    """As a stage of `dvc repro`, end this process when DVC ends: otherwise killing DVC would leave the run going."""
    if "DVC_STAGE" not in os.environ:
        return
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                os.environ["HARNESS_PARENT"] = f"{process.pid}@{place()}"
                end_with_parent()
                return


def clear_heartbeats(spec: Spec, folders: Folders) -> None:
    """Delete the heartbeats of an earlier run, so that the live view shows only this run."""
    for stage in stages(spec):
        heartbeat_path(folders.progress, stage.name).unlink(missing_ok=True)


def start_workflow(
    root: Path, rules: Rules, cores: int, log: Path, until: str = "report", profile: str = ""
) -> subprocess.Popen[bytes]:
    """Start snakemake in its own process group, its output in `log`.

    `profile` is a folder with a config.yaml of the workflow engine, or the name of one in envs/profiles/. Its settings
    take precedence. Raises HarnessError for a missing profile.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--nocolor"]
    command += _engine_options(root, profile, cores)
    settings = {"paper": rules.paper, "scale": rules.scale, "results": rules.results, "until": until}
    command += ["--config", *(f"{name}={value}" for name, value in settings.items())]
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=root,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _engine_options(root: Path, profile: str, cores: int) -> list[str]:
    """The workflow engine's options: those of a run on this machine, or of a profile."""
    gpus = shared_gpus()
    shared = ["--resources", f"gpu={len(gpus)}"] if gpus else []
    if not profile:
        return ["--cores", str(cores), "--rerun-incomplete", "--keep-going", "--scheduler", "greedy", *shared]
    folder = next((path for path in (root / "envs" / "profiles" / profile, Path(profile)) if path.is_dir()), None)
    if folder is None or not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in (root / "envs" / "profiles").glob("*/config.yaml")))
        raise HarnessError(
            f"--profile {profile}: not a folder with a config.yaml; give such a folder, or one of {known}"
        )
    settings = read_yaml(folder / "config.yaml") or {}
    if settings.get("executor") == "kubernetes":
        raise HarnessError(
            f"--profile {profile}: pods write to S3, which this command can't watch. The README's section "
            '"Containers and clusters" has the line to run'
        )
    if "cores" not in settings:  # a queue limits jobs and assigns GPUs itself
        return ["--workflow-profile", str(folder)]
    return ["--workflow-profile", str(folder), "--cores", str(cores), *([] if "resources" in settings else shared)]


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, for whatever reason (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def stop_workflow(process: subprocess.Popen[bytes]) -> None:
    """End the workflow and its jobs; finished stages and checkpoints are kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def failures(folders: Folders, since: float) -> list[str]:
    """The errors in logs written since `since`: each failed stage's last line, and why the workflow did not start."""
    reasons = []
    for path in sorted(folders.logs.rglob("*.log")):
        if path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if path.name == "workflow.log":
            reasons += [why for line, why in itertools.pairwise(lines) if line.startswith("HarnessError in file")]
        elif lines and lines[-1].startswith("error: "):
            reasons.append(lines[-1].removeprefix("error: "))
        elif any(line.startswith("Traceback") for line in lines):
            reasons.append(f"{lines[-1]} (a bug: the traceback is in {path})")
    return reasons
