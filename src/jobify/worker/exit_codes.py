"""The exit codes of the commands, workers included."""

from __future__ import annotations

from enum import IntEnum

__all__ = ("ExitCode",)


class ExitCode(IntEnum):
    """The exit codes of ``jobify …``. After a second stop signal a worker ends with 128 plus the signal number."""

    DONE = 0
    """Done. A worker: stopped in order; running jobs have finished or were released."""
    FAILED = 1
    """It could not be done; one line on standard error says why."""
    USAGE = 2
    """An option or argument is not valid, or the app was not found."""
    NOT_FOUND = 3
    """There is no such job, schedule or queue."""
    NOT_STORED = 4
    """A worker: it has stopped, but the database did not take the outcomes of some jobs. They run again."""
    REPLACED = 5
    """A worker: the database was deleted or replaced while in use, or is missing after a restart."""
    JOB_FAILED = 6
    """``jobify jobs wait``: the job failed, or is dead."""
    JOB_CANCELLED = 7
    """``jobify jobs wait``: the job was cancelled."""
    STILL_UNFINISHED = 8
    """``jobify jobs wait``: the job has not ended within the time."""
