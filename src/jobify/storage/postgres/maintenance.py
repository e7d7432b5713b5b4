"""Looking after a schema: its version, what is in it, and what would keep the server from working well.

For people and scripts, beside the port: nothing here is part of how jobs run. A check changes nothing, and looks at a
schema that this release refuses to use, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

import psycopg

from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.database import Database, lock_key
from jobify.storage.postgres.errors import explain
from jobify.storage.postgres.schema import applied, migrations, prepare
from jobify.storage.postgres.storage import PostgresStorage

__all__ = ("Health", "check", "connected", "database_of", "migrate", "schema_version")

_LONG_TRANSACTION: Final = 300.0
"""Seconds for which a transaction may be open before a check says so: vacuum removes no row that it may still see."""

_SERVER: Final = """
    SELECT
        current_setting('server_version'),
        current_setting('server_encoding'),
        pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        current_setting('max_connections')::integer
"""
_OLDEST: Final = """
    SELECT pid, usename, extract(epoch FROM clock_timestamp() - xact_start)::float8 FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
        AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 1
"""
_SIZE: Final = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint, coalesce(sum(n_dead_tup), 0)::bigint
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    LEFT JOIN pg_stat_user_tables ON relid = pg_class.oid
    WHERE nspname = $1 AND relkind = 'r'
"""
_INVALID: Final = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND NOT indisvalid ORDER BY 1
"""


class Health(NamedTuple):
    """What a check has found."""

    database: str
    """Without a password."""
    schema: str
    version: int
    """How many migrations have been applied; 0: there is no such schema."""
    newest_version: int
    """What this release knows."""
    server_version: str
    problems: tuple[str, ...]
    jobs: int | None
    attempts: int | None
    size: int
    """Bytes of its tables and indexes."""
    dead_rows: int
    """What vacuum has not removed yet, as the server estimates it."""
    connections: int
    """To the whole server."""
    max_connections: int

    @property
    def is_well(self) -> bool:
        """There, without a problem, and of a version that this release can use."""
        return 0 < self.version <= self.newest_version and not self.problems


def schema_version(storage: PostgresStorage) -> int:
    """How many migrations have been applied; 0: there is no schema yet."""
    database = database_of(storage)
    with connected(storage) as connection:
        return applied(connection, database)


def migrate(storage: PostgresStorage) -> int:
    """Bring the schema up to date, as a start of the app does. The version that it had; 0: there was none.

    If another process does that at the same time, it has been up to date.
    """
    return prepare(database_of(storage), lock_key(storage.schema, "migrations"))


def check(storage: PostgresStorage) -> Health:
    """Look at the schema and its server; reads each table once. StorageUnavailableError if it cannot be reached."""
    database = database_of(storage)
    with connected(storage) as connection:
        version = applied(connection, database)
        server, encoding, is_read_only, connections, most = _row(connection, _SERVER)
        size, dead = _row(connection, _SIZE, storage.schema)
        return Health(
            database=storage.database,
            schema=storage.schema,
            version=version,
            newest_version=len(migrations()),
            server_version=server,
            problems=tuple(_problems(connection, storage.schema, encoding, is_read_only)),
            jobs=_count(connection, database, "jobs") if version else None,
            attempts=_count(connection, database, "attempts") if version else None,
            size=size,
            dead_rows=dead,
            connections=connections,
            max_connections=most,
        )


def _problems(connection: Connection, schema: str, encoding: str, is_read_only: bool) -> Iterator[str]:
    if encoding != "UTF8":
        yield f"the encoding of the database is {encoding}; Jobify needs UTF8"
    if is_read_only:
        yield "the server takes no writes (a standby, or default_transaction_read_only); the URL must name the primary"
    for (name,) in connection.execute(_INVALID, (schema,)):
        yield f"the index {name} is invalid, because its build was interrupted; REINDEX INDEX CONCURRENTLY builds it"
    oldest = connection.execute(_OLDEST).fetchone()
    if oldest is not None and oldest[2] is not None and oldest[2] > _LONG_TRANSACTION:
        yield (
            f"a transaction of {oldest[1]} (pid {oldest[0]}) has been open for {oldest[2] / 60:.0f} minutes, so vacuum "
            "can remove nothing that ended since; end it, or set idle_in_transaction_session_timeout for its role"
        )


def database_of(storage: PostgresStorage) -> Database:
    """The database of a storage, which is not open."""
    return Database(
        storage.url, schema=storage.schema, where=repr(storage.database), is_pooled=storage.notify == "poll"
    )


@contextmanager
def connected(storage: PostgresStorage) -> Iterator[Connection]:
    """A connection of its own. Errors of the block are raised as what they mean."""
    database = database_of(storage)
    with closing(database.new_connection()) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise explain(error, database.where) from error


def _row(connection: Connection, statement: str, *parameters: Any) -> tuple[Any, ...]:
    row = connection.execute(statement.encode(), parameters).fetchone()
    assert row is not None
    return row


def _count(connection: Connection, database: Database, table: str) -> int:
    return int(_row(connection, database.sql.qualified(f"SELECT count(*) FROM @{table}"))[0])
