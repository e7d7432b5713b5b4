"""What the statements of a call run on: the storage's own database, or a user's connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jobify.storage.postgres.statements import Catalog, Statement
from jobify.storage.sql.statements import Statements

__all__ = ("WritingStatements",)


class WritingStatements(Statements, Protocol):
    """What a :class:`~jobify.storage.postgres.database.Database` and a
    :class:`~jobify.storage.postgres.joined.JoinedDatabase` have in common."""

    @property
    def sql(self) -> Catalog:
        """The statements by name."""
        ...

    def values(self, statement: Statement, parameters: Sequence[Any]) -> list[Any]:
        """The rows that a statement answers; of one column, its values."""
        ...

    def rows_in(self, name: str, columns: Sequence[Sequence[Any]], *before: Any) -> list[Any]:
        """:meth:`rows_of`, with the columns of the rows."""
        ...
