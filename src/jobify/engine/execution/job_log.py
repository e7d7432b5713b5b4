"""Log lines and hook calls for jobs: begin, end, retry, death.

Everything goes to the logger ``jobify.jobs``, with the attributes ``job_id``, ``task``, ``queue`` and ``attempt`` on
each record; never with an argument of a job. A failure has one line, in the process that has stored it: at ERROR if it
ends the job, at WARNING if the job runs again or a caller awaits it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from jobify.config import JobifyConfiguration
from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.settlement import describe_error
from jobify.exceptions import JobLostError, ProcessDiedError, shown
from jobify.model.clock import SECOND, to_datetime
from jobify.model.control_flow import Retry
from jobify.model.hooks import Hooks, JobFailure
from jobify.model.records import Expired, JobRecord, Settlement
from jobify.model.status import (
    Cancelled,
    Failed,
    JobStatus,
    Lost,
    Outcome,
    Released,
    RetryAt,
    Snoozed,
    Succeeded,
    TimedOut,
    Unfit,
)
from jobify.model.tracebacks import own_frames, own_traceback
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger, write
from jobify.storage.end_reasons import EXPIRED

__all__ = ("JobLog",)

log: Final = get_logger("jobify.jobs")

_LONGEST_TRACEBACK: Final = 100_000
_EXPIRED: Final = "Job %s (%s) has expired: its time was over while it waited."
_DEAD: Final = JobStatus.PERMANENTLY_FAILED.value


class JobLog:
    """Writes about the jobs of one engine, and calls hooks. Its methods never raise."""

    def __init__(self, config: JobifyConfiguration, registry: Registry) -> None:
        self._config = config
        self._hooks = config.hooks
        self._registry = registry
        self._parked: set[str] = set()

    def began(self, attempt: Attempt) -> None:
        """An attempt begins. Call it only if DEBUG is enabled."""
        _write(
            attempt, logging.DEBUG, "Job %s (%s) begins attempt %d.", attempt.id, attempt.endpoint.name, attempt.number
        )

    def ended(self, attempt: Attempt, outcome: Outcome, settlement: Settlement) -> None:
        """The outcome of an attempt is stored; its handle is updated next."""
        try:
            self._ended(attempt, outcome, settlement)
        except Exception as problem:  # no memory, or a defect: the end of the job is stored all the same
            write(log, logging.ERROR, "The end of job %s cannot be logged: %r", attempt.id, problem)

    def _ended(self, attempt: Attempt, outcome: Outcome, settlement: Settlement) -> None:
        job = (attempt.id, attempt.endpoint.name)
        match outcome:
            case Succeeded():
                took = (settlement.finished_at or attempt.started_at) - attempt.started_at
                if settlement.finished_at is None:
                    _write(attempt, logging.DEBUG, "A run of schedule %s (%s) succeeded.", *job)
                else:
                    _write(attempt, logging.DEBUG, "Job %s (%s) succeeded in %.3f s.", *job, took / SECOND)
            case RetryAt(error, at):
                self._retried(attempt, error, at, settlement)
            case Failed(error) | TimedOut(error):
                self._failed(attempt, error, settlement)
            case Lost(reason):
                message = "Job %s (%s) lost its process in attempt %d and runs again: %s"
                _write(attempt, logging.WARNING, message, *job, attempt.number, reason)
                lost_at = settlement.history[0].finished_at if settlement.history else None
                retry_at = max(settlement.due_at, lost_at or settlement.due_at)
                self._call(attempt, ProcessDiedError(None, reason), settlement, retry_at=retry_at)
            case Snoozed(at, reason) if settlement.finished_at is None:
                self._put_off(attempt, at, reason)
            case Cancelled(reason) if reason == EXPIRED:
                _write(attempt, logging.INFO, _EXPIRED, *job)
            case Cancelled(reason) if reason == Cancelled().reason:
                _write(attempt, logging.INFO, "Job %s (%s) was cancelled.", *job)
            case Cancelled(reason):
                _write(attempt, logging.INFO, "Job %s (%s) was cancelled: %s", *job, reason)
            case Unfit(reason):
                message = (
                    "Job %s (%s) is parked, because its stored call does not fit this code: %s It waits for code that "
                    "it fits; `jobify jobs retry %s` tries it at once."
                )
                _write(attempt, logging.WARNING, message, *job, _sentence(reason), attempt.id)
            case Released():
                _write(attempt, logging.DEBUG, "Job %s (%s) was released unfinished.", *job)
            case _:
                pass

    def _put_off(self, attempt: Attempt, at: int, reason: str | None) -> None:
        message = "Job %s (%s) is put off by its task until %s: %s"
        until = to_datetime(at).isoformat(timespec="seconds")
        _write(attempt, logging.INFO, message, attempt.id, attempt.endpoint.name, until, reason or "no reason is given")

    def _retried(self, attempt: Attempt, error: Exception, at: int, settlement: Settlement) -> None:
        if settlement.finished_at is not None:  # the schedule was cancelled during this run
            self._failed(attempt, error, settlement)
            return
        ended_at = settlement.history[0].finished_at if settlement.history else settlement.offset_at
        delay = max(0.0, (at - (ended_at or at)) / SECOND)
        verb = "asks for a retry" if isinstance(error, Retry) else "failed"
        message = "Job %s (%s) %s in attempt %d and is tried again in %s s: %s"
        _write(
            attempt, logging.WARNING, message, attempt.id, attempt.endpoint.name, verb, attempt.number,
            f"{delay:.3g}" if delay < 100 else f"{delay:.0f}", _line_of(error),
        )  # fmt: skip
        self._call(attempt, error, settlement, retry_at=at)

    def _failed(self, attempt: Attempt, error: Exception, settlement: Settlement) -> None:
        is_awaited = (attempt.job is not None and attempt.job.has_waiters) or self._config.is_awaited(attempt.id)
        level = logging.WARNING if is_awaited else logging.ERROR
        what = "Job" if attempt.run is None else "A run of schedule"
        end = _end_of(attempt, error) if settlement.is_dead and attempt.run is None else ""
        text = shown(own_traceback(error), _LONGEST_TRACEBACK)
        _write(
            attempt, level, "%s %s (%s) failed in attempt %d%s: %s", what, attempt.id, attempt.endpoint.name,
            attempt.number, end, _line_of(error), exc_info=(type(error), error, own_frames(error)), exc_text=text,
        )  # fmt: skip
        if attempt.run is not None and settlement.status == _DEAD:
            message = (
                "Schedule %s (%s) has stopped for good, after %s (max_failures). Revive it with "
                "`jobify schedules resume %s` when the cause is mended."
            )
            count = settlement.failure_count
            failed = "a run that failed" if count == 1 else f"{count} runs in a row that failed"
            _write(attempt, logging.ERROR, message, attempt.id, attempt.endpoint.name, failed, attempt.id)
        self._call(attempt, error, settlement)

    def _call(
        self, attempt: Attempt, error: BaseException, settlement: Settlement, *, retry_at: int | None = None
    ) -> None:
        nearer = self._hooks_of(attempt.endpoint.name)
        if all(hooks.is_empty for hooks in (*nearer, self._hooks)):
            return
        failure = JobFailure(
            id=attempt.id,
            task=attempt.endpoint.name,
            queue=attempt.queue,
            attempt=attempt.number,
            error=error,
            is_schedule=attempt.run is not None,
            is_dead=settlement.is_dead,
            retry_at=None if retry_at is None else to_datetime(retry_at),
        )
        self._hooks.call(failure, nearer)

    def _hooks_of(self, task: str) -> tuple[Hooks, ...]:
        """The hooks of the routers of a task, which may be one of another app."""
        endpoint = self._registry.get(task)
        return () if endpoint is None else endpoint.hooks

    # -- jobs of other processes ---------------------------------------------------------------------------------------

    def has_retry_hooks(self, task: str) -> bool:
        """Whether :meth:`lost` calls a hook for this task. Thread-safe."""
        return any(hooks.has_retry for hooks in (*self._hooks_of(task), self._hooks))

    def condemned(self, job: JobRecord, crashes: int) -> None:
        """A job has taken too many processes down, and does not run again."""
        message = "Job %s (%s) took %d processes down and failed."
        write(log, logging.ERROR, message, job.id, job.task, crashes, **_fields_of(job, job.attempt))
        self._call_for(job, job.attempt, JobLostError(job.id, crashes), is_dead=True)

    def lost(self, job: JobRecord, attempt: int, *, now: int) -> None:
        """The process of this attempt has died, and the job runs again. Only hooks are called here, because the log has
        one line for all jobs of the process."""
        retry_at = to_datetime(max(job.due_at, now))
        self._call_for(job, attempt, ProcessDiedError(None, Lost().reason), retry_at=retry_at)

    def cancelled_with_process(self, job: JobRecord) -> None:
        """A job has ended by a cancel request, because its process has died."""
        message = "Job %s (%s) was cancelled; its process has died."
        write(log, logging.INFO, message, job.id, job.task, **_fields_of(job, job.attempt))

    def _call_for(
        self, job: JobRecord, attempt: int, error: Exception, *, is_dead: bool = False, retry_at: datetime | None = None
    ) -> None:
        failure = JobFailure(
            id=job.id,
            task=job.task,
            queue=job.queue,
            attempt=attempt,
            error=error,
            is_schedule=job.rule is not None,
            is_dead=is_dead,
            retry_at=retry_at,
        )
        self._hooks.call(failure, self._hooks_of(job.task))

    def expired(self, jobs: Sequence[Expired]) -> None:
        """These jobs have waited too long, and are cancelled."""
        if log.isEnabledFor(logging.INFO):
            for job in jobs:
                extra = _extra(job.id, job.task, job.queue, job.attempt)
                write(log, logging.INFO, _EXPIRED, job.id, job.task, **extra)

    def parked(self, attempt: Attempt, reason: str) -> None:
        """A schedule waits for a process that can read it. Logged once for each reason, because it is claimed again
        every few seconds."""
        if reason in self._parked:
            return
        self._parked.add(reason)
        _write(attempt, logging.WARNING, "Schedule %s (%s) is parked: %s", attempt.id, attempt.endpoint.name, reason)


def _line_of(error: BaseException) -> str:
    return describe_error(Failed(error)) or type(error).__name__  # type: ignore[arg-type]  # only its text is read


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _end_of(attempt: Attempt, error: Exception) -> str:
    """Why a job does not run again."""
    if type(error) is ProcessDiedError:
        return f", and took {attempt.crashes + 1} processes down" if attempt.crashes else ", and took its process down"
    return ", and there are no retries left"


def _fields_of(job: JobRecord, attempt: int) -> dict[str, object]:
    return _extra(job.id, job.task, job.queue, attempt)


def _extra(job_id: str, task: str, queue: str, attempt: int) -> dict[str, object]:
    return {"job_id": job_id, "task": task, "queue": queue, "attempt": attempt}


def _write(attempt: Attempt, level: int, message: str, *args: object, **more: object) -> None:
    extra = _extra(attempt.id, attempt.endpoint.name, attempt.queue, attempt.number)
    write(log, level, message, *args, **extra, **more)
