"""What a driver has to do for jobs in a user's transaction, and the bases of those that block and that are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar

from jobify.exceptions import ConfigurationError
from jobify.storage.transactions import Answer, Statements

__all__ = (
    "AwaitedConnection",
    "BlockingConnection",
    "Find",
    "Notify",
    "Stored",
    "UserConnection",
    "Work",
    "refuse_blocking",
)


T = TypeVar("T")

Work: TypeAlias = Callable[[Statements], T]
"""What to do on the connection: plain blocking code."""
Notify: TypeAlias = Callable[[], object]
"""Notifies the workers. Never fails, and may be called from any thread, also for nothing."""
Find: TypeAlias = Callable[[Sequence[str]], Collection[str]]
"""Which of these jobs other connections see. May be called from any thread."""


class Stored(NamedTuple):
    """Jobs that a transaction has stored."""

    job_id: str
    """One of them."""
    notify: Notify
    find: Find


class UserConnection(Protocol):
    """A user's connection. Nothing here commits, closes or changes it."""

    tells_commits: bool
    """Whether the driver says when a transaction is committed."""

    def require_blocking(self) -> None:
        """ConfigurationError if the statements are awaited, so that :meth:`run` cannot be called."""
        ...

    def run(self, work: Work[T]) -> T:
        """Do the work in the calling thread, and in no event loop."""
        ...

    async def arun(self, work: Work[T]) -> T:
        """Do the work and await its statements. On a connection that blocks, :meth:`run`.

        A caller that is cancelled is cancelled when the work has ended, whose statement is cancelled, too.
        """
        ...

    def after_commit(self, stored: Stored) -> None:
        """Notify the workers after the commit of the transaction, once for all calls with an equal ``notify``.

        Where the driver does not say when that is, a thread of this process looks whether the job is there
        (:mod:`jobify.transactions.commits`), or on SQLite the workers do, once a second. A rollback may notify for
        nothing.
        """
        ...


class BlockingConnection:
    """The base of those whose statements block the thread that runs them."""

    def require_blocking(self) -> None:
        """See :class:`UserConnection`."""

    def run(self, work: Work[T]) -> T:
        """See :class:`UserConnection`."""
        raise NotImplementedError

    async def arun(self, work: Work[T]) -> T:
        """See :class:`UserConnection`."""
        return self.run(work)


# -- bridge ------------------------------------------------------------------------------------------------------------
# Blocking work on a connection whose statements are awaited.
#
# The calls of a storage are plain blocking code. On a driver for asyncio such a call runs in a thread of its own, and
# each of its statements is awaited on the event loop of the caller, which goes on meanwhile. So no event loop is ever
# blocked, and no thread of a pool is taken. Only the caller waits for that thread; code that blocks an event loop is
# refused such a connection (:func:`refuse_blocking`), because the statements would wait for that very loop.


class AwaitedStatements(Protocol):
    """:class:`~jobify.storage.transactions.Statements` that are awaited on an event loop."""

    @property
    def dialect(self) -> str: ...

    @property
    def connection(self) -> object: ...

    @property
    def is_in_transaction(self) -> bool: ...

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer: ...


def refuse_blocking(connection: object) -> NoReturn:
    """ConfigurationError: a blocking call was made on a connection for asyncio."""
    raise ConfigurationError(
        f"{connection!r} is for async code, and this call blocks. Await its twin: adelay, aapply_async, amap, "
        "aenqueue, aenqueue_many, aapply."
    )


class _BlockingStatements:
    """Statements for a thread, awaited on an event loop."""

    def __init__(self, statements: AwaitedStatements, loop: asyncio.AbstractEventLoop) -> None:
        self.dialect = statements.dialect
        self.connection = statements.connection
        self._statements = statements
        self._loop = loop
        self._running: asyncio.Task[Answer] | None = None

    @property
    def is_in_transaction(self) -> bool:
        return self._statements.is_in_transaction

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        answer: Future[Answer] = asyncio.run_coroutine_threadsafe(self._await(statement, parameters), self._loop)
        return answer.result()

    async def _await(self, statement: str, parameters: Sequence[Any]) -> Answer:
        self._running = asyncio.ensure_future(self._statements.execute(statement, parameters))
        try:
            return await self._running
        finally:
            self._running = None

    def cancel(self) -> None:
        """Cancel the statement that runs. The work is left to put right what it has begun."""
        if self._running is not None:
            self._running.cancel()


class AwaitedConnection:
    """A :class:`~jobify.transactions.port.UserConnection` whose driver is awaited, and says nothing of a commit."""

    tells_commits = False

    def __init__(self, connection: object, statements: AwaitedStatements) -> None:
        self._connection = connection
        self._statements = statements

    def require_blocking(self) -> None:
        refuse_blocking(self._connection)

    def run(self, work: Work[T]) -> T:
        refuse_blocking(self._connection)

    async def arun(self, work: Work[T]) -> T:
        return await run_awaiting(work, self._statements)


async def run_awaiting(work: Work[T], awaited: AwaitedStatements) -> T:
    """Do the work in a thread, its statements on this event loop. If the caller is cancelled, so is the statement that
    runs, and the work ends first."""
    loop = asyncio.get_running_loop()
    statements = _BlockingStatements(awaited, loop)
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
