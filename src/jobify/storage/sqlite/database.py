"""Two connections to one file: transactions, waiting for a locked file, and one kind of error.

**Two connections.** SQLite's write-ahead log lets a reader work while somebody writes; so what is read on the second
connection never waits for a commit of the first, nor for another process.

**Waiting.** SQLite's own busy handler sleeps longer each time, up to 100 ms, so that of eight processes that write
all the time some wait for seconds while the others pass them (2.6 s at the worst, and one of the eight wrote a single
row in that time). A queue on a file lock in front of it would be fair, but blocks without end behind a process that
was stopped while it had its turn. So the handler is off, and :meth:`Database._run` tries again after short random
pauses, which is as quick and nearly as fair as the queue (measured with eight processes: 99 of 100 commits within 12
ms, the worst 60 ms), and ends with an error after ``timeout``.

**Steps.** Every step of a statement releases the interpreter's lock, and with a busy event loop it takes milliseconds
to get it back. A single writing statement is therefore left to SQLite's autocommit: one step, one transaction.

**Processes that fork.** SQLite must not be used, nor closed, in a child with a connection of its parent. After a fork
the child's copy of this object is closed; the connections themselves are kept aside, untouched, until the child ends.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.storage.sqlite.failures import explain, is_busy, raise_claim_lost

__all__ = ("Database",)

_CACHED_STATEMENTS = 256
_PRAGMAS = (
    "PRAGMA cache_size = -8000",  # kB
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 16000000",  # a log that a burst made long is cut again
    "PRAGMA trusted_schema = OFF",
)

_SHORTEST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02

_left_behind: list[sqlite3.Connection] = []
"""Connections of the parent process, in a child."""


class Database:
    """The two connections to the file at ``path``; ``timeout`` seconds are waited for a locked one."""

    def __init__(self, path: str, *, timeout: float, synchronous: str) -> None:
        self.path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._block_thread: int | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def open(self, prepare: Callable[[Database], None]) -> None:
        """Connect; ``prepare`` is called with the writing connection in place, before anything is set on the file."""
        try:
            self._writer = self._connect()
            prepare(self)
            self.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._reader = self._connect()
            self._run(self._reader, "PRAGMA query_only = ON", ())
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
            )
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        for pragma in _PRAGMAS:
            self._run(connection, pragma, ())
        connection.create_function("claim_lost", 0, raise_claim_lost)
        return connection

    def close(self) -> None:
        with self._reading:
            connections = (self._reader, self._writer)
            self._reader = self._writer = None
        for connection in connections:
            if connection is not None:
                connection.close()

    def leave_behind(self) -> None:
        """In a child process: forget the parent's connections without touching them."""
        _left_behind.extend(connection for connection in (self._writer, self._reader) if connection is not None)
        self._writer = self._reader = None
        self._reading = threading.Lock()  # another thread of the parent may have held it
        self._block_thread = None

    # -- statements ----------------------------------------------------------------------------------------------------

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement on the writing connection; by itself it is a transaction."""
        writer = self._require(self._writer)
        if self._block_thread is not None and not writer.in_transaction:
            raise StorageUnavailableError(f"The database {self.path!r} has given up the transaction after an error.")
        return self._run(writer, statement, parameters)

    def write(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that inserts, updates or deletes; how many rows it did that to."""
        return self.execute(statement, parameters).rowcount

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query on the writing connection, which sees its own transaction."""
        return self._fetch(self.execute(statement, parameters))

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query, from any thread. Sees what is committed; a block's own thread sees its block."""
        if self._block_thread == threading.get_ident():
            return self.row(statement, parameters)
        with self._reading:
            return self._fetch(self._run(self._require(self._reader), statement, parameters))

    def _fetch(self, cursor: sqlite3.Cursor) -> Any:
        try:
            return cursor.fetchone()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _require(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        if connection is None:
            raise ApplicationStateError(
                operation=f"use the database {self.path!r}",
                reason="It is not open in this process.",
                solution="Call open() first, in each process by itself: a fork does not take it along.",
            )
        return connection

    def _run(self, connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        started = time.monotonic()
        while True:
            try:
                return connection.execute(statement, parameters)
            except sqlite3.Error as error:
                waited = time.monotonic() - started
                if connection.in_transaction or not is_busy(error) or waited >= self._timeout:
                    raise explain(error, self.path) from error
            time.sleep(random.random() * min(max(_SHORTEST_PAUSE, waited / 20), _LONGEST_PAUSE))

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block of statements, all or none. The write lock is taken at once, so that what is read stays true."""
        if self._block_thread is not None:
            raise RuntimeError("A transaction is open already; they do not nest.")
        self.execute("BEGIN IMMEDIATE")
        self._block_thread = threading.get_ident()
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise
        finally:
            self._block_thread = None

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Statements of one call, all or none, inside a block and outside of one."""
        if self._block_thread is None:
            with self.transaction():
                yield
            return
        self.execute("SAVEPOINT call")
        try:
            yield
        except BaseException:
            self._end("ROLLBACK TO call")
            raise
        finally:
            self._end("RELEASE call")

    def roll_back(self) -> None:
        """Undo the open transaction."""
        self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        """Run ``statement``, unless SQLite has given up the whole transaction already, after a serious error."""
        if self._writer is not None and self._writer.in_transaction:
            self.execute(statement)
