"""The two middleware chains of a job: around each attempt, and around its scheduling.

*Middleware* runs around every attempt, where the attempt runs: it sees a :class:`JobContext`, may change it, and
returns what ``call_next`` returned, or something else, or never calls it. *Outer middleware* runs around the
scheduling of a job, before anything is stored. The exception handlers of routers are middleware, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

from jobify.exceptions import TaskCancelledError
from jobify.jobs.context import JobContext, OuterContext
from jobify.model.control_flow import parts, signal_of
from jobify.model.signature import is_async_callable
from jobify.types import ExceptionHandler

__all__ = (
    "BaseMiddleware",
    "BaseOuterMiddleware",
    "CallNext",
    "CallNextOuter",
    "ExceptionHandlerMiddleware",
    "chain",
    "chain_outer",
)


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


# -- exceptions --------------------------------------------------------------------------------------------------------
# Exception handlers, which may turn a failure into a result.


class ExceptionHandlerMiddleware(BaseMiddleware):
    """Calls the nearest handler: of the task, else of its router, else of the app; each by the MRO of the exception.

    The return value of the handler is the result of the job, which succeeds then. An exception of the handler is the
    failure of the attempt; it may raise Retry or Snooze. Handlers are not called for a Retry or Snooze of the task. A
    plain function runs in a thread, in the app's own pool if it has one.
    """

    def __init__(self, levels: Sequence[Mapping[type[Exception], ExceptionHandler]]) -> None:
        self._levels = [dict(handlers) for handlers in levels if handlers]

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        try:
            return await call_next(context)
        except Exception as error:
            if any(isinstance(part, TaskCancelledError) and part.job_id == context.job.id for part in parts(error)):
                raise  # by current_job.check_cancelled(): no failure to be handled
            if signal_of(error) is not None:
                raise  # Retry or Snooze: no failure
            handler = self._find(type(error))
            if handler is None:
                raise
            return await _call(handler, error, context)

    def _find(self, kind: type[BaseException]) -> ExceptionHandler | None:
        for handlers in self._levels:
            for base in kind.__mro__:
                if base in handlers:
                    return handlers[base]
        return None


async def _call(handler: ExceptionHandler, error: Exception, context: JobContext) -> Any:
    if is_async_callable(handler):
        return await handler(error, context)
    pool = context.jobify_config.worker_pools.threadpool
    seen = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(pool, lambda: seen.run(_call_plain, handler, error, context))
    value = await running
    return await value if inspect.isawaitable(value) else value


def _call_plain(handler: ExceptionHandler, error: Exception, context: JobContext) -> Any:
    try:
        return handler(error, context)
    except StopIteration as raised:  # a future cannot hold one, so that a waiter would wait for ever
        raise RuntimeError(f"The exception handler {handler!r} raised StopIteration.") from raised
