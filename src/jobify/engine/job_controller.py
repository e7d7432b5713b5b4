"""Cancel jobs, and wait for their end, on behalf of handles."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from jobify.config import JobifyConfiguration
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Attempt, Interruption, RunningAttempts
from jobify.exceptions import ApplicationStateError
from jobify.gateway.backend import Backend
from jobify.gateway.notification import STATE_CHANGED
from jobify.jobs.current_job import CURRENT
from jobify.jobs.job import Job
from jobify.model.clock import Clock
from jobify.model.records import CancelResult, SummaryIds
from jobify.model.status import JobStatus
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn

__all__ = ("JobController",)

log = get_logger("jobify.engine")

_PATIENCE = 10.0
"""Seconds that a cancel waits for a running job to stop before it returns."""


class JobController:
    """The methods of handles that need the engine."""

    def __init__(
        self,
        backends: list[Backend],
        attempts: RunningAttempts,
        events: EngineEvents,
        config: JobifyConfiguration,
        clock: Clock,
    ) -> None:
        self.zone = config.tz
        self._backends = backends
        self._attempts = attempts
        self._events = events
        self._retention = config.limits.retention
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._cancels: set[asyncio.Future[bool]] = set()
        self._being_cancelled: Counter[str] = Counter()

    def watch(self, job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
        """See :class:`~jobify.jobs.job.JobBackend`."""
        if loop is not self._loop:
            raise self._wrong_loop(job, "wait for", "job.wait()")
        if job.is_settling:  # it has run here, and the answer of the storage ends the wait
            return
        attempt = self._attempts.find(job.id)
        if attempt is None:
            self._events.waiter_added(job)
        elif attempt is CURRENT.get() and attempt.task is asyncio.current_task():  # the first check is cheaper
            raise ApplicationStateError(
                operation=f"wait for job {job.id!r}",
                reason="The call comes from the job itself, which would wait for itself for ever.",
                solution="Return from the task to end it.",
            )

    async def cancel(self, job: Job[Any], *, interrupt: bool) -> None:
        """See :meth:`Job.cancel`."""
        if asyncio.get_running_loop() is not self._loop:
            raise self._wrong_loop(job, "cancel", "job.cancel()")
        self._being_cancelled[job.id] += 1
        try:
            await self._cancel(job, interrupt)
        finally:
            self._being_cancelled[job.id] -= 1
            self._being_cancelled += Counter()  # removes counts of zero

    def is_being_cancelled(self, job_id: str) -> bool:
        """Whether a caller here is just cancelling this job, so that it must not begin if it is claimed meanwhile."""
        return job_id in self._being_cancelled

    def _wrong_loop(self, job: Job[Any], operation: str, call: str) -> ApplicationStateError:
        return ApplicationStateError(
            operation=f"{operation} job {job.id!r}",
            reason="The app runs in another event loop.",
            solution=f"From another thread use asyncio.run_coroutine_threadsafe({call}, loop).",
        )

    async def _cancel(self, job: Job[Any], interrupt: bool) -> None:
        attempt = self._attempts.find(job.id)
        if attempt is None and not await self._cancel_shielded(job, interrupt):
            return
        attempt = self._attempts.find(job.id)  # it may have been claimed by this process meanwhile
        if attempt is None:
            await self._wait(job)
        elif interrupt or job.status is JobStatus.SCHEDULED:  # claimed, and still in a queue or ahead of its time
            await self._interrupt(job, attempt)
        else:
            await self._let_finish(job, attempt)

    async def _interrupt(self, job: Job[Any], attempt: Attempt) -> None:
        attempt.job = attempt.job or job
        has_successor, attempt.is_replaced = attempt.is_replaced, False
        attempt.interrupt(Interruption.CANCEL)
        if has_successor:
            await self._cancel_shielded(job, interrupt=True)
        if attempt.task is None or attempt.task is not asyncio.current_task():
            await self._wait(job)

    async def _let_finish(self, job: Job[Any], attempt: Attempt) -> None:
        """Let the attempt finish, but not what would follow it, such as the next run of a schedule."""
        if attempt.run is not None or attempt.is_replaced:
            attempt.is_last, attempt.is_replaced = True, False
            await self._cancel_shielded(job, interrupt=True)

    async def _cancel_shielded(self, job: Job[Any], interrupt: bool) -> bool:
        """:meth:`_cancel_stored`, to its end even if the caller is cancelled, so that row and handle agree."""
        cancelling = spawn(self._cancel_stored(job, interrupt))
        self._cancels.add(cancelling)
        cancelling.add_done_callback(self._cancels.discard)
        return await asyncio.shield(cancelling)

    async def _cancel_stored(self, job: Job[Any], interrupt: bool) -> bool:
        """Cancel the row; return whether the job has yet to end, or its end has yet to be read."""
        now = self._clock.now()
        if not self._backends:
            raise ApplicationStateError(
                operation=f"cancel job {job.id!r}",
                reason="The app is not running.",
                solution="Cancel inside `async with app:`.",
            )
        mets = set()
        delete_at = self._retention.cancelled_until(now)
        for backend in self._backends:
            storage = backend.storage
            if not interrupt and await self._is_running(backend, job.id):
                return False  # elsewhere: a request to end only the schedule does not exist
            cancel = partial(storage.cancel, (job.id,), reason="cancelled", now=now, delete_at=delete_at)
            (met,) = await backend.gate.call(cancel, audience=STATE_CHANGED)
            if met is CancelResult.CANCELLED:
                job.end(JobStatus.CANCELLED)
                self._events.jobs_changed.set()
                return False
            mets.add(met)
        if mets == {CancelResult.MISSING} and job.status is not JobStatus.PENDING:
            job.end(JobStatus.CANCELLED)  # its row was deleted
        return mets != {CancelResult.MISSING}

    async def _is_running(self, backend: Backend, job_id: str) -> bool:
        records = await backend.gate.call(lambda: backend.storage.get(SummaryIds((job_id,))))
        return any(record.status == JobStatus.RUNNING for record in records)

    async def _wait(self, job: Job[Any]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await job.wait()
        except TimeoutError:
            log.warning("Job %s was cancelled %g seconds ago and still runs.", job.id, _PATIENCE)
