"""The handles that users hold, by job id, and what they learn when an attempt is over.

The registry refers to handles weakly: as long as a user or a running attempt holds one, it is found here. A million
scheduled jobs whose handles were dropped cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any
from weakref import ref

from jobify.engine.execution.attempt import Attempt
from jobify.exceptions import AppStoppedError
from jobify.jobs.job import Job, JobBackend
from jobify.model.clock import to_datetime
from jobify.model.cron import CronContext
from jobify.model.cron_rules import CronRule, CronRuleCache
from jobify.model.records import JobRecord, Settlement
from jobify.model.status import TERMINAL, Cancelled, Failed, JobStatus, Outcome, Released, Succeeded, TimedOut
from jobify.types import Microseconds

__all__ = ("HandleRegistry",)

_FIRST_SWEEP = 1000


class HandleRegistry:
    """The one handle that each job has in this process."""

    def __init__(self, controller: JobBackend, rules: CronRuleCache) -> None:
        self._controller = controller
        self._rules = rules
        self._jobs: dict[str, ref[Job[Any]]] = {}
        self._sweep_at = _FIRST_SWEEP

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter([job for job in (held() for held in self._jobs.values()) if job is not None])

    def find(self, job_id: str) -> Job[Any] | None:
        """The handle of an unfinished job, if one is held. (An id may be used again when its job has ended.)"""
        held = self._jobs.get(job_id)
        job = None if held is None else held()
        return None if job is None or job.is_done() else job

    def add(self, job: Job[Any]) -> None:
        """Remember a handle."""
        # Not a WeakValueDictionary, because that makes a Python object and a callback per job, at four times the cost.
        # Dead references are removed when the number of entries has doubled.
        self._jobs[job.id] = ref(job)
        if len(self._jobs) >= self._sweep_at:
            self._jobs = {job.id: ref(job) for job in self if not job.is_done()}
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._jobs))

    def make(self, job_id: str, due_at: Microseconds, status: JobStatus) -> Job[Any]:
        """A new handle, not remembered yet."""
        return Job(job_id=job_id, exec_at=due_at, job_status=status, backend=self._controller)

    def of_attempt(self, attempt: Attempt) -> Job[Any]:
        """The handle of a job that runs here."""
        if attempt.job is None:
            job = self.find(attempt.id)
            if job is None:
                job = self.make(attempt.id, attempt.due_at, JobStatus.RUNNING)
                self.add(job)
            if attempt.run is not None and not job.is_cron():
                self.attach_schedule(job, attempt.run.rule, attempt.run.run_count, attempt.run.failure_count)
            attempt.job = job
        return attempt.job

    def of_record(self, record: JobRecord) -> Job[Any]:
        """The handle of a job that is waiting, or that another process runs."""
        job = self.find(record.id)
        if job is None:
            job = self.make(record.id, record.due_at, JobStatus(record.status))
            if record.rule is not None and self._rules.read(record.rule) is not None:  # else it gets one when it is due
                self.attach_schedule(job, self._rules.of_text(record.rule), record.run_count, record.failure_count)
            self.add(job)
        return job

    def attach_schedule(self, job: Job[Any], rule: CronRule, run_count: int, failure_count: int) -> None:
        """Make ``job`` the handle of a schedule with this progress."""
        job.bind_cron_context(
            CronContext(
                cron=rule.cron,
                cron_parser=rule.parser,
                failure_count=failure_count,
                job=job,
                offset=to_datetime(job.due_at, zone=self._controller.zone),
                run_count=run_count,
            )
        )

    # -- what the end of an attempt means for its handle --------------------------------------------------------------

    def update(self, attempt: Attempt, outcome: Outcome, settlement: Settlement) -> None:
        """Bring the handle, if there is one, to the state that was just stored; never call it before."""
        job = attempt.job if attempt.job is not None else self.find(attempt.id)
        if job is None:
            return
        if attempt.is_replaced:  # the handle belongs to the job that has replaced this one
            job.reschedule(job.due_at, JobStatus.SCHEDULED)
            self.add(job)
            return
        if attempt.run is None and type(outcome) is Succeeded:  # nearly every job
            job.set_result(outcome.value, status=JobStatus.SUCCESS)
            return
        status = JobStatus(settlement.status)
        _show_progress(job, attempt, settlement)
        _show_end(job, outcome, status, is_dead=settlement.is_dead, is_durable=attempt.backend.is_durable)
        if status not in TERMINAL and not isinstance(outcome, Released):
            job.reschedule(settlement.due_at, status)
            self.add(job)  # the next attempt, here or elsewhere, ends this handle

    def release(self, attempt: Attempt) -> None:
        """Leave the handle of a job that was taken from this process to the watcher, if other processes can run it."""
        if attempt.job is not None and attempt.backend.storage.is_shared:
            self.add(attempt.job)
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
        case Released():  # the row waits for the next start, so this process never learns its end
            job.end(JobStatus.CANCELLED, AppStoppedError(is_stored=is_durable))
        case _ if has_ended:
            job.end(status)
        case _:  # it waits again
            pass
