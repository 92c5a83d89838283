"""The cores that a command takes are those that this process may use."""

import os
from pathlib import Path

import pytest

from harness.base import cores
from harness.base.cores import quotas, usable_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, [1.5]),  # of the group around it
        ("0::/a\n", {"cpu.max": "50000 100000"}, [0.5]),  # in a container the group is the root
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, [3.0]),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, []),
        ("4:memory:/x\n", {"cpu/x/cpu.cfs_quota_us": "1", "cpu/x/cpu.cfs_period_us": "1"}, []),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, []),
    ],
)
def test_quotas_of_control_groups(tmp_path, own, files, expected):
    write(tmp_path / "own", own)
    for name, text in files.items():
        write(tmp_path / "groups" / name, text)
    assert list(quotas(tmp_path / "groups", tmp_path / "own")) == expected
    assert list(quotas(tmp_path / "groups", tmp_path / "missing")) == []


@pytest.mark.parametrize(("found", "expected"), [([], 6), ([8.0], 6), ([2.5, 4.0], 3), ([0.5], 1)])
def test_affinity_and_quotas_together(monkeypatch, found, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "quotas", lambda: iter(found))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # not the number of cores
    assert usable_cores() == expected
