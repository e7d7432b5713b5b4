"""The schema and its migrations, in a file of our own or beside the tables of another program.

A migration is a numbered ``.sql`` file. The database says how many have been applied
(:mod:`~jobify.storage.sqlite.layout`). All that are missing are applied in one exclusive transaction: of several
processes that open a new file at once one does it, the others wait and find it done. A migration that has been released
is never changed.

A file that a newer release wrote is refused before anything is written to it. In a file with other tables nothing
changes but our tables: neither ``user_version`` and ``application_id``, nor the journal mode. Processes that share jobs
need a write-ahead log, so a file without one is refused there, with the command that gives it one.

``schema.sql`` shows the result of all migrations; a test holds both equal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobify.exceptions import StorageError, StorageVersionError
from jobify.runtime.logs import get_logger
from jobify.storage.sqlite.database import Database
from jobify.storage.sqlite.layout import APPLICATION_ID, GUEST, VERSION_TABLE, FileKind, Layout, read_layout

__all__ = ("migrations", "prepare", "split")

log = get_logger("jobify.storage")

_EDIT: Final = """
    UPDATE sqlite_master SET sql = replace(sql, 'seq INTEGER PRIMARY KEY AUTOINCREMENT', 'seq INTEGER PRIMARY KEY')
    WHERE type = 'table' AND name = 'jobs' AND sql LIKE '%KEY AUTOINCREMENT%'
"""

_PAGE_SIZE: Final = 2048
"""Bytes, of a new file. A commit writes each page that it changes into the log, and the log is flushed as a whole: with
SQLite's 4096 a single job costs half as much again. With 1024 it gains little, and long rows lose."""

_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables; UPDATE ... FROM and RETURNING are older


def migrations() -> list[str]:
    """All migrations, in order."""
    files = sorted(Path(__file__).with_name("migrations").glob("*.sql"))
    return [file.read_text(encoding="utf-8") for file in files]


def split(script: str) -> Iterator[str]:
    """The statements of a script. (``executescript`` would commit the transaction that it is called in.)"""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def prepare(database: Database, own_file: bool | None) -> None:
    """Check that the file can be used, and bring its schema up to date.

    ``own_file``: True refuses a file with other tables, False treats a new file as one that will have some. None: a new
    file is our own.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise StorageError(
            f"This Python comes with SQLite {sqlite3.sqlite_version}; Jobify needs {oldest} or newer. Install a newer "
            "SQLite or a newer Python."
        )
    steps = migrations()
    layout = _checked(read_layout(database.row), database.path, len(steps), own_file)
    is_shared = layout.kind is FileKind.SHARED or (layout.kind is FileKind.NEW and own_file is False)
    if is_shared:
        _require_write_ahead_log(database)
        database.connections.use_prefix()
    if layout.version < len(steps):
        _migrate(database, steps, own_file)
    if not is_shared:
        _use_write_ahead_log(database)


def _checked(layout: Layout, path: str, newest: int, own_file: bool | None) -> Layout:
    if layout.kind is FileKind.SHARED and own_file:
        raise StorageError(
            f"{path!r} is an SQLite database, but not one of this package. It was not touched. Give "
            "SQLiteStorage another path, or leave own_file out to keep jobs beside these tables."
        )
    if layout.kind is FileKind.OWN and own_file is False:
        raise StorageError(
            f"{path!r} is a database of Jobify alone, and its tables have no prefix. It was not touched. Leave "
            "own_file out, or give SQLiteStorage another path."
        )
    if layout.version > newest:
        raise StorageVersionError(
            f"The database {path!r} has schema version {layout.version}; this release of Jobify knows {newest}. "
            "It was not touched. Update Jobify."
        )
    return layout


def _migrate(database: Database, steps: list[str], own_file: bool | None) -> None:
    is_shared = database.connections.has_prefix
    if not is_shared:
        database.execute(f"PRAGMA page_size = {_PAGE_SIZE}")  # heeded only while the file is empty
    with database.transaction("EXCLUSIVE"):
        version = _checked(read_layout(database.row), database.path, len(steps), own_file).version
        for step in steps[version:]:
            for statement in split(step):
                database.execute(_without_counter(statement) if is_shared else statement)
        if is_shared:
            _write_version(database, len(steps))
            return
        _drop_autoincrement(database)
        _announce_guest(database)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(steps)}")


def _without_counter(statement: str) -> str:
    """The first migration without the word that :func:`_drop_autoincrement` takes away."""
    if "CREATE TABLE jobs (" not in statement:
        return statement
    return statement.replace("seq INTEGER PRIMARY KEY AUTOINCREMENT", "seq INTEGER PRIMARY KEY")


def _write_version(database: Database, version: int) -> None:
    """Write the version into a table: the head of the file belongs to another program."""
    database.execute(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version INTEGER NOT NULL) STRICT")
    database.execute(f"DELETE FROM {VERSION_TABLE}")
    database.execute(f"INSERT INTO {VERSION_TABLE} (version) VALUES (?)", (version,))


def _drop_autoincrement(database: Database) -> None:
    """Have SQLite keep no count of the numbers of jobs: it costs a page at each insert, and ``last_deleted`` replaces
    it.

    One word is all that is different, so the schema is edited, as SQLite's page on ALTER TABLE describes it for
    constraints; a new table would take seconds for a million jobs. An SQLite that is set not to allow that (Apple's)
    goes on with the count, which changes nothing but the price.
    """
    (schema_version,) = database.row("PRAGMA schema_version")
    database.execute("PRAGMA writable_schema = ON")
    try:
        is_changed = database.execute(_EDIT).rowcount
    except StorageError:
        return
    finally:
        database.execute("PRAGMA writable_schema = OFF")
    if is_changed:
        database.execute(f"PRAGMA schema_version = {schema_version + 1}")  # all connections read it again
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")


def _announce_guest(database: Database) -> None:
    """Say once, when our tables are put beside the guest's, that what it has scheduled is not ours to run."""
    (is_there,) = database.row("SELECT count(*) FROM sqlite_master WHERE name = ?", (GUEST,))
    (count,) = database.row(f"SELECT count(*) FROM {GUEST}") if is_there else (0,)
    if count:
        log.warning(
            "%r also holds %d schedules of another package for the same interface (table %s). They are left as they "
            "are, and do not run here: schedule them again.",
            database.path,
            count,
            GUEST,
        )


def _use_write_ahead_log(database: Database) -> None:
    (mode,) = database.row("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise StorageError(
            f"The database {database.path!r} cannot have a write-ahead log here (journal mode {mode!r}): its file "
            "system does not let processes share memory. Put it on a local disk."
        )


def _require_write_ahead_log(database: Database) -> None:
    """Refuse a file of another program that has no write-ahead log, whose setting is not ours to change. A file that
    is still empty gets one."""
    (mode,) = database.row("PRAGMA journal_mode")
    (pages,) = database.row("PRAGMA page_count")
    if mode != "wal" and pages == 0:
        _use_write_ahead_log(database)
    elif mode != "wal":
        raise StorageError(
            f"The database {database.path!r} has other tables and no write-ahead log (journal mode {mode!r}). "
            "Processes that share jobs need one. It was not touched: the mode is kept in the file, and all its "
            'users see it. Set it once: python -c "import sqlite3; '
            f"sqlite3.connect({database.path!r}).execute('PRAGMA journal_mode = WAL')\""
        )
