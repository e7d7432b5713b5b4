"""Jobs in a user's transaction: connections × (commit, rollback, savepoint, error) × the enqueuing names."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from connections import KINDS, Kind, Opened
from shop import Shop

from jobify import chain
from jobify.exceptions import ConfigurationError, DuplicateJobError, JobNotFoundError


@pytest.fixture
def shop(tmp_path: Path) -> Any:
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
blocking = pytest.mark.parametrize("enqueue", BLOCKING)


@kinds
@awaited
async def test_a_commit_makes_the_jobs_visible_and_nothing_before_it(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.path) as opened:
        jobs = await enqueue(shop, opened.connection)
        assert shop.tasks() == []
        with pytest.raises(JobNotFoundError):
            _ = jobs[0].status
        await opened.commit()
        assert set(shop.tasks()) >= {"ship"}
        assert {job.status for job in jobs} == {"pending"}


@kinds
@awaited
async def test_a_rollback_leaves_no_job(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.path) as opened:
        await enqueue(shop, opened.connection)
        await opened.rollback()
        assert (shop.tasks(), shop.ask("SELECT count(*) FROM orders")) == ([], [(0,)])
        await enqueue(shop, opened.connection)  # the connection is as it was


@kinds
@awaited
async def test_a_rollback_to_a_savepoint_leaves_what_came_before(shop: Shop, kind: Kind, enqueue: Awaited) -> None:
    async with kind(shop.path) as opened:
        await shop.app.using(opened.connection).aenqueue("before")
        savepoint = await opened.savepoint()
        await enqueue(shop, opened.connection)
        await opened.rollback_to(savepoint)
        await shop.app.using(opened.connection).aenqueue("after")
        await opened.commit()
        assert shop.tasks() == ["before", "after"]


@kinds
async def test_a_call_that_fails_leaves_the_transaction_as_it_was(shop: Shop, kind: Kind) -> None:
    async with kind(shop.path) as opened:
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
    async with kind(shop.path) as opened:
        using = shop.ship.using(opened.connection)
        first = await using.aapply_async((1,), unique_key="k")
        second = await using.aapply_async((1,), unique_key="k")
        assert (second.id, second.created) == (first.id, False)
        await opened.commit()
        assert shop.tasks() == ["ship"]


@kinds
@blocking
async def test_names_that_block_store_or_are_refused(shop: Shop, kind: Kind, enqueue: Blocking) -> None:
    async with kind(shop.path) as opened:
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
async def test_another_database_is_refused(shop: Shop, kind: Kind, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other.db")
    async with kind(other.path) as opened:
        with pytest.raises(ConfigurationError, match=r"other\.db"):
            await shop.ship.using(opened.connection).adelay(1)
        await opened.commit()
    other.app.close()
    assert other.ask("SELECT name FROM sqlite_master WHERE name LIKE 'jobify_%'") == []


def _is_same(opened: Opened, before: Any) -> bool:
    return _settings(opened) == before


def _settings(opened: Opened) -> Any:
    connection = opened.connection
    return (connection.row_factory, connection.text_factory, connection.isolation_level, connection.in_transaction)


@pytest.mark.parametrize("kind", [KINDS[name] for name in KINDS if "sqlite" in name])
async def test_nothing_of_the_connection_is_changed(shop: Shop, kind: Kind) -> None:
    async with kind(shop.path) as opened:
        await opened.execute("INSERT INTO orders (item) VALUES ('dog')")
        before = _settings(opened)
        await shop.ship.using(opened.connection).adelay(1)
        assert _is_same(opened, before)
