"""A job that ends in the transaction of its work."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import asyncpg
import psycopg
import psycopg_pool
import pytest
from connections import INSERT, async_engine_of, django_connection, engine_of
from shop import Shop
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobify import RunMode, current_job
from jobify.exceptions import ConfigurationError, PayloadError, TaskCancelledError
from jobify.testing.pretending import PretendJob
from support import eventually, soon

# -- where a transaction begins ----------------------------------------------------------------------------------------

Open = Callable[[Any], Any]


class Source(NamedTuple):
    """Something that a transaction begins on, and how it is opened. ``is_plain``: statements are texts."""

    open: Open
    is_postgres: bool = False
    is_plain: bool = False


def _with_engine(make: Callable[[Any], Any]) -> Open:
    @asynccontextmanager
    async def opened(place: Any) -> AsyncIterator[Any]:
        with engine_of(place) as engine:
            yield make(engine)

    return opened


def _with_async_engine(make: Callable[[Any], Any], driver: str) -> Open:
    @asynccontextmanager
    async def opened(place: Any) -> AsyncIterator[Any]:
        async with async_engine_of(place, driver) as engine:
            made = make(engine)
            yield made
            if isinstance(made, AsyncConnection):
                await made.close()

    return opened


@asynccontextmanager
async def _session(place: Any) -> AsyncIterator[Any]:
    with engine_of(place) as engine, Session(engine) as session:
        yield session


@asynccontextmanager
async def _async_connection(path: Path) -> AsyncIterator[Any]:
    async with async_engine_of(path) as engine, AsyncConnection(engine) as connection:
        yield connection


@asynccontextmanager
async def _sqlite3(path: Path) -> AsyncIterator[Any]:
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        yield connection


@asynccontextmanager
async def _aiosqlite(path: Path) -> AsyncIterator[Any]:
    async with aiosqlite.connect(path) as connection:
        yield connection


@asynccontextmanager
async def _django(place: Any) -> AsyncIterator[Any]:
    with django_connection(place) as connection:
        yield connection


def _psycopg(*, autocommit: bool) -> Open:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Any]:
        with psycopg.connect(url, autocommit=autocommit) as connection:
            yield connection

    return opened


@asynccontextmanager
async def _async_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        yield pool


@asynccontextmanager
async def _psycopg_pool(url: str) -> AsyncIterator[Any]:
    with psycopg_pool.ConnectionPool(url, min_size=1, open=True) as pool:
        yield pool


@asynccontextmanager
async def _async_psycopg_pool(url: str) -> AsyncIterator[Any]:
    async with psycopg_pool.AsyncConnectionPool(url, min_size=1, open=False) as pool:
        yield pool


def _itself(engine: Any) -> Any:
    return engine


def _sessions_of_a_thread(engine: Any) -> Any:
    return scoped_session(sessionmaker(engine))


def _sessions_of_a_task(engine: Any) -> Any:
    return async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)


SOURCES = {
    "engine": Source(_with_engine(_itself)),
    "sessionmaker": Source(_with_engine(sessionmaker)),
    "scoped_session": Source(_with_engine(_sessions_of_a_thread)),
    "Session": Source(_session),
    "async engine": Source(_with_async_engine(_itself, "aiosqlite")),
    "AsyncConnection": Source(_async_connection),
    "async_sessionmaker": Source(_with_async_engine(async_sessionmaker, "aiosqlite")),
    "async_scoped_session": Source(_with_async_engine(_sessions_of_a_task, "aiosqlite")),
    "sqlite3": Source(_sqlite3, is_plain=True),
    "aiosqlite": Source(_aiosqlite, is_plain=True),
    "Django": Source(_django),
    "psycopg": Source(_psycopg(autocommit=False), True, True),
    "psycopg that commits each": Source(_psycopg(autocommit=True), True, True),
    "async psycopg": Source(_async_psycopg, True, True),
    "pool of psycopg": Source(_psycopg_pool, True, True),
    "async pool of psycopg": Source(_async_psycopg_pool, True, True),
    "asyncpg": Source(_asyncpg, True, True),
    "pool of asyncpg": Source(_asyncpg_pool, True, True),
    "engine of psycopg": Source(_with_engine(_itself), True),
    "Session of psycopg": Source(_session, True),
    "async engine of psycopg": Source(_with_async_engine(_itself, "psycopg"), True),
    "async engine of asyncpg": Source(_with_async_engine(_itself, "asyncpg"), True),
    "async_sessionmaker of asyncpg": Source(_with_async_engine(async_sessionmaker, "asyncpg"), True),
    "Django of psycopg": Source(_django, True),
}
sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


async def _insert(tx: Any, source: Source) -> None:
    if source.open is _django:
        with tx.cursor() as cursor:
            cursor.execute(INSERT)
        return
    found = tx.execute(INSERT if source.is_plain else text(INSERT))
    if asyncio.iscoroutine(found) or hasattr(found, "__await__"):
        await found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


@pytest.fixture
def its_shop(source: Source, tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    """A shop in a database that the source leads to."""
    return Shop(request.getfixturevalue("shop_url") if source.is_postgres else tmp_path / "shop.db")


@sources
async def test_effect_result_and_end_commit_together(its_shop: Shop, source: Source) -> None:
    shop = its_shop
    seen: list[Any] = []
    async with source.open(shop.place) as target:

        @shop.app.task
        async def pay() -> str:
            async with current_job.transaction(target) as tx:
                await _insert(tx, source)
                seen.append(shop.ask("SELECT status FROM jobify_jobs"))
                answer = tx.complete("paid")
            seen.append(shop.ask("SELECT status, CAST(result AS TEXT), owner FROM jobify_jobs"))
            return answer

        async with shop.app:
            job = await pay.push()
            await soon(job.wait())
            assert job.result() == "paid"
    assert seen == [[("running",)], [("success", '"paid"', None)]]
    assert shop.orders == 1


@sources
async def test_a_block_that_raises_leaves_neither(its_shop: Shop, source: Source) -> None:
    shop = its_shop
    async with source.open(shop.place) as target:

        @shop.app.task
        async def pay() -> str:
            async with current_job.transaction(target) as tx:
                await _insert(tx, source)
                tx.complete("paid")
                raise ValueError("no money")

        async with shop.app:
            job = await pay.push()
            await soon(job.wait())
    assert (shop.orders, shop.ask("SELECT status FROM jobify_jobs")) == (0, [("failed",)])


@sources
async def test_a_job_that_was_taken_cannot_commit(its_shop: Shop, source: Source) -> None:
    shop = its_shop
    refused: list[TaskCancelledError] = []
    async with source.open(shop.place) as target:

        @shop.app.task
        async def pay() -> str:
            shop.ask("UPDATE jobify_jobs SET fence = fence + 1")  # as a recovery and a claim do
            try:
                async with current_job.transaction(target) as tx:
                    await _insert(tx, source)
                    return tx.complete("paid")
            except TaskCancelledError as error:
                refused.append(error)
                raise

        async with shop.app:
            await pay.push()
            await eventually(lambda: refused)
    assert shop.orders == 0
    assert shop.ask("SELECT status FROM jobify_jobs") != [("success",)]


@pytest.mark.parametrize("after", ["raises", "returns something else", "is cancelled"])
async def test_what_comes_after_the_commit_changes_nothing(shop: Shop, after: str) -> None:
    with closing(sqlite3.connect(shop.path, check_same_thread=False)) as connection:

        @shop.app.task(retry=3)
        async def pay() -> Any:
            async with current_job.transaction(connection) as tx:
                tx.execute(INSERT)
                tx.complete("paid")
            if after == "raises":
                raise ValueError
            if after == "is cancelled":
                raise asyncio.CancelledError
            return "something else"

        async with shop.app:
            job = await pay.push()
            await soon(job.wait())
            assert job.result() == "paid"
    assert (shop.orders, shop.ask("SELECT attempt FROM jobify_jobs")) == (1, [(1,)])


async def test_a_task_in_a_thread(shop: Shop) -> None:
    @shop.app.task(run_mode=RunMode.THREAD)
    def pay() -> str:
        engine = create_engine(f"sqlite:///{shop.path}")
        try:
            with current_job.transaction(engine) as tx:
                tx.execute(text(INSERT))
                return tx.complete("paid")
        finally:
            engine.dispose()

    async with shop.app:
        job = await pay.push()
        await soon(job.wait())
        assert job.result() == "paid"
    assert shop.orders == 1


@pytest.mark.parametrize("run_mode", [RunMode.MAIN, RunMode.THREAD])
@pytest.mark.parametrize("completes", [True, False])
async def test_reports_are_stored_with_the_commit_and_in_order(shop: Shop, run_mode: RunMode, completes: bool) -> None:
    async with aiosqlite.connect(shop.path) as connection:

        @shop.app.task(name="awaiting")
        async def awaiting() -> str:
            for number in range(300):
                current_job.publish(number)
            async with current_job.transaction(connection) as tx:
                await tx.execute(INSERT)
                current_job.publish(300)
                current_job.update_progress(50)
                value = tx.complete("paid") if completes else "paid"
            current_job.publish(301)
            return value

        @shop.app.task(name="blocking", run_mode=RunMode.THREAD)
        def blocking() -> str:
            for number in range(300):
                current_job.publish(number)
            with closing(sqlite3.connect(shop.path)) as own, current_job.transaction(own) as tx:
                tx.execute(INSERT)
                current_job.publish(300)
                current_job.update_progress(50)
                value = tx.complete("paid") if completes else "paid"
            current_job.publish(301)
            return value

        async with shop.app:
            job: Any = await (awaiting if run_mode is RunMode.MAIN else blocking).adelay()
            assert await soon(job.aresult()) == "paid"
    messages = shop.ask("SELECT CAST(data AS TEXT) FROM jobify_messages ORDER BY number")
    assert [int(text) for (text,) in messages] == list(range(301 if completes else 302))
    assert shop.ask("SELECT progress FROM jobify_jobs") == [(50.0,)]
    assert shop.orders == 1


async def test_without_complete_it_is_a_transaction(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path, check_same_thread=False)) as connection:

        @shop.app.task
        async def pay() -> str:
            with current_job.transaction(connection) as tx:
                tx.execute(INSERT)
            return "later"

        async with shop.app:
            job = await pay.push()
            await soon(job.wait())
            assert job.result() == "later"
    assert shop.orders == 1


async def test_jobs_that_wait_for_it_run(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path, check_same_thread=False)) as connection:

        @shop.app.task
        async def pay() -> str:
            with current_job.transaction(connection) as tx:
                return tx.complete("paid")

        @shop.app.task
        async def ship(state: str) -> str:
            return f"{state} and shipped"

        async with shop.app:
            job: Any = (pay.s() | ship.s()).apply()
            assert await soon(job.aresult()) == "paid and shipped"


def test_outside_a_job(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        with current_job.transaction(connection) as tx:
            tx.execute(INSERT)
            assert tx.complete("paid") == "paid"
        with PretendJob(), current_job.transaction(connection) as tx:
            tx.execute(INSERT)
            assert tx.complete("paid") == "paid"
    assert shop.orders == 2


async def test_outside_a_job_with_an_async_engine(shop: Shop) -> None:
    async with aiosqlite.connect(shop.path) as connection, current_job.transaction(connection) as tx:
        await tx.execute(INSERT)
        assert tx.complete("paid") == "paid"
    assert shop.orders == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_transaction_that_cannot_begin_holds_no_report_back(shop: Shop, is_async: bool) -> None:
    with closing(sqlite3.connect(shop.path)) as other:

        @shop.app.task
        async def pay() -> str:
            other.execute("BEGIN IMMEDIATE")
            try:
                if is_async:
                    async with aiosqlite.connect(shop.path, timeout=0) as own, current_job.transaction(own):
                        pass
                with closing(sqlite3.connect(shop.path, timeout=0)) as own_too, current_job.transaction(own_too):
                    pass
            except sqlite3.OperationalError:
                return "locked"
            finally:
                other.rollback()
                current_job.publish("reported")
            return "open"

        async with shop.app:
            job: Any = await pay.adelay()
            assert await soon(job.aresult()) == "locked"
    assert len(shop.ask("SELECT * FROM jobify_messages")) == 1


async def test_a_job_completes_once(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:

        @shop.app.task
        async def pay() -> str:
            with current_job.transaction(connection) as tx:
                tx.execute("COMMIT")  # against all advice
                tx.complete("paid")
                with pytest.raises(RuntimeError, match="once"):
                    tx.complete("paid twice")
                tx.execute("BEGIN")
            return "paid"

        async with shop.app:
            job: Any = await pay.adelay()
            assert await soon(job.aresult()) == "paid"


async def test_a_task_in_a_child_process_is_refused(shop: Shop) -> None:
    from elsewhere_tasks import pay_in_child

    shop.app.task(name="child", run_mode=RunMode.PROCESS)(pay_in_child)
    async with shop.app:
        job: Any = await shop.app.aenqueue("child", (str(shop.path),))
        assert "child process" in await soon(job.aresult())


def test_what_is_refused(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        connection.execute("BEGIN")
        with pytest.raises(ConfigurationError, match="already"), current_job.transaction(connection):
            pass
    with pytest.raises(ConfigurationError, match="nothing that a transaction can begin on"):
        current_job.transaction(shop.path)
    with pytest.raises(ConfigurationError, match="async with"):
        with current_job.transaction(create_async_engine("sqlite+aiosqlite://")):
            pass
    transaction = current_job.transaction(create_engine("sqlite://"))
    with pytest.raises(RuntimeError, match="block"):
        transaction.complete(1)


async def test_a_value_that_cannot_be_stored_rolls_back(shop: Shop) -> None:
    errors: list[BaseException] = []
    with closing(sqlite3.connect(shop.path, check_same_thread=False)) as connection:

        @shop.app.task
        async def pay() -> Any:
            try:
                with current_job.transaction(connection) as tx:
                    tx.execute(INSERT)
                    return tx.complete(object())
            except PayloadError as error:
                errors.append(error)
                raise

        async with shop.app:
            job = await pay.push()
            await soon(job.wait())
    assert (len(errors), shop.orders) == (1, 0)


PROGRAM = """
import asyncio, os, signal, sqlite3, sys
from jobify import Jobify, current_job

