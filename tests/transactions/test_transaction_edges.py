"""What is refused, what fails, and what happens around a user's transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from connections import INSERT, KINDS, django_connection
from shop import Shop
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from jobify import Cron, Jobify, chain, group
from jobify.exceptions import ConfigurationError, DuplicateJobError, JobNotFoundError, StorageError
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import table_names
from jobify.storage.sqlite.joined import JoinedDatabase, require_same_file
from jobify.storage.transactions import Answer
from jobify.transactions import commits, connect, port
from jobify.transactions.port import Stored
from support import run, soon


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "shop.db", synchronous="normal")
    shop.app.stats()
    yield shop
    shop.app.close()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [None, "shop.db", object()])
def test_what_is_no_connection_is_refused(shop: Shop, connection: Any) -> None:
    with pytest.raises(ConfigurationError, match="no connection"):
        shop.ship.using(connection)
    with pytest.raises(ConfigurationError, match="no connection"):
        shop.app.using(connection)
    with pytest.raises(ConfigurationError, match="no connection"):
        chain(shop.ship.s(1)).using(connection).apply()


@pytest.mark.parametrize("storage", [False, SQLiteStorage(":memory:")])
def test_jobs_in_memory_take_part_in_no_transaction(tmp_path: Path, storage: Any) -> None:
    app = Jobify(storage=storage)

    @app.task
    def ship(order: int) -> None: ...

    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        with pytest.raises(ConfigurationError, match="storage"):
            ship.using(connection).delay(1)
    app.close()


def test_a_private_database_is_another_one(shop: Shop) -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(ConfigurationError, match="private"):
        shop.ship.using(connection).delay(1)


def test_another_kind_of_database_is_refused() -> None:
    class Other:
        dialect = "postgresql"

        def execute(self, statement: str, parameters: Any = ()) -> Answer:
            raise AssertionError(statement)

    with pytest.raises(ConfigurationError, match="postgresql"):
        require_same_file(Other(), "shop.db")


def test_a_storage_of_another_kind_is_refused(shop: Shop) -> None:
    class Own(SQLiteStorage):
        join = None  # type: ignore[assignment]

    app = Jobify(storage=Own(shop.path))

    @app.task
    def ship(order: int) -> None: ...

    with closing(sqlite3.connect(shop.path)) as connection, pytest.raises(ConfigurationError, match="SQLiteStorage"):
        ship.using(connection).delay(1)
    app.close()


async def test_schedules_of_a_transaction_are_new_jobs(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        using = shop.ship.using(connection)
        await using.schedule(1).delay(-5)
        await using.schedule(2).delay(60)
        with pytest.raises(ConfigurationError, match="datetime"):
            using.schedule(1).at("tomorrow")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            using.schedule()  # type: ignore[call-arg]
        with pytest.raises(ConfigurationError):
            using.configure(priorty=1)  # type: ignore[call-arg]
        connection.commit()
    assert shop.ask("SELECT ready FROM jobify_jobs ORDER BY seq") == [(1,), (0,)]
    assert "ship" in repr(using)


async def test_what_a_replacement_cannot_be(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        using = shop.ship.using(connection)
        with pytest.raises(ConfigurationError, match="job_id"):
            await using.schedule(1).push(replace=True)
        with pytest.raises(ConfigurationError, match="unique_key"):
            await using.configure(unique_key="k").schedule(1).push(job_id="one", replace=True)
    assert shop.tasks() == []


async def test_a_replacement_that_changes_nothing_or_is_another_app_s(shop: Shop) -> None:
    when = datetime(2100, 1, 1, tzinfo=UTC)
    shop.app.enqueue("elsewhere", job_id="theirs")
    with closing(sqlite3.connect(shop.path)) as connection:
        using = shop.ship.using(connection)
        for is_force in (False, False, True):
            await using.schedule(1).at(when, job_id="one", replace=True, force=is_force)
            connection.commit()
        with pytest.raises(DuplicateJobError):
            await using.schedule(1).push(job_id="theirs", replace=True)
    assert shop.ask("SELECT id, fence FROM jobify_jobs ORDER BY id") == [("one", 1), ("theirs", 0)]


async def test_a_cron_begins_with_the_commit(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        using = shop.ship.using(connection)
        job = await using.schedule(1).cron("0 3 * * *", job_id="nightly")
        await using.schedule(1).cron(Cron("@daily", max_runs=2), job_id="daily")
        with pytest.raises(DuplicateJobError):
            await using.schedule(1).cron("0 4 * * *", job_id="nightly")
        with pytest.raises(ConfigurationError, match="unique_key"):
            await using.configure(unique_key="k").schedule(1).cron("0 4 * * *", job_id="other")
        with pytest.raises(ConfigurationError, match="expression"):
            using.schedule(1).cron(5, job_id="other")  # type: ignore[arg-type]
        assert shop.app.schedules() == []
        connection.commit()
    assert job.id == "nightly"
    assert {view.id for view in shop.app.schedules()} == {"nightly", "daily"}
    async with shop.app:  # what a push makes of the same rule
        same = await shop.ship.schedule(1).cron("0 3 * * *", job_id="pushed")
        assert same.exec_at == (await shop.app.aget_job("nightly")).eta


# -- what happens ------------------------------------------------------------------------------------------------------


def test_on_a_connection_that_commits_each_statement_a_call_is_a_transaction(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path, isolation_level=None)) as connection:
        shop.ship.using(connection).delay(1)
        assert (shop.tasks(), connection.in_transaction) == (["ship"], False)
        with pytest.raises(DuplicateJobError):
            shop.app.using(connection).enqueue_many([shop.ship.s(1).set(job_id="a"), shop.ship.s(2).set(job_id="a")])
        assert (shop.tasks(), connection.in_transaction) == (["ship"], False)


async def test_an_async_connection_that_commits_each_statement(shop: Shop) -> None:
    async with aiosqlite.connect(shop.path, isolation_level=None) as connection:
        await shop.ship.using(connection).adelay(1)
        assert shop.tasks() == ["ship"]


def test_the_first_use_of_a_storage_may_be_in_a_transaction(shop: Shop, tmp_path: Path) -> None:
    app = Jobify(storage=SQLiteStorage(shop.path, timeout=0))
    with closing(sqlite3.connect(shop.path)) as connection:
        connection.execute(INSERT)
        app.using(connection).enqueue("ship", (1,))
        connection.commit()
    app.close()
    assert shop.tasks() == ["ship"]


def test_a_file_of_jobify_alone_works_as_well(tmp_path: Path) -> None:
    app = Jobify(storage=SQLiteStorage(tmp_path / "jobs.db"))
    app.stats()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        app.using(connection).enqueue("ship", (1,))
        assert app.stats()["pending"] == 0
        connection.commit()
    assert app.stats()["pending"] == 1
    app.close()


def test_errors_of_the_driver_pass_and_the_transaction_goes_on(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as other, closing(sqlite3.connect(shop.path, timeout=0)) as connection:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            shop.ship.using(connection).delay(1)
        other.rollback()
        shop.ship.using(connection).delay(1)
        connection.commit()
        assert shop.tasks() == ["ship"]
        connection.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            shop.ship.using(connection).delay(1)


def test_a_transaction_that_sqlite_has_given_up_is_said_by_its_error(shop: Shop) -> None:
    class Failing:
        dialect = "sqlite"
        statements: list[str] = []  # noqa: RUF012

        def execute(self, statement: str, parameters: Any = ()) -> Answer:
            self.statements.append(statement)
            if statement.startswith("ROLLBACK TO"):
                raise sqlite3.OperationalError("no such savepoint")
            return Answer()

    database = JoinedDatabase(Failing(), has_prefix=True)
    with pytest.raises(ValueError, match="the first"), database.atomic():
        raise ValueError("the first")
    assert database.row("SELECT 1") is None


class Watching(BaseOuterMiddleware):
    def __init__(self, lets_pass: bool) -> None:
        self.lets_pass = lets_pass

    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        await asyncio.sleep(0)
        return await call_next(context) if self.lets_pass else None


@pytest.mark.parametrize("lets_pass", [True, False])
async def test_outer_middleware_runs_before_an_insert_and_a_replacement(shop: Shop, lets_pass: bool) -> None:
    app = Jobify(storage=SQLiteStorage(shop.path), outer_middleware=[Watching(lets_pass)])

    @app.task(name="watched")
    def watched(order: int) -> None: ...

    with closing(sqlite3.connect(shop.path)) as connection:
        watched.using(connection).delay(1)  # in a thread with an event loop: the middleware runs in another one
        await watched.using(connection).adelay(2)
        await watched.using(connection).schedule(3).push(job_id="one", replace=True)
        assert shop.tasks() == []
        connection.commit()
    app.close()
    assert shop.tasks() == ["watched"] * 3 * lets_pass


def test_an_empty_workflow_stores_nothing(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as connection:
        assert group().using(connection).apply() == []


async def test_an_empty_workflow_stores_nothing_async(shop: Shop) -> None:
    async with aiosqlite.connect(shop.path) as connection:
        assert await group().using(connection).aapply() == []


async def test_a_cancelled_caller_leaves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiosqlite.connect(shop.path) as connection:
        await connection.execute(INSERT)
        begun = asyncio.Event()
        execute = port._BlockingStatements._await

        async def hanging(self: Any, statement: str, parameters: Any) -> Answer:
            if statement.startswith("INSERT") and not begun.is_set():
                begun.set()
                self._running = asyncio.ensure_future(asyncio.sleep(3600))
                await self._running
            return await execute(self, statement, parameters)

        monkeypatch.setattr(port._BlockingStatements, "_await", hanging)
        caller = asyncio.ensure_future(shop.ship.using(connection).adelay(1))
        await soon(begun.wait())
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(caller)
        await shop.thank.using(connection).adelay("x")
        await connection.commit()
    assert shop.tasks() == ["thank"]


def test_sessions_of_a_thread(shop: Shop) -> None:
    engine = create_engine(f"sqlite:///{shop.path}")
    sessions = scoped_session(sessionmaker(engine))
    shop.ship.using(sessions).delay(1)
    sessions.commit()
    sessions.remove()
    engine.dispose()
    assert shop.tasks() == ["ship"]


async def test_sessions_of_a_task(shop: Shop) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{shop.path}")
    sessions = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    await shop.ship.using(sessions).adelay(1)
    await sessions.commit()
    await sessions.remove()
    await engine.dispose()
    assert shop.tasks() == ["ship"]


def test_a_broken_block_of_django_takes_no_job(shop: Shop) -> None:
    with django_connection(shop.path) as connection:
        from django.db import transaction

        with transaction.atomic(using="shop"):
            connection.set_rollback(True)
            with pytest.raises(transaction.TransactionManagementError):
                shop.ship.using(connection).delay(1)
    assert shop.tasks() == []


def test_the_connection_of_django_may_be_its_proxy(shop: Shop) -> None:
    with django_connection(shop.path):
        from django.db import connections
        from django.utils.connection import ConnectionProxy

        shop.ship.using(ConnectionProxy(connections, "shop")).delay(1)
    assert shop.tasks() == ["ship"]


async def test_a_handle_of_a_job_that_was_rolled_back(shop: Shop) -> None:
    async with KINDS["aiosqlite"](shop.path) as opened:
        job = await shop.ship.using(opened.connection).adelay(1)
        await opened.rollback()
        with pytest.raises(JobNotFoundError):
            job.result(timeout=1)


async def test_another_connection_may_follow(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path)) as first, closing(sqlite3.connect(shop.path)) as second:
        submitter = shop.app.using(first).client
        submitter.using(second).delay_all("ship", [((1,), {}), ((2,), {})])
        assert (first.in_transaction, second.in_transaction) == (False, True)
        second.commit()
        await shop.app.using(first).aenqueue_many("ship", [(3,)])
        first.commit()
    assert shop.tasks() == ["ship"] * 3


@pytest.mark.parametrize("kind", ["aiosqlite", "AsyncSession"])
async def test_work_that_blocks_runs_on_no_async_connection(shop: Shop, kind: str) -> None:
    async with KINDS[kind](shop.path) as opened:
        with pytest.raises(ConfigurationError, match="async"):
            connect(opened.connection).run(lambda statements: None)


def test_options_and_arguments_of_a_rule_reach_the_row(shop: Shop) -> None:
    @shop.app.task
    def tidy(days: int = 1) -> None: ...

    with closing(sqlite3.connect(shop.path)) as connection:
        shop.ship.configure(priority=3).using(connection).delay(1)
        run(tidy.using(connection).schedule().cron(Cron("@daily", args=(7,)), job_id="daily"))
        connection.commit()
    assert shop.ask("SELECT priority FROM jobify_jobs ORDER BY seq") == [(3,), (0,)]
    assert shop.app.get_job("daily").args == [7]


def test_an_engine_is_no_connection(shop: Shop) -> None:
    engine = create_engine(f"sqlite:///{shop.path}")
    with pytest.raises(ConfigurationError, match="no connection"):
        shop.ship.using(engine)
    engine.dispose()


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_commit_that_never_comes_notifies_no_one(is_broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_PATIENCE", 0.05)
    monkeypatch.setattr(commits, "_LINGER", 0.0)
    watch = commits.CommitWatch()
    notified: list[None] = []
    looks: list[object] = []

    def find(ids: Any) -> list[str]:
        looks.append(ids)
        if is_broken:
            raise StorageError("gone")
        return []

    watch.add(Stored("one", lambda: notified.append(None), find))
    thread = watch._thread
    assert thread is not None
    thread.join(30)
    assert (thread.is_alive(), watch._thread, notified) == (False, None, [])
    assert len(looks) == 1 if is_broken else len(looks) >= 1


def test_commits_are_looked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_LINGER", 0.0)
    watch = commits.CommitWatch()
    notified: list[str] = []
    visible: set[str] = set()
    looks: list[int] = []

    def find(ids: Any) -> set[str]:
        looks.append(len(ids))
        return visible & set(ids)

    def notify() -> None:
        notified.append("one app")

    for number in range(100):
        watch.add(Stored(str(number), notify, find))
    visible.update(map(str, range(100)))
    thread = watch._thread
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()
    assert 1 <= len(notified) <= len(looks) < 100


def test_texts_of_statements_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_names, "_MOST", 2)
    with closing(sqlite3.connect(":memory:", factory=table_names.PrefixedConnection)) as connection:
        for number in range(5):
            assert connection.execute(f"SELECT {number}").fetchone() == (number,)
        assert len(connection._translated) <= 2
