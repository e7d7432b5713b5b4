"""The tree of routers: registering tasks, naming them, and including routers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, overload
from uuid import uuid4
from weakref import ref

from jobify.exceptions import ApplicationStateError, ConfigurationError, RouteAlreadyRegisteredError, RouterError
from jobify.jobs.schedule_builder import Scheduler
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware
from jobify.model.batch import Batch
from jobify.model.hooks import Hooks, TakesHooks
from jobify.model.state import State
from jobify.model.task_options import RouteOptions, TaskOptions, check_options
from jobify.router.aliases import aliases_below
from jobify.router.injection import check_injectable
from jobify.router.mounts import check_include, mount, own_values, replace_by_mounts
from jobify.router.route import BatchTaskDecorator, NodeRoute, Route, TaskDecorator, lasting_name
from jobify.router.validation import (
    checked_function,
    checked_handlers,
    checked_layer,
    checked_layers,
    checked_lifespan,
    checked_prefix,
    checked_route_class,
    checked_state,
)
from jobify.types import ExceptionHandler, Lifespan, MappingExceptionHandlers

__all__ = ("JobRouter", "Router", "frozen_error")

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")


class Router:
    """A node of the tree: tasks, sub-routers, and the middleware and handlers that apply to them."""

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
        self._origin: Router | None = None
        """The router that this one is a mount of. None means that the user made it."""
        self._mounts: list[ref[JobRouter]] = []
        """The mounts of this router, which their parents own."""
        self._declared_state: dict[str, Any] | None = None
        """The values of the state before the first app started."""

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
        """This router and those below it, each before its sub-routers."""
        yield self
        for router in self._sub_routers:
            yield from router.chain_tail

    @property
    def routes(self) -> Iterator[Route[..., Any]]:
        """The tasks of this router and of all routers below it."""
        return (route for _, route in self.walk())

    def walk(self) -> Iterator[tuple[Router, Route[..., Any]]]:
        """Every task of this router and of those below it, with the router that declares it."""
        for router in self.chain_tail:
            for route in router._routes.values():
                yield router, route

    def include_router(self, router: JobRouter) -> None:
        """Add all tasks of ``router``, with its prefix in front of their names.

        A router can be included in any number of apps, and in routers of these. Each app then has its own states, and
        its own routers in ``sub_routers``: mounts of the included one. What is added to the included router later is
        added to all mounts. All tasks are added, or none: RouterError if the router is in this app already, or is this
        router or one above it; RouteAlreadyRegisteredError if a task name is taken.
        """
        if not isinstance(router, JobRouter):
            raise ConfigurationError(f"include_router() takes a JobRouter, not {router!r}.")
        if router is self:
            raise RouterError(f"A router cannot include itself: {router!r}.")
        self._require_open("include a router")
        for node in (self, *self._all_mounts()):
            check_include(node, router)
        included: list[JobRouter] = []
        try:
            included.extend(node._include(router) for node in (self, *self._all_mounts()))
        except BaseException:
            for node in included:
                node._remove()
            raise

    def _include(self, router: JobRouter) -> JobRouter:
        """Include ``router`` in this node only; the router itself, or its mount."""
        if router._parent is None and not any(node._all_mounts() for node in router.chain_tail):
            node = router
        else:
            replace_by_mounts(router)
            node = mount(router)
        node._parent = self
        self._sub_routers.append(node)
        try:
            self._attach_routes(node)
        except BaseException:
            node._remove()
            raise
        return node

    def _remove(self) -> None:
        if self._parent is not None:
            self._parent._sub_routers = [node for node in self._parent._sub_routers if node is not self]
        self._parent = None
        for _, route in self.walk():
            route.detach()

    def include_routers(self, *routers: JobRouter) -> None:
        """:meth:`include_router` for several routers, one after the other."""
        if not routers:
            raise ConfigurationError("At least one router must be provided.")
        for router in routers:
            self.include_router(router)

    # -- registering ---------------------------------------------------------------------------------------------------

    @overload
    def task(self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, func: Callable[ParamsT, ReturnT], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, /, *, batch: Batch, **options: Unpack[TaskOptions]) -> BatchTaskDecorator: ...  # type: ignore[overload-overlap]  # where options are passed on, it is not known whether they have a batch
    @overload
    def task(
        self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /, **options: Unpack[RouteOptions]
    ) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, func: Callable[ParamsT, ReturnT], /, **options: Unpack[RouteOptions]) -> Route[ParamsT, ReturnT]: ...
    @overload
    def task(self, /, **options: Unpack[RouteOptions]) -> TaskDecorator: ...
    def task(self, func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function as a task: ``@app.task``, ``@app.task(retry=3)`` or ``app.task(func, name="x")``.

        ConfigurationError for invalid options, RouteAlreadyRegisteredError if the name is taken. ::

            @app.task(queue="mail", retry=3, timeout=30)
            async def send(to: str) -> None: ...
        """
        if func is None:
            return functools.partial(self.add_route, **options)
        return self.add_route(func, **options)

    def add_route(self, func: Callable[..., Any], /, **options: Any) -> Route[..., Any]:
        """:meth:`task` without the decorator. Given a Route, it registers the function of that task once more."""
        self._require_open("register a task")
        func = checked_function(func.func if isinstance(func, Route) else func)
        name = options.get("name") or lasting_name(func) or f"unnamed-{uuid4().hex}"
        checked = check_options(options, task=name)
        route = self.route_class(name=name, func=func, options=checked)
        self._register(route)
        return route

    def remove_route(self, name: str) -> None:
        """Remove a task of this router, or ConfigurationError if there is no such task. Its stored jobs stay, and wait
        for an app that has the task."""
        self._require_open("remove a task")
        for key, route in self._routes.items():
            if name in (key, route.name):
                for node in (self, *self._all_mounts()):
                    if (removed := node._routes.pop(key, None)) is not None:
                        removed.detach()
                return
        raise ConfigurationError(f"There is no task {name!r} on {self!r}.")

    def add_middleware(self, middleware: BaseMiddleware) -> None:
        """Add a layer around every attempt, inside the present layers."""
        self._require_open("add middleware")
        for node in (self, *self._all_mounts()):
            node.middleware.append(checked_layer(middleware))

    def add_outer_middleware(self, middleware: BaseOuterMiddleware) -> None:
        """Add a layer around the scheduling of every job, inside the present layers."""
        self._require_open("add outer middleware")
        for node in (self, *self._all_mounts()):
            node.outer_middleware.append(checked_layer(middleware))

    def add_exception_handler(self, kind: type[Exception], handler: ExceptionHandler) -> None:
        """Add a handler of exceptions of type ``kind``, and of its subtypes, for all tasks of this router."""
        self._require_open("add an exception handler")
        for node in (self, *self._all_mounts()):
            node.exception_handlers |= checked_handlers({kind: handler}, f"the {type(self).__name__}")

    # -- naming and attaching ------------------------------------------------------------------------------------------

    def full_name(self, name: str) -> str:
        """``name`` with the prefixes of this router and of those above it: ``outer.inner:name``."""
        prefixes = [router.prefix for router in self.chain_head if router.prefix]
        return f"{'.'.join(reversed(prefixes))}:{name}" if prefixes else name

    def _register(self, route: Route[..., Any]) -> None:
        """Register a new route here and in all mounts, or, if its name is taken in any of their trees, nowhere."""
        key, registered = route.name, []
        try:
            for node in (self, *self._all_mounts()):
                node._register_here(key, route if node is self else route.mount())
                registered.append(node)
        except BaseException:
            for node in registered:
                node._routes.pop(key).detach()
            raise

    def _register_here(self, key: str, route: Route[..., Any]) -> None:
        if key in self._routes:
            raise RouteAlreadyRegisteredError(key)
        check_injectable(route.function_spec, may_be_app=_may_be_app)
        final = self.full_name(key)
        if any(other.name == final for other in self.root.routes if other.is_attached):
            raise RouteAlreadyRegisteredError(final)
        self._check_route(route)
        self._routes[key] = route
        scheduler = self._scheduler_for_routes()
        if scheduler is not None:
            try:
                aliases_below(self.root)
            except RouteAlreadyRegisteredError:
                del self._routes[key]
                raise
            route.attach(scheduler, name=final)

    def _attach_routes(self, router: Router) -> None:
        """Attach the routes of a newly included router, if the root of this tree is an app."""
        scheduler = self._scheduler_for_routes()
        if scheduler is None:
            return
        taken = {route.name for route in self.root.routes if route.is_attached}
        named = [
            (owner.full_name(key), route)
            for owner in router.chain_tail
            for key, route in owner._routes.items()
            if not route.is_attached
        ]
        for name, route in named:
            if name in taken:
                raise RouteAlreadyRegisteredError(name)
            taken.add(name)
            self._check_route(route)
        aliases_below(self.root)
        for name, route in named:
            route.attach(scheduler, name=name)

    # -- in several apps -----------------------------------------------------------------------------------------------

    def keep_declared_state(self) -> None:
        """Remember the present values of the state, with which every later mount starts."""
        if self._declared_state is None:
            self._declared_state = own_values(self.state)

    def _all_mounts(self) -> list[JobRouter]:
        """The mounts of this router, and the mounts of these."""
        mounts = [node for node in (mounted() for mounted in self._mounts) if node is not None]
        return [each for node in mounts if node._parent is not None for each in (node, *node._all_mounts())]

    # -- delegated to the root -----------------------------------------------------------------------------------------

    def _require_open(self, operation: str) -> None:
        """ApplicationStateError if an app of this router is started."""
        if self._parent is not None:
            self._parent._require_open(operation)
        for node in self._all_mounts():
            node._require_open(operation)

    def _scheduler_for_routes(self) -> Scheduler | None:
        return None if self._parent is None else self._parent._scheduler_for_routes()

    def _check_route(self, route: Route[..., Any]) -> None:
        """ConfigurationError if the root cannot run the task."""
        if self._parent is not None:
            self._parent._check_route(route)


