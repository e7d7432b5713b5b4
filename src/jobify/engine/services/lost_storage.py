"""The database was deleted or replaced: what this process does about it, once.

The services of the storage end with the error that says so, so nothing is claimed any more; an outcome that cannot be
stored is given up at once. Here the log is told, and what waits for a job in that database gets the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.execution.attempt import RunningAttempts
from jobify.engine.execution.handles import HandleRegistry
from jobify.exceptions import StorageLostError
from jobify.model.status import JobStatus
from jobify.runtime.logs import get_logger

__all__ = ("end_handles",)

log = get_logger("jobify.engine")


def end_handles(
    handles: HandleRegistry,
    attempts: RunningAttempts,
    is_stored: Callable[[str], bool],
    lost: asyncio.Future[StorageLostError],
) -> None:
    """End the handles of stored jobs that do not run here. Those that run end with their attempts."""
    if lost.cancelled():
        return
    error = lost.result()
    log.error("%s No more jobs are claimed, and pushing one raises this error.", error)
    for job in handles:
        if not job.is_done() and attempts.find(job.id) is None and is_stored(job.id):
            job.end(JobStatus.CANCELLED, error)
