"""Type aliases and markers that many modules share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

__all__ = (
    "INJECT",
    "UNSET",
    "ExceptionHandler",
    "Lifespan",
    "LoopFactory",
    "MappingExceptionHandlers",
    "Microseconds",
    "UUIDGenerator",
)

AppT = TypeVar("AppT")

Microseconds: TypeAlias = int
"""A point in time: microseconds since 1970-01-01 UTC."""

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
"""Returns an event loop, such as ``asyncio.get_running_loop``."""

UUIDGenerator: TypeAlias = Callable[[], UUID | str]
"""Returns a job id that no other job of the database has, such as ``uuid.uuid4``."""

ExceptionHandler: TypeAlias = Callable[[Any, Any], Any] | Callable[[Any, Any], Awaitable[Any]]
"""``handler(exception, context)``, sync or async. Its return value is the result of the job."""

MappingExceptionHandlers: TypeAlias = Mapping[type[Exception], ExceptionHandler]
"""Handlers by type of exception, subtypes included; the nearest type wins."""

Lifespan: TypeAlias = Callable[[AppT], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""``lifespan(app)``: entered when an app starts and left when it stops. A yielded mapping is merged into the state."""

INJECT: Any = object()
"""The default of a parameter that the engine fills in, by its annotation: ``ctx: JobContext = INJECT``."""

UNSET: Any = object()
"""The default of an option that is not given, where None is a value."""
