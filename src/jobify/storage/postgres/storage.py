"""Jobs in a schema of a PostgreSQL database: the parts of this package behind the port.

=====================  ===================================================================================
``database``           transactions and statements; ``connection`` the connections, ``arrays`` lists as parameters,
                       ``errors`` what the server's errors mean
``schema``             migrations
``queries/``           every statement; ``statements`` fills them in, ``rows`` reads their answers
``jobs``               insert
=====================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import psycopg

from jobify.exceptions import ConfigurationError
from jobify.model.records import JobRecord, NewJob
from jobify.runtime import fork
from jobify.storage.postgres.database import Database, lock_key
from jobify.storage.postgres.jobs import Inserts
from jobify.storage.postgres.rows import records_of
from jobify.storage.postgres.schema import prepare

__all__ = ("PostgresStorage",)


class PostgresStorage:
    """Keep jobs in the schema ``schema`` of the database at ``url``, for any number of processes and machines.

    ``url`` is what libpq takes: ``postgresql://user@host:5432/name?sslmode=require``, or ``host=... dbname=...``. What
    it leaves out comes from the environment (``PGPASSWORD``, ``PGSERVICE``).

    >>> from jobify.storage import PostgresStorage
    >>> storage = PostgresStorage("postgresql://shop@db/shop")
    """

    def __init__(self, url: str, *, schema: str = "jobify") -> None:
        self.url = _checked_url(url)
        self.schema = _checked_schema(schema)
        self.database = _without_password(self.url)
        """Names the database, without a password."""
        self.is_durable = self.is_shared = True
        self.is_in_memory = False
        self._database = database = Database(self.url, schema=schema, where=repr(self.database))
        self._inserts = Inserts(database)

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        if self._database.is_open:
            return
        fork.register(self)
        try:
            self._database.open(lambda database: prepare(database, lock_key(self.schema, "migrations")))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._database.close()

    def before_fork(self) -> None:
        self._database.before_fork()

    def after_fork_in_parent(self) -> None:
        self._database.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        self._database.after_fork_in_child()

    def transaction(self) -> AbstractContextManager[None]:
        return self._database.transaction()

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        return self._database.retried(lambda: self._inserts.insert(jobs))

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[JobRecord]:
        lock = "FOR NO KEY UPDATE OF jobs" if self._database.is_in_block else ""
        return records_of(self._database.read_for("get", list(dict.fromkeys(ids)), lock=lock))


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise ConfigurationError(f"url is {url!r}; it must be a text such as 'postgresql://user@host/database'.")
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"url cannot be read ({str(error).strip()}); it must be like 'postgresql://user@host/database'."
        ) from None
    return url


def _checked_schema(schema: str) -> str:
    if not isinstance(schema, str) or not schema or "\0" in schema or len(schema.encode()) > 63:
        raise ConfigurationError(f"schema is {schema!r}; it must be a name of at most 63 bytes.")
    return schema


def _without_password(url: str) -> str:
    """``host:port/name`` as a URL, without a password."""
    given = psycopg.conninfo.conninfo_to_dict(url)
    user, host, port = given.get("user"), given.get("host") or given.get("hostaddr"), given.get("port")
    place = f"{user}@" if user else ""
    place += str(host or "") + (f":{port}" if port else "")
    return f"postgresql://{place}/{given.get('dbname') or ''}"
