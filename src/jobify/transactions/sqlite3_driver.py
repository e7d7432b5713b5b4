"""``sqlite3.Connection`` of Python's standard library, and ``aiosqlite.Connection``, which awaits one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, TypeVar

from jobify.storage.transactions import Answer
from jobify.transactions.port import AwaitedConnection, BlockingConnection, Stored, Work

__all__ = ("AiosqliteConnection", "SQLite3Connection", "SQLite3Statements")


T = TypeVar("T")


class SQLite3Statements:
    """The statements of a connection. Their cursor is a plain one, whatever cursors and rows the user has chosen."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @property
    def is_in_transaction(self) -> bool:
        return self.connection.in_transaction

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        cursor = sqlite3.Cursor(self.connection)
        cursor.row_factory = None
        try:
            cursor.execute(statement, parameters)
            return Answer(cursor.fetchall(), cursor.rowcount, cursor.lastrowid)
        finally:
            cursor.close()


class SQLite3Connection(BlockingConnection):
    """See :class:`~jobify.transactions.port.UserConnection`. The driver says nothing of a commit."""

    tells_commits = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, work: Work[T]) -> T:
        return work(SQLite3Statements(self._connection))

    def after_commit(self, stored: Stored) -> None:
        if not self._connection.in_transaction:  # each statement is committed at once
            stored.notify()


# -- aiosqlite driver --------------------------------------------------------------------------------------------------


class _Statements:
    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def is_in_transaction(self) -> bool:
        return bool(self.connection.in_transaction)

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        async with self.connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(statement, parameters)
            rows = [] if cursor.description is None else [*await cursor.fetchall()]  # each await is a change of threads
            return Answer(rows, cursor.rowcount, cursor.lastrowid)


class AiosqliteConnection(AwaitedConnection):
    """See :class:`~jobify.transactions.port.UserConnection`."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, _Statements(connection))

    def after_commit(self, stored: Stored) -> None:
        if not self._statements.is_in_transaction:
            stored.notify()
