"""The limits of this process on its machine: how many processors it may use, and whether memory ran out.

A container has limits that the machine does not show. They are those of its control groups (cgroups(7)): a group is a
folder below ``/sys/fs/cgroup``, and ``/proc/self/cgroup`` names the groups of a process. Version 2 has one group with
all controllers, version 1 has one group per controller; a machine may use both. In a container the named path may be
the path on the host, of which only the mounted root is visible. The two versions name their files differently, so a
caller looks for both names in every folder.

The number of processors is the smallest of the machine's (``os.cpu_count()``), of the affinity, and of the quota: a
container with a quota of one processor on a machine of 64 must not start 64 children. The quota is ``cpu.max`` in
version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` in version 1. A group is also bound by those above it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Final

__all__ = ("ROOT", "OutOfMemory", "available_cpus", "folders")

ROOT: Final = Path("/")


def folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of the groups with this controller and of the groups above them, the nearest first.

    Folders that do not exist are included. There are none without ``/proc/self/cgroup``. ``root`` is for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for fields in (line.split(":", 2) for line in lines):
        if len(fields) != 3:
            continue
        _, controllers, path = fields
        if not controllers:  # version 2, also beside version 1
            yield from _with_parents(mount, path)
            yield from _with_parents(mount / "unified", path)
        elif controller in controllers.split(","):
            yield from _with_parents(mount / controllers, path)
            if controllers != controller:
                yield from _with_parents(mount / controller, path)


def _with_parents(mount: Path, path: str) -> Iterator[Path]:
    group = Path(path.lstrip("/"))
    yield mount / group
    for parent in group.parents:
        yield mount / parent


class OutOfMemory:
    """Counts the processes of this control group that the kernel has killed because memory ran out.

    Where the kernel keeps no count, it stays 0.
    """

    def __init__(self, root: Path = ROOT) -> None:
        files = (
            folder / name for folder in folders("memory", root) for name in ("memory.events", "memory.oom_control")
        )
        self._file = next((file for file in files if file.is_file()), None)
        self._count = self._read()

    def has_killed(self) -> bool:
        """Whether a process was killed since the last call."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        fields = (line.split() for line in lines)
        return next((int(field[1]) for field in fields if len(field) == 2 and field[0] == "oom_kill"), 0)


def available_cpus(root: Path = ROOT) -> int:
    """Processors for this process, at least 1.

    A quota of one and a half counts as two. ``root`` is for tests.
    """
    return max(1, min([_allowed(), *map(ceil, _quotas(root))]))


def _allowed() -> int:
    """The processors on which the scheduler may run this process."""
    count = getattr(os, "process_cpu_count", None)  # Python 3.13
    if count is not None:
        return count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the control groups that this process is in, in processors."""
    for folder in folders("cpu", root):
        quota, period = _words(folder / "cpu.max", "max 1")  # version 2
        if quota != "max":
            yield int(quota) / int(period)
        (quota,), (period,) = _words(folder / "cpu.cfs_quota_us", "-1"), _words(folder / "cpu.cfs_period_us", "100000")
        if int(quota) > 0:
            yield int(quota) / int(period)


def _words(file: Path, default: str) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return default.split()
