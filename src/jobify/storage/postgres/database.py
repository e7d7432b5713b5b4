"""One schema of a PostgreSQL database: transactions, named statements, and one kind of error.

**Two connections**, of which one writes, and one reads and claims; a third one belongs to the notifier. What is read or
claimed on the second one never waits for a transaction of the first.

**Transactions** are READ COMMITTED. What decides by a row that it has read locks the row first. A call that is one
statement is a transaction by itself. Calls that change what jobs are to each other (dependencies, cancels, deletions,
recovery) are taken one at a time, in any process: :meth:`Database.atomic` holds a lock of the database until its
transaction ends. Claims, settlements and new jobs do not take it.

**Conflicts.** Two transactions that wait for each other are noticed by the server after a second, which ends one of
them. A call by itself is then made again (:meth:`Database.retried`); of a block, the error is that of its caller.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg

from jobify.exceptions import StorageUnavailableError
from jobify.storage.postgres.arrays import Array, escaped, restored_row
from jobify.storage.postgres.connection import Connection, connect, is_gone
from jobify.storage.postgres.errors import READ_ONLY, TransactionConflictError, explain
from jobify.storage.postgres.statements import Catalog, Statement
from jobify.storage.postgres.writing import WritingStatements

__all__ = ("Database", "lock_key")

T = TypeVar("T")

_TRIES: Final = 5
_LOCK: Final = "FOR NO KEY UPDATE"
Cursor = psycopg.Cursor[tuple[Any, ...]]


def lock_key(schema: str, what: str) -> int:
    """The key of an advisory lock, for ``what`` in a schema."""
    digest = hashlib.sha256(f"jobify/{schema}/{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Database(WritingStatements):
    """The jobs in schema ``schema`` of the database at ``url``; ``where`` names both without a password."""

    def __init__(self, url: str, *, schema: str, where: str, is_pooled: bool = False) -> None:
        self.url = url
        self.schema = schema
        self.where = where
        self.is_pooled = is_pooled
        """Whether a pooler gives each transaction another connection."""
        self.sql = Catalog(schema)
        self.is_open = False
        self.relations = lock_key(schema, "relations")
        """The lock of :meth:`atomic`."""
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._is_reader_stale = False  # it may read from a server that is not the primary any more
        self._block_thread: int | None = None
        self._has_block_changed = False
        self.block = 0
        """The number of the last block."""
        self.lost_blocks: set[int] = set()
        """Those of which it is not known whether they were committed."""
        self._written = self._claimed = 0
        """Transactions of each connection that have changed something, at least."""
        self._renew_locks()

    def _renew_locks(self) -> None:
        # Held while a connection works; the writer's also from the beginning of a transaction to its end.
        self._writing = threading.RLock()
        self._reading = threading.RLock()

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self, prepare: Callable[[Database], object]) -> None:
        """Connect; ``prepare`` is called first."""
        prepare(self)
        self.is_open = True

    def close(self) -> None:
        """Close both connections. Waits for a statement that is under way."""
        self.is_open = False
        with self._writing, self._reading:
            self._disconnect()

    def _disconnect(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                with suppress(psycopg.Error):
                    connection.close()
        self._writer = self._reader = None

    def new_connection(self) -> Connection:
        """Another connection, for a use of its own."""
        try:
            return connect(self.url, application_name="jobify", is_pooled=self.is_pooled)
        except psycopg.Error as error:
            raise explain(error, self.where) from error

    # -- forks ---------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Before a fork: wait until nothing is at work, and disconnect."""
        self._writing.acquire()
        self._reading.acquire()
        if self._block_thread is None:
            self._disconnect()

    def after_fork_in_parent(self) -> None:
        """After a fork, in the parent."""
        self._reading.release()
        self._writing.release()

    def after_fork_in_child(self) -> None:
        """After a fork, in the child: this is not open here, and what is left of a connection is the parent's."""
        self.is_open = False
        self._writer = self._reader = None
        self._block_thread = None
        self._renew_locks()

    # -- statements on the writing connection --------------------------------------------------------------------------

    def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> Cursor:
        """Run a statement; by itself it is a transaction. Arrays are packed here, unless they are already."""
        with self._writing:
            writer = self._writer
            if self._block_thread is None:
                if writer is None or is_gone(writer):
                    writer = self._writer = self.new_connection()
            elif writer is None:
                raise StorageUnavailableError(
                    f"The connection to {self.where} was lost, and the transaction with it. Nothing was changed."
                )
            try:
                cursor = writer.execute(statement.query, _packed(statement, parameters), binary=True)
            except psycopg.Error as error:
                self._give_up(writer, error)
                raise explain(error, self.where) from error
            if cursor.rowcount > 0 and not (cursor.statusmessage or "").startswith("SELECT"):
                self.note_change()
            return cursor

    def note_change(self) -> None:
        """A statement has changed something."""
        if self._block_thread is None:
            self._written += 1
        else:
            self._has_block_changed = True

    @property
    def own_commits(self) -> int:
        """Transactions that have changed something, at least; see ``changes``."""
        return self._written + self._claimed

    def command(self, text: str) -> Cursor:
        """Run a text without parameters on the writing connection, which is not prepared."""
        with self._writing:
            writer = self._writer
            assert writer is not None
            try:
                return writer.execute(self.sql.qualified(text).encode(), prepare=False)
            except psycopg.Error as error:
                self._give_up(writer, error)
                raise explain(error, self.where) from error

    def _give_up(self, writer: Connection, error: psycopg.Error) -> None:
        """Connect again next time, if the connection has ended, or leads to a server that takes no writes any more."""
        if error.sqlstate == READ_ONLY:
            self._is_reader_stale = True
            writer.close()
        if writer.closed:
            self._writer = None

    def change(self, statement: Statement, parameters: Sequence[Any]) -> int:
        return self.execute(statement, parameters).rowcount

    def values(self, statement: Statement, parameters: Sequence[Any]) -> list[Any]:
        return _unwrapped(_answer(self.execute(statement, parameters)))

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def is_in_block(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._block_thread == threading.get_ident()

    def read(self, name: str, *parameters: Any, **fields: str) -> list[Any]:
        """The rows that a query finds, from any thread. Sees what is committed; a block's own thread sees its block,
        and locks what it reads by a statement with a field ``{lock}``."""
        statement = self.sql(name, lock=_LOCK if self.is_in_block else "", **fields)
        if self.is_in_block:
            return _answer(self.execute(statement, parameters))
        return _answer(self._read(statement, parameters))

    def read_for(self, name: str, ids: Sequence[Any], *before: Any, **fields: str) -> list[Any]:
        """:meth:`read`, whose parameters are ``before`` and then any number of ids. One column is its values."""
        return _unwrapped(self.read(name, *before, ids, **fields)) if ids else []

    def _read(self, statement: Statement, parameters: Sequence[Any]) -> Cursor:
        with self._reading:
            reader = self._reader
            if reader is not None and self._is_reader_stale:
                reader.close()
            if reader is None or is_gone(reader):
                reader, self._is_reader_stale = self.new_connection(), False
                self._reader = reader
            try:
                return reader.execute(statement.query, _packed(statement, parameters), binary=True)
            except psycopg.Error as error:
                if error.sqlstate == READ_ONLY:
                    self._is_reader_stale = True
                if reader.closed:
                    self._reader = None
                raise explain(error, self.where) from error

    def claim(self, statement: Statement, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement that claims jobs, outside of a block on the connection that reads; its rows. The first one
        begins with None if nothing was claimed."""
        if self.is_in_block:
            rows = self.execute(statement, parameters).fetchall()
            if rows[0][0] is not None:
                self.note_change()
            return rows
        with self._reading:
            rows = self._read(statement, parameters).fetchall()
            self._claimed += rows[0][0] is not None
            return rows

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block of statements, all or none."""
        if self._block_thread is not None and self.is_in_block:
            raise RuntimeError("A transaction is open already; they do not nest.")
        with self._writing:
            self._begin()
            try:
                yield
                self._end("COMMIT")
                self._written += self._has_block_changed
            except BaseException:
                self._end_quietly("ROLLBACK")
                raise
            finally:
                self._block_thread = None

    def _begin(self) -> None:
        if self._writer is None or is_gone(self._writer):
            self._writer = self.new_connection()
        self.command("BEGIN")
        self.block += 1
        self._has_block_changed = False
        self._block_thread = threading.get_ident()

    def _end(self, command: str) -> None:
        if self._writer is None:
            raise StorageUnavailableError(
                f"The connection to {self.where} was lost, and the transaction with it. Nothing was changed."
            )
        try:
            status = self.command(command).statusmessage
        except StorageUnavailableError:
            self.lost_blocks.add(self.block)
            raise
        if status != command:  # a COMMIT after an error is a ROLLBACK
            raise StorageUnavailableError(
                f"The database {self.where} has undone the transaction after an error. Nothing was changed."
            )

    def _end_quietly(self, command: str) -> None:
        """Undo, if there is a connection to say it on. The server undoes what its client leaves."""
        with suppress(psycopg.Error, StorageUnavailableError):
            if self._writer is not None:
                self.command(command)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Statements of one call, all or none, inside a block and outside of one; one such call at a time."""
        with self.savepoint() if self.is_in_block else self.transaction():
            self.command(f"SELECT pg_advisory_xact_lock({self.relations})")
            yield

    def try_relations(self) -> bool:
        """Take the lock of :meth:`atomic` for the transaction that is open, unless another one has it."""
        row = self.command(f"SELECT pg_try_advisory_xact_lock({self.relations})").fetchone()
        return row is not None and bool(row[0])

    def alone(self) -> AbstractContextManager[object]:
        """While no other thread has a transaction open."""
        return self._writing

    @contextmanager
    def together(self) -> Iterator[None]:
        """:meth:`atomic` without the lock: what is changed here is no relation between jobs."""
        with self.savepoint() if self.is_in_block else self.transaction():
            yield

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Statements inside a block, all or none."""
        self.command("SAVEPOINT call")
        try:
            yield
        except BaseException:
            self._end_quietly("ROLLBACK TO SAVEPOINT call")
            raise
        finally:
            self._end_quietly("RELEASE SAVEPOINT call")

    def retried(self, call: Callable[[], T]) -> T:
        """Make a call, again if it and another one waited for each other. In a block, which is undone, only once."""
        for _ in range(_TRIES - 1):
            try:
                return call()
            except TransactionConflictError:
                if self.is_in_block:
                    raise
                time.sleep(random.random() * 0.05)
        return call()


def _packed(statement: Statement, parameters: Sequence[Any]) -> Sequence[Any]:
    if not statement.packers and not any(type(value) is str for value in parameters):
        return parameters
    packers = statement.packers
    return [
        packers[index](value)
        if index in packers and value is not None and not isinstance(value, Array)
        else escaped(value)
        if type(value) is str
        else value
        for index, value in enumerate(parameters)
    ]


def _answer(cursor: Cursor) -> list[Any]:
    return [restored_row(row) for row in cursor.fetchall()]


def _unwrapped(rows: list[Any]) -> list[Any]:
    return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows
