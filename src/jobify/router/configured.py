"""A task with options, ``task.configure(queue="images", delay=5)``, and a task on a connection, ``task.using(...)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

import msgspec

from jobify.canvas.signature import Signature
from jobify.exceptions import ConfigurationError
from jobify.jobs.job import Job
from jobify.jobs.job_request import (
    EnqueueOptions,
    JobRequest,
    TransactionSubmitter,
    build_requests,
    checked_arguments,
    parse_calls,
    validate_options,
)
from jobify.jobs.job_result import JobResult
from jobify.jobs.schedule_builder import PushRequest, ScheduleBuilder, failed_awaitable
from jobify.model.cron import Cron, as_cron
from jobify.model.durations import Duration, as_seconds
from jobify.model.ids import check_text
from jobify.model.signature import coroutine_function

if TYPE_CHECKING:
    from jobify.router.route import Route

__all__ = ("ConfiguredTask", "TransactionTask")

ParamsT = ParamSpec("ParamsT")
Return_co = TypeVar("Return_co", covariant=True)


# -- transaction task --------------------------------------------------------------------------------------------------
# A task whose jobs are stored in a user's transaction: ``task.using(connection)``.


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
        self, task: Route[ParamsT, Return_co], name: str, submitter: TransactionSubmitter, options: Mapping[str, Any]
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
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        cron: Cron,
        job_id: str,
        *,
        is_replace: bool,
        is_force: bool,
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
        if is_replace:
            return await self._submitter.areplace(request, is_force=is_force)
        return (await self._submitter.asubmit((request,)))[0]

    async def _put(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: dict[str, Any],
        is_replace: bool,
        is_force: bool,
    ) -> JobResult[Return_co]:
        if not is_replace:
            return await self.aapply_async(args, kwargs, **options)
        spec = validate_options({**self._options, **options})
        given = {"unique_key": spec.unique_key, "depends_on": spec.parents or None, "expires": spec.expires}
        wrong = next((name for name, value in given.items() if value is not None), None)
        if wrong is not None or spec.job_id is None:
            raise ConfigurationError(
                "replace=True needs the job_id of the job to replace."
                if wrong is None
                else f"The option {wrong} is for a job that replaces none. Leave it out of configure()."
            )
        return await self._submitter.areplace(JobRequest(self._name, args, kwargs, spec), is_force=is_force)

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

    They are those of :class:`~jobify.jobs.schedule_builder.ScheduleBuilder`. With ``replace`` the job with this
    ``job_id`` is replaced by the commit, if it has not ended by then; until then no other process changes it. It is the
    job that others see: of two calls in one transaction, the second one replaces what the first one has stored.
    """

    __slots__ = ("_args", "_kwargs", "_task")

    def __init__(self, task: TransactionTask[..., Return_co], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs

    def push(
        self, *, job_id: str | None = None, replace: bool = False, force: bool = False
    ) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task when the transaction is committed."""
        return self._put({"job_id": job_id}, replace, force)

    def delay(
        self, seconds: Duration, *, job_id: str | None = None, replace: bool = False
    ) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task after ``seconds`` (or a timedelta) of elapsed time, counted from this call; 0 or less is now."""
        given = as_seconds(seconds)
        delay = max(given, 0.0) if isinstance(given, int | float) else given
        return self._put({"delay": delay, "job_id": job_id}, replace, False)

    def at(
        self, at: datetime, *, job_id: str | None = None, replace: bool = False, force: bool = False
    ) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task at a point in time, or after the commit if it is past. A naive ``at`` is read in the app's
        zone. With ``replace``, a job that has the same id, time and arguments is not changed, unless ``force``."""
        if not isinstance(at, datetime):
            raise ConfigurationError(f"at() takes a datetime, not {at!r}. For seconds from now use delay().")
        return self._put({"eta": at, "job_id": job_id}, replace, force)

    def cron(
        self, cron: str | Cron, *, job_id: str, replace: bool = False, force: bool = False
    ) -> Coroutine[Any, Any, JobResult[Return_co]]:
        """Run the task repeatedly, by a cron rule in the app's zone, from the commit on. The handle is that of the
        whole schedule. DuplicateJobError if ``job_id`` is in use, unless ``replace`` is true: then the progress of the
        old schedule is kept unless its ``start_date`` changes, and the same rule and arguments change nothing."""
        if not isinstance(cron, str | Cron):
            raise ConfigurationError(f"cron() takes an expression or a Cron, not {cron!r}.")
        rule, args, kwargs = as_cron(cron), self._args, self._kwargs
        if (rule.args or rule.kwargs) and not (args or kwargs):
            args, kwargs = rule.args, dict(rule.kwargs)
        job_id = check_text(job_id, what="job_id")
        return self._task._schedule(args, kwargs, rule, job_id, is_replace=replace, is_force=force)

    def _put(
        self, options: dict[str, Any], is_replace: bool, is_force: bool
    ) -> Coroutine[Any, Any, JobResult[Return_co]]:
        return self._task._put(self._args, self._kwargs, options, is_replace, is_force)


# -- configured --------------------------------------------------------------------------------------------------------


class ConfiguredTask(Generic[ParamsT, Return_co]):
    """A task whose jobs are enqueued with these options.

    For the options see :class:`~jobify.jobs.job_request.EnqueueOptions`.

    Its arguments are checked like those of the task. It does not change; :meth:`configure` returns a new one. ::

        urgent = resize.configure(queue="images", priority=9)
        urgent.delay("cat.png", 64)
    """

    __slots__ = ("options", "spec", "task")

    def __init__(self, task: Route[ParamsT, Return_co], options: Mapping[str, Any]) -> None:
        self.task = task
        self.spec = validate_options(options)
        self.options: Mapping[str, Any] = {**options}
        if options.get("depends_on") is not None:
            self.options = {**options, "depends_on": self.spec.parents}  # an iterator would be empty at the second use

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"<{self.task.name}.configure({options})>"

    def __call__(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:
        return self.task(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.name

    @property
    def func(self) -> Callable[ParamsT, Any]:
        """The function."""
        return self.task.func

    def configure(self, **options: Unpack[EnqueueOptions]) -> ConfiguredTask[ParamsT, Return_co]:
        """A task with these options, which override the present ones."""
        return ConfiguredTask(self.task, {**self.options, **options})

    def schedule(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ScheduleBuilder[Return_co]:
        """:meth:`Route.schedule`, with the options.

        The builder says when, so ``delay`` and ``eta`` cannot be among them; a job that replaces another one, or a
        cron, has no ``unique_key``, ``depends_on`` or ``expires``.
        """
        return self.task.schedule(*args, **kwargs).with_options(self.spec)

    @coroutine_function
    def push(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Coroutine[Any, Any, Job[Return_co]]:
        """:meth:`Route.push`, with the options.

        The job runs after ``delay`` seconds, or at ``eta``, if there is one. The handle is that of the unfinished job
        with the same ``unique_key``, if there is one.
        """
        try:
            scheduler, name = self.task.app_binding()
            scheduler.require_started()
            self.task.func_spec.check(*args, **kwargs)
            spec = self.spec.in_zone(scheduler.zone)
            is_delay = spec.delay is not None
            due_at = None
            if is_delay or spec.eta is not None:
                due_at = spec.due_at(scheduler.now(), scheduler.zone)
            return scheduler.submit(
                PushRequest(name, args, kwargs, due_at, job_id=spec.job_id, is_delay=is_delay, spec=spec)
            )
        except Exception as error:
            return failed_awaitable(error)

    def delay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`Route.delay`, with the options."""
        return self._signature(args, kwargs).apply()

    async def adelay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`delay`, without blocking the event loop."""
        return await self._signature(args, kwargs).aapply()

    def using(self, connection: object) -> TransactionTask[ParamsT, Return_co]:
        """:meth:`Route.using`, with the options."""
        scheduler, name = self.task.app_binding()
        return TransactionTask(self.task, name, scheduler.client.using(connection), self.options)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`Route.apply_async`, with these options, which override the present ones."""
        merged: Any = {**self.options, **options}
        return self.task.apply_async(args, kwargs, **merged)

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`apply_async`, without blocking the event loop."""
        merged: Any = {**self.options, **options}
        return await self.task.aapply_async(args, kwargs, **merged)

    def map(self, calls: Iterable[Sequence[Any]]) -> list[JobResult[Return_co]]:
        """:meth:`Route.map`, with the options."""
        scheduler, name = self.task.app_binding()
        return scheduler.client.submit(build_requests(name, parse_calls(calls), self.options))

    async def amap(self, calls: Iterable[Sequence[Any]]) -> list[JobResult[Return_co]]:
        """:meth:`map`, without blocking the event loop."""
        scheduler, name = self.task.app_binding()
        return await scheduler.client.asubmit(build_requests(name, parse_calls(calls), self.options))

    def s(self, /, *args: Any, **kwargs: Any) -> Signature[Return_co]:
        """:meth:`Route.s`, with the options."""
        return self._signature(args, kwargs)

    def si(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Signature[Return_co]:
        """:meth:`Route.si`, with the options."""
        return self._signature(args, kwargs, is_immutable=True)

    def _signature(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_immutable: bool = False
    ) -> Signature[Return_co]:
        scheduler, name = self.task.app_binding()
        return Signature(name, args, kwargs, scheduler.client, is_immutable=is_immutable, options=self.options or None)
