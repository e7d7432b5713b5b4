"""From a request to a stored job: outer middleware → encoded arguments → one insert → a handle.

The short way: a job that is due now and finds a free slot is inserted as already claimed by this process, and starts
when the insert is on disk. Without a free slot it is inserted as waiting, and whoever has a slot first takes it.

If the caller is cancelled while the insert is under way the job is stored and runs all the same: what was asked for may
already be on disk, and a job that is claimed must have somebody who runs it.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # get_running_loop() raises where there is none
from collections.abc import Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from jobify.config import JobifyConfiguration
from jobify.engine.enqueue.pending_job import PendingJob, PendingJobFactory, PushFuture
from jobify.engine.enqueue.replacement import find_identical, options_with_request_digest
from jobify.engine.enqueue.waiting import Waiting
from jobify.engine.execution.attempt import Interruption
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.slots import SlotPools
from jobify.exceptions import ApplicationStateError, DuplicateJobError, PayloadError
from jobify.gateway.backend import Backend, Backends
from jobify.jobs.context import OuterContext
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import PushRequest, failed_awaitable
from jobify.model.records import JobRecord, NewJob, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.runtime.spawn import spawn
from jobify.serializers.offload import is_large, off_loop

__all__ = ("Enqueuer",)


class Enqueuer:
    """Takes requests for one engine."""

    def __init__(
        self,
        pending_jobs: PendingJobFactory,
        backends: Backends,
        handles: HandleRegistry,
        pools: SlotPools,
        waiting: Waiting,
        *,
        config: JobifyConfiguration,
        executor: Executor,
    ) -> None:
        self._pending_jobs = pending_jobs
        self._backends = backends
        self._handles = handles
        self._pools = pools
        self._waiting = waiting
        self._config = config
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self.is_draining = False
        """Store what is asked for, start nothing."""
        self._is_closed = False
        self._open_inserts = 0
        self._shielded_tasks: set[asyncio.Task[Job[Any]]] = set()
        self._no_open_inserts = asyncio.Event()

    async def close(self) -> None:
        """Refuse what is asked from now on, and return when everything that was asked before is answered."""
        self._is_closed = True
        while self._open_inserts:
            self._no_open_inserts.clear()
            await self._no_open_inserts.wait()

    def submit(self, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        """Store the job; see :class:`~jobify.jobs.schedule_builder.Scheduler`.

        A plain job is on its way when this returns. Called from another thread (for ``run_coroutine_threadsafe``), it
        begins where it is awaited.
        """
        if _get_running_loop() is not self._loop:
            return self._submit_here(request)
        try:
            pending = self._pending_jobs.make(request, self)
            if pending.endpoint.outer:
                return self._run_outer_chain(pending, request)
            return self._route(pending, request)
        except Exception as error:  # an async def would raise it where it is awaited, and so does this
            return failed_awaitable(error)

    async def _submit_here(self, request: PushRequest) -> Job[Any]:
        if _get_running_loop() is not self._loop:
            raise ApplicationStateError(
                operation=f"schedule {request.name!r}",
                reason="The app runs in another event loop.",
                solution="From another thread use asyncio.run_coroutine_threadsafe(task.push(...), loop).",
            )
        return await self.submit(request)

    def _route(self, pending: PendingJob, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        if self._is_closed:
            raise _closed()
        if request.job_id is not None and self._backends.durable is not None:
            if pending.backend is self._backends.memory:
                return self._enqueue_in_memory(pending, request, self._backends.durable)
            self._require_free(request.job_id, self._backends.memory.storage.get((request.job_id,)))
        return self._store(pending, request)

    def _store(self, pending: PendingJob, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        if request.is_replace or request.spec is not None:
            return self._replace_shielded(pending, request)
        return self._insert(pending, request)

    async def _enqueue_in_memory(self, pending: PendingJob, request: PushRequest, durable: Backend) -> Job[Any]:
        """Place a job that stays in memory under an id that may be in use in the database: ids are unique in both."""
        self._require_free(
            pending.job.id, await durable.gate.call(lambda: durable.storage.get(SummaryIds((pending.job.id,))))
        )
        return await self._store(pending, request)

    @staticmethod
    def _require_free(job_id: str, records: Sequence[JobRecord]) -> None:
        if any(record.status not in TERMINAL for record in records):
            raise DuplicateJobError(job_id)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _insert(
        self, pending: PendingJob, request: PushRequest, *, is_encoded: bool = False
    ) -> Coroutine[Any, Any, Job[Any]]:
        """Ask for the insert; the pending gets the answer."""
        backend = pending.backend
        is_atomic = not pending.kwargs and backend.atoms.issuperset(map(type, pending.args))
        if not is_encoded:
            if not (is_atomic or backend.is_in_memory) and is_large(pending.args, pending.kwargs):
                self._open_inserts += 1
                return self._shield(self._insert_large(pending, request))
            pending.encode()
        if pending.due_at <= pending.now and pending.rule is None and not self.is_draining:
            pending.job.context = context = copy_context()
            pool = self._pools[pending.endpoint.slot_mode]
            queues = backend.queues
            if (queues.all_open or queues.is_open(pending.endpoint.queue)) and pool.take():
                pending.pool, pending.context = pool, context
        self._open_inserts += 1
        try:
            if pending.pool is not None and not (is_atomic or is_encoded):
                pending.copy_arguments()
            pending.future = future = PushFuture(loop=self._loop)
            backend.gate.insert(pending, deferrable=pending.pool is not None and request.job_id is None)
        except BaseException:  # nothing was stored
            self._insert_done()
            if pending.pool is not None:
                pending.pool.release()
            raise
        return cast("Coroutine[Any, Any, Job[Any]]", future)  # it is one by its methods, not by its class

    async def _insert_large(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        """Encode large arguments in a thread, then go on as usual. Jobs that are pushed meanwhile may overtake it."""
        try:
            await off_loop(pending.encode)
            await off_loop(pending.copy_arguments)
            inserted = self._insert(pending, request, is_encoded=True)
        finally:
            self._insert_done()
        return await inserted

    def on_inserted(self, pending: PendingJob, answer: bool | Exception) -> Exception | None:
        """Act on the answer to an insert; the error that its caller is to get, if it failed."""
        self._open_inserts -= 1
        if self._is_closed and not self._open_inserts:
            self._no_open_inserts.set()
        if answer is not True:
            if pending.pool is not None:
                pending.pool.release()
            return DuplicateJobError(pending.job.id) if answer is False else answer
        pending.job.status = JobStatus.SCHEDULED
        if pending.pool is None:
            self._waiting.add(pending)
            return None
        try:
            attempt = pending.attempt(pending.pool)
        except Exception as error:  # it is stored, and runs when it is claimed once more
            pending.pool.release()
            self._executor.released.release_failed(pending.backend, pending.claim(), error)
            self._handles.add(pending.job)
            return None
        if self.is_draining:  # it was asked for before: it is given back unbegun, and runs at the next start
            attempt.interruption = Interruption.SHUTDOWN
        self._executor.launch(attempt)
        return None

    def _insert_done(self) -> None:
        self._open_inserts -= 1
        if self._is_closed and not self._open_inserts:
            self._no_open_inserts.set()

    # -- replacing, and options of a job's own ------------------------------------------------------------------------

    async def _replace_shielded(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        return await self._shield(self._put(pending, request))

    def _shield(self, placing: Coroutine[Any, Any, Job[Any]]) -> Coroutine[Any, Any, Job[Any]]:
        """Begin, and go on to the end: a caller that is cancelled on the way leaves nothing half-done."""
        task = spawn(placing)
        self._shielded_tasks.add(task)
        task.add_done_callback(self._shielded_tasks.discard)
        task.add_done_callback(_retrieve_error)
        return _shielded(task)

    async def _put(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        self._open_inserts += 1
        try:
            await off_loop(pending.encode) if is_large(pending.args, pending.kwargs) else pending.encode()
            if request.is_replace:
                return await self._waiting.replace(pending, is_force=request.is_force)
            return await self._waiting.insert(pending)
        finally:
            self._insert_done()

    # -- outer middleware ----------------------------------------------------------------------------------------------

    async def _run_outer_chain(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        """Run the outer chain, unless it is asked for what stands there already."""
        if request.job_id is not None:
            storage, ids = pending.backend.storage, (request.job_id,)
            if not request.is_replace:  # no middleware is to announce what will be refused
                self._require_free(
                    request.job_id, await pending.backend.gate.call(lambda: storage.get(SummaryIds(ids)))
                )
            asked = self._requested_row(pending)
            if asked is not None and request.is_replace and not request.is_force:
                record = await pending.backend.gate.call(partial(find_identical, storage, asked))
                if record is not None:
                    return self._handles.of_record(record)
            pending.options = None if asked is None else options_with_request_digest(asked)
        job = (self._handles.find(pending.job.id) if request.is_replace else None) or pending.job

        async def store(context: OuterContext) -> None:
            pending.args, pending.kwargs = context.runnable.call_arguments()
            if not (context.is_persist or request.is_replace):
                pending.backend = self._backends.memory
            await self._route(pending, request)

        is_persist = pending.backend.is_durable
        call = OuterCall(pending.endpoint, job, request, request.cron, pending.due_at, pending.now, is_persist)
        await run_outer(call, store, self._config)
        pending.job.mark_not_scheduled()
        return pending.job

    def _requested_row(self, pending: PendingJob) -> NewJob | None:
        """The row of what the user asks for; None if it cannot be encoded before the middleware has seen to it."""
        try:
            pending.payload = pending.backend.codec.encode_call(pending.args, pending.kwargs, pending.endpoint.types)
            return pending.row()
        except PayloadError:
            return None


def _closed() -> ApplicationStateError:
    return ApplicationStateError(
        operation="schedule a job",
        reason="The app is shutting down.",
        solution="Do it before the end of `async with app:`.",
    )


async def _shielded(placing: asyncio.Task[Job[Any]]) -> Job[Any]:
    return await asyncio.shield(placing)


def _retrieve_error(placing: asyncio.Task[Job[Any]]) -> None:
    """The error is the caller's. Should the caller be gone, nobody is to be told that nobody has looked at it."""
    if not placing.cancelled():
        placing.exception()
