"""What the statements of a call run on: the storage's own database, or a user's connection."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ("Session",)


class _Executed(Protocol):
    @property
    def lastrowid(self) -> int | None: ...


class Session(Protocol):
    """What a :class:`~jobify.storage.sqlite.database.Database` and a
    :class:`~jobify.storage.sqlite.joined.JoinedDatabase` have in common."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> _Executed:
        """Run a statement."""
        ...

    def write(self, statement: str, parameters: Sequence[Any] = (), *, is_acknowledged: bool = True) -> int:
        """Run a statement that inserts, updates or deletes; how many rows."""
        ...

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query, which sees what was written."""
        ...

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query."""
        ...

    def atomic(self) -> AbstractContextManager[None]:
        """Statements of one call, all or none."""
        ...
