"""A job between its push and its stored row, and the future that the push returns."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextvars import Context
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

from jobify.engine.enqueue.unwritten_job import UnwrittenJob
from jobify.engine.execution.attempt import Attempt
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.slots import SlotPool
from jobify.exceptions import ApplicationStateError, PayloadError
from jobify.gateway.backend import Backend, Backends, payload_error
from jobify.jobs.job import Job
from jobify.jobs.job_request import JobSpec
from jobify.jobs.row_builder import pushed_row
from jobify.jobs.schedule_builder import PushRequest
from jobify.model.clock import Clock
from jobify.model.cron_rules import CronRule, CronRuleCache
from jobify.model.ids import text_ids
from jobify.model.job_options import read_options
from jobify.model.records import Claim, Settlement
from jobify.model.status import JobStatus
from jobify.router.registry import Endpoint, Registry
from jobify.storage.weight import NO_ARGUMENTS
from jobify.types import Microseconds, UUIDGenerator

__all__ = ("BegunPushFuture", "PendingJob", "PendingJobFactory", "PlainPushFuture", "PushFuture")

_SCHEDULED, _RUNNING = JobStatus.SCHEDULED.value, JobStatus.RUNNING.value


class InsertListener(Protocol):
    """Acts on the result of an insert."""

    def on_inserted(self, pending: PendingJob, answer: bool | Exception) -> Exception | None:
        """Take the result; return the error that the caller gets, or None for the handle."""
        ...


class PendingJob(Struct, eq=False, gc=False):
    """A job between its push and its row. It takes the result of its insert even if its caller was cancelled.

    It is the callback of its insert itself: a bound method for each job would be one more object for the garbage
    collector to visit. (For ``gc=False`` see :class:`~jobify.jobs.schedule_builder.PushRequest`.)
    """

    listener: InsertListener
    endpoint: Endpoint
    backend: Backend
    job: Job[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rule: CronRule | None
    now: Microseconds
    due_at: Microseconds
    offset_at: Microseconds | None = None
    """For a schedule the due time by its rule; for a delay the time that it is counted from."""
    pool: SlotPool | None = None
    """Where a slot is held: the job is inserted already claimed by this process. None means that it waits."""
    options: str | None = None
    context: Context | None = None
    """The caller's context variables, for a job that starts at once."""
    future: PushFuture | None = None
    payload: Any = None
    is_begun: bool = False
    """Whether the listener has acted on the insert already."""
    spec: JobSpec | None = None
    """Options of this job alone. They are in :meth:`row`, not in :meth:`values`, which serve plain jobs only."""

    row = pushed_row
    """The row: claimed by this process, or waiting. A plain function, so that no call is added for each job."""

    def values(self) -> tuple[Any, ...]:
        """The fields of :meth:`row`, in order."""
        endpoint, owner, rule, now = self.endpoint, self.backend.owner, self.rule, self.now
        if self.pool is None:
            status, is_ready, claimed_by, count, started_at = _SCHEDULED, self.due_at <= now, None, 0, None
        else:
            status, is_ready, claimed_by, count, started_at = _RUNNING, False, owner, 1, now
        return (
            self.job.id,
            endpoint.name,
            endpoint.queue,
            endpoint.priority,
            status,
            is_ready,
            self.due_at,
            now,
            self.payload,
            None if rule is None else rule.text,
            self.offset_at,
            self.options,
            owner,
            claimed_by,
            count,
            count,
            started_at,
            None,
            None,
        )

    def encode(self) -> None:
        """Encode the arguments; PayloadError says that nothing was stored."""
        try:
            self.payload = self.backend.codec.encode_call(self.args, self.kwargs, self.endpoint.types)
        except PayloadError as error:
            raise payload_error(self.endpoint, error) from error
        keys = self.endpoint.limit_keys
        if keys is not None:
            self.options = keys.options(self.args, self.kwargs, read_options(self.options))

    def copy_arguments(self) -> None:
        """Decode the encoded arguments, so that the first attempt sees what every later one does, whatever the
        caller does to its lists and dicts meanwhile."""
        if self.backend.frozen.issuperset(map(type, chain(self.args, self.kwargs.values()))):
            return
        try:
            self.args, self.kwargs = self.backend.codec.decode_call(self.payload, self.endpoint.types)
        except PayloadError as error:
            raise payload_error(self.endpoint, error) from error

    def claim(self) -> Claim:
        """The claim of a job that was inserted already claimed."""
        row = self.row()
        return Claim(
            row.id, row.task, row.queue, row.priority, row.due_at, row.created_at, row.payload, None, None, row.options,
            row.origin, 1, 1, 0, 0, 0, None,
        )  # fmt: skip

    def attempt(self, pool: SlotPool) -> Attempt:
        """The first attempt of a job that was inserted already claimed."""
        return Attempt(
            self.backend,
            self.endpoint,
            pool,
            self.job.id,
            self.due_at,
            self.job,
            queue=self.endpoint.queue,
            origin=self.backend.owner,
            args=self.args,
            kwargs=self.kwargs,
            context=self.context,
        )

    def succeeded(self, result: Any, finished_at: Microseconds, delete_at: Microseconds | None) -> UnwrittenJob:
        """See :class:`~jobify.gateway.gateway.InsertRequest`."""
        return UnwrittenJob(
            self.job.id, self.endpoint, self.backend.owner, self.now, self.due_at, NO_ARGUMENTS, result, finished_at,
            delete_at,
        )  # fmt: skip

    def ended(self, settlement: Settlement, payload: Any) -> UnwrittenJob:
        """See :class:`~jobify.gateway.gateway.InsertRequest`."""
        unwritten = self.succeeded(settlement.result, settlement.finished_at or self.now, settlement.delete_at)
        unwritten.payload, unwritten.end = payload, settlement
        return unwritten

    def on_committed(self) -> None:
        """Have the listener act on the insert before it is flushed; the answer follows."""
        self.is_begun = True
        try:
            self.listener.on_inserted(self, True)
        except Exception as problem:  # see __call__()
            self._resolve(problem)

    def __call__(self, answer: bool | Exception) -> None:
        """Take the answer of the storage to the insert, and pass the handle or an error to the caller."""
        try:
            if not self.is_begun:
                error = self.listener.on_inserted(self, answer)
            else:
                error = answer if isinstance(answer, Exception) else None
        except Exception as problem:  # it must not raise, but the caller must get an answer in any case
            error = problem
        if error is None and (future := self.future) is not None and not future.done():
            self.future = None  # _resolve() for nearly every job, without the call
            future.set_result(self.job)
        else:
            self._resolve(error)

    def _resolve(self, error: Exception | None) -> None:
        future, self.future = self.future, None
        if future is None or future.done():
            return  # its caller was cancelled, and the job is stored all the same
        if error is None:
            future.set_result(self.job)
        else:
            future.set_exception(error)


