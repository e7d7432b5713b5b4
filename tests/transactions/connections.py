"""Each kind of connection that ``using`` takes, behind one face for tests."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import aiosqlite
import asyncpg
import django
import psycopg
from django.conf import settings
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

INSERT = "INSERT INTO orders (item) VALUES ('cat')"


Place: TypeAlias = Path | str
"""A file of SQLite, or the URL of a database of PostgreSQL."""


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


Open: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Opened]]


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


@contextmanager
def engine_of(place: Place, driver: str = "") -> Iterator[Any]:
    """An engine of SQLAlchemy, closed in the end."""
    engine = create_engine(_engine_url(place, driver or "psycopg"))
    yield engine
    engine.dispose()


@asynccontextmanager
async def async_engine_of(place: Place, driver: str = "") -> AsyncIterator[Any]:
    """An engine of SQLAlchemy for asyncio, closed in the end."""
    engine = create_async_engine(_engine_url(place, driver or "aiosqlite"))
    yield engine
    await engine.dispose()


def _engine_url(place: Place, driver: str) -> str:
    if isinstance(place, Path):
        return f"sqlite+aiosqlite:///{place}" if driver == "aiosqlite" else f"sqlite:///{place}"
    return place.replace("postgresql:", f"postgresql+{driver}:")


@asynccontextmanager
async def _connection(place: Place) -> AsyncIterator[Opened]:
    with engine_of(place) as engine, engine.connect() as connection:
        connection.execute(text(INSERT))
        yield _Alchemy(connection, is_async=False)


@asynccontextmanager
async def _session(place: Place) -> AsyncIterator[Opened]:
    with engine_of(place) as engine, Session(engine) as session:
        session.execute(text(INSERT))
        yield _Alchemy(session, is_async=False)


@asynccontextmanager
async def _session_not_begun(place: Place) -> AsyncIterator[Opened]:
    with engine_of(place) as engine, Session(engine) as session:
        yield _Alchemy(session, is_async=False)


def _async_connection(driver: str) -> Open:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncIterator[Opened]:
        async with async_engine_of(place, driver) as engine, AsyncConnection(engine) as connection:
            await connection.execute(text(INSERT))
            yield _AsyncAlchemy(connection, is_async=True)

    return opened


def _async_session(driver: str) -> Open:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncIterator[Opened]:
        async with async_engine_of(place, driver) as engine, AsyncSession(engine) as session:
            await session.execute(text(INSERT))
            yield _AsyncAlchemy(session, is_async=True)

    return opened


def _async_session_not_begun(driver: str) -> Open:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncIterator[Opened]:
        async with async_engine_of(place, driver) as engine, AsyncSession(engine) as session:
            yield _AsyncAlchemy(session, is_async=True)

    return opened


@asynccontextmanager
async def _django(place: Place) -> AsyncIterator[Opened]:
    with django_connection(place) as connection:
        opened = _Django(connection)
        await opened.execute(INSERT)
        yield opened


@contextmanager
def django_connection(place: Place) -> Any:
    """``connections["shop"]`` on this database, also for code of an event loop."""
    import os

    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    from django.db import connections

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    database = {"default": {}, "shop": _django_settings(place)}
    connections.settings["shop"] = connections.configure_settings(database)["shop"]
    try:
        yield connections["shop"]
    finally:
        connections["shop"].close()
        del connections["shop"], connections.settings["shop"], os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def _django_settings(place: Place) -> dict[str, str]:
    if isinstance(place, Path):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(place)}
    parts = urlsplit(place)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": str(parts.port),
    }


# -- psycopg -----------------------------------------------------------------------------------------------------------


class _Block(Opened):
    """Transactions are blocks, and so are savepoints."""

    def __init__(self, connection: Any, *, is_async: bool) -> None:
        super().__init__(connection, is_async=is_async)
        self._block: Any = None

    async def enter(self) -> Any:
        block = self.connection.transaction()
        await block.__aenter__() if self.is_async else block.__enter__()
        return block

    async def leave(self, block: Any, error: Exception | None = None) -> None:
        how = (None, None, None) if error is None else (type(error), error, None)
        await block.__aexit__(*how) if self.is_async else block.__exit__(*how)

    async def begin(self) -> Opened:
        self._block = await self.enter()
        await self.execute(INSERT)
        return self

    async def execute(self, statement: str) -> None:
        answer = self.connection.execute(statement)
        if self.is_async:
            await answer

    async def savepoint(self) -> Any:
        return await self.enter()

    async def rollback_to(self, savepoint: Any) -> None:
        await self.leave(savepoint, ValueError())

    async def commit(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            await self.leave(block)

    async def rollback(self) -> None:
        block, self._block = self._block, None
        await self.leave(block, ValueError())


@asynccontextmanager
async def _psycopg(url: str) -> AsyncIterator[Opened]:
    with psycopg.connect(url) as connection:
        connection.execute(INSERT)
        yield _Plain(connection, is_async=False)


@asynccontextmanager
async def _psycopg_with_odd_rows(url: str) -> AsyncIterator[Opened]:
    """Rows, adapters, cursors and a path as no one expects them."""

    class Odd(psycopg.adapt.Dumper):
        def dump(self, obj: Any) -> bytes:
            raise AssertionError("an adapter of the user's")

    class OddLoader(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return "odd"

    class OddBinaryLoader(OddLoader):
        format = psycopg.pq.Format.BINARY

    with psycopg.connect(url, row_factory=psycopg.rows.dict_row, cursor_factory=psycopg.ClientCursor) as connection:
        connection.prepare_threshold = 0
        connection.execute(INSERT)
        connection.execute("SET LOCAL search_path = pg_temp")
        connection.execute("SET LOCAL standard_conforming_strings = off")
        for kind in (str, int, bytes, bool, list):
            connection.adapters.register_dumper(kind, Odd)
        for name in ("text", "int8", "int4", "bool", "bytea", "name", "oid"):
            connection.adapters.register_loader(name, OddLoader)
            connection.adapters.register_loader(name, OddBinaryLoader)
        yield _Plain(connection, is_async=False)


@asynccontextmanager
async def _psycopg_manual(url: str) -> AsyncIterator[Opened]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute(INSERT)
        yield _Manual(connection, is_async=False)


@asynccontextmanager
async def _psycopg_not_begun(url: str) -> AsyncIterator[Opened]:
    with psycopg.connect(url) as connection:
        yield _Plain(connection, is_async=False)


@asynccontextmanager
async def _psycopg_block(url: str) -> AsyncIterator[Opened]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield await _Block(connection, is_async=False).begin()


@asynccontextmanager
async def _psycopg_async(url: str) -> AsyncIterator[Opened]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        await connection.execute(INSERT)
        yield _Aio(connection, is_async=True)


@asynccontextmanager
async def _psycopg_async_block(url: str) -> AsyncIterator[Opened]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield await _Block(connection, is_async=True).begin()


# -- asyncpg -----------------------------------------------------------------------------------------------------------


class _Asyncpg(_Block):
    async def rollback(self) -> None:
        block, self._block = self._block, None
        await self.leave(block, ValueError())


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[Opened]:
    connection = await asyncpg.connect(url)
    yield await _Asyncpg(connection, is_async=True).begin()
    await connection.close()


@asynccontextmanager
async def _asyncpg_with_odd_codecs(url: str) -> AsyncIterator[Opened]:
    connection = await asyncpg.connect(url, server_settings={"standard_conforming_strings": "off"})
    opened = await _Asyncpg(connection, is_async=True).begin()
    for name in ("text", "int8", "int4", "bool", "bytea", "json", "name", "oid"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=lambda value: 1 / 0, decoder=lambda value: "odd", format="text"
        )
    await connection.execute("SET LOCAL search_path = pg_temp")
    yield opened
    await connection.close()


@asynccontextmanager
async def _asyncpg_of_a_pool(url: str) -> AsyncIterator[Opened]:
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool, pool.acquire() as connection:
        yield await _Asyncpg(connection, is_async=True).begin()


# -- all of them -------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of connection, and how one is opened."""

    open: Open
    is_postgres: bool = False

    def __call__(self, place: Place) -> AbstractAsyncContextManager[Opened]:
        return self.open(place)


