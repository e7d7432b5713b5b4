"""The handle of a job: what its user holds to watch it, wait for it, cancel it and fetch its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

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
from jobify.runtime.of_this_process import ProcessBound
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


class JobBackend(Protocol):
    """What a handle needs from the app that made it."""

    @property
    def zone(self) -> tzinfo:
        """The zone that ``exec_at`` is shown in."""
        ...

    async def cancel(self, job: Job[Any], *, interrupt: bool) -> None:
        """Cancel the handle's job wherever it is."""
        ...

    def watch(self, job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Somebody in ``loop`` is about to wait for this job: if it is run elsewhere, look how it ends.

        ApplicationStateError if it is the job that would wait for itself, or somebody in another event loop, whom
        nobody would wake up.
        """
        ...


class Job(ProcessBound, Generic[ReturnT]):
    """A scheduled, running or ended job.

    You do not create one: ``push``, ``delay``, ``at`` and ``cron`` return it. Await it for the result, or
    ``await job.wait()`` and look at ``status``.

    A cron job's handle lives as long as its schedule. ``wait()`` returns when the current or next run ends, and
    ``result()`` and ``exception`` speak of the last run that ended.

    Handles belong to the event loop of their app; they are not thread-safe.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_cron_context",
        "_due_at",
        "_handle",
        "_is_dead",
        "_last_end",
        "_unregister",
        "_value",
        "_waiters",
        "context",
        "exception",
        "id",
        "is_settling",
        "status",
        "storage",
    )

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
        self.exception: Exception | None = None
        self.is_settling = False
        """An attempt has ended here, and its outcome is on its way to the storage: it tells more than the row will."""
        self.storage = storage
        self.context: Context | None = None
        """The context variables of the push; each attempt in this process starts from a copy of them."""
        self._due_at = exec_at if isinstance(exec_at, int) else from_datetime(exec_at, zone=UTC)
        self._backend = backend
        self._unregister = unregister_hook
        self._value: Any = UNSET
        self._last_end: JobStatus | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._cron_context: CronContext[ReturnT] | None = None
        self._handle: asyncio.Handle | None = None

    instead = "Pass job.id on, and use app.get_job(id)."

    def __repr__(self) -> str:
        cron = "" if self._cron_context is None else f", cron={self.cron_expression!r}"
        return f"<Job id={self.id!r}, status={self.status.value!r}, exec_at={self.exec_at.isoformat()!r}{cron}>"

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def exec_at(self) -> datetime:
        """When the job is (or was) due: an aware datetime in the app's zone."""
        return to_datetime(self._due_at, zone=self._backend.zone if self._backend is not None else UTC)

    @property
    def eta(self) -> datetime:
        """:attr:`exec_at`, by the name that it also has at a :class:`JobResult`."""
        return self.exec_at

    @property
    def job_status(self) -> JobStatus:
        """:attr:`status`, by the name that it also has at a :class:`JobResult`."""
        return self.status

    @property
    def public_status(self) -> PublicStatus:
        """The status in the words of :attr:`JobResult.status`: ``pending``, ``running``, ``complete``, ``failed``,
        ``dead`` (its retries are used up) or ``cancelled``."""
        # The slot is filled by failures only, so that no other job pays for it.
        return public_status(self.status, getattr(self, "_is_dead", False))

    @property
    def error(self) -> str | None:
        """``Type: message`` of :attr:`exception`; None if there is none."""
        if self.exception is None:
            return None
        message, name = _reason(self.exception)
        return f"{name}: {message}" if message else name

    @property
    def cron_expression(self) -> str | None:
        """The expression of a cron job, None for a job that runs once."""
        return None if self._cron_context is None else self._cron_context.cron.expression

    @property
    def cron_context(self) -> CronContext[ReturnT] | None:
        """Rule and progress of a cron job, None for a job that runs once."""
        return self._cron_context

    def is_cron(self) -> bool:
        """Whether the job repeats by a cron rule."""
        return self._cron_context is not None

    def is_done(self) -> bool:
        """Whether the job has ended and can not run again, or was left out by an outer middleware and never will."""
        return self.status in TERMINAL or (self.status is JobStatus.PENDING and self._last_end is JobStatus.PENDING)

    def is_reschedulable(self) -> bool:
        """Whether a further run may be planned: False once cancelled or permanently failed."""
        return self.status not in (JobStatus.PERMANENTLY_FAILED, JobStatus.CANCELLED)

    def result(self) -> ReturnT:
        """What the task returned (a cron job: in its last run).

        Raises :class:`JobNotCompletedError` while there is no outcome, :class:`JobFailedError` (with the task's own
        exception as ``__cause__``) when it failed, and a subclass of both when it timed out, was cancelled or was
        stopped for good. :class:`ResultNotStoredError` if it succeeded elsewhere with a value that could not be stored.
        """
        match self._last_end:
            case JobStatus.SUCCESS:
                if isinstance(self._value, ResultNotStoredError):
                    raise self._value
                return cast("ReturnT", self._value)
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
        """Return when the job has ended (a cron job: when its current or next run has). Never raises the task's error.

        Any number of coroutines may wait, and each may be cancelled on its own. The job itself cannot wait, nor
        can another event loop than the app's: that is an :class:`ApplicationStateError`.
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
        if running is not None:  # see jobify.jobs.current_job.lent_slot, which costs more
            running.lend()
        try:
            await waiter
        except BaseException:  # it was cancelled: nobody is to wake it up
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
        """Cancel the job, wherever it is.

        Waiting: it will not run. Running: it is interrupted, and this returns when it has stopped (an async task gets
        CancelledError, a process is killed, a thread is told to stop and its result discarded);
        ``interrupt=False`` leaves a running attempt alone. Ended: nothing happens. A cron job gets no further run.

        A shutdown leaves a handle CANCELLED while its durable job waits for the next start: that job is out of this
        handle's reach, and :class:`ApplicationStateError` says how to cancel it.
        """
        if self.status in TERMINAL:
            self._require_within_reach()
            return
        if self._backend is not None:
            await self._backend.cancel(self, interrupt=interrupt)
            return
        if self._handle is not None:
            self._handle.cancel()
        if self._unregister is not None:
            self._unregister(self.id)
        self.end(JobStatus.CANCELLED)

    def _require_within_reach(self) -> None:
        if isinstance(self.exception, AppStoppedError) and self.exception.is_stored:
            raise ApplicationStateError(
                operation=f"cancel job {self.id!r}",
                reason="The app of this handle was shut down; the job is stored, and runs at the next start.",
                solution=f"Start the app, and there: await app.find_job({self.id!r}).cancel().",
            )

    # -- what the engine tells the handle ------------------------------------------------------------------------------

    def bind_handle(self, handle: asyncio.Handle) -> None:
        """Remember the event-loop handle that will start the job."""
        self._handle = handle

    def bind_cron_context(self, ctx: CronContext[ReturnT]) -> None:
        """Make this the handle of a cron job."""
        self._cron_context = ctx

    def unbind_cron_context(self) -> None:
        """Make this the handle of a job that runs once: its schedule was replaced by a single time."""
        self._cron_context = None

    def set_result(self, val: ReturnT, *, status: JobStatus) -> None:
        """A run succeeded."""
        self._value = val
        self.exception = None
        self._last_end = JobStatus.SUCCESS
        self.status = status
        self._wake()

    def set_exception(self, exc: Exception | None, *, status: JobStatus, is_dead: bool = False) -> None:
        """A run ended without a value. ``is_dead``: there were retries, and they are used up."""
        self.exception = exc
        self._is_dead = is_dead
        self._last_end = status
        self.status = status
        self._wake()

    def mark_not_scheduled(self) -> None:
        """The outer middleware is through; if it has not passed the job on, it never will run."""
        if self.status is JobStatus.PENDING:
            self._last_end = JobStatus.PENDING

    def end(self, status: JobStatus, exc: Exception | None = None) -> None:
        """The job ended outside a run of its own: cancelled, stopped, or out of runs."""
        if status is not JobStatus.SUCCESS:
            self.exception = exc if exc is not None else self.exception
            self._last_end = status
        self.status = status
        self._wake()

    def update(self, *, exec_at: datetime, status: JobStatus) -> None:
        """The job is planned for another time."""
        self.reschedule(from_datetime(exec_at, zone=UTC), status)

    def reschedule(self, due_at: Microseconds, status: JobStatus) -> None:
        """:meth:`update` with a time in microseconds."""
        self._due_at = due_at
        self.status = status

    @property
    def state_key(self) -> tuple[object, ...]:
        """Differs from an earlier one if the engine has told the handle anything since."""
        context = self._cron_context
        run_count = None if context is None else context.run_count
        return self.status, self._due_at, self._last_end, run_count, id(self.exception)

    @property
    def due_at(self) -> Microseconds:
        """``exec_at`` in microseconds since the epoch."""
        return self._due_at

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for this handle right now."""
        return bool(self._waiters)

    def _wake(self) -> None:
        self.context = None
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


def _reason(error: BaseException | None) -> tuple[str, str | None]:
    """What an exception says, and its type."""
    match error:
        case None:
            return "no reason was recorded", None
        case RemoteError():
            return error.message, error.type_name
        case _:
            return shown(error), type(error).__name__
