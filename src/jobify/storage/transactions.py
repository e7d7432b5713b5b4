"""Jobs in a user's own transaction: the port between a storage and a connection that is not its own.

A job that is stored in the transaction of the data that it is about is there if the data is, and only then. So the
statements of a storage run on the user's connection. Two parts meet here:

- the connection is a :class:`Statements`: it runs one statement at a time and blocks until the answer is there. What
  drives it (a driver, an ORM, an event loop) is for :mod:`jobify.transactions`.
- the storage has a method ``join``, which gets the connection and returns a :class:`JoinedStorage`: the few writing
  calls that a user's transaction may need. A storage without that method takes no part in the transactions of others.

**Never** does a joined storage commit, roll back the transaction, or change a setting of the connection. Each of its
calls is atomic inside the transaction (a savepoint): one that raises has changed nothing, and the transaction can go
on. Its answers do not depend on how the connection presents rows and texts. Errors of the driver pass as they are, so
that the code of the user recognises them and tries its transaction again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.model.records import NewJob, Progress, Report, Settled, Settlement
from jobify.storage.base import Storage

__all__ = ("Answer", "Dialect", "JoinedStorage", "Statements", "join")

Dialect: TypeAlias = Literal["sqlite", "postgresql"]
"""What a connection leads to."""


class Answer(NamedTuple):
    """What a statement answers."""

    rows: Sequence[Sequence[Any]] = ()
    rowcount: int = 0
    lastrowid: int | None = None


class Statements(Protocol):
    """A user's connection, inside the user's transaction."""

    @property
    def dialect(self) -> str:
        """A :data:`Dialect`, or the name of another kind of database."""
        ...

    @property
    def connection(self) -> object:
        """The driver's connection, which leads to the same database for as long as it exists; None: it is not known."""
        ...

    @property
    def is_in_transaction(self) -> bool:
        """Whether the next statement belongs to a transaction that goes on after it. False: it commits by itself."""
        ...

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        """Run one statement, in the placeholders of the dialect (``?`` on SQLite, ``$1`` on PostgreSQL).

        Parameters are None, booleans, integers, floats, texts, bytes, and, on PostgreSQL, lists of one of these.
        """
        ...


class JoinedStorage(Protocol):
    """The writing calls of a storage, on a user's connection; they are those of
    :class:`~jobify.storage.base.Storage`."""

    def transaction(self) -> AbstractContextManager[None]:
        """A savepoint: all of the block, or none."""
        ...

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]: ...

    def find_unique(self, key: str) -> str | None: ...

    def report(self, reports: Sequence[Report]) -> list[bool]: ...

    def hold(self, id: str) -> None:
        """Keep others from changing this job until the transaction ends."""
        ...

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool: ...

    def notify(self) -> bool:
        """Notify the workers by the commit itself, if the storage is set to; False: it is not."""
        ...

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]: ...


def join(storage: Storage, statements: Statements) -> JoinedStorage:
    """The storage, on the connection of ``statements``. ConfigurationError if that leads to another database, or if the
    storage takes no part in the transactions of others."""
    joining = getattr(storage, "join", None)
    if joining is None:
        raise ConfigurationError(
            f"{storage!r} cannot store jobs in your transaction. Use an SQLiteStorage on the file of your connection, "
            "or a PostgresStorage on its database."
        )
    joined: JoinedStorage = joining(statements)
    return joined
