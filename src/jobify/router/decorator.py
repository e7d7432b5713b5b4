"""The type of ``@router.task(...)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from jobify.router.route import Route

__all__ = ("TaskDecorator",)

ParamsT = ParamSpec("ParamsT")
ReturnT = TypeVar("ReturnT")


class TaskDecorator:
    """Keeps the parameters and the return type of what it decorates."""

    @overload
    def __call__(self, func: Callable[ParamsT, Coroutine[Any, Any, ReturnT]], /) -> Route[ParamsT, ReturnT]: ...
    @overload
    def __call__(self, func: Callable[ParamsT, ReturnT], /) -> Route[ParamsT, ReturnT]: ...
    def __call__(self, func: Any, /) -> Any:
        raise NotImplementedError
