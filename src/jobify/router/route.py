"""A registered task."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from abc import ABC
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pickle import PicklingError
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack
from weakref import ref

from jobify.canvas.signature import Signature
from jobify.exceptions import TaskNotAttachedError
from jobify.jobs.job import Job
from jobify.jobs.job_request import EnqueueOptions, build_requests, checked_arguments, parse_calls
from jobify.jobs.job_result import JobResult
from jobify.jobs.schedule_builder import PushRequest, ScheduleBuilder, Scheduler, failed_awaitable
from jobify.model.signature import FuncSpec, inspect_function, is_async_callable
from jobify.model.task_options import RouteOptions
from jobify.router.apps import Binding, ambiguous, choose
from jobify.router.configured import ConfiguredTask
from jobify.runtime.coroutine_functions import coroutine_function, mark_async_callable
from jobify.runtime.importable import name_of

__all__ = ("NodeRoute", "RootRoute", "Route", "lasting_name")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")
Return_co = TypeVar("Return_co", covariant=True)


class Route(ABC, Generic[ParamsT, Return_co]):
    """A registered task. Call it as the plain function it was; ``push`` and ``schedule`` make jobs of it.

    Subclass :class:`RootRoute` or :class:`NodeRoute` and give the class to an app or a router as its ``route_class`` to
    change what tasks can do. ``options`` are checked and complete when the route is made; ``name`` is final once its
    router is included in an app.
    """

    def __init__(self, *, name: str, func: Callable[ParamsT, Any], options: RouteOptions) -> None:
        self.name = name
        self.func = func
        self.options = options
        self.func_spec: FuncSpec[Any] = inspect_function(func, name=name)
        self._binding: Binding | None = None
        """The app that it belongs to; None: to none, or to several."""
        self._mounts: list[ref[Self]] = []
        """What stands for it in each of several apps; the apps hold them."""
        functools.update_wrapper(self, func, updated=())
        if is_async_callable(func):
            mark_async_callable(self, func)

    def __call__(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:
        if self.func_spec.inject_params:
            self.func_spec.check_injected(args, kwargs)
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> str:
        """Pickled by its name, as a function is: what unpickles is the task at that name."""
        return global_name(self)

    def __copy__(self) -> Self:
        """A task is one of a kind, as a function is: its copy is itself."""
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
            self.func_spec = inspect_function(self.func, name=name)

    def detach(self) -> None:
        """Make this a task of no app."""
        self._binding = None

    def mount(self) -> Self:
        """What stands for this task in one more app, of which it is to be made a task. The app has to hold it."""
        mounted = object.__new__(type(self))
        vars(mounted).update(vars(self), _binding=None, _mounts=[])
        self._mounts = [*(mount for mount in self._mounts if mount() is not None), ref(mounted)]
        return mounted

    def bindings(self) -> list[Binding]:
        """The apps that it belongs to."""
        if self._binding is not None:
            return [self._binding]
        mounts = [mount() for mount in self._mounts]
        return [binding for mounted in mounts if mounted is not None for binding in mounted.bindings()]

    def bound_to(self, app: object) -> Self | None:
        """The task in this app; None if it does not belong to it."""
        if self._binding is not None:
            return self if self._binding.scheduler is app else None
        mounts = (mount() for mount in self._mounts)
        found = (mounted.bound_to(app) for mounted in mounts if mounted is not None)
        return next((mounted for mounted in found if mounted is not None), None)

    def schedule(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ScheduleBuilder[Return_co]:
        """These arguments, at a time that the builder's methods say.

        TypeError if they do not fit the function; :class:`~jobify.exceptions.ApplicationStateError` if the app is not
        started.
        """
        scheduler, _ = self._binding or self._choose()
        scheduler.require_started()
        self.func_spec.check(*args, **kwargs)
        return self.builder(args, kwargs)

    def builder(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ScheduleBuilder[Return_co]:
        """What :meth:`schedule` gives, for arguments that fit; the app need not be started yet."""
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
        """Run the task at once with these arguments: short for ``schedule(...).push()``."""
        try:
            scheduler, name = self._binding or self._choose()
            self.func_spec.check(*args, **kwargs)
            return scheduler.submit(PushRequest(name, args, kwargs))
        except Exception as error:
            return failed_awaitable(error)

    # -- for any process -----------------------------------------------------------------------------------------------

    def delay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """Enqueue a job with these arguments, from any process or thread, whether or not an app runs here.

        When this returns the job is on disk; any worker that knows the task may run it. TypeError if the arguments do
        not fit the function, PayloadError if they cannot be stored, StorageUnavailableError if nothing could be.
        """
        scheduler, name = self._binding or self._choose()
        return scheduler.client.delay(name, args, kwargs)

    async def adelay(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> JobResult[Return_co]:
        """:meth:`delay`, without blocking the event loop. Calls at the same time share a commit."""
        scheduler, name = self._binding or self._choose()
        return await scheduler.client.adelay(name, args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> JobResult[Return_co]:
        """:meth:`delay`, with options: see ``EnqueueOptions``. A plain call, in spite of its
        name. ConfigurationError for an option that cannot be, DuplicateJobError if ``job_id`` is in use."""
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
        """A job for each tuple of arguments, all stored in one transaction; ``options`` hold for each of them."""
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
        """This task with options: ``task.configure(queue="images", delay=5).delay("cat.png", 64)``.

        Every way to enqueue it takes them (``delay``, ``push``, ``schedule``, ``map``, ``s``), and its arguments are
        checked by type checkers, which those of :meth:`apply_async` are not. UnknownOptionError names the option that
        may have been meant.
        """
        return ConfiguredTask(self, options)

    def s(self, /, *args: Any, **kwargs: Any) -> Signature[Return_co]:
        """A call of the task as a value, for workflows (see :mod:`jobify.canvas`). In a chain the result of the step
        before comes in front of ``args``; whether all of it fits is seen when the workflow is applied."""
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client)

    def si(self, /, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Signature[Return_co]:
        """:meth:`s`, but the result of the step before is not taken: it is only waited for."""
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client, is_immutable=True)

    def _signature(
        self, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Signature[Return_co]:
        args, kwargs = checked_arguments(args, kwargs)
        scheduler, name = self._binding or self._choose()
        return Signature(name, args, kwargs, scheduler.client, options=options)

    def name_in(self, app: object) -> str:
        """The name that its jobs carry in ``app``, or else in the app that it belongs to; TaskNotAttachedError if
        there is none."""
        for binding in self.bindings():
            if binding.scheduler is app:
                return binding.name
        return (self._binding or self._choose()).name

    def app_binding(self) -> Binding:
        """The app that a call goes to; RuntimeError if there is none, ApplicationStateError if that cannot be told."""
        return self._binding or self._choose()

    def _choose(self) -> Binding:
        """Which of several apps is meant; see :mod:`jobify.router.apps`."""
        bindings = self.bindings()
        if not bindings:
            raise TaskNotAttachedError(self.name)
        chosen = choose(bindings)
        if chosen is None:
            del bindings
            gc.collect()  # an app is part of reference cycles, so one that is out of use may still be there
            bindings = self.bindings()
            chosen = choose(bindings)
        if chosen is None:
            raise ambiguous(self.name, bindings)
        return chosen


class RootRoute(Route[ParamsT, ReturnT]):
    """A task declared on the app itself."""


class NodeRoute(Route[ParamsT, ReturnT]):
    """A task declared on a router."""


def global_name(route: Route[..., Any]) -> str:
    """The name that leads to ``route`` in the module of its function; PicklingError if there is none."""
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
        f"Task {route.name!r} cannot be pickled: it is at no name in the module {route.__module__!r}, where another "
        "process would look for it. Define it at the top level of a module and keep it under its own name, or pass the "
        "name of the task on and use app.enqueue(name, ...)."
    )


def lasting_name(func: Callable[..., Any]) -> str | None:
    """``module:qualname``; the same whether a module is run (``python -m``) or imported.

    None for what has no name of its own: a lambda, a partial, a callable object.
    """
    if not (inspect.isroutine(func) or inspect.isclass(func)) or "<lambda>" in func.__qualname__:
        return None
    return name_of(func)
