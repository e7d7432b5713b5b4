"""What the errors of SQLite mean to the engine."""

from __future__ import annotations

import sqlite3

from jobify.exceptions import StorageError, StorageUnavailableError

__all__ = ("ClaimLost", "explain", "is_busy", "raise_claim_lost")

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""Somebody else is at it. PROTOCOL: several were at the lock of the write-ahead log, again and again."""

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


def is_busy(error: sqlite3.Error) -> bool:
    """Whether to wait a little and try again."""
    return _code(error) in _BUSY


def explain(error: sqlite3.Error, path: str) -> Exception:
    """The exception to raise for ``error``. What is the call's own fault stays as it is."""
    if isinstance(
        error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError | sqlite3.IntegrityError
    ):
        return error
    if str(error) == _FUNCTION_RAISED:
        return ClaimLost()
    reason = _UNAVAILABLE.get(_code(error))
    if reason is not None:
        return StorageUnavailableError(f"The database {path!r} is not available: {reason} ({error}).")
    return StorageError(
        f"The database {path!r} cannot be used: {error}. If it is damaged, restore a backup, or see what "
        "`sqlite3 FILE .recover` can save."
    )
