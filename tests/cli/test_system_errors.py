"""Faults of the file system are one line with the file and the reason, whatever command meets them."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.errors import HarnessError
from harness.base.files import MODE
from harness.base.paths import checkout
from harness.cli import app as cli
from harness.cli import options
from harness.plan.runs import stages
from harness.results.fit import forget_broken
from harness.workflow.run_stage import run_stage

COMMANDS = (["claims"], ["ticket", "list"], ["verify", "--sample", "0"])
#: what the stages after training read, so that a fault in it must reach a user
ANYWHERE = ("collect", "claims", "card", "lenet/c0/tickets", "lenet/c0/k0-stability")


@pytest.fixture
def harness(copy, monkeypatch, capsys):
    """Run a command on the copy of the run: its exit status and what it prints to stderr."""
    monkeypatch.setattr(options, "scale_of", lambda *_: copy.context.spec)
    monkeypatch.setattr(options, "folders_of", lambda *_: copy.folders)
    monkeypatch.setattr(options, "run_of", lambda *_: (copy.context.spec, copy.folders))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr().err

    return run


def files(copy) -> list[Path]:
    return sorted(path for path in copy.base.rglob("*") if path.is_file())


def test_a_folder_in_any_files_place_is_no_traceback(copy, harness):
    for path in files(copy):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        for command in COMMANDS:
            status, message = harness(*command)
            assert message.count("\n") <= 1, (path, command, message)
            assert status in (0, 1), (path, command)
            assert "bug" not in message
        path.rmdir()
        path.write_bytes(content)


def test_a_stage_that_meets_a_folder_in_a_files_place_names_it(copy):
    spec, folders = copy.context.spec, copy.folders
    told: list[tuple[Path, str]] = []
    for path in (folders.table, folders.claims, folders.card, *sorted(folders.runs.rglob("*-o0.json"))[:3]):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        for name in ("collect", "claims", "card", *(stage.name for stage in stages(spec) if stage.kind != "dense")):
            try:
                run_stage(spec, folders, name, 1)
            except (HarnessError, OSError) as error:
                told.append((path, cli.reason(error)))
        try:
            forget_broken(spec, folders)
        except (HarnessError, OSError) as error:
            told.append((path, cli.reason(error)))
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
    assert len({path for path, _ in told}) > 3
    assert not [(path, message) for path, message in told if path.name not in message]


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.ENOENT, errno.EROFS, errno.ESTALE]
)
@pytest.mark.parametrize("call", ["open", "stat", "iterdir", "mkdir"])
def test_an_error_of_the_system_is_one_line_and_never_called_damage(harness, monkeypatch, number, call):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(cli, "app", lambda: getattr(Path("some/file"), call)())
    monkeypatch.setattr(Path, call, fail)
    status, message = harness()
    assert status == 1
    assert message.startswith(f"error: some/file: {os.strerror(number)}.")
    assert message.count("\n") == 1
    assert "Pull it again" not in message


def test_a_file_that_may_not_be_read_is_not_told_as_damaged(copy, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    store, run = copy.context.store, "lenet/r0/k0/L0-dense-o0"
    for attempt in (
        lambda: store.read(run),
        lambda: store.load(run),
        lambda: run_stage(copy.context.spec, copy.folders, "claims", 1),
    ):
        with pytest.raises((HarnessError, OSError)) as caught:
            attempt()
        message = cli.reason(caught.value)
        assert "Permission denied" in message
        assert "Ask its owner for access" in message
        assert "Delete" not in message
        assert "Pull" not in message


def test_memory_that_runs_out_is_one_line(harness, monkeypatch):
    def exhausted():
        raise MemoryError

    monkeypatch.setattr(cli, "app", exhausted)
    assert harness() == (1, "error: There is not enough memory. Free some, or run fewer jobs at once with --cores 1.\n")


def run_harness(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "harness.cli.app", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout())}
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_a_working_directory_that_was_removed_is_one_line(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    done = run_harness("claims", cwd=folder, preexec_fn=folder.rmdir, stdout=subprocess.DEVNULL)
    message = "error: The working directory was removed. Change to another one and run again.\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_a_library_that_does_not_fit_into_memory_is_one_line(tmp_path):
    limit = 600 * 2**20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = run_harness("verify", "--scale", "smoke", preexec_fn=limited, stdout=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr == ("error: There is not enough memory. Free some, or run fewer jobs at once with --cores 1.\n")


def test_output_that_is_full_or_closed_is_no_traceback():
    with Path("/dev/full").open("w") as full:
        done = run_harness("--help", stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = run_harness("--help", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_every_file_of_a_run_has_the_same_mode(copy, finished):
    assert {path.stat().st_mode & 0o777 for path in finished.folders.base.rglob("*") if path.is_file()} == {MODE}
