"""What the statements of a call run on: the storage's own database, or a user's connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from jobify.storage.postgres.statements import Catalog, Statement

__all__ = ("Row", "WritingStatements")

Row = Sequence[Any]


class WritingStatements(ABC):
    """See :class:`jobify.storage.sql.statements.Statements`: each call is one of two that a connection makes."""

    sql: Catalog
    """The statements by name."""
    locks_rows = True

    @abstractmethod
    def change(self, statement: Statement, parameters: Sequence[Any]) -> int:
        """Run a statement; how many rows it has changed."""

    @abstractmethod
    def values(self, statement: Statement, parameters: Sequence[Any]) -> list[Any]:
        """The rows that a statement answers; of one column, its values."""

    @abstractmethod
    def read(self, name: str, *parameters: Any) -> list[Any]:
        """See :meth:`jobify.storage.sql.statements.Statements.read`; so the next two."""

    @abstractmethod
    def atomic(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def together(self) -> AbstractContextManager[None]: ...

    def run(self, name: str, *parameters: Any) -> int:
        return self.change(self.sql(name), parameters)

    def run_for(self, name: str, ids: Sequence[Any], *before: Any) -> int:
        return self.run(name, *before, ids) if ids else 0

    def run_rows(self, name: str, rows: Sequence[Row], *before: Any) -> int:
        return self.run(name, *before, *zip(*rows, strict=True)) if rows else 0

    def rows(self, name: str, *parameters: Any) -> list[Any]:
        return self.values(self.sql(name), parameters)

    def rows_for(self, name: str, ids: Sequence[Any], *before: Any) -> list[Any]:
        return self.rows(name, *before, ids) if ids else []

    def rows_of(self, name: str, rows: Sequence[Row], *before: Any) -> list[Any]:
        return self.rows(name, *before, *zip(*rows, strict=True)) if rows else []

    def rows_in(self, name: str, columns: Sequence[Sequence[Any]], *before: Any) -> list[Any]:
        """:meth:`rows_of`, with the columns of the rows."""
        return self.rows(name, *before, *columns)

    def read_for(self, name: str, ids: Sequence[Any]) -> list[Any]:
        return self.read(name, ids) if ids else []

    def add(self, name: str, *parameters: Any) -> int:
        return int(self.rows(name, *parameters)[0])
