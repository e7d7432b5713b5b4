"""The handle of a job in the app's process: watch it, wait for it, cancel it and get its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from jobify.exceptions import (
    ApplicationStateError,
    AppStoppedError,
    JobCancelledError,
    JobFailedError,
    JobNotCompletedError,
    JobPermanentlyFailedError,
    JobTimedOutError,
    RemoteError,
    ResultNotStoredError,
    shown,
)
from jobify.jobs.current_job import CURRENT
from jobify.model.clock import from_datetime, to_datetime
from jobify.model.public_status import PublicStatus, public_status
from jobify.model.status import TERMINAL, JobStatus
from jobify.runtime.fork import ProcessBound
from jobify.types import UNSET, Microseconds

if TYPE_CHECKING:
    from jobify.model.cron import CronContext

__all__ = ("Job", "JobBackend")

ReturnT = TypeVar("ReturnT")

_UNSUCCESSFUL: dict[JobStatus, type[JobFailedError]] = {
    JobStatus.FAILED: JobFailedError,
    JobStatus.TIMEOUT: JobTimedOutError,
    JobStatus.CANCELLED: JobCancelledError,
    JobStatus.PERMANENTLY_FAILED: JobPermanentlyFailedError,
}

_DEFAULTS: Final[dict[str, Any]] = {
    "exception": None,
    "_is_dead": False,
    "_cron_context": None,
    "_on_cancel": (),
}
"""Of the slots that most handles do not need."""


class JobBackend(Protocol):
    """The operations that a handle delegates to the engine."""

    @property
    def zone(self) -> tzinfo:
        """The zone of ``exec_at``."""
        ...

    async def cancel(self, job: Job[Any], *, interrupt: bool) -> None:
        """Cancel the job in any process."""
        ...

    def watch(self, job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Prepare a wait in ``loop``: if another process runs the job, start to observe it.

        ApplicationStateError if the job would wait for itself, or if ``loop`` is not the event loop of the app, because
        the waiter would not be woken up.
        """
        ...


