"""Handles of jobs that other processes run: how did they end?

Nothing is polled for: a look is taken when another process has rung or has committed (see ``wakeups``). When a caller
begins to wait for a job, that job alone is looked at, at once. The time between two looks grows with the processor time
that a look takes, so that ten thousand handles do not eat a core; but it stays below a second, and the time that a look
waits for its turn does not count: a busy process learns of an end as soon as an idle one. Looks wait for no write.

A look takes in every handle that somebody waits for or whose job is due. The others can only change if somebody
cancels or replaces their jobs: after news they are looked at in turn, a batch with each look, so that whoever polls
the status of one sees it within a second while there are a few thousand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.service import Service
from jobify.exceptions import PayloadError, RemoteError, ResultNotStoredError
from jobify.gateway.backend import Backend
from jobify.jobs.job import Job
from jobify.model.clock import Clock
from jobify.model.records import JobRecord, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger
from jobify.types import Microseconds

__all__ = ("RemoteJobWatcher",)

log = get_logger("jobify.engine")

_KNOWN = frozenset(JobStatus)

_REST = 10
"""A look is followed by a rest of this many times the processor time that it took."""

_LONGEST_REST = 0.5
"""Seconds; a look that takes longer itself is followed by a rest of its own length."""

_LOOK_AGAIN = 5.0
"""Seconds after which a look is taken although nobody has rung: a ring that was lost costs no more than that."""

_BATCH = 500


class RemoteJobWatcher(Service):
    """Brings handles up to date with the rows of one shared storage."""

    def __init__(
        self,
        backend: Backend,
        handles: HandleRegistry,
        registry: Registry,
        is_hidden: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._backend = backend
        self._handles = handles
        self._registry = registry
        self._is_hidden = is_hidden
        self._clock = clock
        self._wakeup = asyncio.Event()
        self._arrival = asyncio.Event()
        self._added: list[Job[Any]] = []
        """The handles that callers have begun to wait for since the last look."""
        self._has_changes = False
        self._unseen: list[str] = []
        """The handles of jobs that are not due, as far as they were not looked at since the last news."""

    def wake(self) -> None:
        """Jobs of other processes may have ended."""
        self._has_changes = True
        self._wakeup.set()

    def watch_now(self, job: Job[Any]) -> None:
        """A caller begins to wait for a job of another process, which may have ended before."""
        self._added.append(job)
        self._arrival.set()
        self._wakeup.set()

    async def run(self) -> None:
        self.wake()  # a look that failed may have missed something
        clock = asyncio.get_running_loop().time
        looks_again_at = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(looks_again_at):
                    await self._wakeup.wait()
            self._wakeup.clear()
            if self._has_changes or self._unseen or clock() >= looks_again_at:
                cost = await self.step()
                self.succeed()
                looks_again_at = clock() + _LOOK_AGAIN
                await self._rest(min(cost * _REST, max(_LONGEST_REST, cost)))
            else:
                await self._update_added()

    async def _rest(self, seconds: float) -> None:
        """Look at nothing for so long but at what callers begin to wait for."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while (left := end - clock()) > 0:
            self._arrival.clear()
            if self._added:
                await self._update_added()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrival.wait()

    async def _update_added(self) -> None:
        jobs, self._added = self._added, []
        await self._update([job for job in jobs if not job.is_done()])

    async def step(self) -> float:
        """One look at all handles that may have changed; the processor time that it took, in seconds."""
        self._added.clear()
        now = self._clock.now()
        waiting = [job for job in self._handles if not job.is_done() and (job.has_waiters or job.due_at <= now)]
        cost = await self._update((*waiting, *self._next_unseen(now)))
        if self._unseen:
            self._wakeup.set()
        return cost

    async def _update(self, jobs: Sequence[Job[Any]]) -> float:
        watched = [job for job in jobs if not (job.is_settling or self._is_hidden(job.id))]
        cost = 0.0
        for start in range(0, len(watched), _BATCH):
            cost += await self._update_batch(watched[start : start + _BATCH])
        return cost

    def _next_unseen(self, now: Microseconds) -> list[Job[Any]]:
        """Some of the handles that nobody waits for, in turn."""
        if self._has_changes and not self._unseen:
            self._has_changes = False
            self._unseen = [job.id for job in self._handles if job.due_at > now and not job.is_done()]
        found = [self._handles.find(job_id) for job_id in self._unseen[-_BATCH:]]
        del self._unseen[-_BATCH:]
        return [job for job in found if job is not None and job.due_at > now and not job.has_waiters]

    async def _update_batch(self, jobs: list[Job[Any]]) -> float:
        ids = [job.id for job in jobs]
        seen = [job.state_key for job in jobs]
        records, cost = await self._backend.read(lambda: self._read(ids))
        started = time.thread_time()
        found = {record.id: record for record in records}
        for job, before in zip(jobs, seen, strict=True):
            record = found.get(job.id)
            if job.is_settling or job.is_done() or self._is_hidden(job.id):
                continue  # claimed by this process meanwhile
            if job.state_key != before:  # it has run here meanwhile, and the row may be older than that
                self.wake()
                continue
            if record is None:
                job.end(JobStatus.CANCELLED, RemoteError("Deleted", "the job is no longer in the database."))
            else:
                self._apply(job, record)
        return cost + time.thread_time() - started

    def _read(self, ids: Sequence[str]) -> tuple[list[JobRecord], float]:
        """The rows, and the processor time that reading them took."""
        started = time.thread_time()
        records = self._backend.storage.get(SummaryIds(ids, with_results=True))
        return records, time.thread_time() - started

    def _apply(self, job: Job[Any], record: JobRecord) -> None:
        if record.status not in _KNOWN:
            return  # a newer release knows what it means
        status = JobStatus(record.status)
        if status is JobStatus.CANCELLED:
            job.end(status)
        elif status in TERMINAL:
            self._show_end(job, record, status)
        elif self._has_run(job, record):
            self._show_end(job, record, JobStatus.FAILED if record.failure_count else JobStatus.SUCCESS)
        if status not in TERMINAL:
            job.reschedule(record.due_at, status)

    def _has_run(self, job: Job[Any], record: JobRecord) -> bool:
        """Whether a schedule has come further than its handle knows; the handle learns of it."""
        context = job.cron_context
        if context is None or record.run_count == context.run_count:
            return False
        context.run_count, context.failure_count = record.run_count, record.failure_count
        return True

    def _show_end(self, job: Job[Any], record: JobRecord, status: JobStatus) -> None:
        if status is JobStatus.SUCCESS:
            job.set_result(self._value(record), status=status)
        else:
            kind, _, message = (record.error or "Error: no reason was recorded").partition(": ")
            job.set_exception(RemoteError(kind, message), status=status, is_dead=record.is_dead)

    def _value(self, record: JobRecord) -> Any:
        """The stored result; an error in its place if there is none."""
        endpoint = self._registry.get(record.task)
        if record.result is None:
            return ResultNotStoredError(record.id, record.error or "it is not in the database.")
        if endpoint is None:
            return ResultNotStoredError(record.id, f"this app does not know the task {record.task!r}.")
        try:
            return self._backend.decode_result(endpoint, record.result)
        except PayloadError as error:
            return ResultNotStoredError(record.id, str(error))
