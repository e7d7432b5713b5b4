"""The tree of routers, and how it names and admits tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload
from uuid import uuid4

from jobify.exceptions import ApplicationStateError, ConfigurationError, RouteAlreadyRegisteredError
from jobify.injection import check_injectable
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware
from jobify.options import RouteOptions, check_options
from jobify.router.checks import (
    checked_function,
    checked_handlers,
    checked_layer,
    checked_layers,
    checked_lifespan,
    checked_prefix,
    checked_route_class,
    checked_state,
)
from jobify.router.route import NodeRoute, Route, lasting_name
from jobify.schedule import Scheduler
from jobify.state import State
from jobify.types import ExceptionHandler, Lifespan, MappingExceptionHandlers

__all__ = ("JobRouter", "Router", "frozen")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")


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
        self.state = checked_state(state)
        self.prefix = checked_prefix(prefix)
        self.lifespan = checked_lifespan(lifespan)
        self.middleware: list[BaseMiddleware] = checked_layers(middleware, "middleware")
        self.outer_middleware: list[BaseOuterMiddleware] = checked_layers(outer_middleware, "outer_middleware")
        self.exception_handlers = checked_handlers(exception_handlers, f"the {type(self).__name__}")
        self.route_class = checked_route_class(route_class, Route)
        self._routes: dict[str, Route[..., Any]] = {}
        self._sub_routers: list[JobRouter] = []
        self._parent: Router | None = None

    # -- the tree ------------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Router | None:
        """The router that this one is included in."""
        return self._parent

    @property
    def root(self) -> Router:
        """The top of the tree."""
        return self if self._parent is None else self._parent.root

    @property
    def sub_routers(self) -> tuple[JobRouter, ...]:
        """The routers included in this one."""
        return tuple(self._sub_routers)

    @property
    def chain_head(self) -> Iterator[Router]:
        """This router and those above it, up to the root."""
        yield self
        if self._parent is not None:
            yield from self._parent.chain_head

    @property
    def chain_tail(self) -> Iterator[Router]:
        """This router and those below it, each before what it includes."""
        yield self
        for router in self._sub_routers:
            yield from router.chain_tail

    @property
    def routes(self) -> Iterator[Route[..., Any]]:
        """The tasks of this router and of all routers below it."""
        return (route for _, route in self.walk())

    def walk(self) -> Iterator[tuple[Router, Route[..., Any]]]:
        """Every task from here down, with the router that declares it."""
        for router in self.chain_tail:
            for route in router._routes.values():
                yield router, route

    def include_router(self, router: JobRouter) -> None:
        """Add all tasks of ``router``, with its prefix in front of their names.

        RuntimeError if it is included somewhere already, or is this router or one above it.
        """
        if not isinstance(router, JobRouter):
            raise ConfigurationError(f"include_router() takes a JobRouter, not {router!r}.")
        if router is self:
            raise RuntimeError(f"A router cannot include itself: {router!r}.")
        if router._parent is not None:
            raise RuntimeError(f"Router is already attached to {router._parent!r}.")
        if router in self.chain_head:
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
    def task(
        self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /, **options: Unpack[RouteOptions]
    ) -> Route[ParamsT, ReturnT]: ...
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
        func = checked_function(func.func if isinstance(func, Route) else func)
        name = options.get("name") or lasting_name(func) or f"unnamed-{uuid4().hex}"
        checked = check_options(options, task=name)
        route = self.route_class(name=name, func=func, options=checked)
        self._admit(route)
        return route

    def remove_route(self, name: str) -> None:
        """Forget a task of this router. Its stored jobs stay, and wait for an app that has it."""
        self._require_open("remove a task")
        for key, route in self._routes.items():
            if name in (key, route.name):
                del self._routes[key]
                route.detach()
                return
        raise ConfigurationError(f"There is no task {name!r} on {self!r}.")

    def add_middleware(self, middleware: BaseMiddleware) -> None:
        """Add a layer around every attempt, inside the ones that are there."""
        self._require_open("add middleware")
        self.middleware.append(checked_layer(middleware))

    def add_outer_middleware(self, middleware: BaseOuterMiddleware) -> None:
        """Add a layer around the scheduling of every job, inside the ones that are there."""
        self._require_open("add outer middleware")
        self.outer_middleware.append(checked_layer(middleware))

    def add_exception_handler(self, kind: type[Exception], handler: ExceptionHandler) -> None:
        """Handle exceptions of this type (and its subtypes) of all tasks of this router."""
        self._require_open("add an exception handler")
        self.exception_handlers |= checked_handlers({kind: handler}, f"the {type(self).__name__}")

    # -- naming and admitting ------------------------------------------------------------------------------------------

    def full_name(self, name: str) -> str:
        """``name`` with the prefixes from the root down to here in front of it: ``outer.inner:name``."""
        prefixes = [router.prefix for router in self.chain_head if router.prefix]
        return f"{'.'.join(reversed(prefixes))}:{name}" if prefixes else name

    def _admit(self, route: Route[..., Any]) -> None:
        """Take a new route in, under a name that is free in the whole tree."""
        if route.name in self._routes:
            raise RouteAlreadyRegisteredError(route.name)
        check_injectable(route.func_spec, may_be_app=_may_be_app)
        final = self.full_name(route.name)
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
        named = [(owner.full_name(route.name), route) for owner, route in router.walk() if not route.is_attached]
        for name, route in named:
            if name in taken:
                raise RouteAlreadyRegisteredError(name)
            taken.add(name)
            self._check_route(route)
        for name, route in named:
            route.attach(scheduler, name=name)

    # -- what the root knows -------------------------------------------------------------------------------------------

    def _require_open(self, operation: str) -> None:
        """ApplicationStateError once the app runs."""
        if self._parent is not None:
            self._parent._require_open(operation)

    def _scheduler_for_routes(self) -> Scheduler | None:
        return None if self._parent is None else self._parent._scheduler_for_routes()

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

    What it is given holds for its own tasks and for those of the routers that it includes. ``lifespan`` gets the
    router. Its ``state`` is what its tasks see; what is missing there is looked up in the states above, live, while
    what a task sets stays in this one.
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


def _may_be_app(kind: type) -> bool:
    """Whether an app can be of this type: a router does not know which app it will be included in."""
    is_app = issubclass(kind, Router) and not issubclass(kind, JobRouter)
    return is_app or getattr(kind, "_is_protocol", False) is True


def frozen(operation: str) -> ApplicationStateError:
    """The error of changing an app that runs."""
    return ApplicationStateError(
        operation=operation,
        reason="The app is already running and configuration is frozen.",
        solution="Do this before `async with app:` or `await app.startup()`.",
    )
