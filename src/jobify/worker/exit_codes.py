"""What the exit code of a command or of a process means."""

from __future__ import annotations

import signal
from enum import IntEnum

__all__ = ("ExitCode", "describe_exit")


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
    JOB_FAILED = 6
    """``jobify jobs wait``: the job failed, or is dead."""
    JOB_CANCELLED = 7
    """``jobify jobs wait``: the job was cancelled."""
    STILL_UNFINISHED = 8
    """``jobify jobs wait``: the job has not ended within the time."""


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
