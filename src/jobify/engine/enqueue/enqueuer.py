"""From a push to a stored job: resolve → check → outer middleware → encode → insert → handle.

The fast path: a job that is due now, has no limits, is of no batch, and finds a free slot is inserted already claimed
by this process, and starts when the insert is committed (:meth:`Enqueuer.on_inserted`); the push returns when it is on
disk. Without a free slot it is inserted as waiting, and the first process with a free slot claims it.

If the caller is cancelled during the insert the job is stored and runs all the same, because the insert may already be
on disk, and a claimed job must run.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # get_running_loop() raises where there is none
from collections.abc import Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from jobify.config import JobifyConfiguration
from jobify.engine.enqueue.pending_job import PendingJob, PendingJobFactory, PushFuture
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Interruption, Phase, RunningAttempts
from jobify.engine.execution.claim_handler import ReleasedClaims
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.slots import SlotPools
from jobify.exceptions import ApplicationStateError, DuplicateJobError, PayloadError
from jobify.gateway.backend import Backend
from jobify.gateway.notification import NEW_WORK, STATE_CHANGED
from jobify.jobs.context import OuterContext
from jobify.jobs.job import Job
from jobify.jobs.job_request import DEFAULT_SPEC
from jobify.jobs.merging import StoredJob, store_call
from jobify.jobs.replacement import (
    ReplaceResult,
    find_identical,
    options_with_request_digest,
    replace,
)
from jobify.jobs.schedule_builder import PushRequest, failed_awaitable
from jobify.model.records import JobRecord, NewJob, Progress, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.runtime.spawn import spawn
from jobify.serializers.offload import is_large, off_loop

__all__ = ("Enqueuer",)


class Enqueuer:
    """Stores the jobs that this process pushes, and launches those that are inserted already claimed."""

    def __init__(
        self,
        pending_jobs: PendingJobFactory,
        pools: SlotPools,
        attempts: RunningAttempts,
        events: EngineEvents,
        executor: Executor,
        released: ReleasedClaims,
        config: JobifyConfiguration,
    ) -> None:
        self._pending_jobs = pending_jobs
        self._registry = pending_jobs.registry
        self._backends = pending_jobs.backends
        self._handles = pending_jobs.handles
        self._pools = pools
        self._attempts = attempts
        self._events = events
        self._executor = executor
        self._released = released
        self._config = config
        self._loop = asyncio.get_running_loop()
        self.is_draining = False
        """Store jobs, start none."""
        self._is_closed = False
        self._open_inserts = 0
        self._no_open_inserts = asyncio.Event()
        self._shielded_tasks: set[asyncio.Task[Job[Any]]] = set()

    async def close(self) -> None:
        """Refuse further pushes, and return when the earlier ones are stored, or have failed."""
        self._is_closed = True
        while self._open_inserts:
            self._no_open_inserts.clear()
            await self._no_open_inserts.wait()

    # -- resolve and check ---------------------------------------------------------------------------------------------

    def submit(self, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        """Store the requested job; see :class:`~jobify.jobs.schedule_builder.Scheduler`.

        The insert of a plain job is under way when this returns. Called from another thread (for
        ``run_coroutine_threadsafe``), it begins where it is awaited.
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
        """Check that the id is free in both storages, then store the job in its own."""
        if self._is_closed:
            raise ApplicationStateError(
                operation="schedule a job",
                reason="The app is shutting down.",
                solution="Do it before the end of `async with app:`.",
            )
        if request.job_id is not None and self._backends.durable is not None:
            if pending.backend is self._backends.memory:
                return self._enqueue_in_memory(pending, request, self._backends.durable)
            _require_free(request.job_id, self._backends.memory.storage.get((request.job_id,)))
        return self._store(pending, request)

    async def _enqueue_in_memory(self, pending: PendingJob, request: PushRequest, durable: Backend) -> Job[Any]:
        """Store a job that stays in memory, under an id that may be in use in the database."""
        id = pending.job.id
        _require_free(id, await durable.gate.call(lambda: durable.storage.get(SummaryIds((id,)))))
        return await self._store(pending, request)

    def _store(self, pending: PendingJob, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        if request.is_replace or request.spec is not None or pending.endpoint.needs_steps:
            return self._replace_shielded(pending, request)
        return self._insert(pending, request)

    # -- outer middleware ----------------------------------------------------------------------------------------------

    async def _run_outer_chain(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        """Run the outer chain around the rest of the way, unless an identical job is stored already."""
        if request.job_id is not None:
            storage, ids = pending.backend.storage, (request.job_id,)
            if not request.is_replace:  # because no middleware may announce what will be refused
                _require_free(request.job_id, await pending.backend.gate.call(lambda: storage.get(SummaryIds(ids))))
            requested = _requested_row(pending)
            if requested is not None and request.is_replace and not request.is_force:
                record = await pending.backend.gate.call(partial(find_identical, storage, requested))
                if record is not None:
                    return self._handles.of_record(record)
            pending.options = None if requested is None else options_with_request_digest(requested)
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

    # -- encode and insert ---------------------------------------------------------------------------------------------

    def _insert(
        self, pending: PendingJob, request: PushRequest, *, is_encoded: bool = False
    ) -> Coroutine[Any, Any, Job[Any]]:
        """Encode the arguments, take a slot if there is one, and begin the insert; :meth:`on_inserted` ends it."""
        backend = pending.backend
        is_atomic = not pending.kwargs and backend.atoms.issuperset(map(type, pending.args))
        if not is_encoded:
            if not (is_atomic or backend.is_in_memory) and is_large(pending.args, pending.kwargs):
                self._open_inserts += 1
                return self._shield(self._insert_large(pending, request))
            pending.encode()
        endpoint = pending.endpoint
        is_held = endpoint.limits or endpoint.batch is not None or endpoint.name in backend.limited_tasks
        if pending.due_at <= pending.now and pending.rule is None and not (self.is_draining or is_held):
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
        return future  # pyright: ignore[reportReturnType]  # it is a coroutine by its methods, not by its class

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
        """From *stored* to *runs*: launch a job that is claimed already. Return the error of an insert that failed."""
        self._open_inserts -= 1  # _insert_done(), without the call
        if self._is_closed and not self._open_inserts:
            self._no_open_inserts.set()
        if answer is not True:
            if pending.pool is not None:
                pending.pool.release()
            return DuplicateJobError(pending.job.id) if answer is False else answer
        pending.job.status = JobStatus.SCHEDULED
        if pending.pool is None:
            self._on_waiting(pending)
            return None
        try:
            attempt = pending.attempt(pending.pool)
        except Exception as error:  # it is stored, and runs when it is claimed again
            pending.pool.release()
            self._released.release_failed(pending.backend, pending.claim(), error)
            self._handles.add(pending.job)
            return None
        if self.is_draining:  # pushed before the shutdown: it is released unbegun, and runs at the next start
            attempt.interruption = Interruption.SHUTDOWN
        self._executor.launch(attempt)
        return None

    def _on_waiting(self, pending: PendingJob) -> None:
        """A job was stored that waits for its due time, or for a slot."""
        if pending.rule is not None:
            self._handles.attach_schedule(pending.job, pending.rule, 0, 0)
        attempt = self._attempts.running.get(pending.job.id)
        if attempt is not None and attempt.job is None:  # it was claimed before this process learned that it is stored
            attempt.job = pending.job
            pending.job.status = JobStatus.RUNNING if attempt.phase is Phase.RUNNING else JobStatus.SCHEDULED
        self._handles.add(pending.job)
        self._events.job_due(pending.backend, pending.due_at)

    def _insert_done(self) -> None:
        self._open_inserts -= 1
        if self._is_closed and not self._open_inserts:
            self._no_open_inserts.set()

    # -- replace, and options of a single job --------------------------------------------------------------------------

    async def _replace_shielded(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        return await self._shield(self._replace(pending, request))

    def _shield(self, storing: Coroutine[Any, Any, Job[Any]]) -> Coroutine[Any, Any, Job[Any]]:
        """Run to the end even if the caller is cancelled, so that nothing is left half-done."""
        task = spawn(storing)
        self._shielded_tasks.add(task)
        task.add_done_callback(self._shielded_tasks.discard)
        task.add_done_callback(_retrieve_error)
        return _shielded(task)

    async def _replace(self, pending: PendingJob, request: PushRequest) -> Job[Any]:
        """Put the job in the place of the one with its id, or insert it unless its unique key is in use."""
        self._open_inserts += 1
        try:
            await off_loop(pending.encode) if is_large(pending.args, pending.kwargs) else pending.encode()
            storage, call = pending.backend.storage, pending.backend.gate.call
            if request.is_replace:
                put = partial(replace, storage, pending.row(), known=self._registry, is_force=request.is_force)
                pending.job = self._on_replaced(pending, await call(put, audience=STATE_CHANGED))
                return pending.job
            rules = pending.endpoint.rules
            keyed = rules.apply(pending.row(), pending.args, pending.kwargs, pending.spec or DEFAULT_SPEC)
            now = self._pending_jobs.clock.now()
            delete_at = self._config.limits.retention.cancelled_until(now)
            store = partial(store_call, storage, keyed, now=now, delete_at=delete_at)
            return self._on_stored(
                pending, keyed.row, *await call(store, audience=STATE_CHANGED if rules.has_rules else NEW_WORK)
            )
        finally:
            self._insert_done()

    def _on_stored(self, pending: PendingJob, row: NewJob, stored: StoredJob, record: JobRecord | None) -> Job[Any]:
        """The handle of a call that may have met an earlier job."""
        if stored.cancelled is not None:
            attempt = self._attempts.find(stored.cancelled)
            if attempt is not None and attempt.interruption is not Interruption.CANCEL:
                attempt.interrupt(Interruption.CANCEL)
            self._events.jobs_changed.set()
        if stored.before is not None:
            due_at = row.due_at if stored.due_at is None else stored.due_at
            pending.job = self._handles.make(stored.id, due_at, JobStatus.PENDING)
            return self._on_replaced(pending, ReplaceResult(stored.before, False, Progress(0, 0), due_at))
        if record is not None:
            pending.job = self._handles.of_record(record)
        elif stored.is_created:
            pending.job.reschedule(row.due_at, JobStatus.SCHEDULED)
            pending.due_at = row.due_at
            self._on_waiting(pending)
        else:  # it was merged into a job that was deleted since
            pending.job = self._handles.make(stored.id, row.due_at, JobStatus.CANCELLED)
        return pending.job

    def _on_replaced(self, pending: PendingJob, result: ReplaceResult) -> Job[Any]:
        """The handle that the user already has, brought up to date; or the new one."""
        attempt, record = self._attempts.find(pending.job.id), result.record
        held = self._handles.find(pending.job.id) or (attempt.job if attempt is not None else None)
        job = pending.job = held if held is not None and not held.is_done() else pending.job
        if result.is_unchanged and record is not None:  # the stored job stays
            return self._handles.of_record(record)
        if attempt is not None and record is not None and attempt.owns(record):  # the new one follows this attempt
            attempt.is_replaced = True
        if attempt is None or attempt.is_replaced:  # else the new job runs here already
            is_running = record is not None and record.status == JobStatus.RUNNING
            job.reschedule(result.due_at, JobStatus.RUNNING if is_running else JobStatus.SCHEDULED)
        if pending.rule is None:
            job.unbind_cron_context()
        else:
            self._handles.attach_schedule(job, pending.rule, *result.progress)
        self._handles.add(job)
        self._events.job_due(pending.backend, result.due_at)
        return job


def _require_free(job_id: str, records: Sequence[JobRecord]) -> None:
    if any(record.status not in TERMINAL for record in records):
        raise DuplicateJobError(job_id)


def _requested_row(pending: PendingJob) -> NewJob | None:
    """The row that the user requests; None if it cannot be encoded before the middleware has changed it."""
    try:
        pending.payload = pending.backend.codec.encode_call(pending.args, pending.kwargs, pending.endpoint.types)
        return pending.row()
    except PayloadError:
        return None


async def _shielded(storing: asyncio.Task[Job[Any]]) -> Job[Any]:
    return await asyncio.shield(storing)


def _retrieve_error(storing: asyncio.Task[Job[Any]]) -> None:
    """Retrieve the error, which the caller gets. If the caller is gone, asyncio must not report it as unretrieved."""
    if not storing.cancelled():
        storing.exception()
