"""Two connections to one file: transactions, waiting for a locked file, and one kind of error.

**Two connections.** SQLite's write-ahead log lets a reader work while somebody writes; so what is read on the second
connection never waits for a commit of the first, nor for another process.

**Waiting.** SQLite's own busy handler sleeps longer each time, up to 100 ms, so that of eight processes that write
all the time some wait for seconds while the others pass them (2.6 s at the worst, and one of the eight wrote a single
row in that time). A queue on a file lock in front of it would be fair, but blocks without end behind a process that
was stopped while it had its turn. So the handler is off, and :meth:`Database._insist` tries again after short random
pauses, which is as quick and nearly as fair as the queue (measured with eight processes: 99 of 100 commits within 12
ms, the worst 60 ms), and ends with an error after ``timeout``.

**Steps.** Every step of a statement releases the interpreter's lock, and with a busy event loop it takes milliseconds
to get it back. A single writing statement is therefore left to SQLite's autocommit: one step, one transaction.

**The log.** A commit appends to the write-ahead log. With ``synchronous="normal"`` it does not wait for the disk, but
two moments in the life of that log do: when it is copied into the file (a *checkpoint*), and when the next write begins
it anew. SQLite would leave both to whoever commits just then. It is told not to (``wal_autocheckpoint``): the write
that finds the log long copies it when it has committed, and the next one begins it anew; neither is made on the spot
(see ``spot``).

**Forks.** SQLite forbids to take a connection into a child process: its locks belong to the process, so parent and
child would each believe to hold what the other one holds. Before a fork both connections are closed, as soon as the
running statement or transaction has ended; each process connects again when it needs to. The child counts as not open
until it has called ``open`` itself. Only a fork from inside a transaction takes connections along; there the child
may not open this file at all.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

from jobify.exceptions import ApplicationStateError, StorageError, StorageUnavailableError
from jobify.storage.sqlite.connection import FIRST_READ, LONG_LOG, checkpoint, close, connect, version_without_waiting
from jobify.storage.sqlite.errors import retry_while_locked
from jobify.storage.sqlite.file_identity import FileIdentity

__all__ = ("Database",)

T = TypeVar("T")

_MAX_SPOTS: Final = 512
"""Writes on the spot in a row: then one that may take its time looks after the log."""
_UNKNOWN: Final = -1
_NOT_NOW: Final = "The database cannot be written without waiting just now. Write it in a thread that may wait."


_taken_along: dict[str, list[sqlite3.Connection | None]] = {}
"""In a child: connections of its parent, by path. They are not even closed."""


class Database:
    """The two connections to the file at ``path``; ``timeout`` seconds are waited for a locked one."""

    def __init__(self, path: str, *, timeout: float, synchronous: str, given: str | None = None) -> None:
        self.path = path
        self.is_open = False
        self._timeout = timeout
        self._synchronous = synchronous
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._connects = 0
        self._block_thread: int | None = None
        self._spot_thread: int | None = None
        self._nonblocking_budget, self._spot_version = 0, _UNKNOWN
        self._is_acknowledged = False
        self._changes = 0
        self._identity = FileIdentity(path, given or path, lambda: checkpoint(self._writer))
        self._lock_anew()

    def _lock_anew(self) -> None:
        # Held while a connection works; the writer's also from the beginning of a transaction to its end.
        self._writing = threading.RLock()
        self._reading = threading.RLock()

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self, prepare: Callable[[Database], None]) -> None:
        """Connect; ``prepare`` is called first, when nothing is set on the file yet."""
        if self.path in _taken_along:
            raise StorageError(
                f"This process was forked inside a transaction on {self.path!r} and cannot use that file. Open the "
                "database after the fork, or start processes with the spawn method."
            )
        self.is_open = True
        try:
            prepare(self)
            self._retry_while_locked(self._identify)
        except BaseException:
            self.close()
            raise

    def _identify(self) -> None:
        """From now on, this database is the file that is open."""
        with self._writing:
            self._write(FIRST_READ, ())
            assert self._writer is not None
            self._identity.begin()
            self._identity.connected()

    def close(self) -> None:
        """Close both connections. Waits for a statement that writes; one that reads ends with an error."""
        self.is_open = False
        self._interrupt_reader()
        with self._writing, self._reading:
            self._disconnect()

    def _interrupt_reader(self) -> None:
        """A count of a million jobs must not hold up a shutdown."""
        reader = self._reader
        if reader is not None:
            with suppress(sqlite3.ProgrammingError):  # closed at this moment, by a thread that forks
                reader.interrupt()

    def _disconnect(self) -> None:
        connections = (self._reader, self._writer)
        self._reader = self._writer = None
        self._nonblocking_budget, self._spot_version, self._changes = 0, _UNKNOWN, 0
        close(connections, self._identity)

    def _connect(self, setting: str) -> sqlite3.Connection:
        if not self.is_open:
            raise ApplicationStateError(
                operation=f"use the database {self.path!r}",
                reason="It is not open in this process.",
                solution="Call open() first, in each process by itself: a fork does not take it along.",
            )
        return connect(self.path, self._identity, setting)

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
        """After a fork, in the child: this is not open here."""
        if self._writer is not None:
            _taken_along[self.path] = [self._writer, self._reader]
        self._reader = self._writer = self._block_thread = self._spot_thread = None
        self._identity.disconnected()
        self.is_open = False
        self._lock_anew()  # the old ones are held by a thread that does not exist here

    # -- statements ----------------------------------------------------------------------------------------------------

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement on the writing connection; by itself it is a transaction."""
        return self._retry_while_locked(partial(self._write, statement, parameters))

    def write(self, statement: str, parameters: Sequence[Any] = (), *, is_acknowledged: bool = True) -> int:
        """Run a statement that inserts, updates or deletes; how many rows. ``is_acknowledged``: callers rely on it."""
        count = self.execute(statement, parameters).rowcount
        if self._block_thread is None:
            self._committed(is_acknowledged=is_acknowledged)
        return count

    def add(self, statement: str, parameters: Sequence[Any]) -> int | None:
        """Run a statement that inserts a row; the number of the row."""
        with self.atomic():
            return self.execute(statement, parameters).lastrowid

    def write_unflushed(self, statement: str, parameters: Sequence[Any]) -> int:
        """:meth:`write`, without waiting for the disk: a power cut may undo it, and only that. Inside a block it is
        written as the block is."""
        if self._block_thread is not None or self._synchronous == "normal":
            return self.write(statement, parameters)
        with self._writing:  # nobody else writes meanwhile
            self.execute("PRAGMA synchronous = normal")
            try:
                return self.write(statement, parameters)
            finally:
                self.execute(f"PRAGMA synchronous = {self._synchronous}")

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query on the writing connection, which sees its own transaction."""
        return self._retry_while_locked(partial(self._write_and_fetch, statement, parameters))

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """The only row of a query, from any thread. Sees what is committed; a block's own thread sees its block."""
        if self._block_thread == threading.get_ident():
            return self.row(statement, parameters)
        return self._retry_while_locked(partial(self._read, statement, parameters))

    def data_version(self) -> tuple[int, int]:
        """Differs from an earlier one if another connection has committed since; perhaps after a fork, too."""
        return self._connects, self.row("PRAGMA data_version")[0]

    def _write(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        with self._writing:
            if self._writer is None:
                self._writer = self._connect(f"PRAGMA synchronous = {self._synchronous}")
                self._connects += 1
            if self._block_thread is None:
                self._identity.before_write()
            elif not self._writer.in_transaction:
                raise StorageUnavailableError(
                    f"The database {self.path!r} has given up the transaction after an error. Nothing was changed."
                )
            return self._writer.execute(statement, parameters)

    def _write_and_fetch(self, statement: str, parameters: Sequence[Any]) -> Any:
        with self._writing:
            return self._write(statement, parameters).fetchone()

    def _read(self, statement: str, parameters: Sequence[Any]) -> Any:
        with self._reading:
            if self._reader is None:
                self._reader = self._connect("PRAGMA query_only = ON")
            self._identity.before_read()
            return self._reader.execute(statement, parameters).fetchone()

    def _retry_while_locked(self, step: Callable[[], T]) -> T:
        """Take a step, again and again while another connection has the file locked; on the spot only once."""
        try:
            return step()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            timeout = 0.0 if self._spot_thread == threading.get_ident() else self._timeout
            return retry_while_locked(step, error, path=self.path, timeout=timeout, look=self._identity.look)

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """A block of statements, all or none. The write lock is taken at once, so that what is read stays true."""
        if self._block_thread is not None:
            raise RuntimeError("A transaction is open already; they do not nest.")
        writing = self._retry_while_locked(partial(self._begin, kind))
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._end("ROLLBACK")
            raise
        finally:
            self._block_thread = None
            writing.release()
        self._committed()

    def _begin(self, kind: str) -> threading.RLock:
        """Begin a transaction, and hold the lock that is to be released at its end."""
        writing = self._writing
        writing.acquire()
        try:
            self._write(f"BEGIN {kind}", ())
        except BaseException:
            writing.release()
            raise
        self._block_thread = threading.get_ident()
        return writing

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

    def _end(self, statement: str) -> None:
        """Run ``statement``, unless SQLite has given up the whole transaction already, after a serious error."""
        if self._writer is not None and self._writer.in_transaction:
            self.execute(statement)

    # -- the file ------------------------------------------------------------------------------------------------------

    def _committed(self, *, is_acknowledged: bool = True) -> None:
        """After a commit, and before its caller is told: is it in the file that is there? Then copy a long log into the
        database, or leave that to the next commit."""
        if self._spot_thread is not None:  # asked when it is left
            self._is_acknowledged |= is_acknowledged
            return
        with self._writing:  # no other thread disconnects meanwhile
            if self._writer is None:  # a fork has disconnected, which copies the log
                return
            self._identity.after_write()
            if self._writer.total_changes != self._changes:  # else nothing was written, and the log may have to begin
                self._nonblocking_budget = _MAX_SPOTS
            if self._identity.log_size > LONG_LOG:
                self._identity.look()
                self._nonblocking_budget, self._changes = 0, self._writer.total_changes
                checkpoint(self._writer)

    # -- on the spot ---------------------------------------------------------------------------------------------------

    def begin_nonblocking(self) -> None:
        """From here, no statement of this thread waits for anything. See :class:`~jobify.storage.sqlite.spot.Spot`."""
        if not self._nonblocking_budget or not self._writing.acquire(blocking=False):
            raise StorageUnavailableError(_NOT_NOW)
        self._spot_thread = threading.get_ident()
        self._is_acknowledged = False
        try:
            if self._writer is None or self._block_thread is not None or self._others_committed(self._writer):
                raise StorageUnavailableError(_NOT_NOW)
        except BaseException:
            self.end_nonblocking()
            raise
        self._nonblocking_budget -= 1

    def end_nonblocking(self, *, has_written: bool = False) -> None:
        """Statements of this thread may take their time again. StorageReplacedError: what was written is in no file."""
        self._spot_thread = None
        try:
            if has_written and self._writer is not None:
                self._identity.after_spot(is_acknowledged=self._is_acknowledged)
        finally:
            self._writing.release()

    def _others_committed(self, writer: sqlite3.Connection) -> bool:
        """Whether anybody else has committed since this was asked last: they may have made a checkpoint, too."""
        self._identity.before_write()
        before, self._spot_version = self._spot_version, version_without_waiting(writer)
        if before != self._spot_version:
            self._nonblocking_budget = 0
        return before != self._spot_version
