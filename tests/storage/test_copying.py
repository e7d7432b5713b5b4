"""A copy of an SQLite database in PostgreSQL holds all that was there, or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobify import Concurrency, Jobify, chain, current_job, group
from jobify.exceptions import StorageError
from jobify.model.records import JobQuery, OwnerProfile, OwnerRole
from jobify.storage import PostgresStorage, SQLiteStorage, copying
from support import eventually, output

WORKER = OwnerProfile(OwnerRole.WORKER, None, ("shop.pack",), 1)
NOW = 2_000_000_000_000_000


class Shop:
    """An app with all that leaves something behind."""

    def __init__(self, storage: SQLiteStorage | PostgresStorage) -> None:
        self.app = app = Jobify(storage=storage)

        @app.task(name="shop.pack")
        async def pack(what: str) -> str:
            current_job.publish(len(what))
            current_job.log(f"packs {what[:10]}")
            if what == "broken":
                raise ValueError("no \0 box")
            return what

        @app.task(name="shop.add", queue="slow")
        def add(number: int, before: list[int] | int = 0) -> int:
            return number

        self.pack, self.add = pack, add


@pytest.fixture
def old(tmp_path: Path) -> SQLiteStorage:
    return SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")


@pytest.fixture
def new(empty_postgres: str) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(empty_postgres, schema="my jobs")
    yield storage
    storage.close()


async def fill(old: SQLiteStorage) -> None:
    """Jobs that have ended, that wait, that depend on others, and schedules."""
    shop = Shop(old)
    async with shop.app as app:
        await (await shop.pack.push("tea"))
        await (await shop.pack.push("x" * 300_000))
        await (await shop.pack.push("broken")).wait()
        await app.apause_queue("slow")
        await shop.pack.schedule("nul \0 and é").at(datetime.now(UTC) + timedelta(days=1))
        await shop.add.schedule(1).cron("0 3 * * *", job_id="nightly")
        await chain(group(shop.add.s(2), shop.add.s(3)), group(shop.add.s(4), shop.add.s(5))).aapply()


def contents(storage: Any) -> dict[str, Any]:
    """All that the port says of a storage."""
    rows = {row.id: row for row in storage.find(JobQuery(limit=1000))}
    return {
        "jobs": rows,
        "attempts": {id: storage.attempts(id) for id in rows},
        "messages": {id: storage.messages(id, after=0, limit=100) for id in rows},
        "relations": {id: storage.relations(id) for id in rows},
        "parents": {id: storage.parents(id) for id in rows},
        "paused": storage.paused_queues(),
    }


async def test_all_is_there_and_goes_on(old: SQLiteStorage, new: PostgresStorage) -> None:
    await fill(old)
    copied = copying.copy(old, new)
    old.open()
    new.open()
    assert contents(new) == contents(old)
    assert copied.rows["jobs"] == len(contents(old)["jobs"]) == 9
    assert min(copied.rows[name] for name in ("attempts", "messages", "dependencies", "barriers", "paused_queues")) > 0
    old.close()
    new.close()
    shop = Shop(new)
    async with shop.app as app:
        await app.aresume_queue("slow")
        await eventually(lambda: app.stats(queue="slow")["complete"] == 4)


DEATH = """
import os, sys
from jobify.model.records import ClaimRequest, OwnerProfile, OwnerRole, TaskSlots
from jobify.storage import SQLiteStorage

storage = SQLiteStorage(sys.argv[1])
storage.open()
owner = storage.register(OwnerProfile(OwnerRole.WORKER, None, ("shop.pack",), 1), now=2 * 10**15)
print(storage.claim(ClaimRequest(owner, (TaskSlots(("shop.pack",), 1),)), now=2 * 10**15).claims[0].id, flush=True)
os._exit(0)
"""


async def test_what_a_dead_process_held_runs_again(old: SQLiteStorage, new: PostgresStorage) -> None:
    shop = Shop(old)
    id = shop.pack.delay("tea").id
    shop.app.close()
    assert output("-c", DEATH, old.database) == f"{id}\n"
    assert copying.copy(old, new).rows["owners"] == 1
    async with Shop(new).app as app:
        assert await app.get_job(id).aresult(timeout=20) == "tea"


async def test_nothing_is_copied_over_something(old: SQLiteStorage, new: PostgresStorage) -> None:
    await fill(old)
    copying.copy(old, new)
    with pytest.raises(StorageError, match=r"is not empty \(table jobs\)\. Nothing was copied"):
        copying.copy(old, new)


async def test_processes_that_are_alive_are_in_the_way(old: SQLiteStorage, new: PostgresStorage) -> None:
    await fill(old)
    other = PostgresStorage(new.url, schema=new.schema)
    for living in (SQLiteStorage(old.database), other):
        living.open()
        living.register(WORKER, now=NOW)
        with pytest.raises(StorageError, match="Stop them first"):
            copying.copy(old, new)
        living.close()
    assert copying.copy(old, new).rows["jobs"] == 9


async def test_what_ends_in_the_middle_has_copied_nothing(old: SQLiteStorage, new: PostgresStorage) -> None:
    await fill(old)
    with closing(sqlite3.connect(old.database)) as connection:
        connection.execute("DELETE FROM value_parts WHERE seq = (SELECT max(seq) FROM value_parts)")
        connection.commit()
    with pytest.raises(StorageError, match=r"A part of a stored value is missing\. Nothing was copied"):
        copying.copy(old, new)
    with psycopg.connect(new.url) as connection:
        for table in ("jobs", "attempts", "paused_queues"):
            assert connection.execute(f'SELECT count(*) FROM "my jobs".{table}'.encode()).fetchone() == (0,)


async def test_numbers_go_on_after_the_last_one(old: SQLiteStorage, new: PostgresStorage) -> None:
    """A number that was given again would be taken for the job that had it before."""
    shop = Shop(old)
    assert shop.app.delete_jobs([shop.pack.delay("tea") for _ in range(3)]) == 3
    shop.app.close()
    copying.copy(old, new)
    with psycopg.connect(new.url) as connection:
        asked = """SELECT nextval(pg_get_serial_sequence('"my jobs".jobs', 'seq'))"""
        assert connection.execute(asked).fetchone() == (4,)


async def test_what_waits_for_a_limit_runs_in_the_copy(old: SQLiteStorage, new: PostgresStorage) -> None:
    def made(storage: SQLiteStorage | PostgresStorage) -> Jobify:
        app = Jobify(storage=storage)

        @app.task(name="shop.sync", limits=[Concurrency(5, name="api")])
        async def sync(number: int) -> int:
            return number

        return app

    before = made(old)
    before.set_limit("api", 0)
    jobs = [before.enqueue("shop.sync", (number,)) for number in range(3)]
    async with before:
        await eventually(lambda: [limit.waiting for limit in before.limits()] == [3])
    copying.copy(old, new)
    app = made(new)
    assert [limit.limit for limit in app.limits()] == [0]
    app.reset_limit("api")
    async with app:
        assert [await app.get_job(job.id).aresult(timeout=30) for job in jobs] == [0, 1, 2]
