"""Transactions that are begun for a user: a block on an engine, or on a connection that has none open.

Whatever the driver, a block is a context manager that gives a connection, commits at its end, and rolls back if it
raises. Most drivers have one; for those that have none it is here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from jobify.exceptions import ConfigurationError

if TYPE_CHECKING:
    import sqlite3

__all__ = ("Block", "block_on")

Block: TypeAlias = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
"""A transaction: for ``with``, or for ``async with``."""


def block_on(target: Any) -> Block:
    """The transaction on an engine, a session maker or a connection; ConfigurationError if there can be none."""
    for kind in type(target).__mro__:
        block = _block_of(kind.__module__, kind.__name__, target)
        if block is not None:
            return block
    raise ConfigurationError(
        f"{target!r} is nothing that a transaction can begin on. Give an engine, a sessionmaker, a Connection or a "
        "Session of SQLAlchemy (or one of their async twins), a connection of sqlite3 or aiosqlite, a connection or a "
        "pool of psycopg (3) or asyncpg, or connections[alias] of Django."
    )


def _block_of(module: str, name: str, target: Any) -> Block | None:
    match module.partition(".")[0], name:
        case "sqlite3", "Connection":
            return _on_sqlite3(target)
        case "psycopg", "Connection":
            return _on_psycopg(target)
        case "psycopg", "AsyncConnection":
            return _on_async_psycopg(target)
        case "psycopg_pool", "ConnectionPool":
            return _on_pool(target)
        case "psycopg_pool", "AsyncConnectionPool":
            return _on_async_pool(target)
        case "asyncpg", "Connection" | "PoolConnectionProxy":
            return _on_asyncpg(target)
        case "asyncpg", "Pool":
            return _on_asyncpg_pool(target)
        case "aiosqlite", "Connection":
            return _on_aiosqlite(target)
        case "sqlalchemy", "Engine" | "sessionmaker" | "AsyncEngine" | "async_sessionmaker":
            block: Block = target.begin()
            return block
        case "sqlalchemy", "Connection" | "Session":
            return _inside(target)
        case "sqlalchemy", "AsyncConnection" | "AsyncSession":
            return _inside_awaited(target)
        case "sqlalchemy", "scoped_session":
            return _inside(target())
        case "sqlalchemy", "async_scoped_session":
            return _inside_awaited(target())
        case "django", "BaseDatabaseWrapper" | "ConnectionProxy":
            return _on_django(target)
    return None


def _require_none_open(target: Any, is_open: bool) -> None:
    if is_open:
        raise ConfigurationError(
            f"{target!r} is in a transaction already, which could hold more than this block. Commit it first."
        )


@contextmanager
def _on_sqlite3(connection: sqlite3.Connection) -> Iterator[Any]:
    _require_none_open(connection, connection.in_transaction)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@asynccontextmanager
async def _on_aiosqlite(connection: Any) -> AsyncIterator[Any]:
    _require_none_open(connection, connection.in_transaction)
    await connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        await connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            await connection.execute("ROLLBACK")
        raise


@contextmanager
def _on_psycopg(connection: Any) -> Iterator[Any]:
    _require_none_open(connection, connection.info.transaction_status != 0)
    with connection.transaction():
        yield connection


@asynccontextmanager
async def _on_async_psycopg(connection: Any) -> AsyncIterator[Any]:
    _require_none_open(connection, connection.info.transaction_status != 0)
    async with connection.transaction():
        yield connection


@contextmanager
def _on_pool(pool: Any) -> Iterator[Any]:
    with pool.connection() as connection, _on_psycopg(connection):
        yield connection


@asynccontextmanager
async def _on_async_pool(pool: Any) -> AsyncIterator[Any]:
    async with pool.connection() as connection, _on_async_psycopg(connection):
        yield connection


@asynccontextmanager
async def _on_asyncpg(connection: Any) -> AsyncIterator[Any]:
    _require_none_open(connection, connection.is_in_transaction())
    async with connection.transaction():
        yield connection


@asynccontextmanager
async def _on_asyncpg_pool(pool: Any) -> AsyncIterator[Any]:
    async with pool.acquire() as connection, _on_asyncpg(connection):
        yield connection


@contextmanager
def _inside(target: Any) -> Iterator[Any]:
    _require_none_open(target, target.in_transaction())
    with target.begin():
        yield target


@asynccontextmanager
async def _inside_awaited(target: Any) -> AsyncIterator[Any]:
    _require_none_open(target, target.in_transaction())
    async with target.begin():
        yield target


@contextmanager
def _on_django(target: Any) -> Iterator[Any]:
    from django.db import connections, transaction  # type: ignore[import-untyped,unused-ignore]

    connection = connections[target.alias]
    _require_none_open(connection, connection.in_atomic_block)
    block: Any = transaction.atomic(using=target.alias, durable=True)
    with block:
        yield connection
