"""Blocking work on a connection whose statements are awaited.

The calls of a storage are plain blocking code. On a driver for asyncio such a call runs in a thread of its own, and
each of its statements is awaited on the event loop of the caller, which goes on meanwhile. So no event loop is ever
blocked, and no thread of a pool is taken. Only the caller waits for that thread; code that blocks an event loop is
refused such a connection (:func:`refuse_blocking`), because the statements would wait for that very loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, NoReturn, TypeAlias, TypeVar

from jobify.exceptions import ConfigurationError
from jobify.storage.transactions import Answer
from jobify.transactions.port import Work

__all__ = ("Execute", "refuse_blocking", "run_awaiting")

T = TypeVar("T")

Execute: TypeAlias = Callable[[str, Sequence[Any]], Awaitable[Answer]]
"""Runs one statement on the event loop."""


def refuse_blocking(connection: object) -> NoReturn:
    """ConfigurationError: a blocking call was made on a connection for asyncio."""
    raise ConfigurationError(
        f"{connection!r} is for async code, and this call blocks. Await its twin: adelay, aapply_async, amap, "
        "aenqueue, aenqueue_many, aapply."
    )


class _AwaitedStatements:
    """Statements for a thread, awaited on an event loop."""

    def __init__(self, execute: Execute, dialect: str, loop: asyncio.AbstractEventLoop) -> None:
        self.dialect = dialect
        self._execute = execute
        self._loop = loop
        self._running: asyncio.Task[Answer] | None = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        answer: Future[Answer] = asyncio.run_coroutine_threadsafe(self._await(statement, parameters), self._loop)
        return answer.result()

    async def _await(self, statement: str, parameters: Sequence[Any]) -> Answer:
        self._running = asyncio.ensure_future(_awaited(self._execute(statement, parameters)))
        try:
            return await self._running
        finally:
            self._running = None

    def cancel(self) -> None:
        """Cancel the statement that runs. The work is left to put right what it has begun."""
        if self._running is not None:
            self._running.cancel()


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer


async def run_awaiting(work: Work[T], execute: Execute, *, dialect: str) -> T:
    """Do the work in a thread, its statements on this event loop. If the caller is cancelled, so is the statement that
    runs, and the work ends first."""
    loop = asyncio.get_running_loop()
    statements = _AwaitedStatements(execute, dialect, loop)
    done: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(work, statements)
        except BaseException as error:
            loop.call_soon_threadsafe(_fail, done, error)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    threading.Thread(target=run, name="jobify-transaction", daemon=True).start()
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait((done,))
        except asyncio.CancelledError as error:
            cancelled = error
            statements.cancel()
    if cancelled is not None:
        done.exception()  # it was seen
        raise cancelled
    return done.result()


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    done.set_exception(RuntimeError(str(error)) if isinstance(error, StopIteration) else error)
