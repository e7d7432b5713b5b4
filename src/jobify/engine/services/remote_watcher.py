"""Update the handles of jobs that other processes run.

There is no polling: a round reads rows when another process has committed or notified (see ``change_listener``). When a
caller begins to wait for a job, the row of that job alone is read at once. The time between two rounds grows with the
processor time of a round, so that ten thousand handles do not take a core; but it stays below a second, and the time
that a read waits for its turn does not count: a busy process learns of an end as soon as an idle one. Reads wait for no
write.

A round reads every handle that has a waiter or whose job is due. The others change only if their jobs are cancelled or
replaced: after a change they are read in turn, one batch per round, so that a caller that polls the status of one sees
it within a second while there are a few thousand.
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

_PAUSE_FACTOR = 10
"""A round is followed by a pause of this many times the processor time that it took."""

_LONGEST_PAUSE = 0.5
"""Seconds; a round that takes longer itself is followed by a pause of its own length."""

_RECHECK = 5.0
"""Seconds after which a round starts without a wake-up: the cost of a lost notification."""

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
        """The handles that callers have begun to wait for since the last round."""
        self._has_changes = False
        self._unread: list[str] = []
        """The handles of jobs that are not due and were not read since the last change."""

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
        self.wake()  # because a round that failed may have missed something
        clock = asyncio.get_running_loop().time
        next_round_at = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_round_at):
                    await self._wakeup.wait()
            self._wakeup.clear()
            if self._has_changes or self._unread or clock() >= next_round_at:
                cost = await self.step()
                self.succeed()
                next_round_at = clock() + _RECHECK
                await self._pause(min(cost * _PAUSE_FACTOR, max(_LONGEST_PAUSE, cost)))
            else:
                await self._update_added()

    async def _pause(self, seconds: float) -> None:
        """Read nothing for so long but the jobs that callers begin to wait for."""
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
        """Update all handles that may have changed; return the processor time that it took, in seconds."""
        self._added.clear()
        now = self._clock.now()
        waiting = [job for job in self._handles if not job.is_done() and (job.has_waiters or job.due_at <= now)]
        cost = await self._update((*waiting, *self._next_unread(now)))
        if self._unread:
            self._wakeup.set()
        return cost

    async def _update(self, jobs: Sequence[Job[Any]]) -> float:
        watched = [job for job in jobs if not (job.is_settling or self._is_hidden(job.id))]
        cost = 0.0
        for start in range(0, len(watched), _BATCH):
            cost += await self._update_batch(watched[start : start + _BATCH])
        return cost

    def _next_unread(self, now: Microseconds) -> list[Job[Any]]:
        """The next handles without a waiter, in turn."""
        if self._has_changes and not self._unread:
            self._has_changes = False
            self._unread = [job.id for job in self._handles if job.due_at > now and not job.is_done()]
        found = [self._handles.find(job_id) for job_id in self._unread[-_BATCH:]]
        del self._unread[-_BATCH:]
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
            if job.state_key != before:  # it has run here meanwhile, and the row may be older
                self.wake()
                continue
            if record is None:
                job.end(JobStatus.CANCELLED, RemoteError("Deleted", "the job is no longer in the database."))
            else:
                self._apply(job, record)
        return cost + time.thread_time() - started

    def _read(self, ids: Sequence[str]) -> tuple[list[JobRecord], float]:
        """The rows, and the processor time of reading them."""
        started = time.thread_time()
        records = self._backend.storage.get(SummaryIds(ids, with_results=True))
        return records, time.thread_time() - started

    def _apply(self, job: Job[Any], record: JobRecord) -> None:
        if record.status not in _KNOWN:
            return  # a status of a newer release
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
        """Update the progress of a schedule; return whether it has run since the last update."""
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
