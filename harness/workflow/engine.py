"""Starts the workflow engine, Snakemake: where it works, what it is told, its environment, what its log says."""

import ctypes
import getpass
import itertools
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.base.devices import shared_gpus
from harness.base.errors import HarnessError
from harness.base.files import write_json
from harness.base.paths import project_file
from harness.base.variables import variable
from harness.paper.load import read_yaml
from harness.results.folders import Folders
from harness.workflow.rules import Rules

STATE = ".snakemake"  # the engine's own folder, in the folder where it works
CONFIG = f"{STATE}/harness.json"  # a run's settings: as JSON in a file of this name, nothing parses them again
EMPTY = ("Complete log", "Shutting down", "Exiting because")  # last lines of a log that give no reason
# the engine met SIGINT, at work or before, or SIGTERM; jobs that it ended then did not fail by themselves
INTERRUPTED = re.compile(r"on user request|^KeyboardInterrupt$|^Will exit after finishing currently", re.MULTILINE)
FAILED = re.compile(r"harness stage (\S+) .*returned non-zero exit status (\d+)\.$", re.MULTILINE)
SIGNALLED = 128  # the shell adds it to the number of the signal that ended a command


def engine_folder(root: Path, base: Path) -> Path:
    """Where the engine works for the run's folder `base`: the checkout, or the results folder if that is read-only."""
    return root if _can_write((root / STATE).resolve()) else base.absolute().parent.parent


def engine_command(root: Path, rules: Rules, *arguments: str, until: str = "report") -> list[str]:
    """The command that starts snakemake in `engine_folder`, after writing the run's settings there."""
    folder = engine_folder(root, Path(rules.base))
    results = rules.results if folder == root else str((root / rules.results).absolute())
    settings = {"paper": rules.paper, "scale": rules.scale, "results": results, "until": until}
    write_json(folder / CONFIG, {**settings, "processes": dict(rules.processes)})
    return [
        *(sys.executable, "-m", "snakemake", *arguments),
        *("--snakefile", str(project_file(root, "Snakefile")), "--configfile", CONFIG, "--nocolor"),
    ]


def engine_environment(root: Path, folder: Path) -> dict[str, str]:
    """The engine's environment: with a cache that can be written and a login name, and the checkout where needed.

    The home folder may be missing or read-only, and the user may have no name, as in a container under another user id.
    """
    environment = dict(os.environ)
    if folder != root:
        environment[variable("root")] = str(root)
    try:
        home = Path("~").expanduser()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        home = folder / STATE / "home"
        environment["HOME"] = str(home)
    if not environment.get("XDG_CACHE_HOME") and not _can_write(home / ".cache"):
        environment["XDG_CACHE_HOME"] = str(folder / STATE / "cache")
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13
        environment["LOGNAME"] = f"uid-{os.getuid()}"
    return environment


def start_workflow(
    root: Path, rules: Rules, cores: int, log: Path, until: str = "report", profile: str = ""
) -> subprocess.Popen[bytes]:
    """Start snakemake in its own process group, its output in `log`.

    `profile` is a folder with a config.yaml of the workflow engine, or the name of one in envs/profiles/. Its settings
    take precedence. Raises HarnessError for a missing profile.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    folder = engine_folder(root, Path(rules.base))
    command = engine_command(root, rules, *_options(root, profile, cores), until=until)
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=engine_environment(root, folder),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def stop_workflow(process: subprocess.Popen[bytes]) -> None:
    """End the workflow and its jobs; finished stages and checkpoints are kept."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def failures(folders: Folders, since: float, status: int = 1) -> list[str]:
    """The errors in logs written since `since`: each failed stage's last line, and why the workflow did not start.

    A stage that was killed wrote none: the workflow's log has the signal. If nothing says why, what ended the workflow,
    by its exit `status`, or the last line of its log.
    """
    reasons, last = [], ""
    for path in sorted(folders.logs.rglob("*.log")):
        if path.stat().st_mtime < since:
            continue
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        lines = text.splitlines()
        if path.name == "workflow.log":
            if INTERRUPTED.search(text):
                reasons.append("the workflow engine was interrupted; finished work is kept: run again to resume")
                continue
            ended = [(name, int(code) - SIGNALLED) for name, code in FAILED.findall(text)]
            reasons += [_ended(f"stage {name}", number) for name, number in ended if number > 0]
            reasons += [why for line, why in itertools.pairwise(lines) if line.startswith("HarnessError in file")]
            last = next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith(EMPTY)), "")
        elif lines and lines[-1].startswith("error: "):
            reasons.append(lines[-1].removeprefix("error: "))
        elif any(line.startswith("Traceback") for line in lines):
            reasons.append(f"{lines[-1]} (a bug: the traceback is in {path})")
    if status < 0 and not reasons:
        return [_ended("the workflow engine", -status)]
    return reasons or [last] * bool(last)


def _ended(what: str, number: int) -> str:
    """What ended a process, by the number of a signal."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    memory = ", as the system does when memory runs out (--cores 1 takes least)" if number == signal.SIGKILL else ""
    return f"{what} was ended by {name}{memory}"


def _options(root: Path, profile: str, cores: int) -> list[str]:
    """The workflow engine's options: those of a run on this machine, or of a profile."""
    gpus = shared_gpus()
    shared = ["--resources", f"gpu={len(gpus)}"] if gpus else []
    if not profile:
        return ["--cores", str(cores), "--rerun-incomplete", "--keep-going", "--scheduler", "greedy", *shared]
    folder, settings = _profile(root, profile)
    if settings.get("executor") == "kubernetes":
        raise HarnessError(
            f"--profile {profile}: pods write to S3, which this command can't watch. docs/guides/kubernetes.md has the "
            "line to run"
        )
    chosen = ["--workflow-profile", str(folder.absolute())]
    if "cores" not in settings:  # a queue limits jobs and assigns GPUs itself
        return chosen
    return [*chosen, "--cores", str(cores), *([] if "resources" in settings else shared)]


def runs_here(root: Path, profile: str) -> bool:
    """Whether the jobs run on this machine's cores, not in a queue. Raises HarnessError, as `start_workflow`."""
    return not profile or "cores" in _profile(root, profile)[1]


def _profile(root: Path, profile: str) -> tuple[Path, dict[str, Any]]:
    """A profile's folder and settings. Raises HarnessError for a missing one."""
    profiles = project_file(root, "envs/profiles")
    folder = next((path for path in (profiles / profile, Path(profile)) if path.is_dir()), None)
    if folder is None or not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in profiles.glob("*/config.yaml")))
        raise HarnessError(
            f"--profile {profile}: not a folder with a config.yaml; give such a folder, or one of {known}"
        )
    return folder, read_yaml(folder / "config.yaml") or {}


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, for whatever reason (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _can_write(path: Path) -> bool:
    """Whether a folder can be written, or created if it is missing."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK | os.X_OK)
