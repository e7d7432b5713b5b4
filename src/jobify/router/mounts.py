"""A router in several places: what stands for it in each of them.

The first place that a router is included in takes the router itself. In any other place a *mount* stands for it: a
router with the same tasks, middleware and handlers, a state of its own, and its own place in the tree. When a router
gets its second place, a mount takes over the first one, too. From then on the router itself belongs to no app: it is
the declaration, which holds its mounts weakly, so that an app that is out of use does not live on in it.

A task of the declaration finds the task that is meant among those that stand for it: :mod:`jobify.router.apps`.
"""

from __future__ import annotations

from collections import ChainMap
from copy import copy
from typing import TYPE_CHECKING, Any
from weakref import ref

from jobify.exceptions import RouterError
from jobify.model.state import State

if TYPE_CHECKING:
    from jobify.router.router import JobRouter, Router

__all__ = ("check_place", "give_up_app", "mount", "own_values")


def check_place(place: Router, router: JobRouter) -> None:
    """RouterError if ``router`` cannot be included there: an app has a router, and each of its tasks, once."""
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
    """The router that the user has made."""
    while node._origin is not None:
        node = node._origin
    return node


def own_values(state: State) -> dict[str, Any]:
    """What was put into this state itself, and not into one above it."""
    return dict(state.data.maps[0] if isinstance(state.data, ChainMap) else state.data)


def mount(router: JobRouter, *, states: dict[int, State] | None = None) -> JobRouter:
    """What stands for ``router`` in one more place, with new states and with nothing of the app that it is in."""
    states = {} if states is None else states
    node = _double(router)
    node.state = states.setdefault(id(router.state), State(_declared(router)))
    node.middleware = [_layer(layer) for layer in router.middleware]
    node.outer_middleware = [_layer(layer) for layer in router.outer_middleware]
    node._sub_routers = [mount(below, states=states) for below in router._sub_routers]
    for below in node._sub_routers:
        below._parent = node
    return node


def give_up_app(router: JobRouter) -> None:
    """Let mounts take the place of ``router``, and of all that is in the same place with it, in the app that has it."""
    *_, app = router.chain_head
    top = next((node for node in router.chain_head if node._parent is app), None)
    if app._scheduler_for_routes() is None or top is None or top not in app._sub_routers:
        return
    node = _take_over(top, {})
    node._parent = app
    app._sub_routers = [node if below is top else below for below in app._sub_routers]
    top._parent = None


def _take_over(router: Any, states: dict[int, State]) -> JobRouter:
    """What goes on as ``router`` in its app; the router itself begins anew, as it was declared."""
    node = _double(router)
    node._sub_routers = [_take_over(below, states) for below in router._sub_routers]
    for below in node._sub_routers:
        below._parent = node
    for key, route in router._routes.items():
        (binding,) = route.bindings()
        node._routes[key].attach(binding.scheduler, name=binding.name)
        route.detach()
    router.state = states.setdefault(id(router.state), State(_declared(router)))
    return node


def _double(router: JobRouter) -> JobRouter:
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
    """The layer for one more app. One that is started and stopped with its app cannot serve two: it is copied."""
    return copy(layer) if hasattr(layer, "startup") and hasattr(layer, "shutdown") else layer
