"""``aiosqlite.Connection``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from jobify.storage.transactions import Answer
from jobify.transactions.bridge import refuse_blocking, run_awaiting
from jobify.transactions.port import Stored, Work

__all__ = ("AiosqliteConnection",)

T = TypeVar("T")


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


class AiosqliteConnection:
    """See :class:`~jobify.transactions.port.UserConnection`. The driver says nothing of a commit."""

    tells_commits = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def require_blocking(self) -> None:
        refuse_blocking(self._connection)

    def run(self, work: Work[T]) -> T:
        refuse_blocking(self._connection)

    async def arun(self, work: Work[T]) -> T:
        return await run_awaiting(work, _Statements(self._connection))

    def after_commit(self, stored: Stored) -> None:
        if not self._connection.in_transaction:
            stored.notify()
