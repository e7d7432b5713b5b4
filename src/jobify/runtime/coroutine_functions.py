"""Plain callables that frameworks treat like ``async def``.

``BackgroundTasks.add_task``, ``unittest.mock`` and many others ask :func:`inspect.iscoroutinefunction` whether the
result of a call has to be awaited. Since Python 3.12 a callable can be marked as such
(:func:`inspect.markcoroutinefunction`). Python 3.11 looks at the flags of the code and nowhere else, so there the code
gets the flag. The flag describes the function and does not change how it runs: what makes a coroutine is an instruction
of the compiled body, which a plain ``def`` does not have.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ("coroutine_function", "mark_async_callable")

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
