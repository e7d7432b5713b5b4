"""The databases that crash programs use, by URL: a file of SQLite, or a schema of PostgreSQL.

What the programs need of one is small: that it writes down by itself whose outcome was applied and which process an
owner was (the *audit*), that it is read without an app, and that it can say whether it is whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from jobify.app.validation import checked_storage
from jobify.storage import SQLiteStorage
from jobify.storage.base import Storage

__all__ = ("CrashDatabase", "FileDatabase", "ServerDatabase", "database_of", "storage_of")

_FILE_AUDIT = """
CREATE TABLE audit_ends (job_id TEXT, status TEXT, owner INTEGER, fence INTEGER);
CREATE TABLE audit_owners (id INTEGER, pid INTEGER);
CREATE TRIGGER audit_end AFTER UPDATE OF status ON jobs WHEN NEW.status NOT IN ('running', 'scheduled')
BEGIN INSERT INTO audit_ends VALUES (OLD.id, NEW.status, OLD.owner, OLD.fence); END;
CREATE TRIGGER audit_owner AFTER INSERT ON owners
BEGIN INSERT INTO audit_owners VALUES (NEW.id, NEW.pid); END;
"""
_SERVER_AUDIT = """
CREATE TABLE audit_ends (job_id text, status text, owner bigint, fence bigint);
CREATE TABLE audit_owners (id bigint, pid integer);
CREATE FUNCTION audit_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO jobify.audit_ends VALUES (OLD.id, NEW.status, OLD.owner, OLD.fence); RETURN NULL; END $$;
CREATE FUNCTION audit_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO jobify.audit_owners VALUES (NEW.id, NEW.pid); RETURN NULL; END $$;
CREATE TRIGGER audit_end AFTER UPDATE OF status ON jobs FOR EACH ROW
WHEN (NEW.status NOT IN ('running', 'scheduled')) EXECUTE FUNCTION audit_end();
CREATE TRIGGER audit_owner AFTER INSERT ON owners FOR EACH ROW EXECUTE FUNCTION audit_owner();
"""
_ORPHANS = "SELECT count(*) FROM jobs WHERE status = 'running' AND owner NOT IN (SELECT id FROM owners)"


def storage_of(url: str, synchronous: Literal["full", "normal"]) -> Storage:
    """The storage at a URL; ``synchronous`` is for a file."""
    storage = checked_storage(url)
    return SQLiteStorage(storage.database, synchronous=synchronous) if isinstance(storage, SQLiteStorage) else storage


class CrashDatabase(Protocol):
    """A database that processes use while they are killed."""

    @property
    def url(self) -> str: ...

    def prepare(self) -> None:
        """Make the tables, and have the database write down what happens to jobs and owners."""

    def rows(self, query: str) -> list[Any]:
        """What a query finds. The tables have the same names everywhere."""

    def damage(self) -> str | None:
        """What is wrong with the database itself, in a sentence; None if it is whole."""


class FileDatabase:
    """A file of SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path.absolute()}"

    def prepare(self) -> None:
        _open_once(self.url)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(_FILE_AUDIT)

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def damage(self) -> str | None:
        ((answer,),) = self.rows("PRAGMA integrity_check")
        return None if answer == "ok" else str(answer)


class ServerDatabase:
    """The schema ``jobify`` of a database of PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection that is no storage's; each statement is a transaction."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True, options="-c search_path=jobify") as connection:
            yield connection

    def prepare(self) -> None:
        _open_once(self.url)
        with self.connected() as connection:
            connection.execute(_SERVER_AUDIT)

    def rows(self, query: str) -> list[Any]:
        with self.connected() as connection:
            found: list[Any] = connection.execute(query).fetchall()
            return found

    def damage(self) -> str | None:
        ((orphans,),) = self.rows(_ORPHANS)
        return f"{orphans} jobs run for an owner that is not there" if orphans else None


def database_of(url: str) -> CrashDatabase:
    """The database at a URL."""
    storage = checked_storage(url)
    return FileDatabase(Path(storage.database)) if isinstance(storage, SQLiteStorage) else ServerDatabase(url)


def _open_once(url: str) -> None:
    storage = checked_storage(url)
    storage.open()
    storage.close()
