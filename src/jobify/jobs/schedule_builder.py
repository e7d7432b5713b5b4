"""Scheduling a call of a task in the app's process: now, after a delay, at a time, or by a cron rule.

A :class:`ScheduleBuilder` holds a task and the arguments of one call. Its methods add the time, and submit a
:class:`PushRequest` to the :class:`Scheduler` that the app attached to the task.
"""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from datetime import UTC, datetime, tzinfo
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from msgspec import Struct

from jobify.exceptions import ConfigurationError
from jobify.jobs.job import Job
from jobify.jobs.job_request import JobSpec, Submitter
from jobify.model.clock import from_datetime, seconds, to_datetime
from jobify.model.cron import Cron, as_cron
from jobify.model.durations import Duration, as_seconds, check_duration
from jobify.model.ids import check_text
from jobify.model.signature import FuncSpec, coroutine_function
from jobify.model.task_options import RouteOptions
from jobify.runtime.fork import ProcessBound
from jobify.types import Microseconds

__all__ = ("PushRequest", "ScheduleBuilder", "Scheduler", "TaskTracker")

ReturnT = TypeVar("ReturnT")

_Submitted: TypeAlias = Coroutine[Any, Any, Job[ReturnT]]
"""What the methods of a builder return, to be awaited. They are plain functions that return the coroutine of the
scheduler, because there may be ten thousand pushes a second, and a coroutine around another one costs time. Their
errors are raised where the result is awaited, as with any coroutine function."""

_EARLIEST = from_datetime(datetime(1, 1, 2, tzinfo=UTC), zone=UTC)
_LATEST = from_datetime(datetime(9999, 1, 1, tzinfo=UTC), zone=UTC)


class PushRequest(Struct, eq=False, gc=False):
    """A checked request to schedule a job.

    Ten thousand pushes at once make ten thousand requests (and pending jobs, and attempts), which the garbage collector
    would visit again and again. None of them is part of a reference cycle for longer than its job runs, so they are
    excluded from garbage collection (``gc=False``), which makes a push about a tenth cheaper.
    """

    name: str
    """The task."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    due_at: Microseconds | None = None
    """None means now."""
    cron: Cron | None = None
    job_id: str | None = None
    is_replace: bool = False
    is_force: bool = False
    is_delay: bool = False
    """Whether ``due_at`` is elapsed time from now, also if the clock is set."""
    spec: JobSpec | None = None
    """The job's own options. None means those of its task. Its ``job_id``, ``delay`` and ``eta`` are above."""


