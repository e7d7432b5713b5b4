"""``Connection``, ``Session``, ``AsyncConnection`` and ``AsyncSession`` of SQLAlchemy, over any of its drivers.

Statements go through SQLAlchemy, so that it knows of the transaction, logs them, and runs those of an async driver. A
Session says when it has committed. A Connection says when it is about to; then a thread looks until the job is visible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from jobify.storage.transactions import Answer
from jobify.transactions.commits import notify_when_visible
from jobify.transactions.port import BlockingConnection, Notify, Stored, UserConnection, Work, refuse_blocking

__all__ = ("adapter_of",)

T = TypeVar("T")

_PLACEHOLDER: Final = re.compile(r"\$(\d+)")

_Hook: TypeAlias = tuple[str, Callable[..., None]]
"""The name of an event, and what listens to it."""

_pending: MutableMapping[Any, dict[Notify, Stored]] = WeakKeyDictionary()
"""What to notify after the next commit, by session or connection."""


def adapter_of(name: str, connection: Any) -> UserConnection | None:
    """The adapter for a class of SQLAlchemy; None if it is no connection."""
    match name:
        case "Connection":
            return _Sync(connection, _connection_itself, _CONNECTION)
        case "Session":
            return _Sync(connection, _connection_of_session, _SESSION)
        case "AsyncConnection":
            return _Async(connection, "sync_connection", _connection_itself, _CONNECTION)
        case "AsyncSession":
            return _Async(connection, "sync_session", _connection_of_session, _SESSION)
        case "scoped_session":
            return adapter_of("Session", connection())
        case "async_scoped_session":
            return adapter_of("AsyncSession", connection())
    return None


class _Statements:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect: str = connection.dialect.name

    @property
    def connection(self) -> object:
        return self._connection.connection.driver_connection

    @property
    def is_in_transaction(self) -> bool:
        """Whether there is one, which SQLAlchemy begins with the first statement, unless each is to be committed."""
        if not _is_in_transaction(self.connection):
            self._connection.exec_driver_sql("SELECT 1").close()
        return _is_in_transaction(self.connection)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        given: Any = tuple(parameters)
        if self._connection.dialect.paramstyle == "pyformat":
            statement, given = _named(statement), {f"p{number}": value for number, value in enumerate(parameters, 1)}
        result = self._connection.exec_driver_sql(statement, given, {"stream_results": False})
        try:
            rows = [tuple(row) for row in result.fetchall()] if result.returns_rows else []
            return Answer(rows, result.rowcount, result.lastrowid if self.dialect == "sqlite" else None)
        finally:
            result.close()


def _is_in_transaction(driver: Any) -> bool:
    """Whether a driver's connection is in a transaction, or is going to be with its next statement."""
    if hasattr(driver, "is_in_transaction"):  # asyncpg
        return bool(driver.is_in_transaction())
    if hasattr(driver, "info"):  # psycopg
        return not driver.autocommit or driver.info.transaction_status != 0
    return bool(driver.in_transaction)


@lru_cache(1000)
def _named(statement: str) -> str:
    """A statement whose placeholders are ``$1``, for a driver whose are ``%(p1)s``."""
    return _PLACEHOLDER.sub(r"%(p\1)s", statement.replace("%", "%%"))


class _Sync(BlockingConnection):
    tells_commits = True

    def __init__(self, target: Any, connection_of: Callable[[Any], Any], hook: _Hook) -> None:
        self._target = target
        self._connection_of = connection_of
        self._hook = hook

    def run(self, work: Work[T]) -> T:
        return work(_Statements(self._connection_of(self._target)))

    def after_commit(self, stored: Stored) -> None:
        _remember(self._target, self._hook, stored)


class _Async:
    tells_commits = True

    def __init__(self, target: Any, inner: str, connection_of: Callable[[Any], Any], hook: _Hook) -> None:
        self._target = target
        self._inner = inner
        self._connection_of = connection_of
        self._hook = hook

    def require_blocking(self) -> None:
        refuse_blocking(self._target)

    def run(self, work: Work[T]) -> T:
        refuse_blocking(self._target)

    async def arun(self, work: Work[T]) -> T:
        result: T = await self._target.run_sync(lambda inner: work(_Statements(self._connection_of(inner))))
        return result

    def after_commit(self, stored: Stored) -> None:
        _remember(getattr(self._target, self._inner), self._hook, stored)


def _connection_itself(connection: Any) -> Any:
    return connection


def _connection_of_session(session: Any) -> Any:
    return session.connection()


# -- after a commit ----------------------------------------------------------------------------------------------------


def _remember(target: Any, hook: _Hook, stored: Stored) -> None:
    """Notify after the next commit of ``target``. It is listened to from its first job until it is gone."""
    from sqlalchemy import event

    name, listener = hook
    if not event.contains(target, name, listener):
        event.listen(target, name, listener)
    _pending.setdefault(target, {})[stored.notify] = stored


def _transaction_ended(session: Any, transaction: Any) -> None:
    if transaction.parent is None:  # else it is a savepoint
        for notify in _pending.pop(session, {}):
            notify()


def _committing(connection: Any) -> None:
    for stored in _pending.pop(connection, {}).values():
        notify_when_visible(stored)


_SESSION: Final = ("after_transaction_end", _transaction_ended)
_CONNECTION: Final = ("commit", _committing)