KINDS: dict[str, Kind] = {
    "sqlite3": Kind(_sqlite3),
    "sqlite3 with odd rows": Kind(_sqlite3_with_rows),
    "sqlite3 by hand": Kind(_sqlite3_manual),
    "sqlite3 not begun": Kind(_sqlite3_not_begun),
    "aiosqlite": Kind(_aiosqlite),
    "Connection": Kind(_connection),
    "Session": Kind(_session),
    "Session not begun": Kind(_session_not_begun),
    "AsyncConnection": Kind(_async_connection("aiosqlite")),
    "AsyncSession": Kind(_async_session("aiosqlite")),
    "Django": Kind(_django),
    "psycopg": Kind(_psycopg, True),
    "psycopg with odd rows": Kind(_psycopg_with_odd_rows, True),
    "psycopg by hand": Kind(_psycopg_manual, True),
    "psycopg not begun": Kind(_psycopg_not_begun, True),
    "psycopg in a block": Kind(_psycopg_block, True),
    "async psycopg": Kind(_psycopg_async, True),
    "async psycopg in a block": Kind(_psycopg_async_block, True),
    "asyncpg": Kind(_asyncpg, True),
    "asyncpg with odd codecs": Kind(_asyncpg_with_odd_codecs, True),
    "asyncpg of a pool": Kind(_asyncpg_of_a_pool, True),
    "Connection of psycopg": Kind(_connection, True),
    "Session of psycopg": Kind(_session, True),
    "Session of psycopg not begun": Kind(_session_not_begun, True),
    "AsyncConnection of psycopg": Kind(_async_connection("psycopg"), True),
    "AsyncSession of psycopg": Kind(_async_session("psycopg"), True),
    "AsyncConnection of asyncpg": Kind(_async_connection("asyncpg"), True),
    "AsyncSession of asyncpg": Kind(_async_session("asyncpg"), True),
    "AsyncSession of asyncpg not begun": Kind(_async_session_not_begun("asyncpg"), True),
    "Django of psycopg": Kind(_django, True),
}
if sys.version_info >= (3, 12):
    KINDS["sqlite3 with autocommit=False"] = Kind(_sqlite3_pep249)
