"""The handles that users hold, by job id.

A handle is remembered as long as its user (or a running attempt) holds it, and no longer: a million scheduled jobs
whose handles were dropped cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from jobify.clock import to_datetime
from jobify.cron import CronContext
from jobify.engine.attempt import Attempt
from jobify.engine.rules import Rule, Rules
from jobify.job import Job, JobDesk
from jobify.records import JobRecord
from jobify.status import JobStatus
from jobify.types import Microseconds

__all__ = ("Handles",)


class Handles:
    """Finds or makes the one handle that a job has in this process."""

    def __init__(self, desk: JobDesk, rules: Rules) -> None:
        self._desk = desk
        self._rules = rules
        self._jobs: WeakValueDictionary[str, Job[Any]] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(list(self._jobs.values()))

    def find(self, job_id: str) -> Job[Any] | None:
        """The handle of an unfinished job, if somebody holds it. (An id may be used again when its job has ended.)"""
        job = self._jobs.get(job_id)
        return None if job is None or job.is_done() else job

    def add(self, job: Job[Any]) -> None:
        """Remember a handle."""
        self._jobs[job.id] = job

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
                self.show_schedule(
                    job, self._rules.of_cron(attempt.run.cron), attempt.run.run_count, attempt.run.failure_count
                )
            attempt.job = job
        return attempt.job

    def of_record(self, record: JobRecord) -> Job[Any]:
        """The handle of a job that is waiting, or that another process runs."""
        job = self.find(record.id)
        if job is None:
            job = self.make(record.id, record.due_at, JobStatus(record.status))
            if record.rule is not None:
                rule = self._rules.of_text(record.rule)
                self.show_schedule(job, rule, record.run_count, record.failure_count)
            self.add(job)
        return job

    def show_schedule(self, job: Job[Any], rule: Rule, run_count: int, failure_count: int) -> None:
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
