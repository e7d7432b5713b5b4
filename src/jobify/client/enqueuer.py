"""Enqueuing by a client: resolve → check → outer chain → rows → one insert → handles.

A job without options, of a task without outer middleware, takes a fast path: resolve → row → insert → handle.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from jobify.client.task_resolver import ResolvedTask, TaskResolver
from jobify.client.threads import ClientThreads
from jobify.config import JobifyConfiguration
from jobify.exceptions import ApplicationStateError, ConfigurationError, DuplicateJobError
from jobify.gateway.connection import StorageConnection
from jobify.jobs.call_rules import KeyedCall
from jobify.jobs.context import OuterContext
from jobify.jobs.job import Job
from jobify.jobs.job_request import JobRequest, TransactionSubmitter
from jobify.jobs.job_result import JobResult
from jobify.jobs.limit_places import define_missing, refuse_excess
from jobify.jobs.merging import end_expired, insert_calls, need_steps, store_calls
from jobify.jobs.result_backend import ResultBackend
from jobify.jobs.row_builder import PLACEHOLDER, RowBuilder, args_with_placeholder
from jobify.jobs.schedule_builder import PushRequest
from jobify.model.clock import Clock, ServerTime
from jobify.model.records import NewJob
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.runtime.spawn import spawn
from jobify.serializers.offload import is_large, off_loop
from jobify.storage.base import Storage
from jobify.storage.transactions import JoinedStorage
from jobify.types import Microseconds

__all__ = ("ClientEnqueuer", "PendingCall", "insert_rows", "run_outer_chain", "run_sync")

T = TypeVar("T")


class PendingCall(Struct):
    """A request that has not become a row yet."""

    task: ResolvedTask
    request: JobRequest
    job_id: str
    is_wanted: bool = True
    """False: an outer middleware has stopped it."""
    result: JobResult[Any] | None = None
    """Set once the job is stored, or another job with its unique key was found."""

    def apply_rules(self, row: NewJob) -> KeyedCall:
        """The row of this call, with what its task says of others with its key."""
        request = self.request
        is_complete = request.result_input is None or not request.result_input.is_taken
        return self.task.rules.apply(row, request.args, request.kwargs, request.spec, is_complete=is_complete)


def insert_rows(connection: StorageConnection, rows: Sequence[NewJob]) -> list[bool]:
    """Store rows, and notify the workers."""
    with connection as storage:
        added = storage.insert(rows)
    connection.notify(workers=True)
    return added


class ClientEnqueuer:
    """See :class:`jobify.jobs.job_request.Submitter`."""

    def __init__(
        self,
        *,
        connection: StorageConnection,
        threads: ClientThreads,
        tasks: TaskResolver,
        rows: RowBuilder,
        operations: ResultBackend,
        config: JobifyConfiguration,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._threads = threads
        self._tasks = tasks
        self._rows = rows
        self._operations = operations
        self._config = config
        self._clock = clock
        self._unread: ServerTime | None = config.storage.clock if clock is config.storage.clock else None
        """The clock of a server that may not have been read yet; opening the storage does that."""
        self._defined = set[str]()  # tasks whose limits are stored

    def _read_clock(self) -> None:
        """Open the storage, if its clock was not read before."""
        unread = self._unread
        if unread is not None and not unread.is_synchronised:
            self._connection.reader()
        self._unread = None

    async def _once_read(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make a call when the clock has been read; to its end even if the caller is cancelled, as any call is that was
        begun."""

        async def read_and_call() -> T:
            await self._threads.writer.call(self._read_clock)
            return await call()

        return await asyncio.shield(spawn(read_and_call()))

    # -- without options -----------------------------------------------------------------------------------------------

    def delay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """Store one job."""
        if self._unread is not None:
            self._read_clock()
        resolved = self._tasks.of(task)
        if resolved.has_outer or resolved.needs_steps:
            return self.submit((JobRequest(task, args, kwargs),))[0]
        row = self._rows.plain(resolved, args, kwargs)
        return self._handle(row, insert_rows(self._connection, (row,))[0])

    async def adelay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """Store one job, in a transaction that it shares with concurrent calls."""
        if self._unread is not None:
            return await self._once_read(lambda: self.adelay(task, args, kwargs))
        resolved = self._tasks.of(task)
        if resolved.has_outer or resolved.needs_steps:
            return (await self.asubmit((JobRequest(task, args, kwargs),)))[0]
        if is_large(args, kwargs):
            row = await off_loop(partial(self._rows.plain, resolved, args, kwargs))
        else:
            row = self._rows.plain(resolved, args, kwargs)
        return self._handle(row, await self._threads.writer.insert(row))

    def delay_all(self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[JobResult[Any]]:
        """Store a job for each call, in one transaction."""
        if self._unread is not None:
            self._read_clock()
        resolved = self._tasks.of(task)
        if resolved.has_outer or resolved.needs_steps:
            return self.submit([JobRequest(task, args, kwargs) for args, kwargs in calls])
        rows = self._rows.plain_each(resolved, calls)
        if not rows:
            return []
        with self._connection as storage, storage.transaction():
            for row, is_added in zip(rows, storage.insert(rows), strict=True):
                if not is_added:
                    raise DuplicateJobError(row.id, can_replace=False)
        self._connection.notify(workers=True)
        operations = self._operations
        return [JobResult(row.id, operations) for row in rows]

    async def adelay_all(
        self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> list[JobResult[Any]]:
        """:meth:`delay_all`, without blocking."""
        resolved = self._tasks.of(task)
        if resolved.has_outer or resolved.needs_steps:
            return await self.asubmit([JobRequest(task, args, kwargs) for args, kwargs in calls])
        return await self._threads.writer.call(partial(self.delay_all, task, calls))

    def _handle(self, row: NewJob, is_added: bool) -> JobResult[Any]:
        if not is_added:  # the app's uuid_generator has made an id that is in use
            raise DuplicateJobError(row.id, can_replace=False)
        return JobResult(row.id, self._operations)

    def handle(self, row: NewJob) -> JobResult[Any]:
        """The handle of a job that was stored."""
        return JobResult(row.id, self._operations)

    def using(self, connection: object) -> TransactionSubmitter:
        """What enqueues in the transaction of a user's ``connection``; ConfigurationError for one that is none."""
        from jobify.client.transactions import TransactionEnqueuer
        from jobify.transactions import connect

        return TransactionEnqueuer(self, connect(connection), self._connection, self._threads)

    # -- with options --------------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """Store a batch."""
        if self._unread is not None:
            self._read_clock()
        jobs = self.check(requests)
        if any(job.task.has_outer for job in jobs):
            run_sync(partial(self.run_outer_chains, jobs, is_blocking=True))
        if len(jobs) != 1 or jobs[0].result is None:
            self._store(jobs)
        return self.handles(jobs)

    async def asubmit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """Store a batch, without blocking."""
        if self._unread is not None:
            return await self._once_read(lambda: self.asubmit(requests))
        writer = self._threads.writer
        jobs = self.check(requests)
        if any(job.task.has_outer for job in jobs):
            await self.run_outer_chains(jobs, is_blocking=False)
        if len(jobs) != 1 or jobs[0].result is None:
            await writer.call(partial(self._store, jobs))
        return self.handles(jobs)

    def knows(self, task: str) -> bool:
        """Whether the code of a task is here."""
        return self._tasks.known(task).endpoint is not None

    def check(self, requests: Sequence[JobRequest]) -> list[PendingCall]:
        """Resolve the tasks and check the arguments."""
        is_workflow = any(request.result_input is not None for request in requests)
        jobs = []
        for request in requests:
            task = self._tasks.of(request.task)
            if task.check is not None:
                task.check(*args_with_placeholder(request), **request.kwargs)
            if is_workflow and request.spec.unique_key is not None:
                raise ConfigurationError(
                    f"A job of {request.task!r} in a workflow has a unique_key. Others of the workflow depend on it, "
                    "so it cannot give way to another one: leave the unique_key out."
                )
            jobs.append(PendingCall(task, request, self._rows.new_id(request.spec)))
        return jobs

    async def run_outer_chains(
        self, jobs: Sequence[PendingCall], *, is_blocking: bool, stores_single: bool = True
    ) -> None:
        """Run the outer chains. A single job is stored at the end of its chain, unless the caller stores it; those of
        a batch after all chains."""
        for job in jobs:
            if not job.task.has_outer:
                continue
            job.is_wanted = False

            async def store(request: JobRequest, job: PendingCall = job) -> None:
                job.request, job.is_wanted = request, True
                if stores_single and len(jobs) == 1:
                    store_it = partial(self._store, jobs)
                    await self._threads.writer.call(store_it) if not is_blocking else store_it()

            spec, now = job.request.spec, self._clock.now()
            due_at = self._rows.due_at(spec, now)
            await run_outer_chain(
                job.task, job.request, job.job_id, due_at=due_at, now=now, config=self._config, store=store
            )

    def _store(self, jobs: Sequence[PendingCall]) -> None:
        wanted = [job for job in jobs if job.is_wanted]
        if not wanted:
            return
        rows = self.build_rows(wanted, [job.job_id for job in jobs])
        with self._connection as storage:
            self._insert(storage, wanted, rows)
        self._connection.notify(workers=True)

    def _insert(self, storage: Storage, jobs: Sequence[PendingCall], rows: Sequence[NewJob]) -> None:
        """Insert the rows of jobs, which get their handles."""
        calls = [job.apply_rules(row) for job, row in zip(jobs, rows, strict=True)]
        limits = {job.task.name: job.task.limits for job in jobs if job.task.takes_places}
        if limits.keys() - self._defined:
            define_missing(storage, limits, now=self._clock.now())
            self._defined.update(limits)
        unknown = [job.task.name for job in jobs if job.task.endpoint is None]
        may_refuse = limits or (unknown and storage.task_limits(unknown))
        if len(calls) == 1 and not (may_refuse or calls[0].is_conditional) and storage.insert((calls[0].row,))[0]:
            jobs[0].result = JobResult(calls[0].row.id, self._operations)
            return
        now = self._clock.now()
        delete_at = self._config.limits.retention.cancelled_until(now)
        with storage.transaction():
            if need_steps(calls):
                stored = store_calls(storage, calls, now=now, delete_at=delete_at)
            else:
                stored = insert_calls(storage, calls, partial(end_expired, storage, now=now, delete_at=delete_at))
            new = [call.row for call, one in zip(calls, stored, strict=True) if one.is_created and may_refuse]
            refused = refuse_excess(storage, new, now=now, delete_at=delete_at) if new else ()
        for job, one in zip(jobs, stored, strict=True):
            job.result = JobResult(one.id, self._operations, one.is_created and one.id not in refused)

    def insert_joined(self, storage: JoinedStorage, jobs: Sequence[PendingCall], rows: Sequence[NewJob]) -> None:
        """Insert the rows of jobs in a user's transaction. There no limit refuses any: they wait."""
        calls = [job.apply_rules(row) for job, row in zip(jobs, rows, strict=True)]
        if need_steps(calls):
            raise ConfigurationError(
                f"A job of {calls[0].row.task!r} cannot be stored in a transaction of yours: it may have to change an "
                "earlier job, which is not of this transaction. That is said by debounce=, and by the on_conflict of "
                "unique=, of its task."
            )
        with storage.transaction():
            stored = insert_calls(storage, calls)
        for job, one in zip(jobs, stored, strict=True):
            job.result = JobResult(one.id, self._operations, one.is_created)

    def build_rows(self, jobs: Sequence[PendingCall], ids: Sequence[str]) -> list[NewJob]:
        """The rows of jobs; ``ids`` are those of the whole batch, to which their inputs refer by index."""
        rows = []
        parents: dict[tuple[int, ...], tuple[str, ...]] = {(): ()}
        """By indexes: one tuple of ids, however many jobs have the same parents."""
        for job in jobs:
            source = job.request.result_input
            indexes = () if source is None else (*source.indexes, *source.after) if source.after else source.indexes
            if indexes not in parents:
                parents[indexes] = tuple(dict.fromkeys(ids[index] for index in indexes))
            rows.append(self._rows.row(job.task, job.request, job.job_id, parents[indexes]))
        return rows

    def handles(self, jobs: Sequence[PendingCall]) -> list[JobResult[Any]]:
        """The handles of a batch, in its order."""
        return [job.result or JobResult(job.job_id, self._operations, created=False) for job in jobs]


async def run_outer_chain(
    task: ResolvedTask,
    request: JobRequest,
    job_id: str,
    *,
    due_at: Microseconds,
    now: Microseconds,
    config: JobifyConfiguration,
    store: Callable[[JobRequest], Awaitable[None]],
) -> None:
    """Run the outer chain of the task around ``store``, which gets the request as the chain has left it. A middleware
    that does not go on keeps it from being called."""
    endpoint = task.endpoint
    assert endpoint is not None, "a task that is not known here has no middleware"
    args, kwargs = args_with_placeholder(request), dict(request.kwargs)
    order = PushRequest(task.name, args, kwargs, due_at if due_at > now else None)
    job: Job[Any] = Job(job_id=job_id, exec_at=due_at)

    async def end(context: OuterContext) -> None:
        if not context.is_persist:
            raise ApplicationStateError(
                operation=f"keep a job of {task.name!r} in memory",
                reason="It is enqueued for any process that runs it.",
                solution="Have the outer middleware leave is_persist alone, or use push().",
            )
        await store(_changed(request, *context.runnable.call_arguments()))

    await run_outer(OuterCall(endpoint, job, order, None, due_at, now, True), end, config)


def _changed(request: JobRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobRequest:
    if args_with_placeholder(request) is not request.args:
        if not args or args[0] is not PLACEHOLDER:
            raise TypeError(f"an outer middleware has replaced {PLACEHOLDER!r}, the first argument of {request.task}()")
        args = args[1:]
    return msgspec.structs.replace(request, args=args, kwargs=kwargs)


def run_sync(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` from sync code, in a new event loop; in a new thread if an event loop runs in this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    outcome: list[T | BaseException] = []
    context = copy_context()

    def run() -> None:
        try:
            outcome.append(context.run(_run, main))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="jobify-outer")
    thread.start()
    thread.join()
    (ended,) = outcome
    if isinstance(ended, BaseException):
        raise ended
    return ended


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.new_event_loop()  # asyncio.run would replace the loop of this thread
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
