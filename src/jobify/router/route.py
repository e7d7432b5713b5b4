"""A registered task, and what its callers do with it: call it, push it, enqueue it, schedule it."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from abc import ABC
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pickle import PicklingError
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload
from weakref import ref

from jobify.canvas.signature import Signature
from jobify.exceptions import TaskNotAttachedError
from jobify.jobs.job import Job
from jobify.jobs.job_request import EnqueueOptions, build_requests, checked_arguments, parse_calls
from jobify.jobs.job_result import JobResult
from jobify.jobs.schedule_builder import PushRequest, ScheduleBuilder, Scheduler, failed_awaitable
from jobify.model.batch import result_of_one
from jobify.model.element_signature import Element, element_of
from jobify.model.signature import (
    FuncSpec,
    coroutine_function,
    inspect_function,
    is_async_callable,
    mark_async_callable,
)
from jobify.model.task_options import RouteOptions
from jobify.router.configured import ConfiguredTask, TransactionTask
from jobify.router.mounts import Binding, ambiguous, choose
from jobify.runtime.importable import name_of

__all__ = ("BatchTaskDecorator", "NodeRoute", "RootRoute", "Route", "TaskDecorator", "lasting_name")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")
Return_co = TypeVar("Return_co", covariant=True)


class Route(ABC, Generic[ParamsT, Return_co]):
    """A registered task.

    A call runs the function; ``push``, ``delay`` and ``schedule`` make jobs. With ``batch``, the function takes a list,
    and a job is one element of it: ``push`` and the others take what the element type takes. To extend tasks, subclass
    :class:`RootRoute` or :class:`NodeRoute` and give the class to an app or a router as its ``route_class``.
    ``options`` are checked and complete when the route is made; ``name`` is final once its router is included in an
    app.
    """

    def __init__(self, *, name: str, func: Callable[ParamsT, Any], options: RouteOptions) -> None:
        self.name = name
        self.func = func
        self.options = options
        self._inspect(name)
        self._binding: Binding | None = None
        """The only app that it belongs to. None means no app, or several."""
        self._mounts: list[ref[Self]] = []
        """Its mounts in several apps, which the apps own."""
        functools.update_wrapper(self, func, updated=())
        if is_async_callable(func):
            mark_async_callable(self, func)

    def _inspect(self, name: str) -> None:
        self.function_spec: FuncSpec[Any] = inspect_function(self.func, name=name)
        """What the function takes."""
        self.func_spec: FuncSpec[Any] = self.function_spec
        """What the calls of the task take."""
        self.element: Element | None = None
        """What the function takes a list of: with ``batch``, of jobs; with a ``debounce`` that collects, of calls."""
        debounce = self.options.get("debounce")
        if self.options.get("batch") is not None:
            self.element = element_of(self.func, task=name)
            self.func_spec = self.element.spec(name, result_of_one(self.function_spec.result_type))
        elif debounce is not None and debounce.collect:
            self.element = element_of(self.func, task=name, option="debounce")
            self.func_spec = self.element.spec(name, self.function_spec.result_type)

    def __call__(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:
        if self.function_spec.inject_params:
            self.function_spec.check_injected(args, kwargs)
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> str:
        """Pickle by name, as for a function: unpickling gives the task of that name."""
        return global_name(self)

    def __copy__(self) -> Self:
        """The task itself, as for a function."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @property
    def is_attached(self) -> bool:
        """Whether the route belongs to an app."""
        return bool(self.bindings())

    def attach(self, scheduler: Scheduler, *, name: str) -> None:
        """Make this a task of the app behind ``scheduler``, under its final ``name``."""
        self._binding = Binding(scheduler, name)
        if name != self.name:
            self.name = name
            self._inspect(name)

    def detach(self) -> None:
        """Make this a task of no app."""
        self._binding = None

    def mount(self) -> Self:
        """A mount of this task for one more app, which has to own it and to attach it."""
        mounted = object.__new__(type(self))
        vars(mounted).update(vars(self), _binding=None, _mounts=[])
        self._mounts = [*(mount for mount in self._mounts if mount() is not None), ref(mounted)]
        return mounted

    def bindings(self) -> list[Binding]:
        """The apps that the task belongs to."""
        if self._binding is not None:
            return [self._binding]
        mounts = [mount() for mount in self._mounts]
        return [binding for mounted in mounts if mounted is not None for binding in mounted.bindings()]

    def bound_to(self, app: object) -> Self | None:
        """The task, or its mount, in this app. None if it does not belong to it."""
        if self._binding is not None:
            return self if self._binding.scheduler is app else None
        mounts = (mount() for mount in self._mounts)
        found = (mounted.bound_to(app) for mounted in mounts if mounted is not None)
        return next((mounted for mounted in found if mounted is not None), None)

    def schedule(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ScheduleBuilder[Return_co]:
        """Prepare a job with these arguments; the methods of the builder say when it runs.

        TypeError if the arguments do not fit the function; :class:`~jobify.exceptions.ApplicationStateError` if the app
        is not started.
        """
        scheduler, _ = self._binding or self._choose()
        scheduler.require_started()
        self.func_spec.check(*args, **kwargs)
        return self.builder(args, kwargs)

    def builder(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ScheduleBuilder[Return_co]:
        """The builder of :meth:`schedule`, for checked arguments and an app that may not be started yet."""
        scheduler, name = self._binding or self._choose()
        return ScheduleBuilder(
            name=name,
            func_spec=self.func_spec,
            options=self.options,
            scheduler=scheduler,
            args=args,
            kwargs=kwargs,
        )

    @coroutine_function
    def push(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Coroutine[Any, Any, Job[Return_co]]:
        """Run the task now with these arguments: short for ``schedule(...).push()``.

        When the await returns, a durable job is on disk. TypeError if the arguments do not fit the function,
        ApplicationStateError if the app is not started, PayloadError if the arguments cannot be stored,
        StorageUnavailableError if the storage is; in each case nothing was stored.
        """
        try:
            scheduler, name = self._binding or self._choose()
            self.func_spec.check(*args, **kwargs)
            return scheduler.submit(PushRequest(name, args, kwargs))
        except Exception as error:
            return failed_awaitable(error)

    # -- from any process ----------------------------------------------------------------------------------------------

    def delay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """Enqueue a job with these arguments, from any process or thread.

        No app needs to run here. When this returns, the job is on disk, and any worker that knows the task may run it.
        TypeError if the arguments do not fit the function, PayloadError if they cannot be stored,
        StorageUnavailableError if the storage cannot be written to; in each case nothing was stored.
        """
        scheduler, name = self._binding or self._choose()
        return scheduler.client.delay(name, args, kwargs)

    async def adelay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`delay`, without blocking the event loop. Calls at the same time share a commit."""
        scheduler, name = self._binding or self._choose()
        return await scheduler.client.adelay(name, args, kwargs)

    def using(self, connection: object) -> TransactionTask[ParamsT, Return_co]:
        """The task on a connection of yours: its jobs are stored in the transaction of that connection.

        ``connection`` is one of sqlite3, aiosqlite, SQLAlchemy (``Connection``, ``Session`` and their async twins) or
        Django (``connections[alias]``), to the database of the app's storage. It is neither committed nor closed nor
        changed. ConfigurationError if it is something else; the calls that follow raise it if the connection leads to
        another database. ::

            with connection:
                connection.execute("INSERT INTO orders (id) VALUES (?)", (order_id,))
                send_receipt.using(connection).delay(order_id)
        """
        scheduler, name = self._binding or self._choose()
        return TransactionTask(self, name, scheduler.client.using(connection), {})

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`delay` with options: see ``EnqueueOptions``.

        It blocks until the job is stored, despite its name.

        ConfigurationError for an invalid option, DuplicateJobError if ``job_id`` is in use. ::

            resize.apply_async(("cat.png", 64), queue="images", delay=5)
        """
        return self._signature(args, kwargs, options).apply()

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`apply_async`, without blocking the event loop."""
        return await self._signature(args, kwargs, options).aapply()

    def map(self, calls: Iterable[Sequence[Any]], **options: Unpack[EnqueueOptions]) -> list[JobResult[Return_co]]:
        """Enqueue a job for each tuple of arguments, in one transaction; ``options`` apply to each of them."""
        (scheduler, name), called = self._binding or self._choose(), parse_calls(calls)
        if options:
            return scheduler.client.submit(build_requests(name, called, options))
        return scheduler.client.delay_all(name, called)

    async def amap(
        self, calls: Iterable[Sequence[Any]], **options: Unpack[EnqueueOptions]
    ) -> list[JobResult[Return_co]]:
        """:meth:`map`, without blocking the event loop."""
        (scheduler, name), called = self._binding or self._choose(), parse_calls(calls)
        if options:
            return await scheduler.client.asubmit(build_requests(name, called, options))
        return await scheduler.client.adelay_all(name, called)

    def configure(self, **options: Unpack[EnqueueOptions]) -> ConfiguredTask[ParamsT, Return_co]:
        """This task with options.

        ``task.configure(queue="images", delay=5).delay("cat.png", 64)``. The options apply to every way to enqueue it
        (``delay``, ``push``, ``schedule``, ``map``, ``s``). Type checkers check the arguments of the task, unlike those
        of :meth:`apply_async`. UnknownOptionError suggests the option that may be meant.
        """
        return ConfiguredTask(self, options)

    def s(self, /, *args: Any, **kwargs: Any) -> Signature[Return_co]:
        """A call of the task as a value, for workflows (see :mod:`jobify.canvas`).

        In a chain, the result of the previous step is passed before ``args``. The arguments are checked when the
        workflow is applied.
        """
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client)

    def si(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Signature[Return_co]:
        """:meth:`s` without the result of the previous step: the job only waits for that step."""
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client, is_immutable=True)

    def _signature(
        self, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Signature[Return_co]:
        args, kwargs = checked_arguments(args, kwargs)
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client, options=options)

    def name_in(self, app: object) -> str:
        """The name of its jobs in ``app``, or else in the app that it belongs to.

        TaskNotAttachedError if it belongs to no app.
        """
        for binding in self.bindings():
            if binding.scheduler is app:
                return binding.name
        return (self._binding or self._choose()).name

    def app_binding(self) -> Binding:
        """The app of a call. TaskNotAttachedError if there is none, ApplicationStateError if it is ambiguous."""
        return self._binding or self._choose()

    def _choose(self) -> Binding:
        """The app of a call among several; see :mod:`jobify.router.mounts`."""
        bindings = self.bindings()
        if not bindings:
            raise TaskNotAttachedError(self.name)
        chosen = choose(bindings)
        if chosen is None:
            del bindings
            gc.collect()  # because an unused app may still exist: apps are part of reference cycles
            bindings = self.bindings()
            chosen = choose(bindings)
        if chosen is None:
            raise ambiguous(self.name, bindings)
        return chosen


class RootRoute(Route[ParamsT, ReturnT]):
    """A task declared on the app itself."""


class NodeRoute(Route[ParamsT, ReturnT]):
    """A task declared on a router."""


class TaskDecorator:
    """The type of ``@router.task(...)``: keeps the parameters and the return type of the decorated function."""

    @overload
    def __call__(self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def __call__(self, func: Callable[ParamsT, ReturnT], /) -> Route[ParamsT, ReturnT]: ...
    def __call__(self, func: Any, /) -> Any:
        raise NotImplementedError


class BatchTaskDecorator:
    """The type of ``@router.task(batch=...)``: keeps the type of one result. The parameters of the task are those of
    the element type, which type checkers do not see, so it takes any."""

    @overload
    def __call__(
        self, func: Callable[..., Coroutine[Any, Any, Sequence[ReturnT | Exception]]], /
    ) -> Route[..., ReturnT]: ...
    @overload
    def __call__(self, func: Callable[..., Coroutine[Any, Any, None]], /) -> Route[..., None]: ...
    @overload
    def __call__(self, func: Callable[..., Sequence[ReturnT | Exception]], /) -> Route[..., ReturnT]: ...
    @overload
    def __call__(self, func: Callable[..., None], /) -> Route[..., None]: ...
    def __call__(self, func: Any, /) -> Any:
        raise NotImplementedError


def global_name(route: Route[..., Any]) -> str:
    """The name of ``route`` in the module of its function; PicklingError if it has none there."""
    module = sys.modules.get(route.__module__)
    qualname = getattr(route, "__qualname__", "")
    found: Any = module
    try:
        for part in qualname.split("."):
            found = getattr(found, part)
    except AttributeError:
        found = None
    if found is route:
        return str(qualname)
    for name, value in vars(module).items() if module is not None else ():
        if value is route:
            return name
    raise PicklingError(
        f"Task {route.name!r} cannot be pickled: it has no name in the module {route.__module__!r}, by which another "
        "process could find it. Define it at the top level of a module and keep it under its own name, or pass the "
        "name of the task on and use app.enqueue(name, ...)."
    )


def lasting_name(func: Callable[..., Any]) -> str | None:
    """``module:qualname``, the same whether a module is run (``python -m``) or imported.

    None for a lambda, a partial or a callable object, which have no name of their own.
    """
    if not (inspect.isroutine(func) or inspect.isclass(func)) or "<lambda>" in func.__qualname__:
        return None
    return name_of(func)
