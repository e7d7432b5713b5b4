"""The schema and its migrations.

A migration is a numbered ``.sql`` file; the table ``migrations`` says which ones have been applied. Processes that
start at once take turns: one holds an advisory lock, and the others ask for it again and again, each on a connection of
its own without a transaction, so that no statement of a migration waits for them. A migration that has been released
is never changed.

A schema that a newer release wrote is refused before anything is written to it.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from jobify.exceptions import StorageError, StorageUnavailableError, StorageVersionError
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.errors import explain

if TYPE_CHECKING:
    from jobify.storage.postgres.database import Database

__all__ = ("migrations", "prepare")

_OLDEST_SERVER: Final = 140000
_PATIENCE: Final = 120.0
"""Seconds to wait for the migration of another process."""
_PAUSE: Final = 0.1

_VERSION: Final = "SELECT coalesce(max(version), 0) FROM @migrations"
_RECORD: Final = "INSERT INTO @migrations (version) VALUES ($1::integer)"
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS @migrations (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


def migrations() -> list[str]:
    """All migrations, in order."""
    files = sorted(Path(__file__).with_name("migrations").glob("*.sql"))
    return [file.read_text(encoding="utf-8") for file in files]


def prepare(database: Database, lock_key: int) -> None:
    """Check that the schema is ours to use, and bring it up to date."""
    steps = migrations()
    with closing(database.new_connection()) as connection:
        try:
            _check_server(connection, database.where)
            if _version(connection, database, len(steps)) < len(steps):
                _migrate(connection, database, steps, lock_key)
        except psycopg.Error as error:
            raise explain(error, database.where) from error


def _check_server(connection: Connection, where: str) -> None:
    if connection.info.server_version < _OLDEST_SERVER:
        raise StorageError(
            f"The server of {where} is PostgreSQL {connection.info.server_version // 10000}; Jobify needs 14 or newer."
        )


def _version(connection: Connection, database: Database, newest: int) -> int:
    """How many migrations have been applied; 0 for a new schema."""
    found = connection.execute("SELECT to_regclass($1)", (f"{database.sql.quoted}.migrations",)).fetchone()
    if found == (None,):
        return 0
    row = connection.execute(database.sql.qualified(_VERSION).encode()).fetchone()
    assert row is not None
    version = int(row[0])
    if version > newest:
        raise StorageVersionError(
            f"The schema of {database.where} has version {version}; this release of Jobify knows {newest}. It was not "
            "touched. Update Jobify."
        )
    return version


def _migrate(connection: Connection, database: Database, steps: list[str], lock_key: int) -> None:
    _take_turn(connection, database.where, lock_key)
    try:
        _create(connection, database)
        for number in range(_version(connection, database, len(steps)), len(steps)):
            with connection.transaction():
                connection.execute(database.sql.qualified(steps[number]).encode(), prepare=False)
                connection.execute(database.sql.qualified(_RECORD).encode(), (number + 1,))
    finally:
        connection.execute("SELECT pg_advisory_unlock($1)", (lock_key,))


def _take_turn(connection: Connection, where: str, lock_key: int) -> None:
    """Wait for the lock without a snapshot, which a statement of another process might wait for."""
    end = time.monotonic() + _PATIENCE
    while connection.execute("SELECT pg_try_advisory_lock($1)", (lock_key,)).fetchone() != (True,):
        if time.monotonic() > end:
            raise StorageUnavailableError(
                f"Another process has been changing the schema of {where} for {_PATIENCE:.0f} seconds. Look for it in "
                "pg_stat_activity, and start again when it is done."
            )
        time.sleep(_PAUSE)


def _create(connection: Connection, database: Database) -> None:
    """Make the schema, if there is none; a role that may not make one needs it to be there."""
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = $1", (database.schema,)).fetchone()
    if found is None:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {database.sql.quoted}".encode(), prepare=False)
    connection.execute(database.sql.qualified(_TABLE).encode(), prepare=False)
