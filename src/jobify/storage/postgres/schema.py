"""The schema and its migrations.

A migration is a numbered ``.sql`` file; the table ``migrations`` says which ones have been applied. Processes that
start at once take turns: one holds an advisory lock, and the others ask for it again and again, each on a connection of
its own without a transaction, so that no statement of a migration waits for them. A migration that has been released
is never changed.

**On tables that are in use.** A migration is one transaction, which waits for a lock for a second at most and is tried
again later, because others that want the table wait behind it. A file that begins with ``-- outside of a transaction``
holds nothing but ``CREATE INDEX CONCURRENTLY name ON @table``, a statement a paragraph: such an index is built while
others write. What an interrupted build has left is invalid: it is dropped, and built again.

A schema that a newer release wrote is refused before anything is written to it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from jobify.exceptions import StorageError, StorageUnavailableError, StorageVersionError
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.errors import explain
from jobify.storage.postgres.statements import Catalog

if TYPE_CHECKING:
    from jobify.storage.postgres.database import Cursor, Database

__all__ = ("applied", "migrations", "prepare", "script")

_OLDEST_SERVER: Final = 140000
_PATIENCE: Final = 120.0
"""Seconds to wait for the migration of another process, or for a lock on a table."""
_PAUSE: Final = 0.1

_OUTSIDE: Final = "-- outside of a transaction"
_INDEX: Final = re.compile(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )(\w+) ON @(\w+)")

_SETTINGS: Final = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)"
_TRY: Final = "SELECT pg_try_advisory_lock({key})"
_TRY_IN_TRANSACTION: Final = "SELECT pg_try_advisory_xact_lock({key})"
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '1s'"
_VERSION: Final = "SELECT coalesce(max(version), 0) FROM @migrations"
_RECORD: Final = "INSERT INTO @migrations (version) VALUES ({version})"
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS @migrations (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""
_IS_VALID: Final = """
    SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = $2
"""


def migrations() -> list[str]:
    """All migrations, in order."""
    files = sorted(Path(__file__).with_name("migrations").glob("*.sql"))
    return [file.read_text(encoding="utf-8") for file in files]


def prepare(database: Database, lock_key: int) -> int:
    """Check that the schema is ours to use, and bring it up to date. The version that this call found; 0: none.

    Of several that are called at once, only the one that migrates has found an older version than there is now.
    StorageVersionError if it was written by a newer release, or if it is older and the role may not change it.
    """
    steps = migrations()
    with closing(database.new_connection()) as connection:
        try:
            _check_server(connection, database.where)
            version = _version(connection, database, len(steps))
            return version if version == len(steps) else _migrate(connection, database, steps, lock_key)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _forbidden(error, connection, database, len(steps)) from error
        except psycopg.errors.UniqueViolation as error:  # here it is no conflict of two transactions
            text = str(error).strip().replace("\n", " ")
            raise StorageError(f"The schema of {database.where} was not migrated: {text}.") from error
        except psycopg.Error as error:
            raise explain(error, database.where) from error


def _check_server(connection: Connection, where: str) -> None:
    if connection.info.server_version < _OLDEST_SERVER:
        raise StorageError(
            f"The server of {where} is PostgreSQL {connection.info.server_version // 10000}; Jobify needs 14 or newer."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):  # None: a pooler does not say it
        raise StorageError(
            f"The encoding of the database {where} is {encoding}; Jobify needs UTF8. Make another database: "
            "createdb --encoding=UTF8 --template=template0."
        )


def applied(connection: Connection, database: Database) -> int:
    """How many migrations have been applied; 0: there is no schema yet."""
    found = connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE nspname = $1 AND relname = 'migrations'",
        (database.schema,),
    ).fetchone()
    if found is None:
        return 0
    row = _run(connection, database.sql.qualified(_VERSION)).fetchone()
    assert row is not None
    return int(row[0])


def _version(connection: Connection, database: Database, newest: int) -> int:
    version = applied(connection, database)
    if version > newest:
        raise StorageVersionError(
            f"The schema of {database.where} has version {version}; this release of Jobify knows {newest}. It was not "
            "touched. Update Jobify."
        )
    return version


def _forbidden(error: psycopg.Error, connection: Connection, database: Database, newest: int) -> Exception:
    """What it means that the role lacks a privilege."""
    try:
        version = applied(connection, database)
    except psycopg.Error:  # it may not even read the number
        return explain(error, database.where)
    if version >= newest:
        return explain(error, database.where)
    if version == 0:
        return StorageVersionError(
            f"The schema {database.schema!r} of {database.where} has not been made yet, and the role "
            f"{connection.info.user!r} may not make it. Run jobify db migrate as the owner of the database, or of the "
            "schema if there is an empty one."
        )
    return StorageVersionError(
        f"The schema of {database.where} has version {version}; this release of Jobify needs {newest}, and the role "
        f"{connection.info.user!r} may not change it. Run jobify db migrate as the role that owns the schema."
    )


def _run(connection: Connection, text: str) -> Cursor:
    """Run statements that are not prepared."""
    return connection.execute(text.encode(), prepare=False)


# -- migrating ---------------------------------------------------------------------------------------------------------


def _migrate(connection: Connection, database: Database, steps: list[str], lock_key: int) -> int:
    """Apply what is missing when this process's turn has come. The version of then."""
    if database.is_pooled:
        return _migrate_pooled(connection, database, steps, lock_key)
    _take_turn(connection, database.where, _TRY.format(key=lock_key))
    try:
        connection.execute(_SETTINGS, prepare=False)
        _create(connection, database)
        found = _version(connection, database, len(steps))
        for version in range(found + 1, len(steps) + 1):
            _apply(connection, database, version, steps[version - 1])
        return found
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock($1)", (lock_key,))


