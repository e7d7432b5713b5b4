"""The two chains around a job.

*Middleware* runs around every attempt, where the attempt runs: it sees a :class:`JobContext`, may change it, and
returns what ``call_next`` returned, or something else, or never calls it. *Outer middleware* runs around the
scheduling of a job, before anything is stored.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

from jobify.jobs.context import JobContext, OuterContext

__all__ = ("BaseMiddleware", "BaseOuterMiddleware", "CallNext", "CallNextOuter", "chain", "chain_outer")

CallNext: TypeAlias = Callable[[JobContext], Awaitable[Any]]
"""The rest of the chain around an attempt: gives the result of the job, or raises what it raised."""

CallNextOuter: TypeAlias = Callable[[OuterContext], Awaitable[asyncio.Handle]]
"""The rest of the chain around scheduling: the job is stored when it returns."""


class BaseMiddleware(ABC):
    """Around one attempt.

    ::

        class Timer(BaseMiddleware):
            async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
                started = time.perf_counter()
                try:
                    return await call_next(context)
                finally:
                    print(context.job.id, time.perf_counter() - started)

    Not calling ``call_next`` stops the chain: the job succeeds with what is returned.
    """

    is_queue: ClassVar[bool] = False
    """Whether attempts line up inside this layer. Such attempts do not hold a thread or a child process meanwhile."""

    @abstractmethod
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        """Run the attempt, or do not."""


class BaseOuterMiddleware(ABC):
    """Around the scheduling of one job. Not calling ``call_next`` prevents it from being scheduled."""

    @abstractmethod
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        """Schedule the job, or do not."""


def chain(middleware: Sequence[BaseMiddleware], end: CallNext) -> CallNext:
    """``middleware`` around ``end``, the first outermost."""
    for layer in reversed(middleware):
        end = partial(layer, end)
    return end


def chain_outer(middleware: Sequence[BaseOuterMiddleware], end: CallNextOuter) -> CallNextOuter:
    """``middleware`` around ``end``, the first outermost."""
    for layer in reversed(middleware):
        end = partial(layer, end)
    return end
