"""A user's connection, whatever drives it: one adapter for each driver, behind one port.

:func:`connect` finds the adapter by the type of the connection, without importing a driver: who has a connection has
imported it. To add a driver, write a module with a class that does what :class:`UserConnection` says, and name it in
:func:`connect`.
"""

from __future__ import annotations

from typing import Any

from jobify.exceptions import ConfigurationError
from jobify.transactions.port import UserConnection

__all__ = ("UserConnection", "connect")


def connect(connection: Any) -> UserConnection:
    """The adapter for a connection; ConfigurationError if there is none."""
    for kind in type(connection).__mro__:
        adapter = _adapter_of(kind.__module__, kind.__name__, connection)
        if adapter is not None:
            return adapter
    raise ConfigurationError(
        f"{connection!r} is no connection that jobs can be stored on. Give a connection of sqlite3, aiosqlite, "
        "psycopg (3) or asyncpg, a Connection, Session, AsyncConnection or AsyncSession of SQLAlchemy, or "
        "connections[alias] of Django."
    )


def _adapter_of(module: str, name: str, connection: Any) -> UserConnection | None:
    match module.partition(".")[0], name:
        case "sqlite3", "Connection":
            from jobify.transactions.sqlite3_driver import SQLite3Connection

            return SQLite3Connection(connection)
        case "psycopg", "Connection":
            from jobify.transactions.psycopg_driver import PsycopgConnection

            return PsycopgConnection(connection)
        case "psycopg", "AsyncConnection":
            from jobify.transactions.psycopg_driver import AsyncPsycopgConnection

            return AsyncPsycopgConnection(connection)
        case "asyncpg", "Connection" | "PoolConnectionProxy":
            from jobify.transactions.asyncpg_driver import AsyncpgConnection

            return AsyncpgConnection(connection)
        case "aiosqlite", "Connection":
            from jobify.transactions.sqlite3_driver import AiosqliteConnection

            return AiosqliteConnection(connection)
        case "sqlalchemy", _:
            from jobify.transactions.sqlalchemy_driver import adapter_of

            return adapter_of(name, connection)
        case "django", "BaseDatabaseWrapper" | "ConnectionProxy":
            from jobify.transactions.django_driver import DjangoConnection

            return DjangoConnection(connection)
    return None
