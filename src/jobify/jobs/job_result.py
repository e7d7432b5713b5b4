"""The handle of a job from any process: fresh from the storage at every look, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from jobify.exceptions import ApplicationStateError
from jobify.jobs.result_backend import ResultBackend
from jobify.model.cron import rule_as_written
from jobify.model.durations import Duration
from jobify.model.public_status import PublicStatus, public_status
from jobify.model.status import TERMINAL, JobStatus, known_status

__all__ = ("JobResult",)

Return_co = TypeVar("Return_co", covariant=True)


class JobResult(Generic[Return_co]):
    """A job that was enqueued, from wherever you look at it.

    You do not create one: ``delay``, ``apply_async``, ``enqueue`` and the canvas return it, and ``app.get_job(id)``
    finds it again. ::

        job = add.delay(1, 2)           # on disk when this returns; a worker may be anywhere
        job.status                      # "pending", then "running", then "complete"
        job.result(timeout=10)          # 3

    Everything but ``id`` and ``created`` is read from the storage each time; what is gone there (its retention is
    over, or it never was) raises JobNotFoundError. Handles are equal when their ids are, and may be used in any thread.
    One that was pickled knows only its id; ``app.get_job(job.id)`` makes a whole one.
    """

    __slots__ = ("__weakref__", "_backend", "created", "id")

    def __init__(self, job_id: str, backend: ResultBackend | None, created: bool = True) -> None:
        self.id = job_id
        """Time-ordered (UUIDv7), unless somebody chose it."""
        self.created = created
        """False: nothing was stored. A job with this ``unique_key`` was there already, and this is its handle; or an
        outer middleware has stopped the new one."""
        self._backend = backend

    def __repr__(self) -> str:
        return f"<JobResult id={self.id!r}>"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, JobResult) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return JobResult, (self.id, None, self.created)

    def __copy__(self) -> JobResult[Return_co]:
        return self

    def __deepcopy__(self, memo: object) -> JobResult[Return_co]:
        return self

    @property
    def _source(self) -> ResultBackend:
        if self._backend is None:
            raise ApplicationStateError(
                operation=f"look at job {self.id!r}",
                reason="This handle was pickled, and knows no storage.",
                solution="Use app.get_job(job.id).",
            )
        return self._backend

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> PublicStatus:
        """``pending``, ``running``, ``complete``, ``failed``, ``dead`` (its retries are used up) or ``cancelled``."""
        record = self._source.record(self.id)
        return public_status(record.status, record.is_dead)

    @property
    def public_status(self) -> PublicStatus:
        """:attr:`status`, by the name that it also has at a :class:`Job`."""
        return self.status

    @property
    def job_status(self) -> JobStatus:
        """The status in the words of :attr:`Job.status`. One that only a newer release knows reads RUNNING."""
        return known_status(self._source.record(self.id).status)

    def is_done(self) -> bool:
        """Whether the job has ended; one that failed may still be retried by a user."""
        return self.job_status in TERMINAL

    def is_cron(self) -> bool:
        """Whether the job repeats by a cron rule."""
        return self._source.record(self.id).rule is not None

    @property
    def cron_expression(self) -> str | None:
        """The expression of a cron job, None for a job that runs once, or if its rule cannot be read."""
        return rule_as_written(self._source.record(self.id).rule).get("expression")

    @property
    def progress(self) -> float | None:
        """How far the task says it is, 0 to 100; None if it has said nothing."""
        return self._source.record(self.id).progress

    @property
    def error(self) -> str | None:
        """``Type: message`` of the last failure; None if the job has not failed, or has succeeded in the end."""
        return self._source.error(self.id)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """One dict for each failed attempt, the oldest first: ``id``, ``job_id``, ``attempt`` (from 1), ``error`` (the
        traceback of the task's own frames), ``message``, ``outcome``, ``started_at`` and ``failed_at`` (ISO 8601, UTC).
        """
        return self._source.errors(self.id)

    @property
    def reason(self) -> str | None:
        """Why the job was cancelled: ``cancelled``, ``expired``, ``dependency … failed``; None if it was not."""
        return self._source.reason(self.id)

    @property
    def note(self) -> str:
        """Why the job does not run, or not any more, in a few words: ``no worker serves this queue``, ``the queue is
        paused``, ``waits for 2 others``, ``tries again in 5.0 s: …``, ``its worker (7154) is gone, last seen 2 m ago;
        the next worker that starts takes it up``. Empty if there is nothing to say. For people: the wording may
        change."""
        return self._source.note(self.id)

    @property
    def dependencies(self) -> list[str]:
        """The ids of the jobs that must be complete before this one."""
        return list(self._source.relations(self.id).parents)

    @property
    def dependents(self) -> list[str]:
        """The ids of the jobs that wait for this one, or did."""
        return list(self._source.relations(self.id).children)

    @property
    def task_name(self) -> str:
        """The task."""
        return self._source.record(self.id).task

    @property
    def queue_name(self) -> str:
        """The queue."""
        return self._source.record(self.id).queue

    @property
    def args(self) -> list[Any]:
        """The arguments by position, in the words of JSON (a tuple is a list, a dataclass a dict, a datetime a text):
        for people. PayloadError if they cannot be read here, or went when a job in memory ended."""
        return self._source.arguments(self.id)[0] or []

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name, like :attr:`args`."""
        return self._source.arguments(self.id)[1] or {}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the job was given as ``metadata``."""
        return self._source.metadata(self.id)

    @property
    def attempt(self) -> int:
        """The number of the attempt that is under way, or was the last: from 1; 0 before the first."""
        return self._source.record(self.id).attempt

    @property
    def created_at(self) -> datetime:
        """When it was enqueued, in the app's zone."""
        return cast("datetime", self._source.moment(self._source.record(self.id).created_at))

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began."""
        return self._source.moment(self._source.record(self.id).started_at)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return self._source.moment(self._source.record(self.id).finished_at)

    @property
    def eta(self) -> datetime:
        """When it is (or was) due."""
        return cast("datetime", self._source.moment(self._source.record(self.id).due_at))

    @property
    def exec_at(self) -> datetime:
        """:attr:`eta`, by the name that it also has at a :class:`Job`."""
        return self.eta

    def to_dict(self) -> dict[str, Any]:
        """All fields of the job as values that JSON can say; times are ISO 8601. A result or metadata that JSON cannot
        say is shown as text."""
        return self._source.describe(self.id)

    def logs(self) -> list[dict[str, Any]]:
        """What the task has logged with ``current_job.log``: dicts of ``number``, ``at``, ``attempt``, ``level`` and
        ``message``, the oldest first."""
        return self._source.logs(self.id)

    def refresh(self) -> None:
        """Do nothing: every look is fresh. JobNotFoundError if the job is gone."""
        self._source.record(self.id)

    async def astatus(self) -> PublicStatus:
        """:attr:`status`, without blocking the event loop."""
        return await self._source.read(lambda: self.status)

    async def alogs(self) -> list[dict[str, Any]]:
        """:meth:`logs`, without blocking."""
        return await self._source.read(self.logs)

    async def ato_dict(self) -> dict[str, Any]:
        """:meth:`to_dict`, without blocking."""
        return await self._source.read(self.to_dict)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def result(
        self, timeout: Duration | None = 30.0, poll_interval: Duration = 0.05, max_poll_interval: Duration = 0.5
    ) -> Return_co:
        """Wait for the job to end, and return what its task returned.

        The answer is pushed. Should a signal be lost it is found by looking: ``poll_interval`` seconds after the last
        look, growing to ``max_poll_interval``. Durations are seconds or timedeltas; a ``timeout`` of None: for ever.

        Raises TimeoutError that names the status and says why the job does not run (:attr:`note`);
        :class:`TaskFailedError`, :class:`MaxRetriesExceededError` (dead) or :class:`TaskCancelledError`, which are
        RuntimeErrors; ResultNotStoredError for a value that could not be stored; ApplicationStateError in the thread of
        the event loop that runs the app, which this would block.
        """
        return cast("Return_co", self._source.result(self.id, timeout, (poll_interval, max_poll_interval)))

    async def aresult(
        self, timeout: Duration | None = 30.0, poll_interval: Duration = 0.05, max_poll_interval: Duration = 0.5
    ) -> Return_co:
        """:meth:`result`, in any event loop, without blocking it; times are in seconds."""
        return cast("Return_co", await self._source.aresult(self.id, timeout, (poll_interval, max_poll_interval)))

    def wait(self, timeout: Duration | None = None) -> None:
        """Return when the job has ended, however. TimeoutError after ``timeout`` seconds."""
        self._source.wait(self.id, timeout)

    async def await_end(self, timeout: Duration | None = None) -> None:
        """:meth:`wait` for so many seconds, without blocking."""
        await self._source.await_end(self.id, timeout)

    def stream(self, timeout: Duration | None = 60.0, after: int = 0) -> Iterator[Any]:
        """The values that the task publishes, each once and in order, as they come; from the first one on, whenever
        you begin. It ends when the job has ended and all were delivered.

        ``timeout``: seconds to wait for the next value, then TimeoutError. ``after`` skips messages with numbers up to
        this one (values and log lines of a job are numbered together, from 1).
        """
        return self._source.stream(self.id, timeout, after)

    def astream(self, timeout: Duration | None = 60.0, after: int = 0) -> AsyncIterator[Any]:
        """:meth:`stream`, for ``async for``; ``timeout`` is in seconds."""
        return self._source.astream(self.id, timeout, after)

    # -- changing ------------------------------------------------------------------------------------------------------

    def cancel(self, timeout: Duration | None = 10.0) -> bool:
        """Cancel the job; True if it reads ``cancelled`` now.

        A waiting job is cancelled at once, with all that depend on it. A running one is told to stop, and waited for
        up to ``timeout`` seconds (None: as long as it takes): False if it has ended otherwise, or still runs (it stays
        told). One that has ended is left alone.
        """
        return self._source.cancel(self.id, timeout)

    async def acancel(self, timeout: Duration | None = 10.0) -> bool:
        """:meth:`cancel` within so many seconds, without blocking."""
        return await self._source.acancel(self.id, timeout)

    def retry(self, *, with_dependents: bool = True) -> bool:
        """Put a ``failed`` or ``dead`` job back to waiting, with a fresh budget of attempts; its history stays. False
        if it is neither, if it is a schedule that has had all its runs, or while another job has its unique key.

        In the same transaction all that was cancelled because of it waits again, directly or through other jobs, so the
        workflow goes on; ``with_dependents=False`` leaves that cancelled. ::

            for job in app.dead_letters(task="charge"):
                job.retry()
        """
        return self._source.retry(self.id, with_dependents)

    async def aretry(self, *, with_dependents: bool = True) -> bool:
        """:meth:`retry`, without blocking."""
        return await self._source.aretry(self.id, with_dependents)
