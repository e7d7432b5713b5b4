"""Enqueuing in a user's transaction: resolve → check → outer chains → rows → insert on the connection → handles.

The steps are those of :class:`~jobify.client.enqueuer.ClientEnqueuer`; the insert alone is another. Outer chains run
before it, also that of a single job, so that nothing but statements of the storage stands between the beginning and the
end of what is done on the connection. Workers are notified after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobify.client.enqueuer import ClientEnqueuer, PendingCall, run_sync
from jobify.client.threads import ClientThreads
from jobify.gateway.connection import StorageConnection
from jobify.jobs.job_request import JobRequest, TransactionSubmitter
from jobify.jobs.job_result import JobResult
from jobify.jobs.replacement import replace
from jobify.model.records import JobRecord, NewJob, Progress, Relations
from jobify.storage.base import Storage
from jobify.storage.transactions import JoinedStorage, Statements, join
from jobify.transactions import UserConnection
from jobify.transactions.port import Stored

__all__ = ("TransactionEnqueuer",)


class TransactionEnqueuer:
    """See :class:`jobify.jobs.job_request.TransactionSubmitter`. A job is stored when the transaction of the user is
    committed."""

    def __init__(
        self,
        enqueuer: ClientEnqueuer,
        connection: UserConnection,
        storage: StorageConnection,
        threads: ClientThreads,
    ) -> None:
        self._enqueuer = enqueuer
        self._connection = connection
        self._storage = storage
        self._threads = threads

    def using(self, connection: object) -> TransactionSubmitter:
        """The same for another connection."""
        return self._enqueuer.using(connection)

    def delay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """Store one job."""
        return self.submit((JobRequest(task, args, kwargs),))[0]

    async def adelay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """:meth:`delay`, awaiting the statements."""
        return (await self.asubmit((JobRequest(task, args, kwargs),)))[0]

    def delay_all(self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[JobResult[Any]]:
        """Store a job for each call, all or none."""
        return self.submit([JobRequest(task, args, kwargs) for args, kwargs in calls])

    async def adelay_all(
        self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> list[JobResult[Any]]:
        """:meth:`delay_all`, awaiting the statements."""
        return await self.asubmit([JobRequest(task, args, kwargs) for args, kwargs in calls])

    def submit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """Store a batch, all or none."""
        self._connection.require_blocking()
        jobs = self._enqueuer.check(requests)
        if any(job.task.has_outer for job in jobs):
            run_sync(partial(self._enqueuer.run_outer_chains, jobs, is_blocking=True, stores_single=False))
        storage = self._storage.reader()  # the first use opens it; then the time of its server is known
        insert = self._insertion(jobs)
        if insert is not None:
            is_notified = self._connection.run(partial(insert, storage))
            self._notify_after_commit(jobs, is_notified=is_notified)
        return self._enqueuer.handles(jobs)

    async def asubmit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """:meth:`submit`, awaiting the statements; a connection that blocks does so here, too."""
        jobs = self._enqueuer.check(requests)
        if any(job.task.has_outer for job in jobs):
            await self._enqueuer.run_outer_chains(jobs, is_blocking=False, stores_single=False)
        storage = await self._threads.reader.call(self._storage.reader)
        insert = self._insertion(jobs)
        if insert is not None:
            is_notified = await self._connection.arun(partial(insert, storage))
            self._notify_after_commit(jobs, is_notified=is_notified)
        return self._enqueuer.handles(jobs)

    async def areplace(self, request: JobRequest, *, is_force: bool) -> JobResult[Any]:
        """Store a job, in the place of one with its id that has not ended."""
        jobs = self._enqueuer.check((request,))
        if jobs[0].task.has_outer:
            await self._enqueuer.run_outer_chains(jobs, is_blocking=False, stores_single=False)
        storage = await self._threads.reader.call(self._storage.reader)
        if jobs[0].is_wanted:
            (row,) = self._enqueuer.build_rows(jobs, [jobs[0].job_id])
            work = partial(self._replace, jobs[0], row, is_force, storage)
            self._notify_after_commit(jobs, is_notified=await self._connection.arun(work))
        return self._enqueuer.handles(jobs)[0]

    def _replace(self, job: PendingCall, row: NewJob, is_force: bool, storage: Storage, statements: Statements) -> bool:
        target = _ReplaceTarget(storage, join(storage, statements))
        target.hold(row.id)
        replace(target, row, known=_KnownTasks(self._enqueuer), is_force=is_force)
        job.result = self._enqueuer.handle(row)
        return not self._connection.tells_commits and target.joined.notify()

    def _insertion(self, jobs: Sequence[PendingCall]) -> Callable[[Storage, Statements], bool] | None:
        """Inserts the jobs that are wanted, on a storage and a connection; says whether the commit notifies the workers
        by itself. None means that there are none."""
        wanted = [job for job in jobs if job.is_wanted]
        if not wanted:
            return None
        rows = self._enqueuer.build_rows(wanted, [job.job_id for job in jobs])
        return partial(self._insert, wanted, rows)

    def _insert(
        self, jobs: Sequence[PendingCall], rows: Sequence[NewJob], storage: Storage, statements: Statements
    ) -> bool:
        joined = join(storage, statements)
        is_plain = len(rows) == 1 and not (jobs[0].task.needs_steps or jobs[0].request.spec.unique_key)
        if is_plain and joined.insert(rows)[0]:  # one statement for most jobs
            jobs[0].result = self._enqueuer.handle(rows[0])
        else:
            self._enqueuer.insert_joined(joined, jobs, rows)
        return not self._connection.tells_commits and joined.notify()

    def _notify_after_commit(self, jobs: Sequence[PendingCall], *, is_notified: bool) -> None:
        job_id = next((job.result.id for job in jobs if job.result is not None and job.result.created), None)
        if job_id is not None and not is_notified:
            find = _Find(self._storage, self._storage.generation)
            self._connection.after_commit(Stored(job_id, self._storage.notify_workers, find))


@dataclass(frozen=True, slots=True)
class _Find:
    """See :data:`~jobify.transactions.port.Find`. Those of one storage are equal until it is closed."""

    storage: StorageConnection
    generation: int

    def __call__(self, ids: Sequence[str]) -> Collection[str]:
        return {record.id for record in self.storage.reader(self.generation).get(ids)}


@dataclass(frozen=True, slots=True)
class _KnownTasks:
    """The tasks whose code is here."""

    enqueuer: ClientEnqueuer

    def __contains__(self, task: object) -> bool:
        return isinstance(task, str) and self.enqueuer.knows(task)


@dataclass(frozen=True, slots=True)
class _ReplaceTarget:
    """A storage as others see it, that is written to in the transaction. What is held is the same in both, unless the
    transaction has stored it itself: that is found by its id being taken."""

    storage: Storage
    joined: JoinedStorage

    def hold(self, id: str) -> None:
        if self.storage.get((id,)):
            self.joined.hold(id)

    def transaction(self) -> AbstractContextManager[None]:
        return self.joined.transaction()

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        return self.storage.get(ids)

    def relations(self, id: str) -> Relations:
        return self.storage.relations(id)

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        for job, is_added in zip(jobs, self.joined.insert(jobs), strict=True):
            if not is_added:
                self.joined.replace(job)
        return [True] * len(jobs)

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        return self.joined.replace(job, progress)
