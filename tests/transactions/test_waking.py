"""After the commit of a user's transaction a worker wakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from connections import KINDS
from shop import make_file

from jobify import Jobify
from jobify.engine.services import change_listener
from jobify.storage import SQLiteStorage
from support import soon

SAYS_SO = ["Connection", "Session", "AsyncConnection", "AsyncSession", "Django"]
"""Drivers that say when they commit."""


def _app(path: Path) -> Jobify:
    app = Jobify(storage=SQLiteStorage(path))

    @app.task(name="ship")
    async def ship(order: int) -> int:
        return order

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "shop.db")


@pytest.mark.parametrize("name", SAYS_SO)
@pytest.mark.parametrize("is_same_app", [False, True])
async def test_the_commit_wakes_a_worker(
    path: Path, name: str, is_same_app: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_listener, "_POLL_WITH_NOTIFIER", 3600.0)
    worker = _app(path)
    producer = worker if is_same_app else _app(path)
    async with worker:
        async with KINDS[name](path) as opened:
            job: Any = await producer.using(opened.connection).aenqueue("ship", (7,))
            await opened.commit()
            assert await soon(job.aresult()) == 7
    producer.close()


@pytest.mark.parametrize("name", ["sqlite3", "aiosqlite"])
async def test_a_worker_sees_the_commit_of_a_driver_that_says_nothing(path: Path, name: str) -> None:
    worker = _app(path)
    async with worker:
        async with KINDS[name](path) as opened:
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
