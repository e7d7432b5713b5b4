"""Each kind of connection that ``using`` takes, behind one face for tests."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import aiosqlite
import django
from django.conf import settings
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

INSERT = "INSERT INTO orders (item) VALUES ('cat')"


class Opened:
    """A connection inside a transaction of its own, which has written a row."""

    def __init__(self, connection: Any, *, is_async: bool) -> None:
        self.connection = connection
        self.is_async = is_async

    async def execute(self, statement: str) -> None:
        """Run a statement of the user's."""
        raise NotImplementedError

    async def savepoint(self) -> Any:
        await self.execute("SAVEPOINT mine")

    async def rollback_to(self, savepoint: Any) -> None:
        await self.execute("ROLLBACK TO mine")
        await self.execute("RELEASE mine")

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()


class _Plain(Opened):
    async def execute(self, statement: str) -> None:
        self.connection.execute(statement)


class _Manual(_Plain):
    async def commit(self) -> None:
        self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        self.connection.execute("ROLLBACK")


class _Aio(Opened):
    async def execute(self, statement: str) -> None:
        await self.connection.execute(statement)

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()


class _Alchemy(Opened):
    async def execute(self, statement: str) -> None:
        self.connection.execute(text(statement))

    async def savepoint(self) -> Any:
        return self.connection.begin_nested()

    async def rollback_to(self, savepoint: Any) -> None:
        savepoint.rollback()


class _AsyncAlchemy(_Aio):
    async def execute(self, statement: str) -> None:
        await self.connection.execute(text(statement))

    async def savepoint(self) -> Any:
        return await self.connection.begin_nested()

    async def rollback_to(self, savepoint: Any) -> None:
        await savepoint.rollback()


class _Django(Opened):
    """Transactions of Django are blocks."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, is_async=False)
        self._blocks = [_atomic(connection)]
        self._blocks[0].__enter__()

    async def execute(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    async def savepoint(self) -> Any:
        block = _atomic(self.connection)
        block.__enter__()
        return block

    async def rollback_to(self, savepoint: Any) -> None:
        savepoint.__exit__(ValueError, ValueError(), None)

    async def commit(self) -> None:
        self._blocks.pop().__exit__(None, None, None)

    async def rollback(self) -> None:
        self._blocks.pop().__exit__(ValueError, ValueError(), None)


def _atomic(connection: Any) -> Any:
    from django.db import transaction

    return transaction.atomic(using=connection.alias)


@asynccontextmanager
async def _sqlite3(path: Path) -> AsyncIterator[Opened]:
    connection = sqlite3.connect(path)
    connection.execute(INSERT)
    yield _Plain(connection, is_async=False)
    connection.close()


@asynccontextmanager
async def _sqlite3_with_rows(path: Path) -> AsyncIterator[Opened]:
    """Rows, texts and cursors as no one expects them."""

    class OddCursor(sqlite3.Cursor):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("a cursor of the user's")

    class OddConnection(sqlite3.Connection):
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            return super().cursor(OddCursor)

    connection = sqlite3.connect(path, factory=OddConnection)
    connection.row_factory = lambda cursor, row: {"odd": row}
    connection.text_factory = bytes
    connection.execute(INSERT)
    yield _Plain(connection, is_async=False)
    connection.close()


@asynccontextmanager
async def _sqlite3_manual(path: Path) -> AsyncIterator[Opened]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute(INSERT)
    yield _Manual(connection, is_async=False)
    connection.close()


@asynccontextmanager
async def _sqlite3_pep249(path: Path) -> AsyncIterator[Opened]:
    """Always in a transaction; since Python 3.12."""
    connection = sqlite3.connect(path, autocommit=False)  # type: ignore[call-arg,unused-ignore]
    connection.execute(INSERT)
    yield _Plain(connection, is_async=False)
    connection.close()


@asynccontextmanager
async def _sqlite3_not_begun(path: Path) -> AsyncIterator[Opened]:
    """The call is the first that writes, so the driver begins the transaction there."""
    connection = sqlite3.connect(path)
    yield _Plain(connection, is_async=False)
    connection.close()


@asynccontextmanager
async def _aiosqlite(path: Path) -> AsyncIterator[Opened]:
    async with aiosqlite.connect(path) as connection:
        connection.row_factory = aiosqlite.Row
        await connection.execute(INSERT)
        yield _Aio(connection, is_async=True)


@asynccontextmanager
async def _connection(path: Path) -> AsyncIterator[Opened]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.execute(text(INSERT))
        yield _Alchemy(connection, is_async=False)
    engine.dispose()


@asynccontextmanager
async def _session(path: Path) -> AsyncIterator[Opened]:
    engine = create_engine(f"sqlite:///{path}")
    with Session(engine) as session:
        session.execute(text(INSERT))
        yield _Alchemy(session, is_async=False)
    engine.dispose()


@asynccontextmanager
async def _session_not_begun(path: Path) -> AsyncIterator[Opened]:
    engine = create_engine(f"sqlite:///{path}")
    with Session(engine) as session:
        yield _Alchemy(session, is_async=False)
    engine.dispose()


@asynccontextmanager
async def _async_connection(path: Path) -> AsyncIterator[Opened]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with AsyncConnection(engine) as connection:
        await connection.execute(text(INSERT))
        yield _AsyncAlchemy(connection, is_async=True)
    await engine.dispose()


@asynccontextmanager
async def _async_session(path: Path) -> AsyncIterator[Opened]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with AsyncSession(engine) as session:
        await session.execute(text(INSERT))
        yield _AsyncAlchemy(session, is_async=True)
    await engine.dispose()


@asynccontextmanager
async def _django(path: Path) -> AsyncIterator[Opened]:
    with django_connection(path) as connection:
        opened = _Django(connection)
        await opened.execute(INSERT)
        yield opened


@contextmanager
def django_connection(path: Path) -> Any:
    """``connections["shop"]`` on this file, also for code of an event loop."""
    import os

    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    from django.db import connections

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    connections.settings["shop"] = connections.configure_settings(
        {"default": {}, "shop": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}}
    )["shop"]
    try:
        yield connections["shop"]
    finally:
        connections["shop"].close()
        del connections["shop"], connections.settings["shop"], os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


Kind: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Opened]]

KINDS: dict[str, Kind] = {
    "sqlite3": _sqlite3,
    "sqlite3 with odd rows": _sqlite3_with_rows,
    "sqlite3 by hand": _sqlite3_manual,
    "sqlite3 not begun": _sqlite3_not_begun,
    "aiosqlite": _aiosqlite,
    "Connection": _connection,
    "Session": _session,
    "Session not begun": _session_not_begun,
    "AsyncConnection": _async_connection,
    "AsyncSession": _async_session,
    "Django": _django,
}
if sys.version_info >= (3, 12):
    KINDS["sqlite3 with autocommit=False"] = _sqlite3_pep249
