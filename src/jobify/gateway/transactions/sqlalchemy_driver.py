"""``Connection``, ``Session``, ``AsyncConnection`` and ``AsyncSession`` of SQLAlchemy, over any of its drivers.

Statements go through SQLAlchemy, so that it knows of the transaction, logs them, and runs those of an async driver. A
Session says when it has committed. A Connection says when it is about to: a thread then waits until the job is visible.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from jobify.gateway.transactions.bridge import refuse_blocking
from jobify.gateway.transactions.port import IsVisible, Notify, UserConnection, Work
from jobify.runtime.logs import get_logger
from jobify.storage.transactions import Answer

__all__ = ("adapter_of",)

T = TypeVar("T")

log = get_logger("jobify.client")

_PATIENCE: Final = 2.0
"""Seconds that a commit may take; workers look at the database once a second."""
_PAUSES: Final = (0.001, 0.05)
"""Seconds between two looks, first and at most."""

_pending: MutableMapping[Any, dict[Notify, IsVisible]] = WeakKeyDictionary()
"""What to notify after the next commit, by session or connection."""


def adapter_of(name: str, connection: Any) -> UserConnection | None:
    """The adapter for a class of SQLAlchemy; None if it is no connection."""
    match name:
        case "Connection":
            return _Sync(connection, _connection_itself, _after_begun_commit)
        case "Session":
            return _Sync(connection, _connection_of_session, _after_commit_of_session)
        case "AsyncConnection":
            return _Async(connection, "sync_connection", _connection_itself, _after_begun_commit)
        case "AsyncSession":
            return _Async(connection, "sync_session", _connection_of_session, _after_commit_of_session)
        case "scoped_session":
            return adapter_of("Session", connection())
        case "async_scoped_session":
            return adapter_of("AsyncSession", connection())
    return None


class _Statements:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect: str = connection.dialect.name

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        result = self._connection.exec_driver_sql(statement, tuple(parameters))
        try:
            rows = [tuple(row) for row in result.fetchall()] if result.returns_rows else []
            return Answer(rows, result.rowcount, result.lastrowid)
        finally:
            result.close()


class _Sync:
    is_async = False

    def __init__(self, target: Any, connection_of: Callable[[Any], Any], hook: Callable[[Any], None]) -> None:
        self._target = target
        self._connection_of = connection_of
        self._hook = hook

    def run(self, work: Work[T]) -> T:
        return work(_Statements(self._connection_of(self._target)))

    async def arun(self, work: Work[T]) -> T:
        return self.run(work)

    def after_commit(self, notify: Notify, is_visible: IsVisible) -> None:
        _remember(self._target, self._hook, notify, is_visible)


class _Async:
    is_async = True

    def __init__(
        self, target: Any, inner: str, connection_of: Callable[[Any], Any], hook: Callable[[Any], None]
    ) -> None:
        self._target = target
        self._inner = inner
        self._connection_of = connection_of
        self._hook = hook

    def run(self, work: Work[T]) -> T:
        refuse_blocking(self._target)

    async def arun(self, work: Work[T]) -> T:
        result: T = await self._target.run_sync(lambda inner: work(_Statements(self._connection_of(inner))))
        return result

    def after_commit(self, notify: Notify, is_visible: IsVisible) -> None:
        _remember(getattr(self._target, self._inner), self._hook, notify, is_visible)


def _connection_itself(connection: Any) -> Any:
    return connection


def _connection_of_session(session: Any) -> Any:
    return session.connection()


# -- after a commit ----------------------------------------------------------------------------------------------------


def _remember(target: Any, hook: Callable[[Any], None], notify: Notify, is_visible: IsVisible) -> None:
    is_first = target not in _pending
    _pending.setdefault(target, {})[notify] = is_visible
    if is_first:
        hook(target)


def _after_commit_of_session(session: Any) -> None:
    from sqlalchemy import event

    def ended(session: Any, transaction: Any) -> None:
        if transaction.parent is not None:
            return  # a savepoint
        event.remove(session, "after_transaction_end", ended)
        for notify in _pending.pop(session, {}):
            notify()

    event.listen(session, "after_transaction_end", ended)


def _after_begun_commit(connection: Any) -> None:
    from sqlalchemy import event

    def committing(connection: Any) -> None:
        for notify, is_visible in _pending.pop(connection, {}).items():
            arguments = (notify, is_visible)
            threading.Thread(target=_notify_when_visible, args=arguments, name="jobify-commit", daemon=True).start()

    event.listen(connection, "commit", committing, once=True)


def _notify_when_visible(notify: Notify, is_visible: IsVisible) -> None:
    pause, deadline = _PAUSES[0], time.monotonic() + _PATIENCE
    try:
        while not is_visible():
            if time.monotonic() > deadline:
                return
            time.sleep(pause)
            pause = min(pause * 2, _PAUSES[1])
    except Exception as error:  # workers look by themselves
        log.debug("It cannot be seen whether a transaction was committed: %s", error)
        return
    notify()
