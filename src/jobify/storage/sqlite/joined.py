"""The storage on a user's connection: see :mod:`jobify.storage.transactions`.

The calls are those of :class:`Jobs` and :class:`Settlements`, which run on anything that runs statements. Three things
are different here.

**Whose rules.** The driver decides when a transaction begins: Python's own begins one before the first statement that
writes, unless it is set to commit each statement. A savepoint outside of a transaction would begin one behind the
driver's back, and its release would commit. So each call writes before it sets its savepoint, in a statement that
changes nothing. The same statement takes SQLite's lock for writing at once, waiting as long as the connection waits:
a lock that is taken after a read is refused without a wait once another process has written.

A call that is one statement needs neither: a job without parents is inserted by one.

**No statement fails on purpose.** On the storage's own connection a unique index decides what is inserted, and a claim
that does not hold ends its statement; here a query comes first.

**No function of ours** exists on the connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, Final

from jobify.exceptions import ConfigurationError
from jobify.model.records import NewJob, Progress, Report, Settled, Settlement
from jobify.storage.sql.reports import Reports
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.jobs import Jobs
from jobify.storage.sqlite.settlements import Settlements
from jobify.storage.sqlite.statements import SQLiteStatements, decode_rows, sql
from jobify.storage.sqlite.table_names import prefixed
from jobify.storage.transactions import Answer, Statements

__all__ = ("JoinedDatabase", "JoinedSQLite", "joined_storage", "require_same_file")

_CHANGE_NOTHING: Final = "DELETE FROM jobs WHERE 0"
_SAVEPOINT: Final = "jobify"


class JoinedDatabase:
    """The statements of calls, on a user's connection. ``has_prefix``: the tables have one."""

    def __init__(self, statements: Statements, *, has_prefix: bool) -> None:
        self._statements = statements
        self._has_prefix = has_prefix
        self._is_atomic = False

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        return self._statements.execute(_translated(statement, self._has_prefix), parameters)

    def write(self, statement: str, parameters: Sequence[Any] = (), *, is_acknowledged: bool = True) -> int:
        return self.execute(statement, parameters).rowcount

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        rows = self.execute(statement, parameters).rows
        return rows[0] if rows else None

    read = row

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A savepoint, inside the transaction that the driver has begun. One inside another is the outer one: what
        fails there ends the whole call."""
        if self._is_atomic:
            yield
            return
        self.execute(_CHANGE_NOTHING)
        self.execute(f"SAVEPOINT {_SAVEPOINT}")
        self.execute(_CHANGE_NOTHING)  # where the savepoint is the transaction
        self._is_atomic = True
        try:
            yield
        except BaseException:
            with suppress(Exception):  # SQLite has given up the whole transaction
                self.execute(f"ROLLBACK TO {_SAVEPOINT}")
                self.execute(f"RELEASE {_SAVEPOINT}")
            raise
        else:
            self.execute(f"RELEASE {_SAVEPOINT}")
        finally:
            self._is_atomic = False


@cache
def _translated(statement: str, has_prefix: bool) -> str:
    text = statement.replace("claim_lost()", "NULL")
    return prefixed(text) if has_prefix else text


class JoinedSQLite:
    """See :class:`~jobify.storage.transactions.JoinedStorage`."""

    def __init__(self, database: JoinedDatabase) -> None:
        self._database = database
        self._jobs = Jobs(database)
        self._reports = Reports(SQLiteStatements(database))
        self._settlements = Settlements(database)

    def transaction(self) -> AbstractContextManager[None]:
        return self._database.atomic()

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        return self._jobs.insert_joined(jobs)

    def find_unique(self, key: str) -> str | None:
        found = decode_rows(self._database.row(sql("unfinished_with_key"), (key,))[0])
        return found[0] if found else None

    def hold(self, id: str) -> None:
        self._database.execute(_CHANGE_NOTHING)  # from then on no other one writes

    def replace(self, job: NewJob, progress: Progress | None = None) -> bool:
        return self._jobs.replace(job, progress)

    def notify(self) -> bool:
        return False

    def report(self, reports: Sequence[Report]) -> list[bool]:
        return self._reports.report(reports)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        return self._settlements.settle_joined(settlements)


def joined_storage(database: Database, statements: Statements, *, is_private: bool) -> JoinedSQLite:
    """The calls on a connection to the file of ``database``; ConfigurationError if it leads to another one."""
    if is_private:
        raise ConfigurationError(
            "The database of the jobs is private (':memory:'), so no other connection can store jobs in it. Give the "
            "storage the file of your connection."
        )
    require_same_file(statements, database.path)
    return JoinedSQLite(JoinedDatabase(statements, has_prefix=database.connections.has_prefix))


def require_same_file(statements: Statements, path: str) -> None:
    """ConfigurationError if the main database of a connection is not the file at ``path``."""
    if statements.dialect != "sqlite":
        raise ConfigurationError(
            f"The jobs are in the SQLite database {path!r}, and the connection leads to a database of another kind "
            f"({statements.dialect}). Give a connection to that file."
        )
    file = next((_as_path(row[2]) for row in statements.execute("PRAGMA database_list").rows if row[0] == 0), "")
    if not _are_same(file, path):
        raise ConfigurationError(
            f"The jobs are in the database {path!r}, and the connection leads to {file or 'a private database'!r}. "
            f"Only one file can have one transaction: give a connection to that file, or keep the jobs in yours, with "
            f"SQLiteStorage({file or 'shop.db'!r})."
        )


def _as_path(name: Any) -> str:
    """A path as the connection gives texts: its ``text_factory`` may make bytes of them."""
    return os.fsdecode(bytes(name) if isinstance(name, bytearray | memoryview) else name) if name else ""


def _are_same(file: str, path: str) -> bool:
    try:
        return bool(file) and os.path.samestat(os.stat(file), os.stat(path))
    except OSError:
        return False
