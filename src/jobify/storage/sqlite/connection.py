"""The two connections to a database file, and its write-ahead log.

**The log.** A commit appends to the write-ahead log. With ``synchronous="normal"`` it does not wait for the disk, but
two moments in the life of that log do: when it is copied into the file (a *checkpoint*), and when the next write
restarts it. SQLite would leave both to the commit that comes just then. ``wal_autocheckpoint`` turns that off: the
write that finds the log long copies it when it has committed, and the next one restarts it. Neither is a
non-blocking write (:class:`NonblockingBudget`). Where commits are flushed, ``log_room`` makes the log longer ahead.

**Forks.** SQLite forbids to take a connection into a child process: its locks belong to the process, so parent and
child would each believe to hold what the other one holds. Before a fork both connections are closed, as soon as the
running statement or transaction has ended; each process connects again when it needs to. The child counts as not open
until it has called ``open`` itself. Only a fork from inside a transaction takes connections along; there the child
may not open this file at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from jobify.exceptions import ApplicationStateError, StorageError, StorageUnavailableError
from jobify.storage.sqlite.errors import raise_claim_lost
from jobify.storage.sqlite.file_identity import FileIdentity
from jobify.storage.sqlite.table_names import PrefixedConnection

__all__ = ("FIRST_READ", "LONG_LOG", "Connections", "NonblockingBudget", "WalFile")

LONG_LOG: Final = 8_240_000
"""Bytes of a log that is worth a checkpoint, which is three flushes: of jobs that are enqueued one by one, a thousand
share them. SQLite finds a page in a log of this length with one block of the shared memory."""

FIRST_READ: Final = "PRAGMA user_version"
"""Reads a page, for which SQLite opens the log and the shared memory."""

_UNKNOWN: Final = -1
_flush: Final = getattr(os, "fdatasync", os.fsync)
_CACHED_STATEMENTS = 256
_SETTINGS = (
    "PRAGMA cache_size = -1000",  # kB; a larger one was not faster, as the kernel caches the file, too
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {LONG_LOG}",  # a log that starts over is cut to this: one that is longer is in use
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA trusted_schema = OFF",
)


_taken_along: dict[str, list[sqlite3.Connection | None]] = {}
"""In a child: connections of its parent, by path. They are not even closed."""


class Connections:
    """The connections of this process to the file at ``path``. Each is opened when it is first needed."""

    def __init__(self, path: str, given: str) -> None:
        self._path = path
        self.is_open = False
        """Whether connections may be opened."""
        self.writer: sqlite3.Connection | None = None
        self.reader: sqlite3.Connection | None = None
        self.count = 0
        """How often a writer was opened."""
        self.factory: type[sqlite3.Connection] = sqlite3.Connection
        """What knows the names of the tables in this file."""
        self.identity = FileIdentity(path, given, lambda: _checkpoint(self.writer))

    def open(self) -> None:
        """Allow connections. StorageError in a child that has inherited some."""
        if self._path in _taken_along:
            raise StorageError(
                f"This process was forked inside a transaction on {self._path!r} and cannot use that file. Open the "
                "database after the fork, or start processes with the spawn method."
            )
        self.is_open = True

    @property
    def has_prefix(self) -> bool:
        """Whether the tables have a prefix, because the file has other tables."""
        return self.factory is PrefixedConnection

    def use_prefix(self) -> None:
        """From now on, each statement is for the tables with the prefix. Called while the storage opens."""
        self.close()
        self.factory = PrefixedConnection

    def open_writer(self, synchronous: str) -> sqlite3.Connection:
        """Connect for writing."""
        self.writer = self._connect(f"PRAGMA synchronous = {synchronous}")
        self.count += 1
        return self.writer

    def open_reader(self) -> sqlite3.Connection:
        """Connect for reading."""
        self.reader = self._connect("PRAGMA query_only = ON")
        return self.reader

    def interrupt_reader(self) -> None:
        """End a statement that reads: a count of a million jobs must not hold up a shutdown."""
        reader = self.reader
        if reader is not None:
            with suppress(sqlite3.ProgrammingError):  # closed at this moment, by a thread that forks
                reader.interrupt()

    def close(self) -> None:
        """Close both; a log whose database was replaced is not copied into the new one."""
        connections = (self.reader, self.writer)
        self.reader = self.writer = None
        self.identity.disconnecting()
        for connection in connections:
            if connection is not None:
                if self.identity.is_lost:
                    _keep_from_copying_the_log(connection)
                connection.close()
        self.identity.disconnected()

    def after_fork_in_child(self) -> None:
        """Leave the connections to the parent. None is open here."""
        if self.writer is not None:
            _taken_along[self._path] = [self.writer, self.reader]
        self.reader = self.writer = None
        self.identity.disconnected()
        self.is_open = False

    def _connect(self, setting: str) -> sqlite3.Connection:
        if not self.is_open:
            raise ApplicationStateError(
                operation=f"use the database {self._path!r}",
                reason="It is not open in this process.",
                solution="Call open() first, in each process by itself: a fork does not take it along.",
            )
        settings = (*_SETTINGS, setting)
        if not self.identity.is_known:  # the first one: the file may be new
            return _connected(self._path, settings, self.factory, is_address=False)
        self.identity.before_connecting()
        address = f"file:{quote(os.fsencode(self._path))}?mode=rw"  # makes no file
        connection = _connected(address, (*settings, FIRST_READ), self.factory, is_address=True)
        try:
            self.identity.connected()
        except BaseException:
            connection.close()
            raise
        return connection


class WalFile:
    """The write-ahead log of a database: copied by the write that finds it long, flushed for writes that were not."""

    def __init__(self, identity: FileIdentity) -> None:
        self._identity = identity
        self.changes_at_checkpoint = 0
        """How many changes the writer had made then: the next one restarts the log."""
        self.is_flushed = True
        """Whether the disk holds what non-blocking writes have appended."""

    def flush(self) -> None:
        """Wait until the disk holds the log. StorageUnavailableError if it does not take it."""
        if self.is_flushed:
            return
        number = self._identity.descriptors.log
        if number is None:
            raise StorageUnavailableError("The log of the database cannot be flushed: its descriptor is not known.")
        try:
            _flush(number)
        except OSError as error:
            raise StorageUnavailableError(f"The log of the database cannot be flushed: {error}") from error
        self.is_flushed = True

    def disconnecting(self) -> None:
        """The connections are about to be closed."""
        self.changes_at_checkpoint = 0
        with suppress(StorageUnavailableError):  # the call that waits for the flush raises it again
            self.flush()

    def copy(self, writer: sqlite3.Connection) -> None:
        """Make a checkpoint."""
        self._identity.look()
        self.changes_at_checkpoint = writer.total_changes
        _checkpoint(writer)


class NonblockingBudget:
    """How many writes may still be made without waiting, before one that may wait has to look after the log.

    Other processes make checkpoints, too, but only after a commit. So when another connection has committed, the next
    write may have to restart the log, and is not made without waiting.
    """

    __slots__ = ("_version", "left")

    FULL: Final = 512
    """What is left after a write that could wait."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is known of the log."""
        self.left, self._version = 0, _UNKNOWN

    def others_committed(self, writer: sqlite3.Connection) -> bool:
        """Whether another connection has committed since the last call; then nothing is left."""
        try:
            (version,) = writer.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise StorageUnavailableError("The database cannot be read without waiting just now.") from error
        before, self._version = self._version, version
        if before != version:
            self.left = 0
        return bool(before != version)


def _checkpoint(writer: sqlite3.Connection | None) -> None:
    """Copy the log into the database as far as possible without blocking. What fails is tried again later."""
    with suppress(sqlite3.Error):
        if writer is not None:
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _connected(
    file: str, settings: Sequence[str], factory: type[sqlite3.Connection], *, is_address: bool
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        factory=factory,
        uri=is_address,
    )
    try:
        for setting in settings:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    connection.create_function("claim_lost", 0, raise_claim_lost)
    return connection


def _keep_from_copying_the_log(connection: sqlite3.Connection) -> None:
    option = getattr(sqlite3, "SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE", None)
    if option is not None:  # else, before Python 3.12, the locks of the identity keep it from that
        connection.setconfig(option, True)  # type: ignore[attr-defined,unused-ignore]