class Scheduler(Protocol):
    """Schedules jobs: the part of the app that tasks use."""

    @property
    def zone(self) -> tzinfo:
        """The zone of naive datetimes."""
        ...

    def now(self) -> Microseconds:
        """The time of the app's clock."""
        ...

    def require_started(self) -> None:
        """ApplicationStateError if the app is not started, or is being stopped."""
        ...

    @property
    def loop(self) -> AbstractEventLoop | None:
        """The event loop of the app. None means that it is not started."""
        ...

    @property
    def description(self) -> str:
        """A description of the app for error messages, which distinguishes it from other apps."""
        ...

    @property
    def client(self) -> Submitter:
        """Enqueues jobs whether the app is started or not."""
        ...

    def submit(self, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        """Store the job of ``request`` and return its handle.

        When the await returns, a durable job is on disk. ApplicationStateError if the app is not started,
        DuplicateJobError if the id is in use, StorageUnavailableError if the storage cannot be written to; in each case
        nothing was stored.
        """
        ...


@runtime_checkable
class TaskTracker(Protocol):
    """Finds the jobs that have not ended: the part of the app that observers use."""

    def find_job(self, id_: str) -> Job[Any] | None:
        """The handle of a waiting or running job. None if there is none with this id."""
        ...

    def get_active_jobs(self) -> list[Job[Any]]:
        """The handles of all waiting and running jobs."""
        ...

    async def wait_all(self, timeout: Duration | None = None) -> None:
        """Return when there is no such job; WaitTimeoutError after ``timeout`` seconds."""
        ...


def _is_past(delay: Any) -> bool:
    """Whether ``delay`` is a finite negative number, as may result from computing with a clock."""
    return isinstance(delay, int | float) and -math.inf < delay < 0


async def failed_awaitable(error: Exception) -> Any:
    """A coroutine that raises ``error`` where it is awaited, as an ``async def`` would."""
    raise error


class ScheduleBuilder(ProcessBound, Generic[ReturnT]):
    """One call of a task, to be scheduled by one of its methods.

    When the await of a method returns, a durable job is on disk. ApplicationStateError if the app is not started,
    ConfigurationError for an invalid time or option, DuplicateJobError if ``job_id`` is in use, StorageUnavailableError
    if the storage cannot be written to; in each case nothing was stored. ::

        job = await report.schedule("daily").delay(60)
    """

    instead = "Pass the task, or its name, and the arguments on."

    __slots__ = ("_scheduler", "_spec", "args", "func_spec", "kwargs", "name", "route_options")

    def __init__(
        self,
        *,
        name: str,
        func_spec: FuncSpec[ReturnT],
        options: RouteOptions,
        scheduler: Scheduler,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.name = name
        self.func_spec = func_spec
        self.route_options = options
        self.args = args
        self.kwargs = kwargs
        self._scheduler = scheduler
        self._spec: JobSpec | None = None

    def with_options(self, spec: JobSpec) -> Self:
        """This builder, for jobs with these options. ConfigurationError for ``delay`` or ``eta`` among them."""
        if spec.delay is not None or spec.eta is not None:
            raise ConfigurationError(
                "schedule(...) says when the job runs: leave delay and eta out of configure(), or use push(...)."
            )
        self._spec = spec.in_zone(self._scheduler.zone)
        return self

    def now(self) -> datetime:
        """The current time in the app's zone."""
        return to_datetime(self._scheduler.now(), zone=self._scheduler.zone)

    @coroutine_function
    def push(self, *, job_id: str | None = None, replace: bool = False, force: bool = False) -> _Submitted[ReturnT]:
        """Run the task now, in this process if a slot is free.

        Returns when the job is stored, not when it has run. ``job_id`` must not be in use in this database, unless
        ``replace`` is true, which replaces that job. ``force`` runs the outer middleware even if nothing would change.
        """
        return self._submit(job_id=job_id, is_replace=replace, is_force=force)

    @coroutine_function
    def delay(
        self, seconds: Duration, *, job_id: str | None = None, now: datetime | None = None, replace: bool = False
    ) -> _Submitted[ReturnT]:
        """Run the task after ``seconds`` (or a timedelta) of elapsed time.

        They are counted from ``now``. Elapsed time does not depend on the clocks of the zone, nor on the clock
        being set while an app or a worker runs. 0 or a negative delay is now. ConfigurationError (a ValueError) if it
        is infinite or NaN.
        """
        try:
            due_at = self._after(seconds, now)
        except Exception as error:
            return failed_awaitable(error)
        return self._submit(due_at=due_at, job_id=job_id, is_replace=replace, is_delay=True)

    @coroutine_function
    def at(
        self, at: datetime, *, job_id: str | None = None, replace: bool = False, force: bool = False
    ) -> _Submitted[ReturnT]:
        """Run the task at a point in time, or now if it is past.

        A naive ``at`` is read in the app's zone. With ``replace``, a job that has the same id, time and arguments is
        not changed, unless ``force`` is true.
        """
        try:
            if not isinstance(at, datetime):
                raise ConfigurationError(f"at() takes a datetime, not {at!r}. For seconds from now use delay().")
            due_at = from_datetime(at, zone=self._scheduler.zone)
        except Exception as error:
            return failed_awaitable(error)
        return self._submit(due_at=due_at, job_id=job_id, is_replace=replace, is_force=force)

    @coroutine_function
    def cron(self, cron: str | Cron, *, job_id: str, replace: bool = False, force: bool = False) -> _Submitted[ReturnT]:
        """Run the task repeatedly, by a cron rule in the app's zone.

        The handle is that of the whole schedule. With ``replace``, the progress of the old schedule is kept unless its
        ``start_date`` changes; a schedule with the same rule and arguments is not changed, unless ``force`` is true.
        """
        try:
            rule = self._checked_rule(cron)
        except Exception as error:
            return failed_awaitable(error)
        return self._submit(cron=rule, job_id=job_id, is_replace=replace, is_force=force)

    def _checked_rule(self, cron: str | Cron) -> Cron:
        if not isinstance(cron, str | Cron):
            raise ConfigurationError(f"cron() takes an expression or a Cron, not {cron!r}.")
        rule = as_cron(cron)
        if (rule.args or rule.kwargs) and not (self.args or self.kwargs):
            self.func_spec.check(*rule.args, **rule.kwargs)
            self.args, self.kwargs = rule.args, dict(rule.kwargs)
        return rule

    def _after(self, given: Duration, now: datetime | None) -> Microseconds:
        delay = as_seconds(given)
        if not _is_past(delay):
            check_duration(delay, what="delay")
        if now is not None and not isinstance(now, datetime):
            raise ConfigurationError(f"delay() takes a datetime as now, not {now!r}. Leave it out to count from now.")
        start = self._scheduler.now() if now is None else from_datetime(now, zone=self._scheduler.zone)
        due_at = start + seconds(delay)
        if not _EARLIEST <= due_at <= _LATEST:
            raise ConfigurationError(f"A delay of {delay:g} seconds does not end between the years 1 and 9998.")
        return due_at

    def _submit(
        self,
        *,
        due_at: Microseconds | None = None,
        cron: Cron | None = None,
        job_id: str | None = None,
        is_replace: bool = False,
        is_force: bool = False,
        is_delay: bool = False,
    ) -> _Submitted[ReturnT]:
        try:
            if self._spec is not None:
                job_id = self._job_id(job_id, is_single=cron is None and not is_replace)
            if job_id is not None:
                check_text(job_id, what="job_id")
            elif cron is not None:
                raise ConfigurationError(
                    "A schedule needs a job_id, by which it is found again, after a restart too. Give it one: "
                    f"cron({cron.expression!r}, job_id='nightly')."
                )
            request = PushRequest(
                self.name, self.args, self.kwargs, due_at, cron, job_id, is_replace, is_force, is_delay
            )
            if self._spec is not None:
                request.spec = self._spec
            return self._scheduler.submit(request)
        except Exception as error:
            return failed_awaitable(error)

    def _job_id(self, job_id: str | None, *, is_single: bool) -> str | None:
        """The id of the job; ConfigurationError for options that a schedule or a replacement cannot have."""
        spec = self._spec
        assert spec is not None
        given = {"unique_key": spec.unique_key, "depends_on": spec.parents or None, "expires": spec.expires}
        wrong = [name for name, value in given.items() if value is not None]
        if wrong and not is_single:
            raise ConfigurationError(
                f"The option {wrong[0]} is for a job that runs once and replaces none. Leave it out of configure()."
            )
        return spec.job_id if job_id is None else job_id