class Job(ProcessBound, Generic[ReturnT]):
    """A scheduled, running or ended job.

    ``push``, ``delay``, ``at`` and ``cron`` return it. Await it for the result, or ``await job.wait()`` and read
    ``status``. ::

        job = await add.push(1, 2)      # on disk when this returns
        await job                       # 3, or the error of the task as the cause of a JobFailedError

    The handle of a cron job lives as long as its schedule. ``wait()`` returns when the current or next run ends, and
    ``result()`` and ``exception`` are those of the last run that ended.

    Handles belong to the event loop of their app; they are not thread-safe.
    """

    # Another size than that of the objects that come and go with a push: among those, handles would lie far apart, and
    # the garbage collector would take twice as long to visit them. (160 bytes is theirs, 144 this one's.)
    __slots__ = (
        "__weakref__",
        "_backend",
        "_cron_context",
        "_due_at",
        "_is_dead",
        "_last_end",
        "_on_cancel",
        "_value",
        "_waiters",
        "context",
        "exception",
        "id",
        "is_settling",
        "status",
    )

    exception: Exception | None
    _is_dead: bool
    _cron_context: CronContext[ReturnT] | None
    _on_cancel: tuple[Callable[[], object], ...]
    """Without a backend: what a cancel calls."""

    def __init__(
        self,
        *,
        job_id: str,
        storage: Any = None,
        exec_at: datetime | Microseconds,
        unregister_hook: Callable[[str], None] | None = None,
        job_status: JobStatus = JobStatus.PENDING,
        backend: JobBackend | None = None,
    ) -> None:
        self.id = job_id
        self.status = job_status
        self.is_settling = False
        """Whether an attempt has ended here and its outcome is being stored. The handle is ahead of the row then."""
        self.context: Context | None = None
        """The context variables of the push. Each attempt in this process runs in a copy of them."""
        self._due_at = exec_at if isinstance(exec_at, int) else from_datetime(exec_at, zone=UTC)
        self._backend = backend
        self._value: Any = UNSET
        self._last_end: JobStatus | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        if unregister_hook is not None:
            self._on_cancel = (partial(unregister_hook, job_id),)

    if not TYPE_CHECKING:  # else a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """The default of a slot that most jobs do not need: what is unset costs neither time nor a visit of the
            garbage collector."""
            return _DEFAULTS[name] if name in _DEFAULTS else object.__getattribute__(self, name)

    instead = "Pass job.id on, and use app.get_job(id)."

    def __repr__(self) -> str:
        cron = "" if self._cron_context is None else f", cron={self.cron_expression!r}"
        return f"<Job id={self.id!r}, status={self.status.value!r}, exec_at={self.exec_at.isoformat()!r}{cron}>"

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def exec_at(self) -> datetime:
        """The time when the job is (or was) due: an aware datetime in the app's zone."""
        return to_datetime(self._due_at, zone=self._backend.zone if self._backend is not None else UTC)

    @property
    def eta(self) -> datetime:
        """:attr:`exec_at`, under the name that :class:`JobResult` has, too."""
        return self.exec_at

    @property
    def job_status(self) -> JobStatus:
        """:attr:`status`, under the name that :class:`JobResult` has, too."""
        return self.status

    @property
    def public_status(self) -> PublicStatus:
        """The status in one of the six words of :attr:`JobResult.status`.

        ``pending``, ``running``, ``complete``, ``failed``, ``dead`` (its retries are used up) or ``cancelled``.
        """
        return public_status(self.status, self._is_dead)

    @property
    def error(self) -> str | None:
        """``Type: message`` of :attr:`exception`; None if there is none."""
        if self.exception is None:
            return None
        message, name = _reason(self.exception)
        return f"{name}: {message}" if message else name

    @property
    def cron_expression(self) -> str | None:
        """The expression of a cron job. None for a job that runs once."""
        return None if self._cron_context is None else self._cron_context.cron.expression

    @property
    def cron_context(self) -> CronContext[ReturnT] | None:
        """The rule and the progress of a cron job. None for a job that runs once."""
        return self._cron_context

    def is_cron(self) -> bool:
        """Whether the job repeats by a cron rule."""
        return self._cron_context is not None

    def is_done(self) -> bool:
        """Whether the job has ended for good, or will never run because an outer middleware did not schedule it."""
        return self.status in TERMINAL or (self.status is JobStatus.PENDING and self._last_end is JobStatus.PENDING)

    def is_reschedulable(self) -> bool:
        """Whether another run may be scheduled: False once the job is cancelled or permanently failed."""
        return self.status not in (JobStatus.PERMANENTLY_FAILED, JobStatus.CANCELLED)

    def result(self) -> ReturnT:
        """The return value of the task (of a cron job: of its last run).

        :class:`JobNotCompletedError` while there is no outcome; :class:`JobFailedError` (with the task's own exception
        as ``__cause__``) if the job failed; a subclass of both if it timed out, was cancelled or was stopped for good.
        :class:`ResultNotStoredError` if it succeeded in another process with a value that could not be stored.
        """
        match self._last_end:
            case JobStatus.SUCCESS:
                if isinstance(self._value, ResultNotStoredError):
                    raise self._value
                value: ReturnT = self._value
                return value
            case JobStatus.PENDING if self.status is JobStatus.PENDING:
                raise JobNotCompletedError("The job was never scheduled: an outer middleware stopped it.")
            case None | JobStatus.PENDING:
                raise JobNotCompletedError
            case JobStatus.CANCELLED if self.exception is None:
                raise JobCancelledError(self.id, "a cancel was requested.")
            case ended:
                raise _UNSUCCESSFUL[ended](self.id, *_reason(self.exception)) from self.exception

    # -- waiting and cancelling ----------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Return when the job has ended. Never raises the task's error.

        Of a cron job: when its current or next run has ended. Any number of coroutines may wait, and each may be
        cancelled on its own. :class:`ApplicationStateError` if the job itself waits, or a coroutine in another event
        loop than the app's.
        """
        if self.status in TERMINAL or (self.status is JobStatus.PENDING and self._backend is not None):
            return
        loop = asyncio.get_running_loop()
        if self._backend is not None:
            self._backend.watch(self, loop)
        waiter: asyncio.Future[None] = loop.create_future()
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        running = CURRENT.get()
        if running is not None:  # lent_slot() of jobify.jobs.current_job, inlined because it costs less
            running.lend()
        try:
            await waiter
        except BaseException:  # cancelled: it must not be woken up any more
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        finally:
            if running is not None:
                running.take_back()

    def __await__(self) -> Generator[Any, None, ReturnT]:
        if self.status not in TERMINAL:
            yield from self.wait().__await__()
        return self.result()

    async def cancel(self, *, interrupt: bool = True) -> None:
        """Cancel the job, in any process.

        A waiting job will not run. A running one is interrupted, and this returns when it has stopped: an async task
        gets CancelledError, a process is killed, a thread is requested to stop and its result is discarded.
        ``interrupt=False`` lets a running attempt finish. An ended job is not changed. A cron job gets no further run.

        After a shutdown, the handle of an unfinished durable job is CANCELLED although the job waits for the next
        start. It cannot be cancelled by this handle: :class:`ApplicationStateError` says how to do it.
        """
        if self.status in TERMINAL:
            self._require_within_reach()
            return
        if self._backend is not None:
            await self._backend.cancel(self, interrupt=interrupt)
            return
        for act in self._on_cancel:
            act()
        self.end(JobStatus.CANCELLED)

    def _require_within_reach(self) -> None:
        if isinstance(self.exception, AppStoppedError) and self.exception.is_stored:
            raise ApplicationStateError(
                operation=f"cancel job {self.id!r}",
                reason="The app of this handle was shut down; the job is stored, and runs at the next start.",
                solution=f"Start the app, and there: await app.find_job({self.id!r}).cancel().",
            )

    # -- updates by the engine -----------------------------------------------------------------------------------------

    def bind_handle(self, handle: asyncio.Handle) -> None:
        """Set the event-loop handle that will start the job."""
        self._on_cancel = (handle.cancel, *self._on_cancel)

    def bind_cron_context(self, ctx: CronContext[ReturnT]) -> None:
        """Turn this into the handle of a cron job."""
        self._cron_context = ctx

    def unbind_cron_context(self) -> None:
        """Turn this into the handle of a job that runs once, because its schedule was replaced by a single time."""
        self._cron_context = None

    def set_result(self, val: ReturnT, *, status: JobStatus) -> None:
        """Note that a run succeeded, and wake the waiters."""
        self._value = val
        if self._last_end is not None:
            self.exception = None
        self._last_end = JobStatus.SUCCESS
        self.status = status
        self._wake()

    def set_exception(self, exc: Exception | None, *, status: JobStatus, is_dead: bool = False) -> None:
        """Note that a run failed, and wake the waiters. ``is_dead`` says that its retries are used up."""
        self.exception = exc
        self._is_dead = is_dead
        self._last_end = status
        self.status = status
        self._wake()

    def mark_not_scheduled(self) -> None:
        """Note that the outer middleware has returned. If it did not schedule the job, the job never runs."""
        if self.status is JobStatus.PENDING:
            self._last_end = JobStatus.PENDING

    def end(self, status: JobStatus, exc: Exception | None = None) -> None:
        """Note that the job ended outside a run: cancelled, stopped, or without further runs."""
        if status is not JobStatus.SUCCESS:
            self.exception = exc if exc is not None else self.exception
            self._last_end = status
        self.status = status
        self._wake()

    def update(self, *, exec_at: datetime, status: JobStatus) -> None:
        """Note that the job is due at another time."""
        self.reschedule(from_datetime(exec_at, zone=UTC), status)

    def reschedule(self, due_at: Microseconds, status: JobStatus) -> None:
        """:meth:`update` with a time in microseconds."""
        self._due_at = due_at
        self.status = status

    @property
    def state_key(self) -> tuple[object, ...]:
        """A value that changes whenever the engine updates the handle."""
        context = self._cron_context
        run_count = None if context is None else context.run_count
        return self.status, self._due_at, self._last_end, run_count, id(self.exception)

    @property
    def due_at(self) -> Microseconds:
        """:attr:`exec_at` in microseconds since the epoch, UTC."""
        return self._due_at

    @property
    def has_waiters(self) -> bool:
        """Whether a coroutine waits for this handle."""
        return bool(self._waiters)

    def _wake(self) -> None:
        self.context = None
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


def _reason(error: BaseException | None) -> tuple[str, str | None]:
    """The message of an exception, and the name of its type."""
    match error:
        case None:
            return "no reason was recorded", None
        case RemoteError():
            return error.message, error.type_name
        case _:
            return shown(error), type(error).__name__
