"""From an order to a stored job: outer middleware → encoded arguments → one insert → a handle.

The short way: a job that is due now and finds a free slot is inserted as already claimed by this process, and starts
when the insert is on disk. Without a free slot it is inserted as waiting, and whoever has a slot first takes it.

If the caller is cancelled while the insert is under way the job is stored and runs all the same: what was asked for may
already be on disk, and a job that is claimed must have somebody who runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from itertools import chain
from typing import Any, cast

from msgspec import Struct

from jobify.clock import Clock
from jobify.context import OuterContext
from jobify.engine.attempt import Attempt, Interruption
from jobify.engine.backend import Backend, not_stored
from jobify.engine.handles import Handles
from jobify.engine.lanes import Lanes, LaneSlots
from jobify.engine.outer import OuterCall, run_outer
from jobify.engine.placing import Placement, options_with_origin, replace, standing
from jobify.engine.rules import Rule, Rules
from jobify.engine.submission import Submission
from jobify.exceptions import ApplicationStateError, DuplicateJobError, PayloadError
from jobify.identifiers import text_ids
from jobify.job import Job
from jobify.records import JobRecord, NewJob
from jobify.registry import Endpoint, Registry
from jobify.schedule import Order, refused
from jobify.settings import JobifyConfiguration
from jobify.status import ENDED, JobStatus
from jobify.types import Microseconds

__all__ = ("Draft", "Intake")

_SCHEDULED, _RUNNING = JobStatus.SCHEDULED.value, JobStatus.RUNNING.value


class Draft(Struct, eq=False, gc=False):
    """An order on its way to becoming a row; it gets the answer to its insert, also when nobody waits for that any
    more.

    (For ``gc=False`` see :class:`~jobify.schedule.Order`.)
    """

    intake: Intake
    endpoint: Endpoint
    backend: Backend
    job: Job[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rule: Rule | None
    now: Microseconds
    due_at: Microseconds
    lane: LaneSlots | None = None
    """The lane that a slot is held in: the job is claimed by this process at birth."""
    options: str | None = None
    context: Context | None = None
    """The context variables of the caller, for a job that starts at once."""
    submission: Submission | None = None
    payload: Any = None

    def row(self) -> NewJob:
        """The draft as a row: claimed by this process, or waiting."""
        owner, rule, is_claimed = self.backend.owner, self.rule, self.lane is not None
        return NewJob(
            self.job.id,
            self.endpoint.name,
            "default",
            0,
            _RUNNING if is_claimed else _SCHEDULED,
            not is_claimed and self.due_at <= self.now,
            self.due_at,
            self.now,
            self.payload,
            None if rule is None else rule.text,
            None if rule is None else self.due_at,
            self.options,
            owner,
            owner if is_claimed else None,
            1 if is_claimed else 0,
            1 if is_claimed else 0,
            self.now if is_claimed else None,
        )

    def attempt(self, lane: LaneSlots) -> Attempt:
        """The first attempt of a job that was claimed at birth."""
        return Attempt(
            self.backend,
            self.endpoint,
            lane,
            self.job.id,
            self.due_at,
            self.job,
            origin=self.backend.owner,
            args=self.args,
            kwargs=self.kwargs,
            context=self.context,
        )

    def __call__(self, answer: bool | Exception) -> None:
        error = self.intake.act(self, answer)
        submission, self.submission = self.submission, None
        if submission is None or submission.done():
            return  # its caller was cancelled, and the job is stored all the same
        if error is None:
            submission.set_result(self.job)
        else:
            submission.set_exception(error)


class Intake:
    """Takes orders for one engine."""

    def __init__(
        self,
        *,
        registry: Registry,
        backend_of: Callable[[Endpoint], Backend],
        durable: Backend | None,
        volatile: Backend,
        handles: Handles,
        rules: Rules,
        lanes: Lanes,
        config: JobifyConfiguration,
        clock: Clock,
        launch: Callable[[Attempt], None],
        expect: Callable[[Backend, Microseconds], None],
        find_attempt: Callable[[str], Attempt | None],
    ) -> None:
        self._registry = registry
        self._backend_of = backend_of
        self._durable = durable
        self._volatile = volatile
        self._handles = handles
        self._rules = rules
        self._lanes = lanes
        self._config = config
        self._clock = clock
        self._launch = launch
        self._expect = expect
        self._find_attempt = find_attempt
        self._new_id = text_ids(config.uuid_generator)
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
        """Store the order; see :class:`~jobify.schedule.Scheduler`.

        A plain job is on its way when this returns. Called from another thread (for ``run_coroutine_threadsafe``), it
        begins where it is awaited.
        """
        if _running_loop() is not self._loop:
            return self._submit_here(order)
        try:
            draft = self._draft(order)
            if draft.endpoint.outer:
                return self._through_middleware(draft, order)
            return self._place(draft, order)
        except Exception as error:  # an async def would raise it where it is awaited, and so does this
            return refused(error)

    async def _submit_here(self, order: Order) -> Job[Any]:
        if _running_loop() is not self._loop:
            raise ApplicationStateError(
                operation=f"schedule {order.name!r}",
                reason="The app runs in another event loop.",
                solution="From another thread use asyncio.run_coroutine_threadsafe(task.push(...), loop).",
            )
        return await self.submit(order)

    def _place(self, draft: Draft, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        if self._is_closed:
            raise _closed()
        if order.job_id is not None and self._durable is not None:
            if draft.backend is self._volatile:
                return self._place_apart(draft, order, self._durable)
            self._require_free(order.job_id, self._volatile.storage.get((order.job_id,)))
        return self._replace_surely(draft, order) if order.is_replace else self._insert(draft, order)

    async def _place_apart(self, draft: Draft, order: Order, durable: Backend) -> Job[Any]:
        """Place a job that stays in memory under an id that may be in use in the database: ids are unique in both."""
        self._require_free(draft.job.id, await durable.gate.call(lambda: durable.storage.get((draft.job.id,))))
        return await (self._replace_surely(draft, order) if order.is_replace else self._insert(draft, order))

    @staticmethod
    def _require_free(job_id: str, records: Sequence[JobRecord]) -> None:
        if any(record.status not in ENDED for record in records):
            raise DuplicateJobError(job_id)

    def _draft(self, order: Order) -> Draft:
        endpoint = self._registry.get(order.name)
        if endpoint is None:
            raise ApplicationStateError(
                operation=f"schedule {order.name!r}",
                reason="The task was added after the app had started.",
                solution="Register all tasks and routers before the start.",
            )
        now = self._clock.now()
        rule = None if order.cron is None else self._rules.of_cron(order.cron)
        if rule is not None:
            due_at = self._rules.first_due(rule, now=now)
        else:
            due_at = now if order.due_at is None else order.due_at
        job_id = order.job_id if order.job_id is not None else self._new_id()
        job = self._handles.make(job_id, due_at, JobStatus.PENDING)
        backend = self._backend_of(endpoint)
        return Draft(self, endpoint, backend, job, order.args, order.kwargs, rule, now, due_at)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _insert(self, draft: Draft, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        """Ask for the insert; the draft gets the answer."""
        draft.payload = self._encode(draft)
        if draft.due_at <= draft.now and draft.rule is None and not self.is_draining:
            draft.job.context = context = copy_context()
            lane = self._lanes[draft.endpoint.lane]
            if lane.take():
                draft.lane, draft.context = lane, context
                if draft.kwargs or not draft.backend.frozen.issuperset(map(type, draft.args)):
                    self._detach(draft, lane)
        self._under_way += 1
        draft.submission = submission = Submission(loop=self._loop)
        draft.backend.gate.insert(draft, is_unseen=draft.lane is not None and order.job_id is None)
        return cast("Coroutine[Any, Any, Job[Any]]", submission)  # it is one by its methods, not by its class

    def _encode(self, draft: Draft) -> Any:
        try:
            return draft.backend.encode_call(draft.endpoint, draft.args, draft.kwargs)
        except PayloadError as error:
            raise not_stored(draft.endpoint, error) from error

    @staticmethod
    def _detach(draft: Draft, lane: LaneSlots) -> None:
        """Have the first attempt see what was stored, as every later one does, whatever the caller does to its lists
        and dicts meanwhile."""
        if draft.backend.frozen.issuperset(map(type, chain(draft.args, draft.kwargs.values()))):
            return
        try:
            draft.args, draft.kwargs = draft.backend.decode_call(draft.endpoint, draft.payload)
        except PayloadError as error:
            lane.release()
            raise not_stored(draft.endpoint, error) from error

    def act(self, draft: Draft, answer: bool | Exception) -> Exception | None:
        """Act on the answer to an insert; the error that its caller is to get, if it failed."""
        self._answered()
        if answer is not True:
            if draft.lane is not None:
                draft.lane.release()
            return DuplicateJobError(draft.job.id) if answer is False else answer
        draft.job.status = JobStatus.SCHEDULED
        if draft.lane is not None:
            attempt = draft.attempt(draft.lane)
            if self.is_draining:  # it was asked for before: it is given back unbegun, and runs at the next start
                attempt.interruption = Interruption.SHUTDOWN
            self._launch(attempt)
        else:
            self._remember(draft)
        return None

    def _answered(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._is_quiet.set()

    def _remember(self, draft: Draft) -> None:
        """A job that waits: show its schedule, and let the dispatcher know when it is due."""
        if draft.rule is not None:
            self._handles.show_schedule(draft.job, draft.rule, 0, 0)
        self._handles.add(draft.job)
        self._expect(draft.backend, draft.due_at)

    # -- replacing -----------------------------------------------------------------------------------------------------

    async def _replace_surely(self, draft: Draft, order: Order) -> Job[Any]:
        """:meth:`_replace`, to its end: a caller that is cancelled on the way leaves nothing half-done."""
        placing = asyncio.get_running_loop().create_task(self._replace(draft, order))
        self._placings.add(placing)
        placing.add_done_callback(self._placings.discard)
        placing.add_done_callback(_look_at_error)
        return await asyncio.shield(placing)

    async def _replace(self, draft: Draft, order: Order) -> Job[Any]:
        self._under_way += 1
        try:
            storage = draft.backend.storage
            draft.payload = self._encode(draft)
            place = partial(replace, storage, draft.row(), known=self._registry, is_force=order.is_force)
            draft.job = self._show(draft, await draft.backend.gate.call(place, is_news=True))
            return draft.job
        finally:
            self._answered()

    def _show(self, draft: Draft, placement: Placement) -> Job[Any]:
        """The handle that the user already has, brought up to date; or the new one."""
        attempt = self._find_attempt(draft.job.id)
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
        self._expect(draft.backend, placement.due_at)
        return job

    # -- outer middleware ----------------------------------------------------------------------------------------------

    async def _through_middleware(self, draft: Draft, order: Order) -> Job[Any]:
        """Run the outer chain, unless it is asked for what stands there already."""
        if order.job_id is not None:
            storage, ids = draft.backend.storage, (order.job_id,)
            if not order.is_replace:  # no middleware is to announce what will be refused
                self._require_free(order.job_id, await draft.backend.gate.call(lambda: storage.get(ids)))
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
                draft.backend = self._volatile
            await self._place(draft, order)

        call = OuterCall(draft.endpoint, job, order, draft.rule, draft.due_at, draft.now, draft.backend.is_durable)
        await run_outer(call, store, self._config)
        draft.job.leave_out()
        return draft.job

    def _as_asked(self, draft: Draft) -> NewJob | None:
        """The row of what the user asks for; None if it cannot be encoded before the middleware has seen to it."""
        try:
            draft.payload = draft.backend.encode_call(draft.endpoint, draft.args, draft.kwargs)
            return draft.row()
        except PayloadError:
            return None


def _closed() -> ApplicationStateError:
    return ApplicationStateError(
        operation="schedule a job",
        reason="The app is shutting down.",
        solution="Do it before the end of `async with app:`.",
    )


def _look_at_error(placing: asyncio.Task[Job[Any]]) -> None:
    """The error is the caller's. Should the caller be gone, nobody is to be told that nobody has looked at it."""
    if not placing.cancelled():
        placing.exception()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
