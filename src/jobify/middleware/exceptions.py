"""Exception handlers, which may turn a failure into a result."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jobify.exceptions import TaskCancelledError
from jobify.jobs.context import JobContext
from jobify.middleware.base import BaseMiddleware, CallNext
from jobify.model.control_flow import parts, signal_of
from jobify.model.signature import is_async_callable
from jobify.types import ExceptionHandler

__all__ = ("ExceptionHandlerMiddleware",)


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