class PendingJobFactory:
    """Resolves push requests: to a task, a storage, an id, a due time."""

    def __init__(
        self,
        registry: Registry,
        backends: Backends,
        handles: HandleRegistry,
        rules: CronRuleCache,
        clock: Clock,
        uuid_generator: UUIDGenerator,
    ) -> None:
        self.registry = registry
        self.backends = backends
        self.handles = handles
        self._rules = rules
        self.clock = clock
        self._new_id = text_ids(uuid_generator)

    def make(self, request: PushRequest, listener: InsertListener) -> PendingJob:
        """The pending job of a request whose arguments have been checked."""
        endpoint = self.registry.get(request.name)
        if endpoint is None:
            raise ApplicationStateError(
                operation=f"schedule {request.name!r}",
                reason="The task was added after the app had started.",
                solution="Register all tasks and routers before the start.",
            )
        now = self.clock.now()
        due_at, rule, offset_at = now, None, None
        if request.cron is not None:
            rule = self._rules.of_cron(request.cron)
            due_at = offset_at = self._rules.first_due(rule, now=now)
        elif request.due_at is not None:
            due_at = request.due_at
            offset_at = now if request.is_delay and due_at > now else None
        job_id = request.job_id if request.job_id is not None else self._new_id()
        job = self.handles.make(job_id, due_at, JobStatus.PENDING)
        backend = self.backends.of(endpoint)
        pending = PendingJob(
            listener, endpoint, backend, job, request.args, request.kwargs, rule, now, due_at, offset_at
        )
        if request.spec is not None:
            pending.spec = request.spec
        return pending


if TYPE_CHECKING:
    _JobFuture: TypeAlias = asyncio.Future[Job[Any]]
else:
    _JobFuture = asyncio.Future


_blocking: Any = vars(asyncio.Future)["_asyncio_future_blocking"]


class PlainPushFuture(_JobFuture):
    """A :class:`PushFuture` after its first use as a future."""

    __slots__ = ("_steps",)

    _steps: Generator[Any, None, Job[Any]]

    def close(self) -> None:
        """End the await, if it has begun; the job is stored all the same."""


class BegunPushFuture(PlainPushFuture):
    """A :class:`PushFuture` after its first use as a coroutine."""

    __slots__ = ()

    def send(self, value: None, /) -> Any:
        """Await, one step at a time."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise ``error`` where this is awaited."""
        return self._steps.throw(*error)


class PushFuture(BegunPushFuture):
    """A job that is being stored; await it for the handle.

    The insert is under way when the caller gets this, so ``gather`` needs no task for it: with ten thousand pushes at
    once that saves a third of the time. It also has the methods of a coroutine, for ``create_task`` and task groups, so
    ``push`` can be used like any ``async def``.

    asyncio refuses some objects for being a coroutine (``wait``) and others for not being one (``create_task``). So
    this is both, until the first check whether it is a future, by ``ensure_future`` or ``gather``: from then on it is a
    future only, like the task that they make of a coroutine. (Its class changes. All three have the same layout.)

    Cancelling it, or the task that awaits it, does not undo the push: the job is stored and runs.
    """

    __slots__ = ()

    def _is_blocking(self) -> Any:
        self.__class__ = PlainPushFuture  # type: ignore[assignment]  # it has the same layout, and fewer methods
        return _blocking.__get__(self)

    _asyncio_future_blocking: Any = property(_is_blocking, _blocking.__set__)
    """Read by :func:`asyncio.isfuture`, and by a task that waits for this."""

    def send(self, value: None, /) -> Any:
        """Await, one step at a time."""
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise ``error`` where this is awaited."""
        return self._begin().throw(*error)

    def _begin(self) -> Generator[Any, None, Job[Any]]:
        steps = self.__await__()
        self._steps, self.__class__ = steps, BegunPushFuture  # type: ignore[assignment]  # see _is_blocking()
        return steps
