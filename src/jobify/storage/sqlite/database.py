"""One file: statements, transactions, waiting for a locked file, and one kind of error.

**Two connections.** SQLite's write-ahead log lets a reader work during a write; so what is read on the second
connection never waits for a commit of the first, nor for another process.

**Waiting.** SQLite's own busy handler sleeps longer each time, up to 100 ms, so that of eight processes that write
all the time some wait for seconds while the others pass them (2.6 s at the worst, and one of the eight wrote a single
row in that time). A queue on a file lock in front of it would be fair, but blocks without end behind a process that
was stopped while it had its turn. So the handler is off, and :meth:`Database._retry_while_locked` tries again after
short random pauses, which is as quick and nearly as fair as the queue (measured with eight processes: 99 of 100 commits
within 12 ms, the worst 60 ms), and ends with an error after ``timeout``.

**Steps.** Every step of a statement releases the interpreter's lock, and with a busy event loop it takes milliseconds
to get it back. A single writing statement is therefore left to SQLite's autocommit: one step, one transaction.

**Non-blocking writes** are for a thread that must not wait, the event loop's. With ``synchronous="normal"`` a commit is
a copy into the memory of the kernel. What can make it wait is refused (:class:`Nonblocking`), and left to a thread that
may: another thread or process that writes, whose locks are tried and not waited for; and a flush, because checkpoints
and the first write after one are for others (see ``connection``). With flushes, there are two such writes: a claim,
which is never flushed, and what :meth:`Database.flush` flushes later, before it is acknowledged. What remains is a
kernel that makes a writer wait because too much is unwritten, or a process that stands still between two steps: the
caller should see how long a write takes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from jobify.exceptions import StorageUnavailableError
from jobify.storage.sqlite.connection import FIRST_READ, LONG_LOG, Connections, NonblockingBudget, WalFile
from jobify.storage.sqlite.errors import retry_while_locked
from jobify.storage.sqlite.log_room import LogRoom

__all__ = ("Database", "NonblockingBlocks")

T = TypeVar("T")

_NOT_NOW: Final = "The database cannot be written without waiting just now. Write it in a thread that may wait."


_MAYBE_LOCKED: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a step may raise that is then looked at."""