url, where = sys.argv[1:]
app = Jobify(storage=url)

def connect():
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    import psycopg
    return psycopg.connect(url)

@app.task(name="pay")
async def pay() -> str:
    with current_job.transaction(connect()) as tx:
        tx.execute("INSERT INTO orders (item) VALUES ('cat')")
        if where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        tx.complete("paid")
    if where == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return "paid"

async def main() -> None:
    async with app:
        job = pay.delay()
        await job.aresult()
        while app.stats()["complete"] < 2:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.mark.parametrize("is_postgres", [False, True], ids=["sqlite", "postgresql"])
@pytest.mark.parametrize(("where", "orders", "status"), [("before", 0, "running"), ("after", 1, "success")])
def test_a_kill_leaves_both_or_neither(
    is_postgres: bool, where: str, orders: int, status: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shop = request.getfixturevalue("postgres_shop") if is_postgres else Shop(tmp_path / "shop.db")
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    url = str(shop.place) if is_postgres else f"sqlite:///{shop.place}"
    killed = subprocess.run([*command, url, where], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (shop.orders, shop.ask("SELECT status FROM jobify_jobs")) == (orders, [(status,)])
    again = subprocess.run([*command, url, "never"], timeout=60, check=False)
    assert again.returncode == 0
    assert shop.orders == 2
