"""How many processors this process may use: of the machine, of its affinity, and of the quota of its container.

``os.cpu_count()`` is the machine. A container with a quota of one processor on a machine of 64 must not start 64
children, of which each gets a 64th of that processor. The quota is a control group's (cgroups(7)): ``cpu.max`` in
version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` in version 1. A group is also bound by those above it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

__all__ = ("available_cpus",)


def available_cpus(root: Path = Path("/")) -> int:
    """Processors for this process, at least 1; a quota of one and a half counts as two. ``root`` is for tests."""
    return max(1, min([_allowed(), *map(ceil, _quotas(root))]))


def _allowed() -> int:
    """Those that the scheduler may put this process on."""
    count = getattr(os, "process_cpu_count", None)  # Python 3.13
    if count is not None:
        return count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the control groups that this process is in, in processors."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _of_version_2(root / "sys/fs/cgroup", path)
            yield from _of_version_2(root / "sys/fs/cgroup/unified", path)
        elif "cpu" in controllers.split(","):
            yield from _of_version_1(root / "sys/fs/cgroup" / controllers, path)
            yield from _of_version_1(root / "sys/fs/cgroup/cpu", path)


def _of_version_2(mount: Path, path: str) -> Iterator[float]:
    for group in _groups(mount, path):
        quota, period = _words(group / "cpu.max", "max 1")
        if quota != "max":
            yield int(quota) / int(period)


def _of_version_1(mount: Path, path: str) -> Iterator[float]:
    for group in _groups(mount, path):
        (quota,), (period,) = _words(group / "cpu.cfs_quota_us", "-1"), _words(group / "cpu.cfs_period_us", "100000")
        if int(quota) > 0:
            yield int(quota) / int(period)


def _groups(mount: Path, path: str) -> Iterator[Path]:
    """The group and those above it. In a container the path may be the host's: then only the mounted group is there."""
    group = Path(path.lstrip("/"))
    yield mount / group
    for above in group.parents:
        yield mount / above


def _words(file: Path, default: str) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return default.split()
