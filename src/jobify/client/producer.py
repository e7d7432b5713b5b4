"""The app, as processes see it that only enqueue and ask: everything that needs no running engine.

Each method that reads or writes the database has a twin for async code, with an ``a`` in front of its name, which does
the same without blocking the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar, Unpack

from jobify.client.arguments import (
    AnyJob,
    AnyTask,
    JobFilters,
    filters_of,
    id_of,
    ids_of,
)
from jobify.client.enqueuing import Enqueuing
from jobify.jobs.job_result import JobResult
from jobify.router import ConfiguredTask, Route

if TYPE_CHECKING:
    from jobify.client.client import Client
    from jobify.client.views import LimitView, QueueView, ScheduleView, Unserved, WorkerView

__all__ = ("Preview", "Producer", "client_of")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")
Task: TypeAlias = Route[ParamsT, ReturnT] | ConfiguredTask[ParamsT, ReturnT]


class _NoKey(Enum):
    NO_KEY = auto()

    def __repr__(self) -> str:
        return self.name


NO_KEY: Final = _NoKey.NO_KEY
"""No key is given; None is one."""


class Preview:
    """What the retention of an app would delete."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def preview(self) -> dict[str, int]:
        """How many ended jobs may be deleted by now, by the six words. The janitor of any worker does it."""
        return self._client.queries.purgeable()

    async def apreview(self) -> dict[str, int]:
        """:meth:`preview`, without blocking the event loop."""
        return await self._client.read(self.preview)


