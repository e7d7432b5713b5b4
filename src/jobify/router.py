"""Where tasks are declared: routes, and the routers that group them.

A :class:`Route` is a registered function. It stays callable as before, and knows how to be scheduled: it holds a
:class:`~jobify.schedule.Scheduler` to submit orders to, which is attached when its router is included in an app. A
router is a tree of routers with routes; the app is the root of the tree.
"""

from __future__ import annotations

import functools
from abc import ABC
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from jobify.exceptions import ApplicationStateError, ConfigurationError, RouteAlreadyRegisteredError
from jobify.job import Job
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware
from jobify.options import RouteOptions, check_options
from jobify.schedule import Order, ScheduleBuilder, Scheduler
from jobify.serializers.importable import real_module_name
from jobify.signature import FuncSpec, inspect_function
from jobify.state import State
from jobify.types import ExceptionHandler, Lifespan, MappingExceptionHandlers

__all__ = ("JobRouter", "NodeRoute", "RootRoute", "Route", "Router")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")
Return_co = TypeVar("Return_co", covariant=True)


class Route(ABC, Generic[ParamsT, Return_co]):
    """A registered task. Call it as the plain function it was; ``push`` and ``schedule`` make jobs of it."""

    def __init__(self, *, name: str, func: Callable[ParamsT, Any], options: RouteOptions) -> None:
        self.name = name
        self.func = func
        self.options = options
        self.func_spec: FuncSpec[Any] = inspect_function(func, name=name)
        self._scheduler: Scheduler | None = None
        functools.update_wrapper(self, func, updated=())

    def __call__(self, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def is_attached(self) -> bool:
        """Whether the route belongs to an app."""
        return self._scheduler is not None

    def attach(self, scheduler: Scheduler, *, name: str) -> None:
        """Make this a task of the app behind ``scheduler``, under its final ``name``."""
        self._scheduler = scheduler
        if name != self.name:
            self.name = name
            self.func_spec = inspect_function(self.func, name=name)

    def schedule(self, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ScheduleBuilder[Return_co]:
        """These arguments, at a time that the builder's methods say. TypeError if they do not fit the function."""
        scheduler = self._require_scheduler()
        self.func_spec.check(*args, **kwargs)
        return ScheduleBuilder(
            name=self.name,
            func_spec=self.func_spec,
            options=self.options,
            scheduler=scheduler,
            args=args,
            kwargs=kwargs,
        )

    def push(self, *args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Coroutine[Any, Any, Job[Return_co]]:
        """Run the task at once with these arguments: short for ``schedule(...).push()``."""
        scheduler = self._require_scheduler()
        self.func_spec.check(*args, **kwargs)
        return scheduler.submit(Order(self.name, args, kwargs))

    def _require_scheduler(self) -> Scheduler:
        if self._scheduler is None:
            raise RuntimeError(
                f"Task {self.name!r} is not attached to any Jobify app. Did you forget to call app.include_router()?"
            )
        return self._scheduler


class RootRoute(Route[ParamsT, ReturnT]):
    """A task declared on the app itself."""


class NodeRoute(Route[ParamsT, ReturnT]):
    """A task declared on a router."""


class Router:
    """A node of the tree: routes, sub-routers, and what applies to all of them."""

    def __init__(
        self,
        *,
        state: State | None,
        prefix: str | None,
        lifespan: Lifespan[Any] | None,
        middleware: Sequence[BaseMiddleware] | None,
        outer_middleware: Sequence[BaseOuterMiddleware] | None,
        exception_handlers: MappingExceptionHandlers | None,
        route_class: type[Route[..., Any]],
    ) -> None:
        self.state = state if state is not None else State()
        self.prefix = prefix
        self.lifespan = lifespan
        self.middleware: list[BaseMiddleware] = list(middleware or ())
        self.outer_middleware: list[BaseOuterMiddleware] = list(outer_middleware or ())
        self.exception_handlers: dict[type[Exception], ExceptionHandler] = dict(exception_handlers or {})
        self.route_class = route_class
        self._routes: dict[str, Route[..., Any]] = {}
        self._sub_routers: list[JobRouter] = []
        self._parent: Router | None = None

    # -- the tree ------------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Router | None:
        """The router that this one is included in."""
        return self._parent

    @property
    def sub_routers(self) -> tuple[JobRouter, ...]:
        """The routers included in this one."""
        return tuple(self._sub_routers)

    @property
    def routes(self) -> Iterator[Route[..., Any]]:
        """The tasks of this router and of all routers below it."""
        yield from self._routes.values()
        for router in self._sub_routers:
            yield from router.routes

    @property
    def chain_tail(self) -> Iterator[Router]:
        """This router and its ancestors, up to the root."""
        router: Router | None = self
        while router is not None:
            yield router
            router = router._parent

    def include_router(self, router: JobRouter) -> None:
        """Add all tasks of ``router``, with its prefix in front of their names."""
        if not isinstance(router, JobRouter):
            raise ConfigurationError(f"include_router() takes a JobRouter, not {router!r}.")
        if router is self:
            raise RuntimeError(f"A router cannot include itself: {router!r}.")
        if router._parent is not None:
            raise RuntimeError(f"Router is already attached to {router._parent!r}.")
        if router in self.chain_tail:
            raise RuntimeError(f"Circular include: {router!r} already contains {self!r}.")
        self._require_open("include a router")
        router._parent = self
        self._sub_routers.append(router)
        try:
            self._adopt(router)
        except BaseException:
            self._sub_routers.remove(router)
            router._parent = None
            raise

    def include_routers(self, *routers: JobRouter) -> None:
        """:meth:`include_router`, for several."""
        if not routers:
            raise ValueError("At least one router must be provided.")
        for router in routers:
            self.include_router(router)

    # -- registering ---------------------------------------------------------------------------------------------------

    @overload
    def task(self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, func: Callable[ParamsT, ReturnT], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, func: Callable[ParamsT, ReturnT], /, **options: Unpack[RouteOptions]) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, /, **options: Unpack[RouteOptions]) -> _TaskDecorator: ...
    def task(self, func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function as a task: ``@app.task``, ``@app.task(retry=3)`` or ``app.task(func, name="x")``.

        Options that cannot work are refused here, with ConfigurationError; a name that is taken with
        RouteAlreadyRegisteredError.
        """
        if func is None:
            return functools.partial(self.add_route, **options)
        return self.add_route(func, **options)

    def add_route(self, func: Callable[..., Any], /, **options: Any) -> Route[..., Any]:
        """What ``task`` does, without the decorator. A Route registers its function once more."""
        self._require_open("register a task")
        if isinstance(func, Route):
            func = func.func
        if not callable(func):
            raise ConfigurationError(f"A task must be a function or another callable, not {func!r}.")
        name = options.get("name") or task_name(func)
        checked = check_options(options, task=name)
        route = self.route_class(name=name, func=func, options=checked)
        self._admit(route)
        return route

    def remove_route(self, name: str) -> None:
        """Forget a task of this router."""
        self._require_open("remove a task")
        del self._routes[name]

    def add_middleware(self, middleware: BaseMiddleware) -> None:
        """Add a layer around every attempt, inside the ones that are there."""
        self._require_open("add middleware")
        self.middleware.append(middleware)

    def add_outer_middleware(self, middleware: BaseOuterMiddleware) -> None:
        """Add a layer around the scheduling of every job, inside the ones that are there."""
        self._require_open("add outer middleware")
        self.outer_middleware.append(middleware)

    def add_exception_handler(self, kind: type[Exception], handler: ExceptionHandler) -> None:
        """Handle exceptions of this type (and its subtypes) of all tasks of this router."""
        self._require_open("add an exception handler")
        self.exception_handlers[kind] = handler

    # -- what the root knows -------------------------------------------------------------------------------------------

    @property
    def root(self) -> Router:
        """The top of the tree."""
        return self if self._parent is None else self._parent.root

    def _require_open(self, operation: str) -> None:
        if self._parent is not None:
            self._parent._require_open(operation)

    def _scheduler_for_routes(self) -> Scheduler | None:
        return None if self._parent is None else self._parent._scheduler_for_routes()

    def full_prefix(self) -> str:
        """The prefixes from the root down to here, each with a colon."""
        above = "" if self._parent is None else self._parent.full_prefix()
        return above + (f"{self.prefix}:" if self.prefix else "")

    def _admit(self, route: Route[..., Any]) -> None:
        """Take a new route in, under a name that is free in the whole tree."""
        if route.name in self._routes:
            raise RouteAlreadyRegisteredError(route.name)
        final = self.full_prefix() + route.name
        if any(other.name == final for other in self.root.routes if other.is_attached):
            raise RouteAlreadyRegisteredError(final)
        self._check_route(route)
        self._routes[route.name] = route
        scheduler = self._scheduler_for_routes()
        if scheduler is not None:
            route.attach(scheduler, name=final)

    def _adopt(self, router: Router) -> None:
        """Attach the routes of a newly included router, if this tree has an app at its root."""
        scheduler = self._scheduler_for_routes()
        if scheduler is None:
            return
        taken = {route.name for route in self.root.routes if route.is_attached}
        named = [(owner.full_prefix() + route.name, route) for owner, route in router._walk() if not route.is_attached]
        for name, route in named:
            if name in taken:
                raise RouteAlreadyRegisteredError(name)
            taken.add(name)
            self._check_route(route)
        for name, route in named:
            route.attach(scheduler, name=name)

    def _walk(self) -> Iterator[tuple[Router, Route[..., Any]]]:
        for route in self._routes.values():
            yield self, route
        for router in self._sub_routers:
            yield from router._walk()

    def walk(self) -> Iterator[tuple[Router, Route[..., Any]]]:
        """Every task below here, with the router that declares it."""
        return self._walk()

    def _check_route(self, route: Route[..., Any]) -> None:
        """Refuse, where it is written, what the root cannot run."""
        if self._parent is not None:
            self._parent._check_route(route)


class JobRouter(Router):
    """A group of tasks, to be included in an app or in another router.

    ::

        mail = JobRouter(prefix="mail")

        @mail.task
        async def send(to: str) -> None: ...

        app.include_router(mail)       # the task is named "mail:<module>:send"
    """

    def __init__(
        self,
        *,
        state: State | None = None,
        prefix: str | None = None,
        lifespan: Lifespan[JobRouter] | None = None,
        middleware: Sequence[BaseMiddleware] | None = None,
        outer_middleware: Sequence[BaseOuterMiddleware] | None = None,
        exception_handlers: MappingExceptionHandlers | None = None,
        route_class: type[NodeRoute[..., Any]] = NodeRoute,
    ) -> None:
        super().__init__(
            state=state,
            prefix=prefix,
            lifespan=lifespan,
            middleware=middleware,
            outer_middleware=outer_middleware,
            exception_handlers=exception_handlers,
            route_class=route_class,
        )

    def __repr__(self) -> str:
        return "<NodeRouter>"


class _TaskDecorator:
    """The type of ``@router.task(...)``: keeps the parameters and the return type of what it decorates."""

    @overload
    def __call__(self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def __call__(self, func: Callable[ParamsT, ReturnT], /) -> Route[ParamsT, ReturnT]: ...
    def __call__(self, func: Any, /) -> Any:
        raise NotImplementedError


def task_name(func: Callable[..., Any]) -> str:
    """``module:qualname``; the same whether a module is run (``python -m``) or imported.

    ConfigurationError for what has no name of its own (a lambda, a partial, a callable object).
    """
    module = getattr(func, "__module__", None)
    qualname = getattr(func, "__qualname__", None)
    if module is None or qualname is None or "<lambda>" in qualname:
        raise ConfigurationError(
            f"{func!r} has no name that is the same after a restart. Give it one: task(name='...')."
        )
    return f"{real_module_name(module)}:{qualname}"


def frozen(operation: str) -> ApplicationStateError:
    """The error of changing an app that runs."""
    return ApplicationStateError(
        operation=operation,
        reason="The app is already running and configuration is frozen.",
        solution="Do this before `async with app:` or `await app.startup()`.",
    )