class Database:
    """The database in the file at ``path``; ``timeout`` seconds are waited for a locked one."""

    def __init__(self, path: str, *, timeout: float, synchronous: str, given: str | None = None) -> None:
        self.path = path
        self._timeout = timeout
        self._synchronous = synchronous
        self.connections = Connections(path, given or path)
        self._identity = self.connections.identity
        self._wal = WalFile(self._identity)
        self._room = LogRoom(self._identity, LONG_LOG) if synchronous == "full" else None
        self._budget = NonblockingBudget()
        self._block_thread: int | None = None
        self._nonblocking_thread: int | None = None
        self._is_acknowledged = False
        """Whether callers rely on what the non-blocking write has written."""
        self.is_claiming_at_once = False
        """Whether the non-blocking write is a claim."""
        self._renew_locks()

    def _renew_locks(self) -> None:
        # Held while a connection works; the writer's also from the beginning of a transaction to its end.
        self._writing = threading.RLock()
        self._reading = threading.RLock()

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self.connections.is_open

    def open(self, prepare: Callable[[Database], None]) -> None:
        """Connect; ``prepare`` is called first, when nothing is set on the file yet."""
        self.connections.open()
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
            self._identity.begin()
            self._identity.connected()
            self._budget.reset()  # a migration was written before there was a log

    def close(self) -> None:
        """Close both connections. Waits for a statement that writes; one that reads ends with an error."""
        self.connections.is_open = False
        self.connections.interrupt_reader()
        with self._writing, self._reading:
            self._disconnect()

    def _disconnect(self) -> None:
        self._budget.reset()
        self._wal.disconnecting()
        self.connections.close()

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
        self.connections.after_fork_in_child()
        self._block_thread = self._nonblocking_thread = None
        self.is_claiming_at_once = False
        self._renew_locks()  # the old ones are held by a thread that does not exist here

    # -- statements ----------------------------------------------------------------------------------------------------

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement on the writing connection; by itself it is a transaction."""
        return self._retry_while_locked(partial(self._write, statement, parameters))

    def write(self, statement: str, parameters: Sequence[Any] = (), *, is_acknowledged: bool = True) -> int:
        """Run a statement that inserts, updates or deletes; how many rows. ``is_acknowledged``: callers rely on it."""
        try:
            cursor = self._write(statement, parameters)
        except _MAYBE_LOCKED as error:
            cursor = self._retry(partial(self._write, statement, parameters), error)
        if self._block_thread is None:
            self._committed(is_acknowledged=is_acknowledged)
        return cursor.rowcount

    def add(self, statement: str, parameters: Sequence[Any]) -> int | None:
        """Run a statement that inserts a row; the number of the row."""
        with self.atomic():
            return self.execute(statement, parameters).lastrowid

    def write_unflushed(self, statement: str, parameters: Sequence[Any]) -> int:
        """:meth:`write`, without waiting for the disk: a power cut may undo it, and only that. Inside a block it is
        written as the block is."""
        if self._block_thread is not None or self._synchronous == "normal":
            return self.write(statement, parameters)
        with self._writing:  # no other thread writes meanwhile
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
        return self.connections.count, self.row("PRAGMA data_version")[0]

    def _write(self, statement: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        with self._writing:
            writer = self.connections.writer
            if writer is None:
                writer = self.connections.open_writer(self._synchronous)
            if self._block_thread is None:
                self._identity.before_write()
            elif not writer.in_transaction:
                raise StorageUnavailableError(
                    f"The database {self.path!r} has given up the transaction after an error. Nothing was changed."
                )
            return writer.execute(statement, parameters)

    def _write_and_fetch(self, statement: str, parameters: Sequence[Any]) -> Any:
        with self._writing:
            return self._write(statement, parameters).fetchone()

    def _read(self, statement: str, parameters: Sequence[Any]) -> Any:
        with self._reading:
            reader = self.connections.reader
            if reader is None:
                reader = self.connections.open_reader()
            self._identity.before_read()
            return reader.execute(statement, parameters).fetchone()

    def _retry_while_locked(self, step: Callable[[], T]) -> T:
        """Take a step, again while another connection has the file locked; without waiting only once."""
        try:
            return step()
        except _MAYBE_LOCKED as error:
            return self._retry(step, error)

    def _retry(self, step: Callable[[], T], error: sqlite3.Error | UnicodeDecodeError) -> T:
        timeout = 0.0 if self._nonblocking_thread == threading.get_ident() else self._timeout
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
        writer = self.connections.writer
        if writer is not None and writer.in_transaction:
            self.execute(statement)

    # -- the file ------------------------------------------------------------------------------------------------------

    def _committed(self, *, is_acknowledged: bool = True) -> None:
        """After a commit, and before its caller learns of it: is it in the file that is there? Then copy a long log
        into the database, or leave that to the next commit."""
        if self._nonblocking_thread is not None:  # checked when that block ends
            self._is_acknowledged |= is_acknowledged
            return
        with self._writing:  # no other thread disconnects meanwhile
            writer = self.connections.writer
            if writer is None:  # a fork has disconnected, which copies the log
                return
            self._identity.after_write()
            if writer.total_changes != self._wal.changes_at_checkpoint:  # else the log may still have to begin
                self._budget.left = NonblockingBudget.FULL
            if self._room is not None and self._room.size != self._identity.log_size:
                self._room.make(writer)
            if self._identity.log_size > LONG_LOG:
                self._budget.left = 0
                self._wal.copy(writer)

    def flush(self) -> None:
        """Wait until the disk holds what non-blocking writes have committed. StorageReplacedError: it is in no file."""
        with self._writing:
            self._wal.flush()
        self._committed()

    # -- non-blocking writes -------------------------------------------------------------------------------------------

    def begin_nonblocking(self, *, for_claim: bool) -> None:
        """From here, no statement of this thread waits for anything. See :class:`Nonblocking`."""
        if not (for_claim or self._budget.left) or not self._writing.acquire(blocking=False):
            raise StorageUnavailableError(_NOT_NOW)
        self._nonblocking_thread = threading.get_ident()
        self._is_acknowledged, self.is_claiming_at_once = False, for_claim
        try:
            writer = self.connections.writer
            if writer is None or self._block_thread is not None:
                raise StorageUnavailableError(_NOT_NOW)
            self._identity.before_write()
            # A claim follows the commits of others as a rule, so it has to look.
            if not self._identity.descriptors.log_goes_on() if for_claim else self._budget.others_committed(writer):
                raise StorageUnavailableError(_NOT_NOW)
            if self._synchronous == "full" and not for_claim:
                self._wal.is_flushed = False
                writer.execute("PRAGMA synchronous = normal")
        except BaseException:
            self.end_nonblocking()
            raise
        self._budget.left -= not for_claim

    def end_nonblocking(self, *, has_written: bool = False) -> None:
        """Statements of this thread may wait again. StorageReplacedError: what was written is in no file."""
        self._nonblocking_thread, for_claim, self.is_claiming_at_once = None, self.is_claiming_at_once, False
        writer = self.connections.writer
        try:
            if writer is not None and self._synchronous == "full" and not for_claim:
                writer.execute("PRAGMA synchronous = full")
            if has_written and writer is not None:
                self._identity.after_nonblocking(is_acknowledged=self._is_acknowledged)
        finally:
            self._writing.release()


class Nonblocking:
    """A block in which a write, or a claim, is made without waiting, or not at all: it raises StorageUnavailableError
    then."""

    __slots__ = ("_database", "_for_claim")

    def __init__(self, database: Database, *, for_claim: bool = False) -> None:
        self._database = database
        self._for_claim = for_claim

    def __enter__(self) -> None:
        self._database.begin_nonblocking(for_claim=self._for_claim)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._database.end_nonblocking(has_written=kind is None)

    def flush(self) -> None:
        """Wait until the disk holds what was written in such blocks. Call on a thread that may wait."""
        self._database.flush()


class NonblockingBlocks:
    """The blocks of a database; None: it has none of them."""

    def __init__(self, database: Database, is_flushed_later: bool) -> None:
        self.claims = Nonblocking(database, for_claim=True)
        writes = Nonblocking(database)
        self.writes = None if is_flushed_later else writes
        self.unflushed = writes if is_flushed_later else None
