"""How many processors this process may use.

The smallest of the machine's, those of its affinity, and the quota of its container counts.

``os.cpu_count()`` is the machine. A container with a quota of one processor on a machine of 64 must not start 64
children, of which each gets a 64th of that processor. The quota is a control group's (cgroups(7)): ``cpu.max`` in
version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` in version 1. A group is also bound by those above it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from jobify.runtime.cgroups import ROOT, folders

__all__ = ("available_cpus",)


def available_cpus(root: Path = ROOT) -> int:
    """Processors for this process, at least 1.

    A quota of one and a half counts as two. ``root`` is for tests.
    """
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
