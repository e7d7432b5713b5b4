"""What a user's transaction on PostgreSQL keeps others from, what it waits for, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import asyncpg
import psycopg
import pytest
from connections import INSERT, KINDS, Kind, async_engine_of, django_connection, engine_of
from shop import Shop, make_orders
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobify import Jobify, chain, current_job
from jobify.exceptions import ConfigurationError, DuplicateJobError
from jobify.model.records import NewJob
from jobify.storage import PostgresStorage
from jobify.storage.transactions import Answer
from jobify.transactions import connect
from jobify.transactions.asyncpg_driver import literal
from postgres_server import PostgresServer
from support import eventually, opened, soon

ODD = "o'x\\y\"{}, $1 %s %(p1)s \N{SNOWMAN}\N{GRINNING FACE}\n\U0010ffff1"


@pytest.fixture
def shop(postgres_shop: Shop) -> Shop:
    return postgres_shop


@pytest.fixture
def url(shop_url: str) -> str:
    return shop_url


# -- unique keys -------------------------------------------------------------------------------------------------------


def _apart(shop: Shop, url: str) -> Any:
    return shop.ship.apply_async((2,), unique_key="k")


def _many_apart(shop: Shop, url: str) -> Any:
    return shop.ship.map([(2,), (3,)], unique_key="k")[0]


def _in_another_transaction(shop: Shop, url: str) -> Any:
    with psycopg.connect(url) as connection:
        return shop.ship.using(connection).apply_async((2,), unique_key="k")


@pytest.mark.parametrize("second", [_apart, _many_apart, _in_another_transaction])
@pytest.mark.parametrize("commits", [True, False])
def test_a_unique_key_of_an_open_transaction_is_waited_for(
    shop: Shop, url: str, second: Callable[[Shop, str], Any], commits: bool
) -> None:
    found: list[Any] = []
    with psycopg.connect(url) as connection:
        first = shop.ship.using(connection).apply_async((1,), unique_key="k")
        thread = threading.Thread(target=lambda: found.append(second(shop, url)))
        thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually_sync(lambda: shop.ask(waiting)[0][0])
        assert found == []
        connection.commit() if commits else connection.rollback()
        thread.join(30)
    assert found[0].created is not commits
    assert (found[0].id == first.id) is commits
    assert len(shop.tasks()) == 1


def eventually_sync(condition: Callable[[], Any]) -> None:
    asyncio.run(eventually(condition))


# -- what others can do meanwhile --------------------------------------------------------------------------------------


def test_a_workflow_that_is_not_committed_yet_holds_up_no_other(shop: Shop, url: str) -> None:
    with psycopg.connect(url) as connection:
        chain(shop.ship.s(1), shop.thank.s()).using(connection).apply()
        shop.app.using(connection).enqueue_many([shop.ship.s(1).set(job_id="one"), shop.ship.s(2).set(job_id="two")])
        done: list[Any] = []
        other = threading.Thread(target=lambda: done.append(chain(shop.ship.s(2), shop.thank.s()).apply().cancel()))
        other.start()
        other.join(30)
        assert len(done) == 1
        connection.commit()
    assert len(shop.tasks()) == 6


async def test_a_job_may_wait_for_one_that_others_see(shop: Shop, url: str) -> None:
    parent = shop.ship.delay(1)
    with psycopg.connect(url) as connection:
        child = shop.thank.using(connection).apply_async(("x",), depends_on=parent)
        connection.commit()
    assert shop.ask("SELECT blockers FROM jobify_jobs ORDER BY seq") == [(0,), (1,)]
    parent.cancel()
    assert child.status == "cancelled"


def test_an_ended_job_gives_its_id_to_one_of_a_transaction(shop: Shop, url: str) -> None:
    shop.ship.apply_async((1,), job_id="again").cancel()
    with psycopg.connect(url) as connection:
        shop.ship.using(connection).apply_async((2,), job_id="again")
        shop.ship.using(connection).map([(1,), (2,)])
        connection.commit()
        with pytest.raises(DuplicateJobError):
            shop.ship.using(connection).apply_async((2,), job_id="again")
        connection.commit()
    assert len(shop.tasks()) == 3
    assert shop.app.get_job("again").status == "pending"


# -- a call that is made again -----------------------------------------------------------------------------------------


def test_a_second_insert_of_a_call_is_no_duplicate(shop: Shop, url: str) -> None:
    with opened(PostgresStorage(url)) as storage:
        rows = [NewJob("once", "ship", "default", 0, "scheduled", True, 1, 1, b"", *NewJob._field_defaults.values())]
        with psycopg.connect(url) as connection:
            insert: Callable[[Any], list[bool]] = lambda statements: storage.join(statements).insert(rows)  # noqa: E731
            assert connect(connection).run(insert) == [True]
            connection.commit()
            assert connect(connection).run(insert) == [False]
            connection.commit()
    assert shop.tasks() == ["ship"]


def test_a_transaction_that_has_failed_says_so_and_can_be_made_again(shop: Shop, url: str) -> None:
    with psycopg.connect(url) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            shop.ship.using(connection).delay(1)
        connection.rollback()
        shop.ship.using(connection).delay(1)
    assert shop.tasks() == ["ship"]


def test_errors_come_as_those_of_sqlalchemy(shop: Shop, url: str) -> None:
    with engine_of(url) as engine, engine.connect() as connection:
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT * FROM nowhere"))
        with pytest.raises(DBAPIError):
            shop.ship.using(connection).delay(1)


async def test_a_cancelled_caller_leaves_nothing(shop: Shop, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        with psycopg.connect(url) as holder:
            shop.ship.using(holder).apply_async((1,), unique_key="k")
            caller = asyncio.ensure_future(shop.ship.using(connection).aapply_async((2,), unique_key="k"))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await eventually(lambda: shop.ask(waiting)[0][0])
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(caller)
            holder.rollback()
        await connection.rollback()
        await shop.thank.using(connection).adelay("x")
        await connection.commit()
    assert shop.tasks() == ["thank"]


# -- connections that commit each statement ----------------------------------------------------------------------------


def _refuse_half(shop: Shop, connection: Any) -> None:
    with pytest.raises(DuplicateJobError):
        shop.app.using(connection).enqueue_many([shop.ship.s(1).set(job_id="a"), shop.ship.s(2).set(job_id="a")])


def test_a_call_is_a_transaction_where_each_statement_is_committed(shop: Shop, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        shop.ship.using(connection).delay(1)
        _refuse_half(shop, connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with engine_of(url) as engine, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alchemy:
        shop.ship.using(alchemy).delay(1)
        _refuse_half(shop, alchemy)
    with django_connection(url) as django:
        shop.ship.using(django).delay(1)
        _refuse_half(shop, django)
    assert shop.tasks() == ["ship"] * 3


async def test_the_same_for_async_connections(shop: Shop, url: str) -> None:
    async def refuse_half(connection: Any) -> None:
        twice = [shop.ship.s(1).set(job_id="a"), shop.ship.s(2).set(job_id="a")]
        with pytest.raises(DuplicateJobError):
            await shop.app.using(connection).aenqueue_many(twice)

    plain = await asyncpg.connect(url)
    await shop.ship.using(plain).adelay(1)
    await refuse_half(plain)
    assert not plain.is_in_transaction()
    await plain.close()
    async with async_engine_of(url, "asyncpg") as engine, engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await shop.ship.using(connection).adelay(1)
        await refuse_half(connection)
    assert shop.tasks() == ["ship"] * 2


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS.values() if kind.is_postgres],
    ids=[name for name in KINDS if KINDS[name].is_postgres],
)
async def test_odd_texts_arrive_as_they_are(shop: Shop, kind: Kind) -> None:
    async with kind(shop.place) as opened:
        jobs = await shop.app.using(opened.connection).aenqueue_many(
            [shop.thank.s(ODD).set(job_id=f"{number}{ODD}", unique_key=ODD + str(number)) for number in range(2)]
        )
        again = await shop.app.using(opened.connection).aenqueue("thank", ("x",), unique_key=f"{ODD}1")
        assert again.id == jobs[1].id == f"1{ODD}"
        await opened.commit()
    assert shop.app.get_job(f"0{ODD}").args == [ODD]


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -5, 2**63 - 1, -(2**63), 1.5, float("inf"), "", "it's", "\\x", ODD, b"", b"\0'\\",
        ["a", None, 'b"\\', "", "NULL", "{"], [1, None], [True, None], [b"a'\\", None], [1.5], [],
    ],
)  # fmt: skip
@pytest.mark.parametrize("strings", ["on", "off"])
def test_literals_mean_what_they_stand_for(url: str, value: Any, strings: str) -> None:
    kinds = {bool: "boolean", int: "bigint", float: "float8", str: "text", bytes: "bytea"}
    element = next((one for one in value if one is not None), "") if isinstance(value, list) else value
    cast = kinds.get(type(element), "text") + ("[]" if isinstance(value, list) else "")
    with psycopg.connect(url) as connection:
        connection.execute(f"SET standard_conforming_strings = {strings}")
        answer = connection.execute(f"SELECT {literal(value)}::{cast}".encode(), binary=True).fetchone()
    assert answer == (value,)


def test_what_has_no_literal_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        literal(object())


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_another_server_is_refused_and_the_same_one_may_start_again(
    own_postgres: PostgresServer, shop: Shop, url: str
) -> None:
    with psycopg.connect(make_orders(own_postgres.url())) as connection:
        with pytest.raises(ConfigurationError, match="another server"):
            shop.ship.using(connection).delay(1)
    app = Jobify(storage=PostgresStorage(own_postgres.url()))
    for _ in range(2):
        with psycopg.connect(own_postgres.url()) as connection:
            app.using(connection).enqueue("ship")
        own_postgres.restart()
    assert app.stats()["pending"] == 2
    app.close()


def test_another_kind_of_database_is_refused(shop: Shop) -> None:
    class Other:
        dialect = "sqlite"
        connection = None
        is_in_transaction = True

        def execute(self, statement: str, parameters: Any = ()) -> Answer:
            raise AssertionError(statement)

    with pytest.raises(ConfigurationError, match="sqlite"):
        PostgresStorage(str(shop.place)).join(Other())


async def test_a_call_that_blocks_is_refused_an_async_connection(shop: Shop, url: str) -> None:
    plain = await asyncpg.connect(url)
    with pytest.raises(ConfigurationError, match="adelay"):
        shop.ship.using(plain).delay(1)
    with pytest.raises(ConfigurationError, match="async"):
        connect(plain).run(lambda statements: None)
    await plain.close()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        with pytest.raises(ConfigurationError, match="async"):
            connect(connection).run(lambda statements: None)


# -- the end of a job --------------------------------------------------------------------------------------------------


async def test_jobs_that_wait_for_a_job_that_ends_in_a_transaction_run(shop: Shop, url: str) -> None:
    app = Jobify(storage=PostgresStorage(url))

    @app.task(name="pay")
    async def pay() -> str:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            async with current_job.transaction(connection) as tx:
                await tx.execute(INSERT)
                current_job.publish("half")
                return tx.complete("paid")

    @app.task(name="send")
    async def send(state: str) -> str:
        return f"{state} and shipped"

    async with app:
        job: Any = chain(pay.s(), send.s()).apply()
        assert await soon(job.aresult()) == "paid and shipped"
    assert shop.ask("SELECT CAST(data AS TEXT) FROM jobify_messages") == [('"half"',)]


def test_a_transaction_does_not_begin_inside_another_one(url: str) -> None:
    with closing(psycopg.connect(url)) as connection:
        connection.execute(INSERT)
        with pytest.raises(ConfigurationError, match="already"), current_job.transaction(connection):
            pass
