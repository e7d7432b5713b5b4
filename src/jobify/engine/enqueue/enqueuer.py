"""From an order to a stored job: outer middleware → encoded arguments → one insert → a handle.

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
from jobify.engine.enqueue.pending_job import Draft, Drafts
from jobify.engine.enqueue.replacement import options_with_origin, standing
from jobify.engine.enqueue.submission import Submission
from jobify.engine.enqueue.waiting import Waiting
from jobify.engine.execution.attempt import Interruption
from jobify.engine.execution.executor import Executor
from jobify.engine.execution.handles import Handles
from jobify.engine.execution.slots import Lanes
from jobify.exceptions import ApplicationStateError, DuplicateJobError, PayloadError
from jobify.gateway.backend import Backend, Backends
from jobify.jobs.context import OuterContext
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import Order, refused
from jobify.model.records import JobRecord, NewJob, SummaryIds
from jobify.model.status import TERMINAL, JobStatus
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.runtime.spawn import spawn
from jobify.serializers.offload import is_large, off_loop

__all__ = ("Intake",)


class Intake:
    """Takes orders for one engine."""

    def __init__(
        self,
        drafts: Drafts,
        backends: Backends,
        handles: Handles,
        lanes: Lanes,
        waiting: Waiting,
        *,
        config: JobifyConfiguration,
        executor: Executor,
    ) -> None:
        self._drafts = drafts
        self._backends = backends
        self._handles = handles
        self._lanes = lanes
        self._waiting = waiting
        self._config = config
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self.is_draining = False
        """Store what is asked for, start nothing."""
        self._is_closed = False
        self._under_way = 0
        self._placings: set[asyncio.Task[Job[Any]]] = set()
        self._is_quiet = asyncio.Event()

    async def close(self) -> None:
        """Refuse what is asked from now on, and return when everything that was asked before is answered."""
        self._is_closed = True
        while self._under_way:
            self._is_quiet.clear()
            await self._is_quiet.wait()

    def submit(self, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        """Store the order; see :class:`~jobify.jobs.schedule_builder.Scheduler`.

        A plain job is on its way when this returns. Called from another thread (for ``run_coroutine_threadsafe``), it
        begins where it is awaited.
        """
        if _get_running_loop() is not self._loop:
            return self._submit_here(order)
        try:
            draft = self._drafts.make(order, self)
            if draft.endpoint.outer:
                return self._through_middleware(draft, order)
            return self._place(draft, order)
        except Exception as error:  # an async def would raise it where it is awaited, and so does this
            return refused(error)

    async def _submit_here(self, order: Order) -> Job[Any]:
        if _get_running_loop() is not self._loop:
            raise ApplicationStateError(
                operation=f"schedule {order.name!r}",
                reason="The app runs in another event loop.",
                solution="From another thread use asyncio.run_coroutine_threadsafe(task.push(...), loop).",
            )
        return await self.submit(order)

    def _place(self, draft: Draft, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        if self._is_closed:
            raise _closed()
        if order.job_id is not None and self._backends.durable is not None:
            if draft.backend is self._backends.volatile:
                return self._place_apart(draft, order, self._backends.durable)
            self._require_free(order.job_id, self._backends.volatile.storage.get((order.job_id,)))
        return self._store(draft, order)

    def _store(self, draft: Draft, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        if order.is_replace or order.asked is not None:
            return self._put_surely(draft, order)
        return self._insert(draft, order)

    async def _place_apart(self, draft: Draft, order: Order, durable: Backend) -> Job[Any]:
        """Place a job that stays in memory under an id that may be in use in the database: ids are unique in both."""
        self._require_free(
            draft.job.id, await durable.gate.call(lambda: durable.storage.get(SummaryIds((draft.job.id,))))
        )
        return await self._store(draft, order)

    @staticmethod
    def _require_free(job_id: str, records: Sequence[JobRecord]) -> None:
        if any(record.status not in TERMINAL for record in records):
            raise DuplicateJobError(job_id)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _insert(self, draft: Draft, order: Order, *, is_encoded: bool = False) -> Coroutine[Any, Any, Job[Any]]:
        """Ask for the insert; the draft gets the answer."""
        backend = draft.backend
        is_atomic = not draft.kwargs and backend.atoms.issuperset(map(type, draft.args))
        if not is_encoded:
            if not (is_atomic or backend.is_in_memory) and is_large(draft.args, draft.kwargs):
                self._under_way += 1
                return self._surely(self._insert_large(draft, order))
            draft.encode()
        if draft.due_at <= draft.now and draft.rule is None and not self.is_draining:
            draft.job.context = context = copy_context()
            lane = self._lanes[draft.endpoint.lane]
            queues = backend.queues
            if (queues.is_plain or queues.is_open(draft.endpoint.queue)) and lane.take():
                draft.lane, draft.context = lane, context
        self._under_way += 1
        try:
            if draft.lane is not None and not (is_atomic or is_encoded):
                draft.detach()
            draft.submission = submission = Submission(loop=self._loop)
            backend.gate.insert(draft, is_unseen=draft.lane is not None and order.job_id is None)
        except BaseException:  # nothing was stored
            self._answered()
            if draft.lane is not None:
                draft.lane.release()
            raise
        return cast("Coroutine[Any, Any, Job[Any]]", submission)  # it is one by its methods, not by its class

    async def _insert_large(self, draft: Draft, order: Order) -> Job[Any]:
        """Encode large arguments in a thread, then go on as usual. Jobs that are pushed meanwhile may overtake it."""
        try:
            await off_loop(draft.encode)
            await off_loop(draft.detach)
            inserted = self._insert(draft, order, is_encoded=True)
        finally:
            self._answered()
        return await inserted

    def act(self, draft: Draft, answer: bool | Exception) -> Exception | None:
        """Act on the answer to an insert; the error that its caller is to get, if it failed."""
        self._under_way -= 1
        if self._is_closed and not self._under_way:
            self._is_quiet.set()
        if answer is not True:
            if draft.lane is not None:
                draft.lane.release()
            return DuplicateJobError(draft.job.id) if answer is False else answer
        draft.job.status = JobStatus.SCHEDULED
        if draft.lane is None:
            self._waiting.add(draft)
            return None
        try:
            attempt = draft.attempt(draft.lane)
        except Exception as error:  # it is stored, and runs when it is claimed once more
            draft.lane.release()
            self._executor.give_back(draft.backend, draft.claim(), error)
            self._handles.add(draft.job)
            return None
        if self.is_draining:  # it was asked for before: it is given back unbegun, and runs at the next start
            attempt.interruption = Interruption.SHUTDOWN
        self._executor.launch(attempt)
        return None

    def _answered(self) -> None:
        self._under_way -= 1
        if self._is_closed and not self._under_way:
            self._is_quiet.set()

    # -- replacing, and options of a job's own ------------------------------------------------------------------------

    async def _put_surely(self, draft: Draft, order: Order) -> Job[Any]:
        return await self._surely(self._put(draft, order))

    def _surely(self, placing: Coroutine[Any, Any, Job[Any]]) -> Coroutine[Any, Any, Job[Any]]:
        """Begin, and go on to the end: a caller that is cancelled on the way leaves nothing half-done."""
        task = spawn(placing)
        self._placings.add(task)
        task.add_done_callback(self._placings.discard)
        task.add_done_callback(_look_at_error)
        return _shielded(task)

    async def _put(self, draft: Draft, order: Order) -> Job[Any]:
        self._under_way += 1
        try:
            await off_loop(draft.encode) if is_large(draft.args, draft.kwargs) else draft.encode()
            if order.is_replace:
                return await self._waiting.replace(draft, is_force=order.is_force)
            return await self._waiting.insert(draft)
        finally:
            self._answered()

    # -- outer middleware ----------------------------------------------------------------------------------------------

    async def _through_middleware(self, draft: Draft, order: Order) -> Job[Any]:
        """Run the outer chain, unless it is asked for what stands there already."""
        if order.job_id is not None:
            storage, ids = draft.backend.storage, (order.job_id,)
            if not order.is_replace:  # no middleware is to announce what will be refused
                self._require_free(order.job_id, await draft.backend.gate.call(lambda: storage.get(SummaryIds(ids))))
            asked = self._as_asked(draft)
            if asked is not None and order.is_replace and not order.is_force:
                record = await draft.backend.gate.call(partial(standing, storage, asked))
                if record is not None:
                    return self._handles.of_record(record)
            draft.options = None if asked is None else options_with_origin(asked)
        job = (self._handles.find(draft.job.id) if order.is_replace else None) or draft.job

        async def store(context: OuterContext) -> None:
            draft.args, draft.kwargs = context.runnable.call_arguments()
            if not (context.is_persist or order.is_replace):
                draft.backend = self._backends.volatile
            await self._place(draft, order)

        is_persist = draft.backend.is_durable
        call = OuterCall(draft.endpoint, job, order, order.cron, draft.due_at, draft.now, is_persist)
        await run_outer(call, store, self._config)
        draft.job.leave_out()
        return draft.job

    def _as_asked(self, draft: Draft) -> NewJob | None:
        """The row of what the user asks for; None if it cannot be encoded before the middleware has seen to it."""
        try:
            draft.payload = draft.backend.codec.encode_call(draft.args, draft.kwargs, draft.endpoint.types)
            return draft.row()
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


def _look_at_error(placing: asyncio.Task[Job[Any]]) -> None:
    """The error is the caller's. Should the caller be gone, nobody is to be told that nobody has looked at it."""
    if not placing.cancelled():
        placing.exception()
