"""The operations of job handles: read, wait, cancel, retry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from jobify.client.job_reader import JobReader
from jobify.client.threads import ClientThreads
from jobify.client.waiting import POLLS, JobWaiter, check_number, limit_of
from jobify.exceptions import JobNotFoundError
from jobify.gateway.connection import StorageConnection
from jobify.jobs.result_backend import Polls
from jobify.model.clock import Clock
from jobify.model.cron import is_used_up
from jobify.model.durations import Duration
from jobify.model.records import CancelResult
from jobify.model.status import JobStatus
from jobify.serializers.offload import LARGE_BYTES, off_loop
from jobify.types import Microseconds

__all__ = ("JobOperations",)

T = TypeVar("T")


class JobOperations:
    """Reads, waits for, cancels and retries jobs; see :class:`jobify.jobs.result_backend.ResultBackend`.

    ``delete_at``: when the row of a job that is cancelled now may be deleted.
    """

    def __init__(
        self,
        connection: StorageConnection,
        reader: JobReader,
        *,
        threads: ClientThreads,
        runs_here: Callable[[], bool],
        clock: Clock,
        delete_at: Callable[[Microseconds], Microseconds | None],
    ) -> None:
        self.reader = reader
        self._connection = connection
        self._threads = threads
        self._waiter = JobWaiter(reader, threads, runs_here)
        self._clock = clock
        self._delete_at = delete_at

    async def read(self, function: Callable[[], T]) -> T:
        """See :meth:`jobify.jobs.result_backend.ResultBackend.read`."""
        return await self._threads.reader.call(function)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def result(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """See :meth:`jobify.JobResult.result`."""
        return self.reader.outcome(self._waiter.end(job_id, timeout, polls, "await job.aresult()"))

    async def aresult(self, job_id: str, timeout: Duration | None, polls: Polls) -> Any:
        """See :meth:`jobify.JobResult.aresult`."""
        record = await self._waiter.aend(job_id, timeout, polls)
        if isinstance(record.result, bytes) and len(record.result) > LARGE_BYTES:
            return await off_loop(partial(self.reader.outcome, record))
        if record.status == JobStatus.SUCCESS:  # the row has everything
            return self.reader.outcome(record)
        return await self._threads.reader.call(partial(self.reader.outcome, record))

    def wait(self, job_id: str, timeout: Duration | None) -> None:
        """See :meth:`jobify.JobResult.wait`."""
        self._waiter.end(job_id, timeout, POLLS, "await job.await_end()")

    async def await_end(self, job_id: str, timeout: Duration | None) -> None:
        """See :meth:`jobify.JobResult.await_end`."""
        await self._waiter.aend(job_id, timeout, POLLS)

    def stream(self, job_id: str, timeout: Duration | None, after: int) -> Iterator[Any]:
        """See :meth:`jobify.JobResult.stream`."""
        return self._waiter.stream(job_id, timeout, check_number(after))

    def astream(self, job_id: str, timeout: Duration | None, after: int) -> AsyncIterator[Any]:
        """See :meth:`jobify.JobResult.astream`."""
        return self._waiter.astream(job_id, timeout, check_number(after))

    # -- changing ------------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, timeout: Duration | None) -> bool:
        """See :meth:`jobify.JobResult.cancel`."""
        limit_of(timeout)
        if self.reader.record(job_id).status == JobStatus.RUNNING:
            self._waiter.refuse_to_block(f"cancel job {job_id!r}", "await job.acancel()")
        if self._has_to_stop(job_id):
            with suppress(TimeoutError):
                self._waiter.end(job_id, timeout, POLLS, "await job.acancel()")
        return self._is_cancelled(job_id)

    async def acancel(self, job_id: str, timeout: Duration | None) -> bool:
        """See :meth:`jobify.JobResult.acancel`."""
        limit_of(timeout)
        if await self._threads.writer.call(partial(self._has_to_stop, job_id)):
            with suppress(TimeoutError):
                await self._waiter.aend(job_id, timeout, POLLS)
        return await self._threads.reader.call(partial(self._is_cancelled, job_id))

    def _has_to_stop(self, job_id: str) -> bool:
        """Cancel the row; whether its job runs and was requested to stop."""
        (met,) = self.request_cancel((job_id,))
        if met is CancelResult.MISSING:
            raise JobNotFoundError(job_id)
        return met is CancelResult.REQUESTED

    def request_cancel(self, job_ids: Sequence[str]) -> list[CancelResult]:
        """Cancel waiting jobs, and request running ones to stop without waiting for that; the result for each."""
        now = self._clock.now()
        with self._connection as storage:
            met = storage.cancel(job_ids, reason="cancelled", now=now, delete_at=self._delete_at(now))
        self._connection.notify(workers=True, clients=True)
        return met

    def _is_cancelled(self, job_id: str) -> bool:
        return self.reader.record(job_id).status == JobStatus.CANCELLED

    def retry(self, job_id: str, with_dependents: bool = True) -> bool:
        """See :meth:`jobify.JobResult.retry`."""
        if is_used_up(self.reader.record(job_id)):
            return False  # it would end again without a run
        with self._connection as storage:
            (is_done,) = storage.retry((job_id,), now=self._clock.now(), with_dependents=with_dependents)
        if is_done:
            self._connection.notify(workers=True)
        return is_done

    async def aretry(self, job_id: str, with_dependents: bool = True) -> bool:
        """See :meth:`jobify.JobResult.aretry`."""
        return await self._threads.writer.call(partial(self.retry, job_id, with_dependents))
