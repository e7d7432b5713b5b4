"""The handle of a job from any process, sync and async. Every read goes to the storage."""

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
    """A job that was enqueued, as seen from any process.

    ``delay``, ``apply_async``, ``enqueue`` and workflows return it, and ``app.get_job(id)`` finds it again. ::

        job = add.delay(1, 2)           # on disk when this returns; a worker may be anywhere
        job.status                      # "pending", then "running", then "complete"
        job.result(timeout=10)          # 3

    Everything but ``id`` and ``created`` is read from the storage each time: JobNotFoundError if the job is not there
    (any more, because its retention is over), StorageUnavailableError if the storage cannot be read. Handles are equal
    if their ids are equal, and may be used in any thread. A pickled handle has only its id; ``app.get_job(job.id)``
    gives a complete one.
    """

    __slots__ = ("__weakref__", "_backend", "created", "id")

    def __init__(self, job_id: str, backend: ResultBackend | None, created: bool = True) -> None:
        self.id = job_id
        """A time-ordered UUID (UUIDv7), unless the caller chose another id."""
        self.created = created
        """False if nothing was stored: this is the handle of an unfinished job with the same ``unique_key``, or an
        outer middleware did not schedule the new one."""
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
                operation=f"read job {self.id!r}",
                reason="This handle was pickled, so it has no storage.",
                solution="Use app.get_job(job.id).",
            )
        return self._backend

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> PublicStatus:
        """``pending``, ``running``, ``complete``, ``failed``, ``dead`` (its retries are used up) or ``cancelled``."""
        record = self._source.reader.record(self.id)
        return public_status(record.status, record.is_dead)

    @property
    def public_status(self) -> PublicStatus:
        """:attr:`status`, under the name that :class:`Job` has, too."""
        return self.status

    @property
    def job_status(self) -> JobStatus:
        """The status as :attr:`Job.status`. A status that only a newer release knows reads RUNNING."""
        return known_status(self._source.reader.record(self.id).status)

    def is_done(self) -> bool:
        """Whether the job has ended. A user may still retry one that failed."""
        return self.job_status in TERMINAL

    def is_cron(self) -> bool:
        """Whether the job repeats by a cron rule."""
        return self._source.reader.record(self.id).rule is not None

    @property
    def cron_expression(self) -> str | None:
        """The expression of a cron job. None for a job that runs once, or if its rule cannot be read."""
        return rule_as_written(self._source.reader.record(self.id).rule).get("expression")

    @property
    def progress(self) -> float | None:
        """The progress that the task reported, 0 to 100. None if it reported none."""
        return self._source.reader.record(self.id).progress

    @property
    def error(self) -> str | None:
        """``Type: message`` of the last failure. None if the job has not failed, or succeeded later."""
        return self._source.reader.error(self.id)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """One dict for each failed attempt, the oldest first.

        Its keys are ``id``, ``job_id``, ``attempt`` (from 1), ``error`` (the traceback of the task's own frames),
        ``message``, ``outcome``, ``started_at`` and ``failed_at`` (ISO 8601, UTC).
        """
        return self._source.reader.errors(self.id)

    @property
    def reason(self) -> str | None:
        """Why the job was cancelled: ``cancelled``, ``expired``, ``dependency … failed``. None if it was not."""
        return self._source.reader.reason(self.id)

    @property
    def note(self) -> str:
        """Why the job does not run (any more), in a few words.

        ``no worker serves this queue``, ``the queue is paused``, ``waits for 2 others``, ``tries again in 5.0 s: …``,
        ``its worker (7154) is gone, last seen 2 m ago; the next worker that starts takes it up``. Empty if there is
        nothing to say. For people: the wording may change.
        """
        return self._source.reader.note(self.id)

    @property
    def waits_for(self) -> str | None:
        """The limit that holds the job back, and its place in the line of its task and queue.

        ``limit openai 10/10, 214th in line``. None if no limit does. For people: the wording may change.
        """
        return self._source.reader.waits_for(self.id)

    @property
    def dependencies(self) -> list[str]:
        """The ids of the jobs that must be complete before this one."""
        return list(self._source.reader.relations(self.id).parents)

    @property
    def dependents(self) -> list[str]:
        """The ids of the jobs that wait for this one, or did."""
        return list(self._source.reader.relations(self.id).children)

    @property
    def task_name(self) -> str:
        """The task."""
        return self._source.reader.record(self.id).task

    @property
    def queue_name(self) -> str:
        """The queue."""
        return self._source.reader.record(self.id).queue

    @property
    def args(self) -> list[Any]:
        """The positional arguments as JSON values, for display.

        A tuple is a list, a dataclass a dict, a datetime a text. PayloadError if they cannot be read here, or were
        dropped when a job in memory ended.
        """
        return self._source.reader.arguments(self.id)[0] or []

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, like :attr:`args`."""
        return self._source.reader.arguments(self.id)[1] or {}

    @property
    def metadata(self) -> dict[str, Any]:
        """The ``metadata`` of the job."""
        return self._source.reader.metadata(self.id)

    @property
    def attempt(self) -> int:
        """The number of the current or last attempt, from 1; 0 before the first."""
        return self._source.reader.record(self.id).attempt

    @property
    def created_at(self) -> datetime:
        """The time when the job was enqueued, in the app's zone."""
        return cast("datetime", self._source.reader.moment(self._source.reader.record(self.id).created_at))

    @property
    def started_at(self) -> datetime | None:
        """The time when the last attempt began, in the app's zone. None before the first."""
        return self._source.reader.moment(self._source.reader.record(self.id).started_at)

    @property
    def finished_at(self) -> datetime | None:
        """The time when the job ended, in the app's zone. None before that."""
        return self._source.reader.moment(self._source.reader.record(self.id).finished_at)

    @property
    def eta(self) -> datetime:
        """The time when the job is (or was) due, in the app's zone."""
        return cast("datetime", self._source.reader.moment(self._source.reader.record(self.id).due_at))

    @property
    def exec_at(self) -> datetime:
        """:attr:`eta`, under the name that :class:`Job` has, too."""
        return self.eta

    def to_dict(self) -> dict[str, Any]:
        """All fields of the job as JSON values; times are ISO 8601.

        A result or metadata that is no JSON value is shown as text.
        """
        return self._source.reader.describe(self.id)

    def logs(self) -> list[dict[str, Any]]:
        """The lines of ``current_job.log`` as dicts, the oldest first.

        Their keys are ``number``, ``at``, ``attempt``, ``level`` and ``message``.
        """
        return self._source.reader.logs(self.id)

    def refresh(self) -> None:
        """Only check that the job exists, because every read is fresh. JobNotFoundError if it does not."""
        self._source.reader.record(self.id)

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

        The process that ends the job notifies this one. In case a notification is lost, the storage is also polled,
        first after ``poll_interval`` seconds, then at longer intervals up to ``max_poll_interval``. Durations are
        seconds or timedeltas; a ``timeout`` of None waits for ever.

        :class:`WaitTimeoutError` (a TimeoutError) with the status and the :attr:`note`; :class:`TaskFailedError`,
        :class:`MaxRetriesExceededError` (dead) or :class:`TaskCancelledError`, which are RuntimeErrors;
        ResultNotStoredError if the value could not be stored; ApplicationStateError in the thread of the app's event
        loop, which this would block.
        """
        return cast("Return_co", self._source.result(self.id, timeout, (poll_interval, max_poll_interval)))

    async def aresult(
        self, timeout: Duration | None = 30.0, poll_interval: Duration = 0.05, max_poll_interval: Duration = 0.5
    ) -> Return_co:
        """:meth:`result`, without blocking, in any event loop. Durations are seconds or timedeltas."""
        return cast("Return_co", await self._source.aresult(self.id, timeout, (poll_interval, max_poll_interval)))

    def wait(self, timeout: Duration | None = None) -> None:
        """Return when the job has ended, in any way. WaitTimeoutError after ``timeout`` seconds."""
        self._source.wait(self.id, timeout)

    async def await_end(self, timeout: Duration | None = None) -> None:
        """:meth:`wait` for at most ``timeout`` seconds, without blocking."""
        await self._source.await_end(self.id, timeout)

    def stream(self, timeout: Duration | None = 60.0, after: int = 0) -> Iterator[Any]:
        """Yield the values that the task publishes, each once and in order.

        Begins with the first one.

        The iterator ends when the job has ended and all values were delivered. ``timeout`` is the number of seconds to
        wait for the next value, then WaitTimeoutError. ``after`` skips messages with numbers up to this one (values and
        log lines of a job are numbered together, from 1). ::

            for value in thumbnails.delay(paths).stream():
                show(value)
        """
        return self._source.stream(self.id, timeout, after)

    def astream(self, timeout: Duration | None = 60.0, after: int = 0) -> AsyncIterator[Any]:
        """:meth:`stream` for ``async for``; ``timeout`` is in seconds."""
        return self._source.astream(self.id, timeout, after)

    # -- changing ------------------------------------------------------------------------------------------------------

    def cancel(self, timeout: Duration | None = 10.0) -> bool:
        """Cancel the job. Returns whether its status is ``cancelled`` now.

        A waiting job is cancelled at once, together with all jobs that depend on it, in one transaction. A running one
        is requested to stop, and waited for up to ``timeout`` seconds (None: without limit). The result is False if it
        ended otherwise, or still runs; the request stays. An ended job is not changed.
        """
        return self._source.cancel(self.id, timeout)

    async def acancel(self, timeout: Duration | None = 10.0) -> bool:
        """:meth:`cancel` within ``timeout`` seconds, without blocking."""
        return await self._source.acancel(self.id, timeout)

    def retry(self, *, with_dependents: bool = True) -> bool:
        """Make a ``failed`` or ``dead`` job wait for a run again.

        It has all its attempts again; its history stays.

        Returns False, and changes nothing, if the job has another status, if it is a schedule that has had all its
        runs, or while another job has its unique key. In the same transaction, the jobs that were cancelled because of
        its failure, directly or through other jobs, wait again, so that the workflow goes on;
        ``with_dependents=False`` leaves them cancelled. ::

            for job in app.dead_letters(task="charge"):
                job.retry()
        """
        return self._source.retry(self.id, with_dependents)

    async def aretry(self, *, with_dependents: bool = True) -> bool:
        """:meth:`retry`, without blocking."""
        return await self._source.aretry(self.id, with_dependents)
