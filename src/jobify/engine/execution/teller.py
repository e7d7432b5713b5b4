"""What a handle learns of an attempt that is over: the same as what is stored, and not before it is."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.handles import HandleRegistry
from jobify.exceptions import AppStoppedError
from jobify.jobs.job import Job
from jobify.model.clock import to_datetime
from jobify.model.records import Settlement
from jobify.model.status import TERMINAL, Cancelled, Failed, JobStatus, Outcome, Released, Succeeded, TimedOut

__all__ = ("Teller",)


class Teller:
    """Brings handles up to date with what this process has stored."""

    def __init__(self, handles: HandleRegistry) -> None:
        self._handles = handles

    def update(self, attempt: Attempt, outcome: Outcome, settlement: Settlement) -> None:
        """The settlement is stored: the handle, if there is one, learns of it."""
        job = attempt.job if attempt.job is not None else self._handles.find(attempt.id)
        if job is None:
            return
        if attempt.is_replaced:  # the handle speaks of the job that took this one's place
            job.move(job.due_at, JobStatus.SCHEDULED)
            self._handles.add(job)
            return
        if attempt.run is None and type(outcome) is Succeeded:  # what nearly every job comes to
            job.set_result(outcome.value, status=JobStatus.SUCCESS)
            return
        status = JobStatus(settlement.status)
        _show_progress(job, attempt, settlement)
        _show_end(job, outcome, status, is_dead=settlement.is_dead, is_durable=attempt.backend.is_durable)
        if status not in TERMINAL and not isinstance(outcome, Released):
            job.move(settlement.due_at, status)
            self._handles.add(job)  # whoever claims it next, here or elsewhere, ends with this handle

    def keep(self, attempt: Attempt) -> None:
        """The row says how the job ended: the handle, if there is one, learns of it from there."""
        if attempt.job is not None:
            self._handles.add(attempt.job)

    def release(self, attempt: Attempt) -> None:
        """The job was taken from this process: others know how it goes on, if there are any."""
        if attempt.job is not None and attempt.backend.storage.is_shared:
            self._handles.add(attempt.job)
        elif attempt.job is not None:
            attempt.job.end(JobStatus.CANCELLED)


def _show_progress(job: Job[Any], attempt: Attempt, settlement: Settlement) -> None:
    context = job.cron_context
    if context is not None:
        context.run_count, context.failure_count = settlement.run_count, settlement.failure_count
        context.offset = to_datetime(settlement.offset_at or attempt.due_at, zone=context.offset.tzinfo or UTC)


def _show_end(job: Job[Any], outcome: Outcome, status: JobStatus, *, is_dead: bool, is_durable: bool) -> None:
    has_ended = status in TERMINAL
    match outcome:
        case Succeeded(value):
            job.set_result(value, status=status if has_ended else JobStatus.SUCCESS)
        case Failed(error):
            job.set_exception(error, status=status if has_ended else JobStatus.FAILED, is_dead=is_dead)
        case TimedOut(error):
            job.set_exception(error, status=status if has_ended else JobStatus.TIMEOUT, is_dead=is_dead)
        case Cancelled():
            job.end(JobStatus.CANCELLED)
        case Released():  # the row waits for the next start; this process will not tell how it ended
            job.end(JobStatus.CANCELLED, AppStoppedError(is_stored=is_durable))
        case _ if has_ended:
            job.end(status)
        case _:  # it waits again
            pass
