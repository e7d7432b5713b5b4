"""Jobs that were stored to wait, as this process knows them: by their handles, and by when they are due."""

from __future__ import annotations

from functools import partial
from typing import Any

from jobify.engine.enqueue.pending_job import Draft
from jobify.engine.enqueue.replacement import Placement, insert, replace
from jobify.engine.events import Exchange
from jobify.engine.execution.handles import Handles
from jobify.engine.execution.roster import Roster
from jobify.gateway.notification import ORDER, WORK
from jobify.jobs.job import Job
from jobify.model.status import JobStatus
from jobify.router.registry import Registry

__all__ = ("Waiting",)


class Waiting:
    """Shows what an order has put into a storage, and lets the dispatcher know when it is due."""

    def __init__(self, registry: Registry, handles: Handles, roster: Roster, exchange: Exchange) -> None:
        self._registry = registry
        self._handles = handles
        self._roster = roster
        self._exchange = exchange

    def add(self, draft: Draft) -> None:
        """It was inserted."""
        if draft.rule is not None:
            self._handles.show_schedule(draft.job, draft.rule, 0, 0)
        self._handles.add(draft.job)
        self._exchange.expect(draft.backend, draft.due_at)

    async def insert(self, draft: Draft) -> Job[Any]:
        """Insert a job with options; the handle of it, or of the job that has its unique key."""
        former_keys = () if draft.asked is None else draft.asked.former_keys(draft.endpoint.aliases)
        place = partial(insert, draft.backend.storage, draft.row(), former_keys)
        other = await draft.backend.gate.call(place, news=WORK)
        if other is not None:
            return self._handles.of_record(other)
        draft.job.status = JobStatus.SCHEDULED
        self.add(draft)
        return draft.job

    async def replace(self, draft: Draft, *, is_force: bool) -> Job[Any]:
        """Put it in the place of the job that has its id, if there is one; the handle.

        See :func:`jobify.engine.enqueue.replacement.replace`.
        """
        place = partial(replace, draft.backend.storage, draft.row(), known=self._registry, is_force=is_force)
        draft.job = self._show(draft, await draft.backend.gate.call(place, news=ORDER))
        return draft.job

    def _show(self, draft: Draft, placement: Placement) -> Job[Any]:
        """The handle that the user already has, brought up to date; or the new one."""
        attempt = self._roster.find(draft.job.id)
        job = self._handles.find(draft.job.id) or (attempt.job if attempt is not None else None)
        job = job if job is not None and not job.is_done() else draft.job
        draft.job = job
        record = placement.record
        if placement.is_unchanged and record is not None:
            return self._handles.of_record(record)
        if attempt is not None and record is not None and attempt.holds(record):
            attempt.is_replaced = True
        is_running = record is not None and record.status == JobStatus.RUNNING
        if attempt is None or attempt.is_replaced:  # else the new job is running already
            job.move(placement.due_at, JobStatus.RUNNING if is_running else JobStatus.SCHEDULED)
        if draft.rule is None:
            job.unbind_cron_context()
        else:
            self._handles.show_schedule(job, draft.rule, *placement.progress)
        self._handles.add(job)
        self._exchange.expect(draft.backend, placement.due_at)
        return job
