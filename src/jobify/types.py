"""Names for the shapes that many modules share."""

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
"""Gives an event loop, such as ``asyncio.get_running_loop``."""

UUIDGenerator: TypeAlias = Callable[[], UUID | str]
"""Makes a job id that no other job of the database has, such as ``uuid.uuid4``."""

ExceptionHandler: TypeAlias = Callable[[Any, Any], Any] | Callable[[Any, Any], Awaitable[Any]]
"""``handler(exception, context)``, sync or async. What it returns is the result of the job."""

MappingExceptionHandlers: TypeAlias = Mapping[type[Exception], ExceptionHandler]
"""Which handler takes which type of exception, subtypes included; the nearest type wins."""

Lifespan: TypeAlias = Callable[[AppT], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""``lifespan(app)``: runs around the life of an app or router; a yielded mapping is merged into its state."""

INJECT: Any = object()
"""The default of a parameter that the engine fills in, by its annotation: ``ctx: JobContext = INJECT``."""

UNSET: Any = object()
"""Not given, where None is a value."""
