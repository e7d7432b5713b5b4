"""The roles of the page on PostgreSQL, on a real server: each can do its work, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from jobify import Jobify, chain, current_job, group
from jobify.cli.main import run
from jobify.exceptions import StorageUnavailableError, StorageVersionError
from jobify.storage import PostgresStorage
from jobify.storage.postgres import schema
from postgres_server import PostgresServer, TestDatabases

PAGE = Path(__file__).parents[2] / "docs/guides/postgresql.md"
LACKING = "the role lacks a privilege"


def statements(title: str) -> bytes:
    """A block of SQL of the page."""
    return PAGE.read_text(encoding="utf-8").split(f'```sql title="{title}"\n')[1].partition("```")[0].encode()


class Roles(NamedTuple):
    """A database in which the statements of the page have been run."""

    admin: psycopg.Connection
    base: str

    def url(self, role: str) -> str:
        """As this role."""
        parts = urlsplit(self.base)
        return f"postgresql://shop_{role}:{role}@127.0.0.1:{parts.port}{parts.path}"

    def shop(self, role: str) -> Shop:
        return Shop(PostgresStorage(self.url(role)))


class Shop:
    """An app that connects as one of the roles."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.app = Jobify(storage=storage)

        @self.app.task(name="pack")
        async def pack(what: str, before: object = None) -> str:
            if what == "broken":
                raise ValueError("no box")
            return what

        self.pack = pack


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Roles are the server's, so these tests have one of their own."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def unprepared(server: PostgresServer) -> Iterator[Roles]:
    """The roles, in a database whose schema was not migrated."""
    databases = TestDatabases(server.url())
    url = databases.create()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(statements("roles.sql"))
        for role in ("owner", "worker", "producer", "operator", "reader"):
            admin.execute(f"ALTER ROLE shop_{role} PASSWORD '{role}'".encode())
        yield Roles(admin, url)
        for role in ("worker", "producer", "operator", "reader", "owner"):
            admin.execute(f"DROP OWNED BY shop_{role} CASCADE; DROP ROLE shop_{role}".encode())
    databases.close()


@pytest.fixture
def roles(unprepared: Roles) -> Roles:
    """The roles, each with what the page grants."""
    assert run(["db", "migrate", "--database", unprepared.url("owner")]) == 0
    unprepared.admin.execute(statements("grants.sql"))
    return unprepared


async def test_a_producer_enqueues_and_waits_and_a_worker_runs(roles: Roles) -> None:
    producer = roles.shop("producer")
    async with roles.shop("worker").app:
        pack = producer.pack
        first, again = pack.delay("tea"), await pack.adelay("milk")
        workflow = chain(group(pack.s("a"), pack.s("b")), group(pack.s("c"), pack.s("d"))).apply()
        assert await first.aresult(timeout=20) == "tea"
        assert await again.aresult(timeout=20) == "milk"
        assert [await end.aresult(timeout=20) for end in workflow] == [["a", "b"]] * 2
        failing = pack.delay("broken")
        with pytest.raises(Exception, match="no box"):
            await failing.aresult(timeout=20)
        assert producer.app.stats()["failed"] == 1
    with pytest.raises(StorageUnavailableError, match=LACKING):
        producer.app.pause_queue("default")
    producer.app.close()


async def test_each_connection_needs_the_role_that_the_page_says(roles: Roles) -> None:
    """Of a user's transaction: a producer's for ``using``, a worker's for ``current_job.transaction``."""
    shop = roles.shop("worker")

    @shop.app.task(name="bill")
    async def bill(role: str) -> str:
        async with (
            await psycopg.AsyncConnection.connect(roles.url(role)) as connection,
            current_job.transaction(connection) as transaction,
        ):
            return transaction.complete(role)
        raise AssertionError("the block returns")

    async with shop.app:
        with psycopg.connect(roles.url("producer")) as connection:
            jobs = [shop.pack.using(connection).delay("tea"), shop.pack.using(connection).delay("milk")]
            workflow = chain(group(shop.pack.s("a"), shop.pack.s("b")), shop.pack.s("c")).using(connection).apply()
        assert [await job.aresult(timeout=20) for job in jobs] == ["tea", "milk"]
        assert await workflow.aresult(timeout=20) == ["a", "b"]
        assert await bill.delay("worker").aresult(timeout=20) == "worker"
        refused = bill.delay("reader")
        with pytest.raises(Exception, match="permission denied"):
            await refused.aresult(timeout=20)
    with psycopg.connect(roles.url("reader")) as connection, pytest.raises(InsufficientPrivilege):
        shop.pack.using(connection).delay("tea")


async def test_a_worker_recovers_and_purges(roles: Roles) -> None:
    shop = roles.shop("worker")
    async with shop.app as app:
        await (await shop.pack.push("tea"))
        assert await app.apurge_jobs() == 1
        app.pause_queue("default")
        app.resume_queue("default")


async def test_an_operator_runs_every_command(roles: Roles) -> None:
    worker = roles.shop("worker")
    async with worker.app:
        failed = await worker.pack.push("broken")
        await failed.wait()
    producer = roles.shop("producer")
    ids = [producer.pack.delay("tea").id for _ in range(2)]
    producer.app.close()
    where = ["--database", roles.url("operator")]
    for words in (
        ["jobs"], ["jobs", "show", ids[0]], ["jobs", "cancel", ids[0]], ["jobs", "retry", failed.id], ["stats"],
        ["queues", "pause", "default"], ["queues", "resume", "default"], ["workers"], ["schedules"], ["db", "check"],
        ["jobs", "delete", ids[1], "--yes"], ["jobs", "purge", "--yes"], ["health", "--only", "database"],
    ):  # fmt: skip
        assert await asyncio.to_thread(run, [*words, *where]) == 0, words


def test_a_reader_reads_and_changes_nothing(roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
    producer = roles.shop("producer")
    job = producer.pack.delay("tea")
    producer.app.close()
    where = ["--database", roles.url("reader")]
    for words in (["jobs"], ["jobs", "show", job.id], ["stats"], ["workers"], ["queues"], ["db", "check"]):
        assert run([*words, *where]) == 0, words
    for words in (["jobs", "cancel", job.id], ["queues", "pause", "default"], ["jobs", "delete", job.id, "--yes"]):
        assert run([*words, *where]) == 1, words
        assert LACKING in capsys.readouterr().err
    reader = roles.shop("reader")
    with pytest.raises(StorageUnavailableError, match=LACKING):
        reader.pack.delay("tea")
    reader.app.close()


@pytest.mark.parametrize("role", ["worker", "producer", "operator"])
def test_only_the_owner_migrates(roles: Roles, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    known = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [*known, "ALTER TABLE @jobs ADD COLUMN colour text;"])
    with pytest.raises(
        StorageVersionError, match=rf"the role 'shop_{role}' may not change it\. Run jobify db migrate as the role"
    ):
        PostgresStorage(roles.url(role)).open()
    assert roles.admin.execute("SELECT max(version) FROM jobify.migrations").fetchone() == (len(known),)
    for each in ("owner", role):
        storage = PostgresStorage(roles.url(each))
        storage.open()
        storage.close()


def test_a_worker_that_starts_before_the_first_migration_says_what_to_do(unprepared: Roles) -> None:
    with pytest.raises(StorageVersionError, match="has not been made yet, and the role 'shop_worker' may not"):
        PostgresStorage(unprepared.url("worker")).open()
