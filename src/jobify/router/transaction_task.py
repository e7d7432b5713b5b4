"""A task whose jobs are stored in a user's transaction: ``task.using(connection)``."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

import msgspec

from jobify.canvas.signature import Signature
from jobify.exceptions import ConfigurationError
from jobify.jobs.job_request import (
    EnqueueOptions,
    JobRequest,
    Submitter,
    build_requests,
    checked_arguments,
    parse_calls,
    validate_options,
)
from jobify.jobs.job_result import JobResult
from jobify.model.cron import Cron, as_cron
from jobify.model.durations import Duration, as_seconds
from jobify.model.ids import check_text

if TYPE_CHECKING:
    from jobify.router.route import Route

__all__ = ("TransactionSchedule", "TransactionTask")

ParamsT = ParamSpec("ParamsT")
Return_co = TypeVar("Return_co", covariant=True)


class TransactionTask(Generic[ParamsT, Return_co]):
    """A task on a connection: what it enqueues is stored if the transaction of the connection is committed.

    Until then no worker and no other connection sees the jobs, and a rollback, also one to a savepoint before the call,
    leaves none. The handles are there at once; before the commit, and after a rollback, what they read raises
    JobNotFoundError. The names are those of the task; those that are awaited take any connection, the others need one
    that blocks. Errors of the connection pass as they are. ::

        with Session(engine) as session, session.begin():
            session.add(order)
            send_receipt.using(session).delay(order.id)
    """

    __slots__ = ("_name", "_options", "_submitter", "task")

    def __init__(
        self, task: Route[ParamsT, Return_co], name: str, submitter: Submitter, options: Mapping[str, Any]
    ) -> None:
        self.task = task
        self._name = name
        self._submitter = submitter
        self._options = options

    def __repr__(self) -> str:
        return f"<{self._name} in a transaction>"

    def configure(self, **options: Unpack[EnqueueOptions]) -> TransactionTask[ParamsT, Return_co]:
        """The task with these options, which override the present ones, on the same connection."""
        merged: Any = {**self._options, **options}
        self._signature((), {}, merged)
        return TransactionTask(self.task, self._name, self._submitter, merged)

    def delay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`Route.delay`, in the transaction."""
        if not self._options:
            return self._submitter.delay(self._name, args, kwargs)
        return self._signature(args, kwargs, self._options).apply()

    async def adelay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`Route.adelay`, in the transaction."""
        if not self._options:
            return await self._submitter.adelay(self._name, args, kwargs)
        return await self._signature(args, kwargs, self._options).aapply()

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`Route.apply_async`, in the transaction."""
        return self._signature(args, kwargs, {**self._options, **options}).apply()

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`Route.aapply_async`, in the transaction."""
        return await self._signature(args, kwargs, {**self._options, **options}).aapply()

    def map(self, calls: Iterable[Sequence[Any]], **options: Unpack[EnqueueOptions]) -> list[JobResult[Return_co]]:
        """:meth:`Route.map`, in the transaction: all of them, or none."""
        merged = {**self._options, **options}
        return self._submitter.submit(build_requests(self._name, parse_calls(calls), merged))

    async def amap(
        self, calls: Iterable[Sequence[Any]], **options: Unpack[EnqueueOptions]
    ) -> list[JobResult[Return_co]]:
        """:meth:`Route.amap`, in the transaction."""
        merged = {**self._options, **options}
        return await self._submitter.asubmit(build_requests(self._name, parse_calls(calls), merged))

    async def _schedule(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], cron: Cron, job_id: str
    ) -> JobResult[Return_co]:
        spec = validate_options({**self._options, "job_id": job_id})
        given = {
            "unique_key": spec.unique_key,
            "depends_on": spec.parents or None,
            "expires": spec.expires,
            "delay": spec.delay,
            "eta": spec.eta,
        }
        wrong = next((name for name, value in given.items() if value is not None), None)
        if wrong is not None:
            raise ConfigurationError(f"The option {wrong} is for a job that runs once. Leave it out of configure().")
        request = JobRequest(self._name, args, kwargs, msgspec.structs.replace(spec, cron=cron))
        return (await self._submitter.asubmit((request,)))[0]

    async def push(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """The same as :meth:`adelay`. The job waits for a worker, also where the app runs in this process, because only
        the commit makes it a job; so the app need not be started, and the handle is one for any process."""
        return await self.adelay(*args, **kwargs)

    def schedule(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> TransactionSchedule[Return_co]:
        """:meth:`Route.schedule`, in the transaction. The app need not be started."""
        self.task.func_spec.check(*args, **kwargs)
        return TransactionSchedule(self, args, kwargs)

    def _signature(self, args: Any, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Signature[Any]:
        return Signature(self._name, *checked_arguments(args, kwargs), self._submitter, options=options or None)


class TransactionSchedule(Generic[Return_co]):
    """One call of a task, to be stored in the transaction by one of these methods, which are awaited.

    They are those of :class:`~jobify.jobs.schedule_builder.ScheduleBuilder`, for a new job. One that replaces another
    job is no part of a transaction: store it apart.
    """

    __slots__ = ("_args", "_kwargs", "_task")

    def __init__(self, task: TransactionTask[..., Return_co], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs

    def push(self, *, job_id: str | None = None) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task when the transaction is committed."""
        return self._task.aapply_async(self._args, self._kwargs, job_id=job_id)

    def delay(self, seconds: Duration, *, job_id: str | None = None) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task after ``seconds`` (or a timedelta) of elapsed time, counted from this call; 0 or less is now."""
        given = as_seconds(seconds)
        delay = max(given, 0.0) if isinstance(given, int | float) else given
        return self._task.aapply_async(self._args, self._kwargs, delay=delay, job_id=job_id)

    def at(self, at: datetime, *, job_id: str | None = None) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task at a point in time, or after the commit if it is past. A naive ``at`` is read in the app's
        zone."""
        if not isinstance(at, datetime):
            raise ConfigurationError(f"at() takes a datetime, not {at!r}. For seconds from now use delay().")
        return self._task.aapply_async(self._args, self._kwargs, eta=at, job_id=job_id)

    def cron(self, cron: str | Cron, *, job_id: str) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task repeatedly, by a cron rule in the app's zone, from the commit on. The handle is that of the
        whole schedule. DuplicateJobError if ``job_id`` is in use."""
        if not isinstance(cron, str | Cron):
            raise ConfigurationError(f"cron() takes an expression or a Cron, not {cron!r}.")
        rule, args, kwargs = as_cron(cron), self._args, self._kwargs
        if (rule.args or rule.kwargs) and not (args or kwargs):
            args, kwargs = rule.args, dict(rule.kwargs)
        return self._task._schedule(args, kwargs, rule, check_text(job_id, what="job_id"))
