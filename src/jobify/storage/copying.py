"""A copy of an SQLite database in a schema of PostgreSQL: jobs with their history, schedules, dependencies, messages,
pending cancels and replacements, and paused queues.

All or nothing: one transaction writes all of it, so that a copy that was interrupted has left nothing, and is made
again. Both sides are locked meanwhile, because a job that runs on one side would run on the other one, too: processes
that want to write there wait, and none may be alive. The source stays as it is.

Jobs keep their ids, numbers and states. What a process held that has died is copied together with its owner, as a dead
one: the first worker takes such jobs up as after any crash. What is known about the clock of the old machine is left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

from jobify.exceptions import StorageError
from jobify.storage.postgres.arrays import escaped
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.database import Cursor
from jobify.storage.postgres.liveness import CLOSED
from jobify.storage.postgres.maintenance import connected
from jobify.storage.postgres.statements import Catalog
from jobify.storage.postgres.storage import PostgresStorage
from jobify.storage.sqlite import SQLiteStorage
from jobify.storage.sqlite.errors import explained
from jobify.storage.sqlite.values import count_parts

__all__ = ("Copied", "copy")

_TABLES: Final = (
    "jobs", "successors", "cancels", "dependencies", "barriers", "paused_queues", "messages", "attempts", "suspects",
    "deaths", "owners", "limits", "task_limits", "limit_settings", "merge_windows",
)  # fmt: skip
_ALL: Final = ", ".join(f"@{table}" for table in _TABLES)
_NUMBERED: Final = {
    "jobs": "seq", "dependencies": "seq", "barriers": "seq", "attempts": "seq", "owners": "id", "deaths": "id",
}  # fmt: skip
"""Tables that give numbers, which are never given twice."""

_EXPRESSIONS: Final = {
    ("messages", "is_text"): "typeof(data) = 'text'",
    ("messages", "data"): "CAST(data AS BLOB)",
    ("jobs", "claim"): "NULL",
    ("jobs", "blockers"): (  # it waits for no limit until the first claim there: gates are empty
        "blockers - EXISTS (SELECT 1 FROM limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence"
        " AND jobs.status = 'scheduled')"
    ),
    ("owners", "lock_key"): "abs(random() / 2)",  # no process holds it
    ("owners", "process"): f"'{CLOSED}'",
    ("owners", "lease_until"): "NULL",
}
"""What stands in the place of a column of that name in the source."""
_OF_PROCESSES: Final = ("owners", "limits", "task_limits")
"""Tables that a process fills when it starts. Those that are there are of processes that have died; if they had left
jobs behind, these would be there as well."""
_CONDITIONS: Final = {"owners": "id IN (SELECT owner FROM jobs WHERE status = 'running')"}
_REFERENCES: Final = {
    ("jobs", "payload"): "payload_ref", ("jobs", "result"): "result_ref", ("successors", "payload"): "payload_ref",
}  # fmt: skip
"""Columns whose value may stand in parts elsewhere, and the column that says where."""

_PARTS: Final = "SELECT data FROM value_parts WHERE seq BETWEEN ? & ~1048575 AND ? | 1048575 ORDER BY seq"
_LAST: Final = """
    SELECT max(number) FROM (
        SELECT max({column}) AS number FROM {table}
        UNION ALL SELECT seq FROM sqlite_sequence WHERE name = '{table}'
        UNION ALL SELECT seq FROM last_deleted WHERE '{table}' = 'jobs'
    )
"""
_COLUMNS: Final = """
    SELECT attname, atttypid = 'boolean'::regtype FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"


class Copied(NamedTuple):
    """What was copied."""

    source: str
    destination: str
    rows: dict[str, int]
    """The number of rows of each table."""


def copy(source: SQLiteStorage, destination: PostgresStorage) -> Copied:
    """Copy all jobs. The schema of the destination is made first, if there is none.

    StorageError if a process that is alive uses one of them, or if the destination is not empty; nothing has changed
    then.
    """
    destination.open()  # makes its schema, as any start does
    try:
        with _held(source) as old, connected(destination) as connection:
            rows = _copy(old, connection, destination)
    finally:
        destination.close()
    return Copied(source.database, destination.database, rows)


def _copy(old: sqlite3.Connection, connection: Connection, destination: PostgresStorage) -> dict[str, int]:
    catalog = Catalog(destination.schema)
    with connection.transaction():
        _take(connection, catalog, destination)
        rows = {table: _copy_table(old, connection, catalog, table) for table in _TABLES}
        for table, column in _NUMBERED.items():
            _continue_numbers(old, connection, catalog, table, column)
    _run(connection, catalog, f"ANALYZE {_ALL}")
    return rows


