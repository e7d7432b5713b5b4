"""A worker whose server restarts, whose connections are ended, and whose network is cut: it goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from jobify import Jobify
from jobify.exceptions import StorageUnavailableError
from jobify.storage import PostgresStorage
from postgres_server import PostgresServer
from support import eventually, soon
from tcp_proxy import TcpProxy


async def lives_through(
    url: str, fault: Callable[[], Awaitable[Any]], caplog: pytest.LogCaptureFixture, *, producer: str | None = None
) -> None:
    """A job of before the fault and one of after it run once, and the log says what happened."""
    app, runs = Jobify(storage=PostgresStorage(url)), list[int]()

    @app.task(name="work")
    async def work(number: int) -> int:
        runs.append(number)
        return number

    other = Jobify(storage=PostgresStorage(producer or url))
    with caplog.at_level(logging.WARNING):
        async with app:
            assert await soon(await work.push(1)) == 1
            await fault()
            await eventually(lambda: "again, after" in caplog.text)
            result = await other.aenqueue("work", (2,))
            assert await soon(result.aresult()) == 2
            assert await soon(await work.push(3)) == 3
    other.close()
    assert runs == [1, 2, 3]
    assert "has lost its connection to" in caplog.text
    assert "This process is connected to" in caplog.text


async def test_the_server_restarts(own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    async def restart() -> None:
        own_postgres.stop()
        with pytest.raises(StorageUnavailableError, match="the server cannot be reached"):
            Jobify(storage=PostgresStorage(own_postgres.url())).enqueue("work", (0,))
        own_postgres.start()

    await lives_through(own_postgres.url(), restart, caplog)


async def test_an_outcome_is_written_when_the_server_is_there_again(own_postgres: PostgresServer) -> None:
    app, runs, may_end = Jobify(storage=PostgresStorage(own_postgres.url())), list[str](), asyncio.Event()

    @app.task(name="work")
    async def work() -> str:
        runs.append("begun")
        await may_end.wait()
        runs.append("ended")
        return "done"

    async with app:
        job = await work.push()
        await eventually(lambda: runs)
        own_postgres.stop()
        may_end.set()
        await eventually(lambda: runs == ["begun", "ended"])
        with pytest.raises(StorageUnavailableError):  # it is written after the outcome
            await work.push()
        own_postgres.start()
        assert await soon(job) == "done"
        assert await soon(await work.push()) == "done"
    assert runs == ["begun", "ended"] * 2


async def test_the_server_crashes(own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> None:
        own_postgres.kill()
        own_postgres.start()

    await lives_through(own_postgres.url(), crash, caplog)


async def test_an_operator_ends_all_connections(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def end() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'jobify' AND datname = current_database()"
            )

    await lives_through(postgres_url, end, caplog)


async def test_the_network_is_cut_for_a_while(own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    proxy = TcpProxy(own_postgres.port)

    async def cut() -> None:
        proxy.cut()
        await eventually(lambda: "has lost its connection to" in caplog.text)
        proxy.join()

    try:
        url = own_postgres.url().replace(f":{own_postgres.port}/", f":{proxy.port}/")
        await lives_through(url, cut, caplog, producer=own_postgres.url())
    finally:
        proxy.close()
