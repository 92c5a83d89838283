"""`harness reproduce`: one run of the workflow, watched, and recovered from whatever ended the last one."""

import contextlib
import ctypes
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.plan import stages
from harness.spec import Spec
from harness.spec.load import read_yaml
from harness.workflow.context import Folders
from harness.workflow.devices import shared_gpus
from harness.workflow.image import place
from harness.workflow.progress import heartbeat_path
from harness.workflow.rules import Rules
from harness.workflow.stages import end_with_parent


@contextlib.contextmanager
def only_run(root: Path, base: Path) -> Iterator[None]:
    """Hold the checkout's lock, and clear one that a killed workflow left. Raises HarnessError if a run is active."""
    engine = (root / ".snakemake").resolve()  # an image has a link there, into the folder of results
    for folder in (engine, base):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"{folder}: can't be made ({error.strerror}); give another folder with --results"
            ) from None
    with (engine / "harness.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise HarnessError(f"another run is active here (process {owner}): wait for it, or stop it") from None
        except OSError as error:  # such as NFS without locks
            raise HarnessError(
                f"{engine}: can't be locked ({error.strerror}). Put the checkout on a file system with locks"
            ) from None
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if process.info["cwd"] == str(root) and _is_snakemake(process.info["cmdline"] or []):
                raise HarnessError(f"another snakemake is active here (process {process.pid}): wait for it, or stop it")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        shutil.rmtree(engine / "locks", ignore_errors=True)
        for half_written in base.rglob(".*.part"):
            half_written.unlink(missing_ok=True)
        yield


def _is_snakemake(command: list[str]) -> bool:
    """Whether a command line is `python -m snakemake ...` or `python .../bin/snakemake ...`."""
    return any(Path(word).name == "snakemake" for word in command[:3])


def end_with_dvc() -> None:
    """As a stage of `dvc repro`, end this process when that is gone: a killed one would leave a run that goes on."""
    if "DVC_STAGE" not in os.environ:
        return
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                os.environ["HARNESS_PARENT"] = f"{process.pid}@{place()}"
                end_with_parent()
                return


def clear_heartbeats(spec: Spec, folders: Folders) -> None:
    """Forget the progress of an earlier run, so that the live view shows this one."""
    for stage in stages(spec):
        heartbeat_path(folders.progress, stage.name).unlink(missing_ok=True)


def start_workflow(
    root: Path, rules: Rules, cores: int, log: Path, until: str = "report", profile: str = ""
) -> subprocess.Popen[bytes]:
    """Start snakemake in its own process group, its output in `log`.

    `profile` is a folder with a config.yaml of the workflow engine, or the name of one in
    envs/profiles/. What it sets is left to it. Raises HarnessError for a profile that isn't there.
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
    folder = next((one for one in (root / "envs" / "profiles" / profile, Path(profile)) if one.is_dir()), None)
    if folder is None or not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in (root / "envs" / "profiles").glob("*/config.yaml")))
        raise HarnessError(f"--profile {profile}: no folder with a config.yaml; give one, or one of {known}")
    settings = read_yaml(folder / "config.yaml") or {}
    if settings.get("executor") == "kubernetes":
        raise HarnessError(
            f"--profile {profile}: pods write to S3, which this command can't watch. The README's section "
            '"Containers and clusters" has the line to run'
        )
    if "cores" not in settings:  # a queue counts jobs and has GPUs of its own
        return ["--workflow-profile", str(folder)]
    return ["--workflow-profile", str(folder), "--cores", str(cores), *([] if "resources" in settings else shared)]


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends, however it ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def stop_workflow(process: subprocess.Popen[bytes]) -> None:
    """End the workflow and its jobs; finished stages and kept states stay."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def failures(folders: Folders, since: float) -> list[str]:
    """The last line of each stage log that ends in an error and was written since a time; why the workflow refused."""
    found = []
    for path in sorted(folders.logs.rglob("*.log")):
        if path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if path.name == "workflow.log":
            found += [why for line, why in itertools.pairwise(lines) if line.startswith("HarnessError in file")]
        elif lines and lines[-1].startswith("error: "):
            found.append(lines[-1].removeprefix("error: "))
        elif any(line.startswith("Traceback") for line in lines):
            found.append(f"{lines[-1]} (a bug: the traceback is in {path})")
    return found