class JobRouter(TakesHooks, Router):
    """A group of tasks, to be included in an app or in another router.

    ::

        mail = JobRouter(prefix="mail")

        @mail.task
        async def send(to: str) -> None: ...

        app.include_router(mail)       # the task is named "mail:<module>:send"

    Middleware, handlers and hooks apply to its own tasks and to those of the routers that it includes. ``lifespan`` is
    called with the router. Its tasks see its ``state``: a missing key is looked up in the states above, live, and a
    value that a task sets stays in this one.

    A router can be included in several apps (see :meth:`Router.include_router`). :mod:`jobify.router.mounts` says which
    of them ``send.push`` uses.
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
        self.hooks = Hooks()

    def __repr__(self) -> str:
        return "<NodeRouter>"


def _may_be_app(kind: type) -> bool:
    """Whether an app can be of this type. A router does not know in which app it will be included."""
    is_app = issubclass(kind, Router) and not issubclass(kind, JobRouter)
    return is_app or getattr(kind, "_is_protocol", False) is True


def frozen_error(operation: str) -> ApplicationStateError:
    """The error for changing a started app."""
    return ApplicationStateError(
        operation=operation,
        reason="The app is already running and configuration is frozen.",
        solution="Do this before `async with app:` or `await app.startup()`.",
    )
