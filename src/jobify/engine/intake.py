"""From an order to a stored job: outer middleware → encoded arguments → one insert → a handle.

The short way: a job that is due now and finds a free slot is inserted as already claimed by this process, and starts
when the insert is on disk. Without a free slot it is inserted as waiting, and whoever has a slot first takes it.

If the caller is cancelled while the insert is under way the job is stored and runs all the same: what was asked for may
already be on disk, and a job that is claimed must have somebody who runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from msgspec import Struct

from jobify.clock import Clock
from jobify.context import OuterContext
from jobify.engine.attempt import Attempt
from jobify.engine.backend import Backend
from jobify.engine.handles import Handles
from jobify.engine.lanes import Lanes, LaneSlots
from jobify.engine.outer import OuterCall, run_outer
from jobify.engine.placing import Placement, options_with_origin, replace, standing
from jobify.engine.rules import Rule, Rules
from jobify.exceptions import ApplicationStateError, DuplicateJobError, PayloadError
from jobify.job import Job
from jobify.records import NewJob
from jobify.registry import Endpoint, Registry
from jobify.schedule import Order
from jobify.settings import JobifyConfiguration
from jobify.status import JobStatus
from jobify.types import UNSET, Microseconds

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
    answer: Any = UNSET
    future: asyncio.Future[None] | None = None

    def row(self, payload: Any) -> NewJob:
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
            payload,
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
        )

    def __call__(self, answer: bool | Exception) -> None:
        self.answer = answer
        waiter = self.future
        if waiter is not None:
            if waiter.cancelled():
                self.intake.act(self)
            else:
                waiter.set_result(None)

    def abandon(self) -> None:
        """The caller was cancelled, perhaps when the answer was there and before it could act on it."""
        if self.answer is not UNSET:
            self.intake.act(self)

    def waiter(self) -> asyncio.Future[None] | None:
        """What to wait for until the answer is there; None if it is."""
        if self.answer is UNSET:
            self.future = asyncio.get_running_loop().create_future()
        return self.future

    def error(self) -> Exception | None:
        """What went wrong; None if the job is stored."""
        if self.answer is True:
            return None
        return DuplicateJobError(self.job.id) if self.answer is False else self.answer


class Intake:
    """Takes orders for one engine."""

    def __init__(
        self,
        *,
        registry: Registry,
        backend_of: Callable[[Endpoint], Backend],
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
        self._volatile = volatile
        self._handles = handles
        self._rules = rules
        self._lanes = lanes
        self._config = config
        self._clock = clock
        self._launch = launch
        self._expect = expect
        self._find_attempt = find_attempt
        self._new_id = config.uuid_generator
        self.is_draining = False
        """Store what is asked for, start nothing."""

    def submit(self, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        """Store the order; see :class:`~jobify.schedule.Scheduler`."""
        draft = self._draft(order)
        return self._through_middleware(draft, order) if draft.endpoint.outer else self._place(draft, order)

    async def _place(self, draft: Draft, order: Order) -> Job[Any]:
        if order.is_replace:
            return await self._replace(draft, order)
        self._insert(draft, order)
        waiter = draft.waiter()
        if waiter is not None:
            try:
                await waiter
            except asyncio.CancelledError:
                draft.abandon()
                raise
        error = self.act(draft)
        if error is not None:
            raise error
        return draft.job

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
        job_id = order.job_id if order.job_id is not None else str(self._new_id())
        job = self._handles.make(job_id, due_at, JobStatus.PENDING)
        backend = self._backend_of(endpoint)
        return Draft(self, endpoint, backend, job, order.args, order.kwargs, rule, now, due_at)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _insert(self, draft: Draft, order: Order) -> None:
        """Ask for the insert; the draft gets the answer."""
        payload = self._encode(draft)
        if draft.due_at <= draft.now and draft.rule is None and not self.is_draining:
            lane = self._lanes[draft.endpoint.lane]
            if lane.take():
                draft.lane = lane
        draft.backend.gate.insert(draft.row(payload), draft, is_id_new=order.job_id is None)

    def _encode(self, draft: Draft) -> Any:
        try:
            return draft.backend.encode_call(draft.endpoint, draft.args, draft.kwargs)
        except PayloadError as error:
            raise PayloadError(
                f"Cannot store a job of task {draft.endpoint.name!r}: {error} "
                "Nothing was stored. A task with durable=False takes any object."
            ) from error

    def act(self, draft: Draft) -> Exception | None:
        """Act on the answer to an insert; the error that its caller is to get, if it failed.

        Done by the caller itself, whose context variables a job that starts at once inherits; if the caller was
        cancelled meanwhile, in its stead.
        """
        error = draft.error()
        if error is not None:
            if draft.lane is not None:
                draft.lane.release()
            return error
        draft.job.status = JobStatus.SCHEDULED
        if draft.lane is not None:
            self._launch(draft.attempt(draft.lane))
        else:
            self._remember(draft)
        return None

    def _remember(self, draft: Draft) -> None:
        """A job that waits: show its schedule, and let the dispatcher know when it is due."""
        if draft.rule is not None:
            self._handles.show_schedule(draft.job, draft.rule, 0, 0)
        self._handles.add(draft.job)
        self._expect(draft.backend, draft.due_at)

    # -- replacing -----------------------------------------------------------------------------------------------------

    async def _replace(self, draft: Draft, order: Order) -> Job[Any]:
        storage = draft.backend.storage
        row = draft.row(self._encode(draft))
        place = partial(replace, storage, row, cron=order.cron, read=self._rules.read, is_force=order.is_force)
        placed = asyncio.ensure_future(draft.backend.gate.call(place))
        placed.add_done_callback(lambda _: None)
        draft.job = self._show(draft, await asyncio.shield(placed))
        return draft.job

    def _show(self, draft: Draft, placement: Placement) -> Job[Any]:
        """The handle that the user already has, brought up to date; or the new one."""
        attempt = self._find_attempt(draft.job.id)
        job = self._handles.find(draft.job.id) or (attempt.job if attempt is not None else None)
        job = job if job is not None and not job.is_done() else draft.job
        draft.job = job
        if placement.is_unchanged and placement.record is not None:
            return self._handles.of_record(placement.record)
        if attempt is not None:
            attempt.is_replaced = True
        job.move(draft.due_at, JobStatus.RUNNING if attempt is not None else JobStatus.SCHEDULED)
        if draft.rule is None:
            job.unbind_cron_context()
        else:
            self._handles.show_schedule(job, draft.rule, *placement.progress)
        self._handles.add(job)
        self._expect(draft.backend, draft.due_at)
        return job

    # -- outer middleware ----------------------------------------------------------------------------------------------

    async def _through_middleware(self, draft: Draft, order: Order) -> Job[Any]:
        """Run the outer chain, unless it is asked for what stands there already."""
        if order.job_id is not None:
            asked = self._as_asked(draft)
            if asked is not None and order.is_replace and not order.is_force:
                storage = draft.backend.storage
                record = await draft.backend.gate.call(partial(standing, storage, asked))
                if record is not None:
                    return self._handles.of_record(record)
            draft.options = None if asked is None else options_with_origin(asked)
        job = (self._handles.find(draft.job.id) if order.is_replace else None) or draft.job

        async def store(context: OuterContext) -> None:
            draft.args, draft.kwargs = context.runnable.bound.args, context.runnable.bound.kwargs
            if not (context.is_persist or order.is_replace):
                draft.backend = self._volatile
            await self._place(draft, order)

        is_persist = draft.backend.is_durable
        call = OuterCall(draft.endpoint, job, order, draft.rule, draft.due_at, draft.now, is_persist)
        await run_outer(call, store, self._config)
        return draft.job

    def _as_asked(self, draft: Draft) -> NewJob | None:
        """The row of what the user asks for; None if it cannot be encoded before the middleware has seen to it."""
        try:
            return draft.row(draft.backend.encode_call(draft.endpoint, draft.args, draft.kwargs))
        except PayloadError:
            return None
