"""Mounts: the copies of a router that is included in several apps.

The first app that includes a router gets the router itself. Every other app gets a *mount*: a router with the same
tasks, middleware and handlers, and with its own state and place in the tree. When a router is included for the second
time, a mount replaces it in the first app, too. From then on the router belongs to no app. It is the declaration, and
refers to its mounts weakly, so that it does not keep an unused app alive.

A task of the declaration chooses among the tasks of its mounts, at each call: :func:`choose`.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from jobify.exceptions import ApplicationStateError, RouterError
from jobify.jobs.current_job import CURRENT
from jobify.jobs.schedule_builder import Scheduler
from jobify.model.state import State

if TYPE_CHECKING:
    from jobify.router.router import JobRouter, Router

__all__ = ("Binding", "ambiguous", "check_include", "choose", "mount", "own_values", "replace_by_mounts")


def check_include(place: Router, router: JobRouter) -> None:
    """RouterError if ``router`` cannot be included in ``place``: an app has each router, and each task, once."""
    added = {id(origin(node)) for node in router.chain_tail}
    if any(id(origin(node)) in added for node in place.chain_head):
        raise RouterError(f"Circular include: {router!r} already contains {place!r}.")
    for node in place.root.chain_tail:
        if id(origin(node)) in added:
            raise RouterError(
                f"Router is already attached to {node.parent!r}: a task has one name in an app. For a second name, "
                "register its function once more, with name=."
            )


def origin(node: Router) -> Router:
    """The router that the user made."""
    while node._origin is not None:
        node = node._origin
    return node


def own_values(state: State) -> dict[str, Any]:
    """The values of this state itself, without those of its parents."""
    return dict(state.data.maps[0] if isinstance(state.data, ChainMap) else state.data)


def mount(router: JobRouter, *, states: dict[int, State] | None = None) -> JobRouter:
    """A mount of ``router`` for one more app, with new states and without references to its present app."""
    states = {} if states is None else states
    node = _new_mount(router)
    node.state = states.setdefault(id(router.state), State(_declared(router)))
    node.middleware = [_layer(layer) for layer in router.middleware]
    node.outer_middleware = [_layer(layer) for layer in router.outer_middleware]
    node._sub_routers = [mount(below, states=states) for below in router._sub_routers]
    for below in node._sub_routers:
        below._parent = node
    return node


def replace_by_mounts(router: JobRouter) -> None:
    """Replace ``router``, with the whole subtree that it is in, by mounts in the app that includes it."""
    *_, app = router.chain_head
    top = next((node for node in router.chain_head if node._parent is app), None)
    if app._scheduler_for_routes() is None or top is None or top not in app._sub_routers:
        return
    node = _replace(top, {})
    node._parent = app
    app._sub_routers = [node if below is top else below for below in app._sub_routers]
    top._parent = None


def _replace(router: Any, states: dict[int, State]) -> JobRouter:
    """The mount that replaces ``router`` in its app. The router itself is reset to its declared state."""
    node = _new_mount(router)
    node._sub_routers = [_replace(below, states) for below in router._sub_routers]
    for below in node._sub_routers:
        below._parent = node
    for key, route in router._routes.items():
        (binding,) = route.bindings()
        node._routes[key].attach(binding.scheduler, name=binding.name)
        route.detach()
    router.state = states.setdefault(id(router.state), State(_declared(router)))
    return node


def _new_mount(router: JobRouter) -> JobRouter:
    node = object.__new__(type(router))
    vars(node).update(vars(router), _parent=None, _origin=router, _mounts=[])
    node.middleware = list(router.middleware)
    node.outer_middleware = list(router.outer_middleware)
    node.exception_handlers = dict(router.exception_handlers)
    node._routes = {key: route.mount() for key, route in router._routes.items()}
    router._mounts = [*(mounted for mounted in router._mounts if mounted() is not None), ref(node)]
    return node


def _declared(router: JobRouter) -> dict[str, Any]:
    return dict(own_values(router.state) if router._declared_state is None else router._declared_state)


def _layer(layer: Any) -> Any:
    """The layer for one more app. A plugin is copied, because it is started and stopped with one app."""
    return copy(layer) if hasattr(layer, "startup") and hasattr(layer, "shutdown") else layer


# -- apps --------------------------------------------------------------------------------------------------------------
# Choosing the app of a call, for a task whose router is included in several apps.
#
# An app factory (``create_app()``) includes the same module-level routers in every app that it makes, so the task that
# a module holds, and that its code pushes, belongs to each of them. The app is chosen at each call:
#
# 1. in a job, the app that runs the job;
# 2. the app that runs in this event loop, or else the only one that runs in this process;
# 3. if none runs, the only app that exists. Apps without references do not count, because tests make many.
#
# Everything else is an error that names the apps. There is no guess such as *the newest app*, which is what Celery's
# ``shared_task`` takes, because a job in the wrong database would be lost without any sign.


class Binding(NamedTuple):
    """A task in an app: the app, and the name that the task has there."""

    scheduler: Scheduler
    name: str


def choose(bindings: Sequence[Binding]) -> Binding | None:
    """The binding of the app to use. None means that it is ambiguous."""
    running = CURRENT.get()
    if running is not None:
        for binding in bindings:
            if binding.scheduler is running.app:
                return binding
    started = [binding for binding in bindings if binding.scheduler.loop is not None]
    if len(started) > 1:
        loop = _running_loop()
        started = [binding for binding in started if binding.scheduler.loop is loop]
        return started[0] if len(started) == 1 else None
    if started:
        return started[0]
    return bindings[0] if len(bindings) == 1 else None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def ambiguous(task: str, bindings: Sequence[Binding]) -> ApplicationStateError:
    """The error of a call that does not say which app is meant."""
    apps = ", ".join(binding.scheduler.description for binding in bindings)
    running = sum(binding.scheduler.loop is not None for binding in bindings)
    return ApplicationStateError(
        operation=f"use the task {task!r}",
        reason=f"Its router is included in {len(bindings)} apps, of which {running or 'none'} run: {apps}.",
        solution="Say which app is meant: app.task_for(task).push(...), or app.enqueue(task, ...).",
    )
