"""The parameters and annotations of a task's function, computed once when it is registered.

Checking a call against ``inspect.Signature.bind`` costs several microseconds, on every push. A :class:`FuncSpec`
compiles the signature into a function of the same shape whose body does nothing: calling it lets the interpreter
check the arguments, in a tenth of a microsecond and with Python's own messages.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from jobify.exceptions import ConfigurationError
from jobify.types import INJECT

__all__ = (
    "FuncSpec",
    "coroutine_function",
    "inspect_function",
    "is_async_callable",
    "mark_async_callable",
    "resolve_hints",
    "spec_of_signature",
)


ReturnT = TypeVar("ReturnT")


@dataclass(frozen=True, slots=True, kw_only=True)
class FuncSpec(Generic[ReturnT]):
    """The signature of a task's function, with resolved annotations."""

    name: str
    signature: inspect.Signature
    result_type: Any
    """The annotation of the return value, Any if there is none."""
    type_params: Mapping[str, Any]
    """Resolved annotations by parameter name, without those that are missing or cannot be resolved."""
    inject_params: Mapping[str, Any]
    """The parameters that the engine fills in (default ``INJECT``), with their annotations."""
    check: Callable[..., None] = field(repr=False)
    """Raises TypeError if the arguments of a call do not fit."""

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by parameter name."""
        return self.signature.bind(*args, **kwargs)

    def check_injected(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """TypeError if a plain call omits a parameter that only a job fills in."""
        try:
            given = self.signature.bind_partial(*args, **kwargs).arguments
        except TypeError:  # the call itself raises the error
            return
        missing = [name for name in self.inject_params if given.get(name, INJECT) is INJECT]
        if missing:
            names, values = ", ".join(map(repr, missing)), ", ".join(f"{name}=..." for name in missing)
            raise TypeError(
                f"Task {self.name!r} was called as a plain function without {names}: INJECT is filled in only when the "
                f"task runs as a job. Pass a value: ({values})."
            )


def is_async_callable(func: Any) -> bool:
    """Whether a call of ``func`` returns an awaitable, also for partials and callable objects."""
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or (
        not inspect.isroutine(func)
        and not inspect.isclass(func)
        and inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004  the method itself is inspected
    )


def inspect_function(func: Callable[..., ReturnT], *, name: str) -> FuncSpec[ReturnT]:
    """Inspect ``func`` for the task ``name``.

    Annotations that exist only for type checkers cannot be resolved at run time; they count as absent.
    ConfigurationError if an ``INJECT`` parameter has no annotation.
    """
    signature = _signature(func, name)
    hints = _parameter_hints(signature) | resolve_hints(func)
    return FuncSpec(
        name=name,
        signature=signature,
        result_type=hints.get("return", Any),
        type_params={key: hint for key, hint in hints.items() if key in signature.parameters},
        inject_params=_inject_params(signature, hints, name),
        check=_compile_check(signature, name),
    )


def spec_of_signature(
    signature: inspect.Signature, type_params: Mapping[str, Any], *, name: str, result_type: Any
) -> FuncSpec[Any]:
    """The spec of calls that no function has the signature of. Nothing is injected into them."""
    return FuncSpec(
        name=name,
        signature=signature,
        result_type=result_type,
        type_params=type_params,
        inject_params={},
        check=_compile_check(signature, name),
    )


def _signature(func: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(func)
    except (ValueError, TypeError) as error:  # some C functions have no signature
        raise ConfigurationError(
            f"The parameters of {func!r}, for task {name!r}, cannot be seen: {error}. Call it from a function of yours."
        ) from error


def _inject_params(signature: inspect.Signature, hints: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = {}
    for key, parameter in signature.parameters.items():
        if parameter.default is not INJECT:
            continue
        if parameter.annotation is parameter.empty:
            raise ConfigurationError(
                f"Parameter {key!r} of task {name!r} requires a type annotation for INJECT, "
                f"for example `{key}: JobContext = INJECT`."
            )
        hint = _without_none(hints.get(key, parameter.annotation))
        found[key] = get_origin(hint) or hint
    return found


def _without_none(hint: Any) -> Any:
    """``Annotated[JobContext | None, ...]`` is a JobContext, because a job always has one."""
    while get_origin(hint) is Annotated:
        hint = hint.__origin__
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        if len(kinds) == 1:
            return _without_none(kinds[0])
    return hint


def _parameter_hints(signature: inspect.Signature) -> dict[str, Any]:
    """The annotations in a signature, including those that a library put only there."""
    return {
        key: parameter.annotation
        for key, parameter in signature.parameters.items()
        if parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str)
    }


def resolve_hints(func: Any) -> dict[str, Any]:
    """The resolved annotations of a function, or of the fields of a class, by name.

    They are resolved one by one if need be, because one TYPE_CHECKING-only name would make all of them fail.
    """
    while isinstance(func, functools.partial):
        func = func.func
    if not (inspect.isroutine(func) or inspect.isclass(func)):
        func = inspect.unwrap(func) if hasattr(func, "__wrapped__") else type(func).__call__
    try:
        return get_type_hints(func, include_extras=True)
    except Exception:  # a user's annotation may run any code and so raise anything
        return dict(_resolve_one_by_one(func))


def _resolve_one_by_one(func: Any) -> list[tuple[str, Any]]:
    resolved = []
    module = vars(sys.modules[func.__module__]) if inspect.isclass(func) and func.__module__ in sys.modules else {}
    namespace = getattr(inspect.unwrap(func), "__globals__", module)
    for key, annotation in getattr(func, "__annotations__", {}).items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, namespace)  # what typing.get_type_hints does, for one annotation
            except Exception:  # unresolvable means untyped
                continue
        resolved.append((key, annotation))
    return resolved


def _compile_check(signature: inspect.Signature, name: str) -> Callable[..., None]:
    """``def <task>(a, b=None, *args, c, **kwargs): pass``, with the signature's shape and no defaults' values.

    An ``INJECT`` parameter may be left out, so it has a default like any other.
    """
    parts: list[str] = []
    parameters = list(signature.parameters.values())
    has_star = False
    for index, parameter in enumerate(parameters):
        text = parameter.name
        match parameter.kind:
            case parameter.VAR_POSITIONAL:
                text, has_star = f"*{text}", True
            case parameter.VAR_KEYWORD:
                text = f"**{text}"
            case parameter.KEYWORD_ONLY if not has_star:
                parts.append("*")
                has_star = True
        if parameter.default is not parameter.empty:
            text += "=None"
        parts.append(text)
        following = parameters[index + 1] if index + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and (
            following is None or following.kind is not parameter.POSITIONAL_ONLY
        ):
            parts.append("/")
    namespace: dict[str, Any] = {}
    exec(f"def check({', '.join(parts)}): pass", namespace)  # the names come from a signature: they are identifiers
    check: Callable[..., None] = namespace["check"]
    # TypeError messages start with the qualified name: "indexer:count() missing 1 required positional argument"
    check.__name__ = check.__qualname__ = name
    return check


# -- coroutine functions -----------------------------------------------------------------------------------------------
# Plain callables that frameworks treat like ``async def``.
#
# ``BackgroundTasks.add_task``, ``unittest.mock`` and many others ask :func:`inspect.iscoroutinefunction` whether the
# result of a call has to be awaited. Since Python 3.12 a callable can be marked as such
# (:func:`inspect.markcoroutinefunction`). Python 3.11 looks at the flags of the code and nowhere else, so there the
# code gets the flag. The flag describes the function and does not change how it runs: what makes a coroutine is an
# instruction of the compiled body, which a plain ``def`` does not have.

FuncT = TypeVar("FuncT", bound=Callable[..., Any])


def coroutine_function(func: FuncT) -> FuncT:
    """Mark a plain function that returns something to await. Calls of it cost what they did."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(func)
    code: Any = func.__code__  # type: ignore[attr-defined, unused-ignore]  # a function, as it is decorated
    func.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)  # type: ignore[attr-defined, unused-ignore]
    return func


async def _example() -> None:
    """Has the code that an object shows whose function has none of its own."""


def mark_async_callable(target: Any, func: Any) -> None:
    """Mark ``target``, an object whose call gives what the async callable ``func`` gives.

    It gets the attributes of a function: Python 3.11 and ``unittest.mock`` take an object for a coroutine function only
    if it has the code of one.
    """
    source = func if inspect.iscoroutinefunction(func) and inspect.isfunction(func) else _example
    target.__code__ = source.__code__
    target.__defaults__ = source.__defaults__
    target.__kwdefaults__ = source.__kwdefaults__
    if not hasattr(target, "__name__"):
        target.__name__ = type(func).__name__
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(target)
