"""A task with options: ``task.configure(queue="images", delay=5)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from jobify.canvas.signature import Signature
from jobify.jobs.job import Job
from jobify.jobs.job_request import EnqueueOptions, build_requests, parse_calls, validate_options
from jobify.jobs.job_result import JobResult
from jobify.jobs.schedule_builder import PushRequest, ScheduleBuilder, failed_awaitable
from jobify.model.signature import coroutine_function
from jobify.router.transaction_task import TransactionTask

if TYPE_CHECKING:
    from jobify.router.route import Route

__all__ = ("ConfiguredTask",)

ParamsT = ParamSpec("ParamsT")
Return_co = TypeVar("Return_co", covariant=True)


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
