"""One run at a time in a checkout and in a folder of results; what a killed one left is cleared."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.errors import HarnessError
from harness.results.folders import Folders
from harness.workflow import locks
from harness.workflow.locks import only_run, working

# a run that says when it has its locks, and holds them until it is killed
HOLDER = """
import sys, time
from pathlib import Path
from harness.workflow.locks import only_run
with only_run(Path(sys.argv[1]), Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Start another process that holds a run's locks."""
    holders = []

    def start(root: Path, base: Path) -> subprocess.Popen:
        holders.append(subprocess.Popen([sys.executable, "-c", HOLDER, root, base], stdout=subprocess.PIPE, text=True))
        assert holders[-1].stdout.readline() == "held\n"
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()


def test_two_checkouts_never_write_to_one_folder_at_once(tmp_path, hold):
    """The second deletes nothing of what the first is writing; once that is killed, its half-written file goes."""
    base = tmp_path / "results" / "tiny"
    holder = hold(tmp_path / "ours", base)
    half_written = base / "report" / ".index.html.7.part"
    half_written.parent.mkdir()
    half_written.write_text("half")
    with pytest.raises(HarnessError) as caught, only_run(tmp_path / "theirs", base):
        pass
    assert str(caught.value) == (
        f"another run is active here (process {holder.pid} in {base}): wait for it, or stop it"
    )
    assert half_written.exists()
    with only_run(tmp_path / "theirs", tmp_path / "results" / "other"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_run(tmp_path / "theirs", base):
        assert not half_written.exists()


STAGE = """
import sys, time
from pathlib import Path
from harness.results.folders import Folders
from harness.workflow.locks import working
with working(Folders(Path(sys.argv[1]))):
    print("works", flush=True)
    time.sleep(60)
"""


def test_what_a_stage_of_a_killed_run_is_writing_stays_until_it_ends(tmp_path, monkeypatch):
    """Its workflow is gone, but on another machine, or for a moment, a stage goes on."""
    base = tmp_path / "tiny"
    half_written = base / "runs" / ".r0.safetensors.7.part"
    half_written.parent.mkdir(parents=True)
    half_written.write_text("half")
    monkeypatch.setattr(locks, "ORPHANS_SECONDS", 0.5)
    with subprocess.Popen([sys.executable, "-c", STAGE, base], stdout=subprocess.PIPE, text=True) as stage:
        try:
            assert stage.stdout.readline() == "works\n"
            with working(Folders(base)):  # beside others
                pass
            with pytest.raises(HarnessError, match="stages of another run are active in"), only_run(tmp_path, base):
                pass
            assert half_written.exists()
        finally:
            stage.kill()
    with only_run(tmp_path, base):
        assert not half_written.exists()
        with working(Folders(base)):  # a run's own stages start while it holds its locks
            pass


def test_another_users_lock_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("harness.workflow.locks.FileLock.acquire", refuse)
    with (
        pytest.raises(HarnessError, match=r"it belongs to another user. Give a folder of your own with --results"),
        only_run(tmp_path / "ours", tmp_path / "tiny"),
    ):
        pass


def test_one_checkout_has_one_run(tmp_path, hold):
    holder = hold(tmp_path / "ours", tmp_path / "tiny")
    with (
        pytest.raises(
            HarnessError, match=rf"another run is active here \(process {holder.pid} in .*/ours/.snakemake\)"
        ),
        only_run(tmp_path / "ours", tmp_path / "other"),
    ):
        pass


def test_the_locks_are_free_after_an_error_and_within_one_process_too(tmp_path):
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "ours", tmp_path / "tiny"):
        raise ZeroDivisionError
    with (
        only_run(tmp_path / "ours", tmp_path / "tiny"),
        pytest.raises(HarnessError, match="another run is active here"),
        only_run(tmp_path / "theirs", tmp_path / "tiny"),
    ):
        pass
    with only_run(tmp_path / "theirs", tmp_path / "tiny"):
        pass


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    base = tmp_path / "tiny"
    base.mkdir()
    (base / ".harness.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(HarnessError, match=r"\.harness\.lock: can't be locked"), only_run(tmp_path / "ours", base):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(HarnessError, match=r"harness\.lock: can't be locked \(no locks\). Put this folder on"),
        only_run(tmp_path / "ours", tmp_path / "tiny"),
    ):
        pass