@contextmanager
def _held(storage: SQLiteStorage) -> Iterator[sqlite3.Connection]:
    """A connection to the source, which no other process can write meanwhile, and none uses."""
    storage.open()  # migrates it, as any start does
    try:
        with (
            explained(storage.database),
            closing(sqlite3.connect(storage.database, timeout=storage.timeout, isolation_level=None)) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            _check_unused(storage)
            yield connection
            connection.execute("ROLLBACK")
    finally:
        storage.close()


def _check_unused(storage: SQLiteStorage | PostgresStorage) -> None:
    alive = [f"{owner.pid} on {owner.host}" for owner in storage.owners() if owner.is_alive]
    if alive:
        raise StorageError(
            f"Processes use {storage.database!r} ({', '.join(alive)}). Stop them first: a job that runs on one side "
            "would run on the other one, too. Nothing was copied."
        )


def _take(connection: Connection, catalog: Catalog, storage: PostgresStorage) -> None:
    """Lock the destination, and check that it is empty."""
    _run(connection, catalog, _LOCK_TIMEOUT)
    _run(connection, catalog, f"LOCK TABLE {_ALL} IN EXCLUSIVE MODE")
    _check_unused(storage)
    for table in _TABLES:
        if table in _OF_PROCESSES:
            _run(connection, catalog, f"DELETE FROM @{table}")
        elif _run(connection, catalog, f"SELECT FROM @{table} LIMIT 1").rowcount:
            raise StorageError(
                f"The schema {storage.schema!r} of {storage.database!r} is not empty (table {table}). Nothing was "
                f"copied. Name another schema, or remove this one: DROP SCHEMA {catalog.quoted} CASCADE."
            )


def _copy_table(old: sqlite3.Connection, connection: Connection, catalog: Catalog, table: str) -> int:
    found = connection.execute(_COLUMNS, (f"{catalog.quoted}.{table}",)).fetchall()
    names = [str(name) for name, _ in found]
    references = {index: _REFERENCES[table, name] for index, name in enumerate(names) if (table, name) in _REFERENCES}
    convert = _converter(old, [is_flag for _, is_flag in found], list(references))
    columns = [*(_EXPRESSIONS.get((table, name), name) for name in names), *references.values()]
    where = _CONDITIONS.get(table, "true")
    rows = old.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {where}")
    count = 0
    command = catalog.qualified(f"COPY @{table} ({', '.join(names)}) FROM STDIN")
    with connection.cursor() as cursor, cursor.copy(command.encode()) as sink:
        for row in rows:
            sink.write_row(convert(row))
            count += 1
    return count


def _converter(
    old: sqlite3.Connection, is_flag: Sequence[bool], referring: Sequence[int]
) -> Callable[[Sequence[Any]], list[Any]]:
    """Make a row of SQLite one of PostgreSQL: flags, texts with a NUL, and values that stand in parts.

    After the columns of the row come the references of those at the places ``referring``.
    """
    width = len(is_flag)

    def convert(row: Sequence[Any]) -> list[Any]:
        values = [
            bool(value) if flag and value is not None else escaped(value) if type(value) is str else value
            for value, flag in zip(row[:width], is_flag, strict=True)
        ]
        for place, reference in zip(referring, row[width:], strict=True):
            if reference is not None:
                values[place] = _value(old, reference)
        return values

    return convert


def _value(old: sqlite3.Connection, reference: int) -> bytes:
    parts = [data for (data,) in old.execute(_PARTS, (reference, reference))]
    if len(parts) != count_parts(reference):
        raise StorageError("A part of a stored value is missing. Nothing was copied; jobify db check says more.")
    return b"".join(parts)


def _continue_numbers(
    old: sqlite3.Connection, connection: Connection, catalog: Catalog, table: str, column: str
) -> None:
    (last,) = old.execute(_LAST.format(table=table, column=column)).fetchone()
    if last is not None:
        sequence = (f"{catalog.quoted}.{table}", column)
        connection.execute("SELECT setval(pg_get_serial_sequence($1, $2), $3)", (*sequence, last))


def _run(connection: Connection, catalog: Catalog, text: str) -> Cursor:
    return connection.execute(catalog.qualified(text).encode(), prepare=False)