class Producer(Enqueuing):
    """Enqueuing and queries, whether or not the app runs here.

    In any process, thread or event loop. The storage is opened by the first call that needs it. It is closed by
    :meth:`close`, when the app stops, when the app object is gone, and at the end of the process; the next call opens
    it again.
    """

    def close(self) -> None:
        """Close the storage that the calls below have opened, and end their threads.

        The next call opens it again. A caller that still waits for a job gets an ApplicationStateError. No thread and
        no descriptor is left.
        """
        self._client.close()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def get_job(self, job_id: str) -> JobResult[Any]:
        """The handle of any job in the database; JobNotFoundError if there is none with this id."""
        return JobResult(self._client.operations.reader.record(id_of(job_id)).id, self._client.operations)

    async def aget_job(self, job_id: str) -> JobResult[Any]:
        """:meth:`get_job`, without blocking the event loop."""
        return await self._client.read(self.get_job, job_id)

    def jobs(
        self, *, limit: int = 100, after: AnyJob | None = None, newest_first: bool = True, **filters: Unpack[JobFilters]
    ) -> list[JobResult[Any]]:
        """A page of jobs that match all ``filters`` (see ``JobFilters``).

        In the order of their ids, which is that of
        their creation where no ids were chosen. For the next page ask for those ``after`` the last job of this one. Ids
        are read in that order until the page is full. A status finds its jobs by an index (but ``"complete"``, which is
        most of them); the other filters read what they leave out: where hardly any job matches, 0.4 seconds per million
        jobs, with ``metadata`` 0.8. The oldest of more than 50,000 waiting jobs are found behind the ended ones, which
        takes as long.
        """
        return self._client.queries.jobs(
            filters_of(filters, self),
            limit=limit,
            after=None if after is None else id_of(after),
            is_newest_first=newest_first,
        )

    async def ajobs(
        self, *, limit: int = 100, after: AnyJob | None = None, newest_first: bool = True, **filters: Unpack[JobFilters]
    ) -> list[JobResult[Any]]:
        """:meth:`jobs`, without blocking the event loop."""
        return await self._client.read(self.jobs, limit=limit, after=after, newest_first=newest_first, **filters)

    def stats(self, task: AnyTask | None = None, queue: str | None = None) -> dict[str, int]:
        """How many jobs there are: of all, of a task, in a queue. Each of the six words is there."""
        return self._client.queries.stats(filters_of({"task": task, "queue": queue}, self))

    async def astats(self, task: AnyTask | None = None, queue: str | None = None) -> dict[str, int]:
        """:meth:`stats`, without blocking the event loop."""
        return await self._client.read(self.stats, task, queue)

    def dead_letters(
        self, task: AnyTask | None = None, queue: str | None = None, *, limit: int = 100, after: AnyJob | None = None
    ) -> list[JobResult[Any]]:
        """Jobs that are ``failed`` or ``dead``, the newest first. Their ``retry()`` puts them back."""
        filters = filters_of({"task": task, "queue": queue}, self)
        return self._client.queries.dead_letters(filters, limit=limit, after=None if after is None else id_of(after))

    async def adead_letters(
        self, task: AnyTask | None = None, queue: str | None = None, *, limit: int = 100, after: AnyJob | None = None
    ) -> list[JobResult[Any]]:
        """:meth:`dead_letters`, without blocking the event loop."""
        return await self._client.read(self.dead_letters, task, queue, limit=limit, after=after)

    def delete_jobs(self, jobs: AnyJob | Iterable[AnyJob]) -> int:
        """Remove jobs that are not running, with result and history; how many.

        A job that waits for a removed one that had not ended is cancelled. A job whose result another one needs, or
        will if it is tried again, stays, unless that one is among ``jobs``, too.
        """
        return self._client.admin.delete(ids_of(jobs))

    async def adelete_jobs(self, jobs: AnyJob | Iterable[AnyJob]) -> int:
        """:meth:`delete_jobs`, without blocking the event loop."""
        return await self._client.call(self.delete_jobs, jobs)

    def purge_jobs(self, **filters: Unpack[JobFilters]) -> int:
        """Remove ended jobs that match all ``filters``, in small batches; how many.

        Jobs stay whose results are needed by jobs that have not ended, or that failed and may be tried again.
        """
        return self._client.admin.purge(filters_of(filters, self))

    async def apurge_jobs(self, **filters: Unpack[JobFilters]) -> int:
        """:meth:`purge_jobs`, without blocking the event loop."""
        return await self._client.call(self.purge_jobs, **filters)

    @property
    def retention(self) -> Preview:
        """How long ended jobs are kept: ``app.retention.preview()`` counts those that may be deleted by now."""
        return Preview(self._client)

    # -- queues, workers, schedules ------------------------------------------------------------------------------------

    def queues(self) -> list[QueueView]:
        """The queues that have jobs, are paused, or are named by a worker; ``problem`` of one without a worker."""
        return self._client.queries.queues()

    async def aqueues(self) -> list[QueueView]:
        """:meth:`queues`, without blocking the event loop."""
        return await self._client.read(self.queues)

    def pause_queue(self, queue: str) -> None:
        """Let no worker take jobs of this queue, until :meth:`resume_queue`. What runs goes on."""
        return self._client.admin.pause_queue(queue)

    async def apause_queue(self, queue: str) -> None:
        """:meth:`pause_queue`, without blocking the event loop."""
        return await self._client.call(self.pause_queue, queue)

    def resume_queue(self, queue: str) -> None:
        """Undo :meth:`pause_queue`."""
        return self._client.admin.resume_queue(queue)

    async def aresume_queue(self, queue: str) -> None:
        """:meth:`resume_queue`, without blocking the event loop."""
        return await self._client.call(self.resume_queue, queue)

    def limits(self) -> list[LimitView]:
        """The limits of all tasks in the database: what holds them, what they hold back, keys at their limit."""
        return self._client.limits.all()

    async def alimits(self) -> list[LimitView]:
        """:meth:`limits`, without blocking the event loop."""
        return await self._client.read(self.limits)

    def set_limit(self, name: str, limit: int, *, key: Any = NO_KEY) -> None:
        """Let a limit be another one than in the code, for all workers at once, until :meth:`reset_limit`.

        ``name`` is that of the limit, or of a task that has one limit without a name. With ``key`` it is set for this
        key alone, which goes before the limit itself. 0 lets nothing start; what runs goes on. It is stored, so it
        survives deploys. ConfigurationError for an unknown name. ::

            app.set_limit("openai", 5)
            app.set_limit("shop-api", 0, key="shop-7")
        """
        self._client.limits.set(name, limit, key, is_keyed=key is not NO_KEY)

    async def aset_limit(self, name: str, limit: int, *, key: Any = NO_KEY) -> None:
        """:meth:`set_limit`, without blocking the event loop."""
        await self._client.call(self.set_limit, name, limit, key=key)

    def reset_limit(self, name: str, *, key: Any = NO_KEY) -> None:
        """Undo :meth:`set_limit` of a limit, or of one key of it: what the code says counts again."""
        self._client.limits.set(name, None, key, is_keyed=key is not NO_KEY)

    async def areset_limit(self, name: str, *, key: Any = NO_KEY) -> None:
        """:meth:`reset_limit`, without blocking the event loop."""
        await self._client.call(self.reset_limit, name, key=key)

    def workers(self) -> list[WorkerView]:
        """The processes that claim jobs or wait for their ends, and what they run."""
        return self._client.queries.workers()

    async def aworkers(self) -> list[WorkerView]:
        """:meth:`workers`, without blocking the event loop."""
        return await self._client.read(self.workers)

    def unserved(self) -> list[Unserved]:
        """Jobs that wait although they could run: no live worker serves their queue, or knows their task."""
        return self._client.queries.unserved()

    async def aunserved(self) -> list[Unserved]:
        """:meth:`unserved`, without blocking the event loop."""
        return await self._client.read(self.unserved)

    def schedules(self) -> list[ScheduleView]:
        """All jobs with a cron rule."""
        return self._client.queries.schedules()

    async def aschedules(self) -> list[ScheduleView]:
        """:meth:`schedules`, without blocking the event loop."""
        return await self._client.read(self.schedules)

    def pause_schedule(self, job: AnyJob) -> bool:
        """Pause a schedule until :meth:`resume_schedule`; a run under way goes on.

        False if it is no schedule, or has ended.
        """
        return self._client.admin.pause_schedule(id_of(job))

    async def apause_schedule(self, job: AnyJob) -> bool:
        """:meth:`pause_schedule`, without blocking the event loop."""
        return await self._client.call(self.pause_schedule, job)

    def resume_schedule(self, job: AnyJob) -> bool:
        """Resume a schedule that was paused, or stopped by its failures.

        A stopped one (``is_stopped`` of :meth:`schedules`) counts its failures from 0 again. False if it was neither.
        Due times that passed meanwhile are missed runs, and its misfire policy says what becomes of them.
        """
        return self._client.admin.resume_schedule(id_of(job))

    async def aresume_schedule(self, job: AnyJob) -> bool:
        """:meth:`resume_schedule`, without blocking the event loop."""
        return await self._client.call(self.resume_schedule, job)

    def run_schedule_now(self, job: AnyJob) -> JobResult[Any]:
        """Enqueue one job with the task and the arguments of a schedule.

        The schedule itself goes on as it would have, and its runs are not counted.
        """
        return JobResult(self._client.admin.run_now(id_of(job)), self._client.operations)

    async def arun_schedule_now(self, job: AnyJob) -> JobResult[Any]:
        """:meth:`run_schedule_now`, without blocking the event loop."""
        return await self._client.call(self.run_schedule_now, job)


def client_of(app: Producer) -> Client:
    """The parts behind an app, for what shows many rows and needs no handles."""
    return app._client
