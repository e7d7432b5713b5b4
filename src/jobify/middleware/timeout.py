"""The timeout of an attempt: the innermost layer around the function."""

from __future__ import annotations

import asyncio
from typing import Any

from jobify.exceptions import JobTimeoutError, TaskCancelledError
from jobify.jobs import current_job
from jobify.jobs.context import JobContext
from jobify.middleware.base import BaseMiddleware, CallNext
from jobify.model.control_flow import Retry, Snooze, parts, signal_of
from jobify.model.durations import Duration, as_seconds

__all__ = ("TimeoutMiddleware", "is_own_timeout")


class TimeoutMiddleware(BaseMiddleware):
    """Interrupts the attempt after ``timeout`` seconds and raises :class:`JobTimeoutError`.

    A TimeoutError of the task itself is not changed. A task that suppresses the interruption and returns late, or
    raises Retry or Snooze, has still timed out.
    """

    def __init__(self, timeout: Duration) -> None:
        self.timeout: float = as_seconds(timeout)

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        limit = asyncio.timeout(self.timeout)
        current_job.set_deadline(self.timeout)
        try:
            async with limit:
                value = await call_next(context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise JobTimeoutError(context.job.id, self.timeout) from error
        except (TaskCancelledError, Retry, Snooze, BaseExceptionGroup) as error:
            is_late_signal = limit.expired() and signal_of(error) is not None
            if not is_late_signal and not is_own_timeout(error, context.job.id):
                raise
            raise JobTimeoutError(context.job.id, self.timeout) from error
        if limit.expired():
            raise JobTimeoutError(context.job.id, self.timeout)
        return value


def is_own_timeout(error: BaseException, job_id: str) -> bool:
    """Whether the job itself has noticed its timeout, also inside an exception group."""
    return any(
        isinstance(part, TaskCancelledError) and (part.job_id, part.reason) == (job_id, current_job.TIMED_OUT)
        for part in parts(error)
    )
