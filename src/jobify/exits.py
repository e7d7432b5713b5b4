"""What the exit code of a command means."""

from __future__ import annotations

import signal
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ("ExitCode", "OutOfMemory", "describe_exit")


class ExitCode(IntEnum):
    """The exit codes of ``jobify …``. A worker that is told to stop twice ends with 128 and the signal's number."""

    DONE = 0
    """Done. A worker: stopped in order, what was running has finished or was given back."""
    FAILED = 1
    """It could not be done; one line on standard error says why."""
    USAGE = 2
    """An option or an argument that cannot be, an app that cannot be found."""
    NOT_FOUND = 3
    """There is no such job, schedule or queue."""
    NOT_STORED = 4
    """A worker: it has stopped, and the database did not take the outcomes of some jobs. They run again."""
    REPLACED = 5
    """A worker: the database was deleted or replaced while it was used, or is not there after a restart."""


_CGROUPS: Final = Path("/sys/fs/cgroup")


def describe_exit(code: int, *, is_out_of_memory: bool = False) -> str:
    """``code`` as :mod:`subprocess` has it: negative for a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if code == -signal.SIGKILL and is_out_of_memory:
        return f"{name} (out of memory: the kernel has killed a process of this control group)"
    return name


class OutOfMemory:
    """Counts the processes of this control group that the kernel has killed for lack of memory. Where the kernel does
    not say, there are none."""

    def __init__(self, root: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> None:
        self._file = _events_file(root, membership)
        self._count = self._read()

    def has_killed(self) -> bool:
        """Whether there was one since the last question."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            words = self._file.read_text().split()
        except OSError:
            return 0
        return next((int(number) for name, number in pairwise(words) if name == "oom_kill"), 0)


def _events_file(root: Path, membership: Path) -> Path | None:
    """Where version 2 of control groups counts, or version 1; None: neither is here."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in (line for line in lines if len(line) == 3):
        below = path.lstrip("/")
        if controllers == "":
            candidates = [root / below / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [root / "memory" / below / "memory.oom_control", root / "memory" / "memory.oom_control"]
        else:
            continue
        found = next((file for file in candidates if file.is_file()), None)
        if found is not None:
            return found
    return None
