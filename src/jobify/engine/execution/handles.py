"""The handles that users hold, by job id.

A handle is remembered as long as its user (or a running attempt) holds it, and no longer: a million scheduled jobs
whose handles were dropped cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

from jobify.engine.execution.attempt import Attempt
from jobify.jobs.job import Job, JobDesk
from jobify.model.clock import to_datetime
from jobify.model.cron import CronContext
from jobify.model.cron_rules import CronRule, CronRuleCache
from jobify.model.records import JobRecord
from jobify.model.status import JobStatus
from jobify.types import Microseconds

__all__ = ("HandleRegistry",)

_FIRST_SWEEP = 1000


class HandleRegistry:
    """Finds or makes the one handle that a job has in this process."""

    def __init__(self, desk: JobDesk, rules: CronRuleCache) -> None:
        self._desk = desk
        self._rules = rules
        self._jobs: dict[str, ref[Job[Any]]] = {}
        self._sweep_at = _FIRST_SWEEP

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter([job for job in (held() for held in self._jobs.values()) if job is not None])

    def find(self, job_id: str) -> Job[Any] | None:
        """The handle of an unfinished job, if somebody holds it. (An id may be used again when its job has ended.)"""
        held = self._jobs.get(job_id)
        job = None if held is None else held()
        return None if job is None or job.is_done() else job

    def add(self, job: Job[Any]) -> None:
        """Remember a handle."""
        # Not a WeakValueDictionary: it makes a Python object and a callback per job, at four times the price. What is
        # gone is swept out when the number of entries has doubled.
        self._jobs[job.id] = ref(job)
        if len(self._jobs) >= self._sweep_at:
            self._jobs = {job.id: ref(job) for job in self if not job.is_done()}
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._jobs))

    def make(self, job_id: str, due_at: Microseconds, status: JobStatus) -> Job[Any]:
        """A new handle, not remembered yet."""
        return Job(job_id=job_id, exec_at=due_at, job_status=status, desk=self._desk)

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
            if record.rule is not None and self._rules.read(record.rule) is not None:  # else it shows when it is due
                self.attach_schedule(job, self._rules.of_text(record.rule), record.run_count, record.failure_count)
            self.add(job)
        return job

    def attach_schedule(self, job: Job[Any], rule: CronRule, run_count: int, failure_count: int) -> None:
        """Make ``job`` the handle of a schedule that is this far."""
        job.bind_cron_context(
            CronContext(
                cron=rule.cron,
                cron_parser=rule.parser,
                failure_count=failure_count,
                job=job,
                offset=to_datetime(job.due_at, zone=self._desk.zone),
                run_count=run_count,
            )
        )
