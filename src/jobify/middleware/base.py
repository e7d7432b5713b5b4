"""The two middleware chains of a job: around each attempt, and around its scheduling.

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
"""The rest of the chain around an attempt: returns the result of the job, or raises its error."""

CallNextOuter: TypeAlias = Callable[[OuterContext], Awaitable[asyncio.Handle]]
"""The rest of the chain around scheduling: the job is stored when it returns."""


class BaseMiddleware(ABC):
    """A layer around each attempt.

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
    """Whether attempts wait in a queue inside this layer. While they wait, they hold no thread or child process."""

    @abstractmethod
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        """Run the attempt by ``await call_next(context)``, or return a result without it."""


class BaseOuterMiddleware(ABC):
    """A layer around the scheduling of each job. Not calling ``call_next`` prevents it from being scheduled."""

    @abstractmethod
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        """Schedule the job by ``await call_next(context)``, or return without it."""


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
