"""What the errors of SQLite mean to the engine; and trying again while a file is locked."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from jobify.exceptions import StorageCorruptError, StorageError, StorageUnavailableError
from jobify.model.transient import descriptor_shortage

__all__ = ("ClaimLost", "explain", "explained", "raise_claim_lost", "retry_while_locked")

T = TypeVar("T")

_SHORTEST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""Another connection holds a lock. PROTOCOL: several took the lock of the write-ahead log, again and again."""

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another process has held it locked for too long",
    sqlite3.SQLITE_LOCKED: "another connection has held it locked for too long",
    sqlite3.SQLITE_PROTOCOL: "too many processes were at its log at once",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error, or is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; does its directory exist, and may this user write there?",
    sqlite3.SQLITE_READONLY: "it cannot be written; look at the permissions of the file and of its directory",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_INTERRUPT: "it was closed while it was read",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
}
"""What may be over the next time: the primary result code (the low byte) → the reason."""

_FUNCTION_RAISED = "user-defined function raised exception"


class ClaimLost(Exception):
    """At least one claim in a batch of settlements does not hold, or something is pending for its job."""


def raise_claim_lost() -> None:
    """What the SQL function ``claim_lost()`` does: it ends the statement, which then has changed nothing."""
    raise ClaimLost


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def retry_while_locked(
    step: Callable[[], T],
    error: sqlite3.Error | UnicodeDecodeError,
    *,
    path: str,
    timeout: float,
    look: Callable[[], object],
) -> T:
    """Take a step again that has raised ``error``, for ``timeout`` seconds while another connection has the file
    locked. A step that fails for good is followed by a ``look`` at the files, unless there is no time at all: a
    database that was truncated or overwritten is also a damaged one."""
    started = now = time.monotonic()
    while True:
        if isinstance(error, UnicodeDecodeError) or _code(error) not in _BUSY or now - started >= timeout:
            problem = explain(error, path)
            if timeout and isinstance(problem, StorageError):
                look()
            raise problem from error
        time.sleep(random.random() * min(max(_SHORTEST_PAUSE, (now - started) / 20), _LONGEST_PAUSE))
        try:
            return step()
        except (sqlite3.Error, UnicodeDecodeError) as raised:
            error, now = raised, time.monotonic()


def explain(error: sqlite3.Error | UnicodeDecodeError, path: str) -> Exception:
    """The exception to raise for ``error``. What is the call's own fault stays as it is."""
    if isinstance(error, UnicodeDecodeError):  # the text of an error that quotes a damaged schema
        return StorageCorruptError(path, f"its schema is no text ({error.reason} at {error.start})")
    if isinstance(
        error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError | sqlite3.IntegrityError
    ):
        return error
    if str(error) == _FUNCTION_RAISED:
        return ClaimLost()
    if _code(error) in _DAMAGED:
        return StorageCorruptError(path, str(error))
    reason = _UNAVAILABLE.get(_code(error))
    if reason is not None:
        if _code(error) == sqlite3.SQLITE_CANTOPEN:
            reason = descriptor_shortage() or reason
        return StorageUnavailableError(f"The database {path!r} is not available: {reason} ({error}).")
    return StorageError(
        f"The database {path!r} cannot be used: {error}. See what `jobify db check` says of it; if it is damaged, "
        "restore a backup."
    )


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Raise what errors of SQLite in the block mean."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explain(error, path) from error
