"""Jobs that were stored to wait, as this process knows them: by their handles, and by when they are due."""

from __future__ import annotations

from functools import partial
from typing import Any

from jobify.engine.enqueue.pending_job import PendingJob
from jobify.engine.enqueue.replacement import ReplaceResult, insert, replace
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import RunningAttempts
from jobify.engine.execution.handles import HandleRegistry
from jobify.gateway.notification import NEW_WORK, STATE_CHANGED
from jobify.jobs.job import Job
from jobify.model.status import JobStatus
from jobify.router.registry import Registry

__all__ = ("Waiting",)


class Waiting:
    """Shows what an order has put into a storage, and lets the dispatcher know when it is due."""

    def __init__(
        self, registry: Registry, handles: HandleRegistry, attempts: RunningAttempts, events: EngineEvents
    ) -> None:
        self._registry = registry
        self._handles = handles
        self._attempts = attempts
        self._events = events

    def add(self, pending: PendingJob) -> None:
        """It was inserted."""
        if pending.rule is not None:
            self._handles.attach_schedule(pending.job, pending.rule, 0, 0)
        self._handles.add(pending.job)
        self._events.job_due(pending.backend, pending.due_at)

    async def insert(self, pending: PendingJob) -> Job[Any]:
        """Insert a job with options; the handle of it, or of the job that has its unique key."""
        former_keys = () if pending.asked is None else pending.asked.former_keys(pending.endpoint.aliases)
        place = partial(insert, pending.backend.storage, pending.row(), former_keys)
        other = await pending.backend.gate.call(place, audience=NEW_WORK)
        if other is not None:
            return self._handles.of_record(other)
        pending.job.status = JobStatus.SCHEDULED
        self.add(pending)
        return pending.job

    async def replace(self, pending: PendingJob, *, is_force: bool) -> Job[Any]:
        """Put it in the place of the job that has its id, if there is one; the handle.

        See :func:`jobify.engine.enqueue.replacement.replace`.
        """
        place = partial(replace, pending.backend.storage, pending.row(), known=self._registry, is_force=is_force)
        pending.job = self._show(pending, await pending.backend.gate.call(place, audience=STATE_CHANGED))
        return pending.job

    def _show(self, pending: PendingJob, placement: ReplaceResult) -> Job[Any]:
        """The handle that the user already has, brought up to date; or the new one."""
        attempt = self._attempts.find(pending.job.id)
        job = self._handles.find(pending.job.id) or (attempt.job if attempt is not None else None)
        job = job if job is not None and not job.is_done() else pending.job
        pending.job = job
        record = placement.record
        if placement.is_unchanged and record is not None:
            return self._handles.of_record(record)
        if attempt is not None and record is not None and attempt.owns(record):
            attempt.is_replaced = True
        is_running = record is not None and record.status == JobStatus.RUNNING
        if attempt is None or attempt.is_replaced:  # else the new job is running already
            job.reschedule(placement.due_at, JobStatus.RUNNING if is_running else JobStatus.SCHEDULED)
        if pending.rule is None:
            job.unbind_cron_context()
        else:
            self._handles.attach_schedule(job, pending.rule, *placement.progress)
        self._handles.add(job)
        self._events.job_due(pending.backend, placement.due_at)
        return job
