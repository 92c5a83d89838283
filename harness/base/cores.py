"""How many CPU cores this process may use."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The cores that affinity (taskset, a queue) and the quota of control groups (a container) leave, at least 1.

    A fraction of a core in a quota counts as a core.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, quotas())]))


def quotas(groups: Path = CGROUPS, own: Path = OWN) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups (version 1 or 2) and of those around them."""
    with contextlib.suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for base in (groups, *(groups / name for name in ("cpu", "cpu,cpuacct", "unified"))):
                folder = base / path.lstrip("/")
                # inside a container a group's path may be that of the host, while the group itself is the root
                for group in dict.fromkeys((folder, *folder.parents, base)):
                    if group.is_relative_to(base):
                        yield from _quota(group)


def _quota(group: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        if quota != "max":
            yield int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8")
        if int(quota) > 0:
            yield int(quota) / int((group / "cpu.cfs_period_us").read_text(encoding="utf-8"))