def _migrate_pooled(connection: Connection, database: Database, steps: list[str], lock_key: int) -> int:
    """All that is missing in one transaction: behind a pooler, a lock of a session would be that of other processes."""
    with connection.transaction():
        _run(connection, _LOCK_TIMEOUT)
        _take_turn(connection, database.where, _TRY_IN_TRANSACTION.format(key=lock_key))
        _create(connection, database)
        found = _version(connection, database, len(steps))
        for version in range(found + 1, len(steps) + 1):
            if steps[version - 1].startswith(_OUTSIDE):
                raise StorageError(
                    f"Version {version} of the schema of {database.where} builds an index while others write, which a "
                    "pooler does not allow. Run jobify db migrate with the URL of the server itself."
                )
            _run(connection, database.sql.qualified(steps[version - 1]))
            _run(connection, database.sql.qualified(_RECORD.format(version=version)))
        return found


def _take_turn(connection: Connection, where: str, attempt: str) -> None:
    """Wait for the lock without a snapshot, which a statement of another process might wait for."""
    end = time.monotonic() + _PATIENCE
    while _run(connection, attempt).fetchone() != (True,):
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
        _run(connection, f"CREATE SCHEMA IF NOT EXISTS {database.sql.quoted}")
    if applied(connection, database) == 0:
        _run(connection, database.sql.qualified(_TABLE))


def _apply(connection: Connection, database: Database, version: int, step: str) -> None:
    """Apply one migration, and record it."""
    qualified = database.sql.qualified
    record = qualified(_RECORD.format(version=version))
    if step.startswith(_OUTSIDE):
        for statement in _statements(step):
            _build_index(connection, database, statement)
        _run(connection, record)
        return
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            with connection.transaction():
                connection.execute(_LOCK_TIMEOUT, prepare=False)
                _run(connection, qualified(step))
                _run(connection, record)
                return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)


def _statements(step: str) -> Iterator[str]:
    """The statements of a migration outside of a transaction."""
    for paragraph in step.removeprefix(_OUTSIDE).split(";\n"):
        lines = [line for line in paragraph.strip().splitlines() if not line.startswith("--")]
        if lines:
            yield "\n".join(lines)


def _build_index(connection: Connection, database: Database, statement: str) -> None:
    """Build an index that is not there yet, without keeping others from the table."""
    match = _INDEX.match(statement)
    assert match is not None, statement
    _, name, table = match.groups()
    found = connection.execute(_IS_VALID, (database.schema, name)).fetchone()
    if found == (True,):
        return
    qualified = database.sql.qualified
    if found is not None:
        _run(connection, qualified(f"DROP INDEX CONCURRENTLY @{name}"))
    has_rows = _run(connection, qualified(f"SELECT FROM @{table} LIMIT 1")).fetchone() is not None
    text = statement if has_rows else statement.replace("CONCURRENTLY ", "", 1)
    _run(connection, qualified(text))


def script(schema: str, *, since: int = 0) -> str:
    """What the migrations after version ``since`` run, for psql: it does the same, and records it.

    Each migration is recorded first, so that a second run of the script at the same time changes nothing.
    """
    qualified = Catalog(schema).qualified
    parts = []
    if since == 0:
        parts.append(f"CREATE SCHEMA IF NOT EXISTS {Catalog(schema).quoted};\n{qualified(_TABLE).strip()};")
    for version, step in enumerate(migrations()[since:], since + 1):
        record = qualified(_RECORD.format(version=version))
        if step.startswith(_OUTSIDE):
            lines = []
            for statement in _statements(step):
                match = _INDEX.match(statement)
                assert match is not None
                lines += [f"DROP INDEX CONCURRENTLY IF EXISTS @{match[2]};", f"{statement};"]
            parts.append(f"-- Version {version}\n{qualified(chr(10).join(lines))}\n{record};")
        else:
            parts.append(
                f"-- Version {version}\nBEGIN;\n{_LOCK_TIMEOUT};\n{record};\n{qualified(step).strip()}\nCOMMIT;"
            )
    return "\n\n".join(parts)
