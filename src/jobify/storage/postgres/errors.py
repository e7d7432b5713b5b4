"""What the errors of PostgreSQL mean to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from jobify.exceptions import StorageError, StorageUnavailableError

__all__ = ("READ_ONLY", "TransactionConflictError", "explain", "explained", "is_conflict")

READ_ONLY: Final = "25006"
"""The SQLSTATE of a server that takes no writes."""
_CONFLICTS: Final = frozenset({"40001", "40P01", "23505"})
"""serialization_failure, deadlock_detected, and unique_violation: an insert or a retry looks first whether there is
room, so another transaction has taken it meanwhile."""

_UNAVAILABLE: Final = {
    "57P01": "the server has ended the connection. Jobify connects again by itself",
    "57P02": "the server has crashed and recovers. Jobify connects again by itself",
    "57P03": "the server is starting or stopping. Jobify connects again by itself",
    "57P05": "the server has ended a connection that was idle. Raise idle_session_timeout for this role",
    "57014": "the statement took longer than statement_timeout, or was cancelled. Look for what keeps the server busy, "
    "or raise statement_timeout for this role",
    "55P03": "a lock was not granted within lock_timeout. Look for a long transaction in pg_stat_activity",
    READ_ONLY: "the server takes no writes (a standby, or default_transaction_read_only). Point the URL at the primary",
    "53100": "the disk of the server is full. Make room there",
    "53200": "the server has not enough memory",
    "53300": "the server has no connection left. Raise max_connections, or run fewer processes (each needs up to 3)",
    "58030": "the disk of the server reports an error",
    "25P03": "a transaction was idle for longer than idle_in_transaction_session_timeout",
    "28P01": "the password is wrong or missing. Look at the URL, the password file and PGPASSWORD",
    "28000": "the server refuses this user. Look at the URL and at pg_hba.conf",
    "3D000": "there is no such database. Create it, or look at the URL",
    "42501": "the role lacks a privilege. See the page on PostgreSQL for what it needs",
    "25P02": "an earlier error has ended the transaction",
}
"""SQLSTATE → the reason, and what to do."""

_REFUSALS: Final = {
    "too many": "53300",
    "connection slots": "53300",
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "authentication failed": "28000",
    "no pg_hba.conf entry": "28000",
    'role "': "28000",  # does not exist, or is not permitted to log in
    "permission denied for database": "42501",
    "does not exist": "3D000",
    "starting up": "57P03",
    "shutting down": "57P03",
    "not yet accepting": "57P03",
}
"""What a server says that refuses a connection: libpq passes on its words and no SQLSTATE. The first that fits counts.
In another language they are not recognised, and only repeated."""

_CLASSES: Final = {
    "08": "the connection was lost. Jobify connects again by itself",
    "53": "the server lacks a resource",
    "57": "the server or an operator has intervened",
    "58": "the system of the server reports an error",
}


class TransactionConflictError(StorageError):
    """The transaction and another one waited for each other; this one was undone. The same calls succeed later."""


def is_conflict(error: BaseException) -> bool:
    """Whether the same transaction may succeed at once."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICTS


def explain(error: psycopg.Error, where: str) -> Exception:
    """The exception to raise for ``error``. What is the call's own fault stays as it is."""
    state = error.sqlstate or _refusal(error)
    text = str(error).strip().partition("\n")[0]
    if state in _CONFLICTS:
        return TransactionConflictError(
            f"Two transactions of {where} waited for each other, and this one was undone ({text}). Make the call again."
        )
    reason = _UNAVAILABLE.get(state or "") or _CLASSES.get((state or "")[:2])
    if reason is None and state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        reason = "the server cannot be reached. See whether it runs, and whether the URL names its host and port"
    if reason is not None:
        return StorageUnavailableError(f"The database {where} is not available: {reason} ({text}).")
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError):
        return error
    return StorageError(f"The database {where} cannot be used: {text} (SQLSTATE {state}).")


def _refusal(error: psycopg.Error) -> str | None:
    """The SQLSTATE of a server that has refused a connection."""
    text = str(error)
    if not isinstance(error, psycopg.OperationalError) or not ("FATAL" in text or "no password supplied" in text):
        return None
    return next((state for words, state in _REFUSALS.items() if words in text), None)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise what errors of PostgreSQL in the block mean."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, where) from error
