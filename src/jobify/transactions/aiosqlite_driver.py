"""``aiosqlite.Connection``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobify.storage.transactions import Answer
from jobify.transactions.bridge import AwaitedConnection
from jobify.transactions.port import Stored

__all__ = ("AiosqliteConnection",)


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
