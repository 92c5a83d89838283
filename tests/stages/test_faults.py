"""Each write of a run fails once, each read comes back short once: one line, nothing lost, the same bits at the end."""

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.base import files
from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json
from harness.plan.kinds import files_of, prepares
from harness.plan.runs import stages
from harness.results.clock import start_clock, stop_clock, wall_clock_seconds
from harness.results.context import Context
from harness.results.fit import forget_broken
from harness.results.folders import Folders, check_folder
from harness.results.tables import read_table
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_spec

SMALL = {
    "replicates": 1,
    "replicates_per_job": 1,
    "levels_per_job": 1,
    "dense_orders": [0, 5],
    "sweeps": [{"k": [5], "levels": 2, "at": {2: {"imp": 2, "random_reinit": 1}}}],
}
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


class Faults:
    """Makes one call of a function fail, the one with the number `at` from now on."""

    def __init__(self) -> None:
        self.at = self.calls = 0
        self.struck = False

    def arm(self, at: int) -> None:
        self.at, self.calls, self.struck = at, 0, False

    def strikes(self) -> bool:
        self.calls += 1
        self.struck |= self.calls == self.at
        return self.calls == self.at


def names() -> list[str]:
    return [prepares("digits"), *(stage.name for stage in stages(tiny_spec(**SMALL))), "collect", "claims"]


def run_all(folder: Path, faults: Faults) -> int:
    """Every stage of a run, each tried with its first call failing, its second, and so on until none fails.

    Returns how many calls failed.
    """
    spec, folders, failed = tiny_spec(**SMALL), Folders(folder), 0
    for name in names():
        for at in range(1, 200):
            faults.arm(at)
            told = ""
            try:
                run_stage(spec, folders, name, 1)
            except HarnessError as error:
                told = str(error)
            failed += faults.struck
            assert not list(folder.rglob("*.part")), (name, at)
            assert len(told.splitlines()) <= 1, (name, at, told)
            if not faults.struck:
                assert not told, (name, at, told)
                break
            faults.arm(0)
            mend(folders, name)
        faults.arm(0)
        run_stage(spec, folders, name, 1)
    return failed


def mend(folders: Folders, name: str) -> None:
    """What the next `harness reproduce` does: forget what is broken, and run the earlier stages that are missing."""
    spec = tiny_spec(**SMALL)
    forget_broken(spec, folders)
    for earlier in names()[: names().index(name)]:
        if not all((folders.base / file).exists() for file in files_of(earlier)):
            run_stage(spec, folders, earlier, 1)


def content(folder: Path) -> tuple[dict[str, str], str]:
    """Checksums of all tensors, and the table without what depends on the clock."""
    context = Context(tiny_spec(**SMALL), Folders(folder), "lenet")
    tensors = {path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*.safetensors"))}
    table = read_table(context.folders.table)
    return tensors, table[[name for name in table.columns if "seconds" not in name]].to_csv()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, str], str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_all(folder, Faults()) == 0
    return content(folder)


@pytest.mark.slow
def test_each_write_fails_once(undisturbed, tmp_path, monkeypatch):
    faults, fsync = Faults(), os.fsync

    def failing(number: int) -> None:
        if faults.strikes():
            code = ERRORS[faults.at % len(ERRORS)]
            raise OSError(code, os.strerror(code))
        fsync(number)

    monkeypatch.setattr(files.os, "fsync", failing)
    assert run_all(tmp_path, faults) > 30
    assert content(tmp_path) == undisturbed


def short_text(faults: Faults) -> Callable[..., str]:
    read_text = Path.read_text

    def short(path: Path, *arguments, **options) -> str:
        text = read_text(path, *arguments, **options)
        return text[: len(text) // 2] if path.suffix == ".json" and faults.strikes() else text

    return short


@pytest.mark.slow
def test_each_read_of_a_record_comes_back_short_once(undisturbed, tmp_path, monkeypatch):
    faults = Faults()
    monkeypatch.setattr(Path, "read_text", short_text(faults))
    assert run_all(tmp_path, faults) > 30
    assert content(tmp_path) == undisturbed


@pytest.mark.slow
def test_each_checksum_of_a_file_is_of_half_of_it_once(undisturbed, tmp_path, monkeypatch):
    faults, digest = Faults(), files.hashlib.file_digest

    def short(file, *arguments):
        if faults.strikes():
            half = os.fstat(file.fileno()).st_size // 2
            return files.hashlib.sha256(file.read(half))
        return digest(file, *arguments)

    monkeypatch.setattr(files.hashlib, "file_digest", short)
    assert run_all(tmp_path, faults) > 30
    assert content(tmp_path) == undisturbed


def test_a_clock_that_is_set_back_and_forth_changes_no_bit_and_no_duration(undisturbed, tmp_path, monkeypatch):
    draw, now = random.Random(3), time.time
    monkeypatch.setattr(time, "time", lambda: now() + draw.choice((-1, 1)) * draw.choice((0, 5, 3600, 400 * 86_400)))
    folders = Folders(tmp_path)
    start_clock(folders)
    run_all(tmp_path, Faults())
    assert 0 <= wall_clock_seconds(folders) < 401 * 86_400
    stop_clock(folders)
    assert content(tmp_path) == undisturbed
    for record in map(read_json, tmp_path.rglob("stages/*/*/*.json")):
        assert 0 < record["seconds"] == pytest.approx(record["finished"] - record["started"], abs=1e-3)
        assert record["seconds"] < 100
    assert check_folder(tmp_path) == []
