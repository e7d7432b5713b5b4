"""The port between shared logic and a database: statements by name.

Each database has a text of its own under the same name, so that the text is what that database executes best, and the
decisions around it exist once. What is taken for every job (inserts, claims, settlements, listings) is not here: those
paths are written for each database.

A row of an answer is a sequence; a flag in it may be a number or a bool. NULL is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ("Row", "Statements")

Row = Sequence[Any]


class Statements(Protocol):
    """The named statements of a database, on its writing connection. By itself each one is a transaction."""

    @property
    def locks_rows(self) -> bool:
        """Whether others may be inside :meth:`together` meanwhile. What a statement reads beside the rows that it locks
        is then of the time before it waited for them, so such things are read by the next one."""
        ...

    def atomic(self) -> AbstractContextManager[None]:
        """Statements of one call, all or none.

        No other process is inside such a block meanwhile. What others change without one (claims, settlements, new
        jobs) is safe from them only once its row is locked.
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """:meth:`atomic` where each row is locked before it decides: others may be inside such a block."""
        ...

    def run(self, name: str, *parameters: Any) -> int:
        """Run a statement that changes rows; how many."""
        ...

    def run_for(self, name: str, ids: Sequence[Any], *before: Any) -> int:
        """:meth:`run`, whose parameters are ``before`` and then any number of ids (or numbers of rows)."""
        ...

    def run_rows(self, name: str, rows: Sequence[Row], *before: Any) -> int:
        """:meth:`run`, whose parameters are ``before`` and then any number of rows of values."""
        ...

    def rows(self, name: str, *parameters: Any) -> list[Any]:
        """The rows that a query finds. One column is its values."""
        ...

    def rows_for(self, name: str, ids: Sequence[Any], *before: Any) -> list[Any]:
        """:meth:`rows`, whose parameters are ``before`` and then any number of ids."""
        ...

    def rows_of(self, name: str, rows: Sequence[Row], *before: Any) -> list[Any]:
        """:meth:`rows_for`, with rows of values."""
        ...

    def read(self, name: str, *parameters: Any) -> list[Any]:
        """The rows of a query with several columns, from any thread: what is committed, or this thread's block."""
        ...

    def read_for(self, name: str, ids: Sequence[Any]) -> list[Any]:
        """:meth:`read`, whose parameters are any number of ids."""
        ...

    def add(self, name: str, *parameters: Any) -> int:
        """Insert a row; the number that it was given."""
        ...
