"""Whose file it is, and which release wrote it: the schema and its migrations.

A migration is a numbered ``.sql`` file. ``user_version`` in the head of the database says how many have been applied,
``application_id`` that it is ours. All that are missing are applied in one exclusive transaction: of several
processes that open a new file at once one does it, the others wait and find it done. A migration that has been
released is never changed.

A file that is not ours, or that a newer release wrote, is refused before anything is written to it. There is one guest:
the package whose interface this one keeps uses a file of the same name, with one table of its own, and a program that
changes from the one to the other starts all the same. That table is left as it is.

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

__all__ = ("APPLICATION_ID", "migrations", "prepare", "split")

log = get_logger("jobify.storage")

APPLICATION_ID: Final = 0x4A4F4249
""""JOBI", in the head of the file."""

_GUEST: Final = "jobify_schedules"

_HEAD = f"""
    SELECT
        (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
        count(*) FILTER (WHERE tbl_name <> '{_GUEST}')
    FROM sqlite_master
"""
"""One statement, so that it never sees half of what another process is just migrating."""

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


def prepare(database: Database) -> None:
    """Check that the file is ours to use, and bring its schema up to date."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise StorageError(
            f"This Python comes with SQLite {sqlite3.sqlite_version}; Jobify needs {oldest} or newer. Install a newer "
            "SQLite or a newer Python."
        )
    steps = migrations()
    if _version(database, len(steps)) < len(steps):
        _migrate(database, steps)
    _use_write_ahead_log(database)


def _version(database: Database, newest: int) -> int:
    """How many migrations have been applied; 0 for a new file."""
    application, version, objects = database.row(_HEAD)
    if (application, version, objects) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise StorageError(
            f"{database.path!r} is an SQLite database, but not one of this package. It was not touched. Give "
            "SQLiteStorage another path."
        )
    if version > newest:
        raise StorageVersionError(
            f"The database {database.path!r} has schema version {version}; this release of Jobify knows {newest}. "
            "It was not touched. Update Jobify."
        )
    return int(version)


def _migrate(database: Database, steps: list[str]) -> None:
    database.execute(f"PRAGMA page_size = {_PAGE_SIZE}")  # heeded only while the file is empty
    with database.transaction("EXCLUSIVE"):
        for step in steps[_version(database, len(steps)) :]:
            for statement in split(step):
                database.execute(statement)
        _drop_autoincrement(database)
        _announce_guest(database)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(steps)}")


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
    (is_there,) = database.row("SELECT count(*) FROM sqlite_master WHERE name = ?", (_GUEST,))
    (count,) = database.row(f"SELECT count(*) FROM {_GUEST}") if is_there else (0,)
    if count:
        log.warning(
            "%r also holds %d schedules of another package for the same interface (table %s). They are left as they "
            "are, and do not run here: schedule them again.",
            database.path,
            count,
            _GUEST,
        )


def _use_write_ahead_log(database: Database) -> None:
    (mode,) = database.row("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise StorageError(
            f"The database {database.path!r} cannot have a write-ahead log here (journal mode {mode!r}): its file "
            "system does not let processes share memory. Put it on a local disk."
        )
