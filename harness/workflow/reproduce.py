"""`harness reproduce`: one run of the workflow, watched, and recovered from whatever ended the last one."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.files import file_sha256, read_json
from harness.plan import stages
from harness.share.untrusted import check_name
from harness.spec import Spec
from harness.spec.load import read_yaml
from harness.training.store import RECORD, SNAPSHOTS, Store
from harness.workflow.context import Folders
from harness.workflow.progress import heartbeat_path
from harness.workflow.rules import Rules, stage_digest

HASHED_UP_TO = 16 * 2**20  # bytes; larger artefacts are hashed when they are read


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


def forget_broken(spec: Spec, folders: Folders) -> list[str]:
    """Delete the records of stages whose settings changed or whose artefacts are missing or altered.

    The workflow then runs them again; what they had finished is found in the store. Returns a line for each.
    """
    store = Store(folders.runs)
    forgotten = []
    names = {f"prepare/{setting.data}": "" for setting in spec.scale.experiments.values()}
    names |= {stage.name: stage_digest(spec, folders, stage) for stage in stages(spec)}
    for name, expected in names.items():
        path = folders.stage(name)
        if not path.exists():
            continue
        reason = _broken(path, expected, name, folders, store)
        if reason:
            forgotten.append(f"{name}: {reason}")
            path.unlink()
    return forgotten


def _broken(path: Path, expected: str, name: str, folders: Folders, store: Store) -> str:
    """Why a stage's record can't be relied on, or ""."""
    try:
        record = read_json(path)
        outputs = record["outputs"].items()
        for output, _ in outputs:  # of a shared run the record is somebody else's, and names what is looked for
            check_name(folders.runs, output)
        if expected and record["digest"] != expected:
            return "its settings, its code or the selection changed"
    except (HarnessError, KeyError, TypeError, AttributeError):
        return "its record is broken"
    for output, checksum in outputs:
        if name.startswith("prepare/"):
            facts = folders.data(name.removeprefix("prepare/"))
            if not facts.exists() or file_sha256(facts) != checksum:
                return f"{facts} is missing or altered"
            file, checksum = facts.with_suffix(".safetensors"), read_json(facts)["sha256"]
        elif name.endswith("/tickets"):
            file = folders.base / output
        elif name.endswith("-stability"):
            file = path.parent / output
        else:
            file = store.tensors_path(output)
            if not _record_holds(store, output, checksum):
                file = store.record_path(output)
        if not file.exists() or file.suffix == RECORD or _altered(file, checksum):
            # without its record the store does not hold this run any more, and trains it anew
            store.record_path(output.removesuffix(SNAPSHOTS)).unlink(missing_ok=True)
            return f"{file} is missing or altered"
    return ""


def _altered(file: Path, checksum: str) -> bool:
    return file.stat().st_size <= HASHED_UP_TO and file_sha256(file) != checksum


def _record_holds(store: Store, run: str, checksum: str) -> bool:
    """Whether a run's record can be read and names these tensors."""
    try:
        return bool(store.read(run)["sha256"] == checksum)
    except HarnessError:
        return False


def clear_heartbeats(spec: Spec, folders: Folders) -> None:
    """Forget the progress of an earlier run, so that the live view shows this one."""
    for stage in stages(spec):
        heartbeat_path(folders.progress, stage.name).unlink(missing_ok=True)


def start_workflow(root: Path, rules: Rules, cores: int, log: Path, profile: str = "") -> subprocess.Popen[bytes]:
    """Start snakemake in its own process group, its output in `log`.

    `profile` (or HARNESS_PROFILE) is a folder with a config.yaml of the workflow engine, or the name of one in
    envs/profiles/. What it sets is left to it. Raises HarnessError for a profile that isn't there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--nocolor"]
    command += _engine_options(root, profile or os.environ.get("HARNESS_PROFILE", ""), cores)
    command += ["--config", f"paper={rules.paper}", f"scale={rules.scale}", f"results={rules.results}"]
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
    gpus = [one for one in os.environ.get("HARNESS_GPUS", "").split(",") if one]
    shared = ["--resources", f"gpu={len(gpus)}"] if gpus else []
    if not profile:
        return ["--cores", str(cores), "--rerun-incomplete", "--keep-going", "--scheduler", "greedy", *shared]
    folder = next((one for one in (root / "envs" / "profiles" / profile, Path(profile)) if one.is_dir()), None)
    if folder is None or not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in (root / "envs" / "profiles").glob("*/config.yaml")))
        raise HarnessError(f"--profile {profile}: no folder with a config.yaml; give one, or one of {known}")
    settings = read_yaml(folder / "config.yaml") or {}
    own = [] if "cores" not in settings else ["--cores", str(cores)]  # a queue counts jobs, this machine its cores
    return ["--workflow-profile", str(folder), *own, *([] if "resources" in settings else shared)]


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
    """The last line of each stage log that ends in an error and was written since a time."""
    found = []
    for path in sorted(folders.logs.rglob("*.log")):
        if path.name == "workflow.log" or path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines and lines[-1].startswith("error: "):
            found.append(lines[-1].removeprefix("error: "))
        elif any(line.startswith("Traceback") for line in lines):
            found.append(f"{lines[-1]} (a bug: the traceback is in {path})")
    return found
