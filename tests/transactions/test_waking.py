"""After the commit of a user's transaction a worker wakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from connections import KINDS
from shop import make_file

from jobify import Jobify
from jobify.engine.services import change_listener
from jobify.storage import PostgresStorage, SQLiteStorage
from jobify.transactions import commits
from support import soon

WAKES = [
    "Connection",
    "Session",
    "AsyncConnection",
    "AsyncSession",
    "Django",
    "psycopg",
    "psycopg in a block",
    "async psycopg",
    "asyncpg",
    "asyncpg of a pool",
    "Connection of psycopg",
    "Session of psycopg",
    "AsyncConnection of asyncpg",
    "AsyncSession of asyncpg",
    "Django of psycopg",
]
"""Connections whose commit wakes a worker."""


def _app(place: Path | str, **options: Any) -> Jobify:
    app = Jobify(storage=SQLiteStorage(place) if isinstance(place, Path) else PostgresStorage(place, **options))

    @app.task(name="ship")
    async def ship(order: int) -> int:
        return order

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "shop.db")


@pytest.fixture
def place(name: str, request: pytest.FixtureRequest) -> Path | str:
    found: Path | str = request.getfixturevalue("shop_url" if KINDS[name].is_postgres else "path")
    return found


@pytest.mark.parametrize("name", WAKES)
@pytest.mark.parametrize("is_same_app", [False, True])
async def test_the_commit_wakes_a_worker(
    place: Path | str, name: str, is_same_app: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "_POLL_WITH_NOTIFIER", 3600.0)
    monkeypatch.setattr(commits, "_PATIENCE", 60.0)  # a busy machine must not make it look too late
    worker = _app(place)
    producer = worker if is_same_app else _app(place)
    async with worker:
        async with KINDS[name](place) as opened:
            job: Any = await producer.using(opened.connection).aenqueue("ship", (7,))
            await opened.commit()
            assert await soon(job.aresult()) == 7
    producer.close()


@pytest.mark.parametrize("name", ["psycopg", "async psycopg", "asyncpg"])
async def test_the_transaction_itself_notifies(shop_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_listener, "_POLL_WITH_NOTIFIER", 3600.0)
    worker, producer = _app(shop_url), _app(shop_url, notify="in_transaction")
    async with worker:
        async with KINDS[name](shop_url) as opened:
            job: Any = await producer.using(opened.connection).aenqueue("ship", (7,))
            producer.close()  # as if the process had ended
            await opened.commit()
            assert await soon(job.aresult()) == 7
    producer.close()


@pytest.mark.parametrize("name", ["sqlite3", "aiosqlite", "psycopg", "asyncpg"])
async def test_a_worker_sees_the_commit_of_a_driver_that_says_nothing(
    place: Path | str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_PATIENCE", 0.0)
    worker = _app(place)
    async with worker:
        async with KINDS[name](place) as opened:
            job: Any = await worker.using(opened.connection).aenqueue("ship", (7,))
            await opened.commit()
            assert await soon(job.aresult()) == 7


async def test_many_jobs_of_a_transaction_notify_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _app(path)
    app.stats()
    notified: list[object] = []
    monkeypatch.setattr(app._client._connection, "notify", lambda **audience: notified.append(audience))
    async with KINDS["Session"](path) as opened:
        for number in range(5):
            app.using(opened.connection).enqueue("ship", (number,))
        savepoint = await opened.savepoint()
        await opened.rollback_to(savepoint)
        assert notified == []
        await opened.commit()
        assert notified == [{"workers": True}]
    app.close()
