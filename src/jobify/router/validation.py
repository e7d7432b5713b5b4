"""What a router is given, checked where it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from jobify.exceptions import ConfigurationError
from jobify.model.ids import check_text
from jobify.model.state import State
from jobify.model.task_options import check_handlers
from jobify.types import ExceptionHandler, Lifespan

__all__ = (
    "checked_function",
    "checked_handlers",
    "checked_layer",
    "checked_layers",
    "checked_lifespan",
    "checked_prefix",
    "checked_route_class",
    "checked_state",
)

LayerT = TypeVar("LayerT", bound=Callable[..., Any])
RouteT = TypeVar("RouteT")


def checked_function(func: Any) -> Callable[..., Any]:
    """What a job can call: anything callable that needs no object of a class before its arguments."""
    if isinstance(func, staticmethod):
        func = func.__func__
    if isinstance(func, classmethod):
        raise _method(func.__func__, "a class method")
    if not callable(func):
        raise ConfigurationError(f"A task must be a function or another callable, not {func!r}.")
    if _is_method(func):
        raise _method(func, "a method")
    return func  # type: ignore[no-any-return]  # it is callable


def _is_method(func: Any) -> bool:
    """Whether the first argument of a call is the object, or the class: by place and name, which is all that a
    decorator can see inside a class. A bound method needs none any more."""
    func = inspect.unwrap(func)
    if not inspect.isfunction(func):
        return False
    owner = func.__qualname__.rpartition(".")[0]
    names = func.__code__.co_varnames[: func.__code__.co_argcount]
    return bool(owner) and not owner.endswith("<locals>") and bool(names) and names[0] in _BOUND_NAMES


_BOUND_NAMES: Final = ("self", "cls", "mcs", "mcls")


def _method(func: Any, kind: str) -> ConfigurationError:
    name = getattr(func, "__qualname__", repr(func))
    return ConfigurationError(
        f"{name} is {kind}: a job stores arguments, and no {'class' if 'class' in kind else 'object'} to call it on. "
        "Decorate a function at the top level of the module, which makes what it needs or gets its id as an argument; "
        "or write `@app.task` above `@staticmethod`."
    )


def checked_layer(layer: LayerT) -> LayerT:
    """A middleware: an object, or an async function, to be called with ``(call_next, context)``."""
    if isinstance(layer, type):
        raise ConfigurationError(f"A middleware is an object, not a class. Did you mean {layer.__name__}()?")
    if not callable(layer):
        raise ConfigurationError(f"{layer!r} is no middleware: it needs async __call__(call_next, context).")
    return layer


def checked_layers(layers: Iterable[LayerT] | None, option: str) -> list[LayerT]:
    """Middleware, the outermost first."""
    if layers is None:
        return []
    if not isinstance(layers, Iterable) or isinstance(layers, str | Mapping):
        raise ConfigurationError(f"{option} is {layers!r}; it must be a list of middleware, such as {option}=[Log()].")
    return [checked_layer(layer) for layer in layers]


def checked_route_class(route_class: Any, base: type[RouteT]) -> type[RouteT]:
    """The class of a router's tasks."""
    if not (isinstance(route_class, type) and issubclass(route_class, base)):
        raise ConfigurationError(f"route_class is {route_class!r}; it must be a subclass of RootRoute or NodeRoute.")
    return route_class


def checked_handlers(handlers: Any, where: str) -> dict[type[Exception], ExceptionHandler]:
    """Exception handlers of a whole router, in a dict of its own."""
    check_handlers(handlers, where)
    return dict(handlers or {})


def checked_lifespan(lifespan: Any) -> Lifespan[Any] | None:
    """A function that gives an async context manager; an async generator function is made one."""
    if lifespan is None:
        return None
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    if not callable(lifespan):
        raise ConfigurationError(
            f"The lifespan is {lifespan!r}; it must be a function (app) that gives an async context manager, such as "
            "an async generator function with @asynccontextmanager."
        )
    return lifespan  # type: ignore[no-any-return]  # what it gives is seen when it is entered


def checked_prefix(prefix: Any) -> str:
    """The prefix, empty if there is none."""
    if prefix is not None and not isinstance(prefix, str):
        raise ConfigurationError(f"The prefix is {prefix!r}; it must be text, such as 'mail'.")
    if prefix:
        check_text(prefix, what="prefix of a router")
    return prefix or ""


def checked_state(state: Any) -> State:
    """The state itself, or one of its own with what a plain mapping holds."""
    if isinstance(state, State):
        return state
    if state is not None and not isinstance(state, Mapping):
        raise ConfigurationError(f"The state is {state!r}; it must be a State, such as State({{'db': ...}}).")
    return State(dict(state or {}))
