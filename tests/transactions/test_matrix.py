"""Jobs in a user's transaction: connections × (commit, rollback, savepoint, error) × the enqueuing names."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiosqlite
import psycopg
import pytest
from connections import KINDS, Kind, Opened
from shop import Shop, make_file, make_orders

from jobify import chain
from jobify.exceptions import ConfigurationError, DuplicateJobError, JobNotFoundError


@pytest.fixture
def shop(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    if kind.is_postgres:
        yield request.getfixturevalue("postgres_shop")
        return
    shop = Shop(tmp_path / "shop.db", synchronous="normal")
    shop.app.stats()  # the tables are there
    yield shop
    shop.app.close()


async def _adelay(shop: Shop, to: Any) -> list[Any]:
    return [await shop.ship.using(to).adelay(1)]


async def _aapply_async(shop: Shop, to: Any) -> list[Any]:
    return [await shop.ship.using(to).aapply_async((1,), priority=3, unique_key="1")]


async def _configured(shop: Shop, to: Any) -> list[Any]:
    return [await shop.ship.configure(queue="slow").using(to).adelay(1)]


async def _amap(shop: Shop, to: Any) -> list[Any]:
    return await shop.ship.using(to).amap([(number,) for number in range(600)])


async def _push(shop: Shop, to: Any) -> list[Any]:
    return [await shop.ship.using(to).push(1, how="fast")]


async def _schedule(shop: Shop, to: Any) -> list[Any]:
    return [await shop.ship.using(to).schedule(1).delay(60), await shop.ship.using(to).schedule(2).push(job_id="two")]


async def _aenqueue(shop: Shop, to: Any) -> list[Any]:
    return [await shop.app.using(to).aenqueue("ship", (1,), delay=60)]


async def _aenqueue_many(shop: Shop, to: Any) -> list[Any]:
    return await shop.app.using(to).aenqueue_many([shop.ship.s(1), shop.thank.s("x" * 100_000)])


async def _workflow(shop: Shop, to: Any) -> list[Any]:
    return [await chain(shop.ship.s(1), shop.thank.s()).using(to).aapply()]


def _delay(shop: Shop, to: Any) -> list[Any]:
    return [shop.ship.using(to).delay(1)]


def _apply_async(shop: Shop, to: Any) -> list[Any]:
    return [shop.ship.using(to).apply_async((1,), unique_key="1")]


def _map(shop: Shop, to: Any) -> list[Any]:
    return shop.ship.using(to).map([(1,), (2,)])


def _enqueue(shop: Shop, to: Any) -> list[Any]:
    return [shop.app.using(to).enqueue(shop.ship, (1,))]


def _enqueue_many(shop: Shop, to: Any) -> list[Any]:
    return shop.app.using(to).enqueue_many("ship", [(1,), (2,)])


def _apply(shop: Shop, to: Any) -> list[Any]:
    return [chain(shop.ship.s(1), shop.thank.s()).using(to).apply()]


Awaited = Callable[[Shop, Any], Coroutine[Any, Any, list[Any]]]
Blocking = Callable[[Shop, Any], list[Any]]

AWAITED = [
    _adelay,
    _aapply_async,
    _configured,
    _amap,
    _push,
    _schedule,
    _aenqueue,
    _aenqueue_many,
    _workflow,
]
BLOCKING = [_delay, _apply_async, _map, _enqueue, _enqueue_many, _apply]

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
awaited = pytest.mark.parametrize("enqueue", AWAITED)
some = pytest.mark.parametrize("enqueue", [_adelay, _amap, _schedule, _aenqueue_many, _workflow])
blocking = pytest.mark.parametrize("enqueue", BLOCKING)


@kinds
@awaited
async def test_a_commit_makes_the_jobs_visible_and_nothing_before_it(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.place) as opened:
        jobs = await enqueue(shop, opened.connection)
        assert shop.tasks() == []
        with pytest.raises(JobNotFoundError):
            _ = jobs[0].status
        await opened.commit()
        assert set(shop.tasks()) >= {"ship"}
        assert {job.status for job in jobs[:3]} == {"pending"}


@kinds
@some
async def test_a_rollback_leaves_no_job(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.place) as opened:
        await enqueue(shop, opened.connection)
        await opened.rollback()
        assert (shop.tasks(), shop.ask("SELECT count(*) FROM orders")) == ([], [(0,)])
        await enqueue(shop, opened.connection)  # the connection is as it was


@kinds
@some
async def test_a_rollback_to_a_savepoint_leaves_what_came_before(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.place) as opened:
        await shop.app.using(opened.connection).aenqueue("before")
        savepoint = await opened.savepoint()
        await enqueue(shop, opened.connection)
        await opened.rollback_to(savepoint)
        await shop.app.using(opened.connection).aenqueue("after")
        await opened.commit()
        assert shop.tasks() == ["before", "after"]


@kinds
async def test_a_call_that_fails_leaves_the_transaction_as_it_was(shop: Shop, kind: Kind) -> None:
    async with kind(shop.place) as opened:
        using = shop.app.using(opened.connection)
        await using.aenqueue("first", job_id="taken")
        with pytest.raises(DuplicateJobError):
            await using.aenqueue_many([shop.ship.s(1), shop.ship.s(2).set(job_id="taken")])
        with pytest.raises(TypeError):
            await shop.ship.using(opened.connection).aapply_async(("too", "many", "arguments"))
        await using.aenqueue("last")
        await opened.commit()
        assert shop.tasks() == ["first", "last"]


@kinds
async def test_a_unique_key_counts_in_the_transaction(shop: Shop, kind: Kind) -> None:
    async with kind(shop.place) as opened:
        using = shop.ship.using(opened.connection)
        first = await using.aapply_async((1,), unique_key="k")
        second = await using.aapply_async((1,), unique_key="k")
        assert (second.id, second.created) == (first.id, False)
        await opened.commit()
        assert shop.tasks() == ["ship"]


@kinds
@blocking
async def test_names_that_block_store_or_are_refused(shop: Shop, kind: Kind, enqueue: Blocking) -> None:
    async with kind(shop.place) as opened:
        if opened.is_async:
            with pytest.raises(ConfigurationError, match="adelay"):
                enqueue(shop, opened.connection)
            await opened.commit()
            assert shop.tasks() == []
            return
        enqueue(shop, opened.connection)
        assert shop.tasks() == []
        await opened.commit()
        assert set(shop.tasks()) >= {"ship"}


@kinds
@pytest.mark.parametrize("commits", [True, False])
async def test_a_job_is_replaced_by_the_commit(shop: Shop, kind: Kind, commits: bool) -> None:
    for number, is_replace in ((1, False), (2, True)):
        async with kind(shop.place) as opened:
            using = shop.ship.using(opened.connection)
            await using.schedule(number).delay(60, job_id="one", replace=is_replace)
            await using.schedule(number).cron(f"0 {number} * * *", job_id="two", replace=is_replace)
            await using.schedule(number).push(job_id="three", replace=True)
            await using.schedule(number + 10).push(job_id="three", replace=True)
            await (opened.commit() if commits or not is_replace else opened.rollback())
    last = 2 if commits else 1
    assert [shop.app.get_job(name).args for name in ("one", "two", "three")] == [[last], [last], [last + 10]]
    assert len(shop.tasks()) == 3
    assert shop.ask("SELECT count(*) FROM jobify_successors") == [(0,)]


@pytest.fixture
def other_place(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Path | str:
    if kind.is_postgres:
        return make_orders(request.getfixturevalue("empty_postgres"))
    return make_file(tmp_path / "other.db")


@kinds
async def test_another_database_is_refused(shop: Shop, kind: Kind, other_place: Path | str) -> None:
    async with kind(other_place) as opened:
        with pytest.raises(ConfigurationError, match=str(other_place).rpartition("/")[2]):
            await shop.ship.using(opened.connection).adelay(1)
        await opened.execute("SELECT 1")  # the transaction goes on
        await opened.commit()
    assert shop.tasks() == []


async def _settings(opened: Opened) -> Any:
    """What the user has chosen for the connection, and what the server has for its session."""
    connection = opened.connection
    if isinstance(connection, sqlite3.Connection | aiosqlite.Connection):
        return (connection.row_factory, connection.text_factory, connection.isolation_level, connection.in_transaction)
    session = "SELECT name, setting FROM pg_catalog.pg_settings ORDER BY name"
    prepared = "SELECT name FROM pg_catalog.pg_prepared_statements ORDER BY name"
    if isinstance(connection, psycopg.Connection):
        with psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row) as cursor:
            asked = [cursor.execute(one, prepare=False).fetchall() for one in (session, prepared)]
        chosen = [connection.row_factory, connection.cursor_factory, connection.autocommit, connection.isolation_level]
        return (*chosen, connection.prepare_threshold, connection.info.transaction_status, asked)
    if isinstance(connection, psycopg.AsyncConnection):
        cursors = [await connection.execute(one, prepare=False) for one in (session, prepared)]
        chosen = [connection.row_factory, connection.cursor_factory, connection.autocommit, connection.isolation_level]
        return (*chosen, connection.prepare_threshold, [await cursor.fetchall() for cursor in cursors])
    asked = [await connection.fetch(one) for one in (session, prepared, session, prepared)][2:]
    return connection.is_in_transaction(), connection.get_reset_query(), [list(map(tuple, rows)) for rows in asked]


@pytest.mark.parametrize("kind", [KINDS[name] for name in KINDS if re.match("sqlite|aio|psycopg|async", name)])
async def test_nothing_of_the_connection_is_changed(shop: Shop, kind: Kind) -> None:
    async with kind(shop.place) as opened:
        await opened.execute("SELECT 1" if kind.is_postgres else "INSERT INTO orders (item) VALUES ('dog')")
        before = await _settings(opened)
        await shop.ship.using(opened.connection).adelay(1)
        await shop.ship.using(opened.connection).amap([(1,), (2,)])
        assert await _settings(opened) == before
        await opened.commit()
