"""Looking after a database file: is it whole, which schema does it have, what is in it, making it small again.

For people and scripts, beside the port: nothing here is part of how jobs run. A check opens the file read-only and
changes nothing, so it can be made of any file, also one that this release refuses to use.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from jobify.exceptions import StorageError
from jobify.storage.sqlite.damage import damaged_rows
from jobify.storage.sqlite.errors import explained
from jobify.storage.sqlite.layout import Layout, read_layout
from jobify.storage.sqlite.schema import migrations

__all__ = ("Health", "check", "is_ours", "schema_version", "vacuum")

_WITH_VALUES = 3
"""The version of the schema from which on large values stand beside their rows."""

_FREE = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"


class Health(NamedTuple):
    """What a check has found."""

    path: str
    is_ours: bool
    """It holds tables of this package."""
    version: int
    """Of its schema: how many migrations have been applied."""
    newest_version: int
    """What this release knows."""
    sqlite_version: str
    problems: tuple[str, ...]
    """What is damaged, as SQLite says it; empty: nothing."""
    jobs: int | None
    attempts: int | None
    size: int
    """Bytes of the file."""
    log_size: int
    """Bytes of the write-ahead log beside it."""
    free: int
    """Bytes that a vacuum would free."""

    @property
    def is_well(self) -> bool:
        """Whole, ours, and of a version that this release can use."""
        return self.is_ours and not self.problems and self.version <= self.newest_version


def check(path: str | os.PathLike[str]) -> Health:
    """Look at everything in the file; takes as long as reading it. StorageError if it is missing or cannot be read."""
    path = os.fspath(path)
    with _reading(path) as connection:
        layout = _layout_of(connection)
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        problems += [
            f"table {row[0]}, row {row[1]}: no {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")
        ]
        if layout.is_ours and layout.version >= _WITH_VALUES and not problems:
            problems += damaged_rows(lambda statement: connection.execute(layout.statement(statement)))
        return Health(
            path=path,
            is_ours=layout.is_ours,
            version=layout.version,
            newest_version=len(migrations()),
            sqlite_version=sqlite3.sqlite_version,
            problems=tuple(problems),
            jobs=_count(connection, layout.statement("SELECT count(*) FROM jobs")) if layout.is_ours else None,
            attempts=_count(connection, layout.statement("SELECT count(*) FROM attempts")) if layout.is_ours else None,
            size=_size(path),
            log_size=_size(f"{path}-wal"),
            free=connection.execute(_FREE).fetchone()[0],
        )


def schema_version(path: str | os.PathLike[str]) -> int:
    """How many migrations have been applied; 0: there is no file, or a new one."""
    if not Path(path).exists():
        return 0
    with _reading(os.fspath(path)) as connection:
        return _layout_of(connection).version


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether this package's tables are in the file. StorageError if it cannot be read."""
    with _reading(os.fspath(path)) as connection:
        return _layout_of(connection).is_ours


def vacuum(path: str | os.PathLike[str], *, timeout: float) -> None:
    """Rewrite the file without what was deleted. Others wait meanwhile; it needs as much room on the disk again.

    StorageError if it cannot be done; nothing has changed then.
    """
    with (
        explained(os.fspath(path)),
        closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection,
    ):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    if not Path(path).exists():
        raise StorageError(
            f"There is no database {path!r}. Is the path right? A relative one is looked up in the current folder."
        )
    with explained(path), closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda text: text.decode("utf-8", errors="replace")  # what is damaged is shown, too
        yield connection


def _layout_of(connection: sqlite3.Connection) -> Layout:
    return read_layout(lambda statement: connection.execute(statement).fetchone())


def _count(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _size(path: str) -> int:
    return Path(path).stat().st_size if Path(path).exists() else 0
