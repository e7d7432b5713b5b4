"""What a lost connection, a restart and a server that refuses mean to a storage on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from jobify.exceptions import ConfigurationError, StorageError, StorageUnavailableError, StorageVersionError
from jobify.model.records import Settled
from jobify.storage import PostgresStorage
from jobify.storage.postgres.errors import TransactionConflictError, explain
from jobify.testing.rows import NOW, PROFILE, claim, claim_once, end, job, one, running
from postgres_server import PostgresServer
from support import eventually


@contextmanager
def opened(url: str) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(url)
    storage.open()
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def administrator(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def end_connections(url: str) -> None:
    """End all other connections to the database, and wait until they are gone."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with administrator(url) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}")


def test_connections_that_were_ended_while_idle_cost_no_call(postgres_url: str) -> None:
    with opened(postgres_url) as storage:
        storage.insert([job("a")])
        assert one(storage, "a")
        end_connections(postgres_url)
        assert storage.insert([job("b")]) == [True]
        assert one(storage, "b")


def test_a_connection_that_ends_inside_a_block_takes_the_block_along(postgres_url: str) -> None:
    with opened(postgres_url) as storage:
        with pytest.raises(StorageUnavailableError, match="connects again by itself"), storage.transaction():
            storage.insert([job("a")])
            end_connections(postgres_url)
            storage.insert([job("b")])
        with pytest.raises(StorageUnavailableError), storage.transaction():
            storage.insert([job("a")])
            end_connections(postgres_url)
        assert storage.get(["a", "b"]) == []
        assert storage.insert([job("a")]) == [True]


def test_a_server_that_is_away_and_comes_back(own_postgres: PostgresServer) -> None:
    with opened(own_postgres.url()) as storage:
        storage.insert([job("a")])
        own_postgres.stop()
        for call in (lambda: storage.insert([job("b")]), lambda: storage.get(["a"]), storage.transaction().__enter__):
            with pytest.raises(StorageUnavailableError, match="cannot be reached"):
                call()
        own_postgres.start()
        assert storage.insert([job("b")]) == [True]
        assert len(storage.get(["a", "b"])) == 2


def test_a_server_that_crashes(own_postgres: PostgresServer) -> None:
    with opened(own_postgres.url()) as storage:
        storage.insert([job("a")])
        own_postgres.kill()
        own_postgres.start()
        assert one(storage, "a")
        assert storage.insert([job("b")]) == [True]


def test_a_storage_cannot_be_opened_without_a_server(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    storage = PostgresStorage(own_postgres.url())
    with pytest.raises(StorageUnavailableError, match="See whether it runs"):
        storage.open()
    own_postgres.start()
    storage.open()
    storage.close()


def test_a_database_that_takes_no_writes(postgres_url: str) -> None:
    with opened(postgres_url) as storage, administrator(postgres_url) as connection:
        storage.insert([job("a")])
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
        end_connections(postgres_url)
        with pytest.raises(StorageUnavailableError, match="Point the URL at the primary"):
            storage.insert([job("b")])
        assert one(storage, "a")


def test_a_connection_to_a_standby_is_given_up(postgres_url: str) -> None:
    """The name in the URL may lead to the new primary by now, so the next call connects again: reading, too."""

    def set_default(what: str) -> None:
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(postgres_url, autocommit=True, options=options) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} {what}".encode())

    with opened(postgres_url) as storage:
        storage.insert([job("a")])
        set_default("SET default_transaction_read_only = on")
        end_connections(postgres_url)
        with pytest.raises(StorageUnavailableError, match="Point the URL at the primary"), storage.transaction():
            storage.insert([job("b")])
        assert one(storage, "a")
        reader = storage._database._reader
        with pytest.raises(StorageUnavailableError, match="Point the URL at the primary"):
            storage.insert([job("b")])
        set_default("RESET default_transaction_read_only")
        assert storage.insert([job("b")]) == [True]
        assert one(storage, "b")
        assert storage._database._reader is not reader


def test_a_statement_that_takes_too_long(postgres_url: str) -> None:
    with administrator(postgres_url) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET statement_timeout = '200ms'")
    with opened(postgres_url) as storage, psycopg.connect(postgres_url) as blocker:
        storage.insert([job("a")])
        blocker.execute("SELECT * FROM jobify.jobs FOR UPDATE")
        with pytest.raises(StorageUnavailableError, match="statement_timeout"):
            storage.reschedule("a", due_at=NOW, now=NOW)
        blocker.rollback()
        assert storage.reschedule("a", due_at=NOW, now=NOW)


def test_no_connection_is_left(postgres_url: str) -> None:
    with administrator(postgres_url) as connection:
        connection.execute("DROP ROLE IF EXISTS jobify_limited")
        connection.execute("CREATE ROLE jobify_limited LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        info = connection.info
        url = f"postgresql://jobify_limited:x@{info.host}:{info.port}/{info.dbname}"
        try:
            with pytest.raises(StorageUnavailableError, match="up to 3"):
                PostgresStorage(url).open()
        finally:
            connection.execute("DROP ROLE jobify_limited")


def _opens(storage: PostgresStorage) -> bool:
    try:
        storage.open()
    except StorageUnavailableError:
        return False
    return True


async def test_max_connections_is_reached() -> None:
    server = PostgresServer(max_connections="8", superuser_reserved_connections="0", reserved_connections="0")
    try:
        server.start()
        with opened(server.url()) as storage, ExitStack() as others:
            storage.insert([job("a")])
            with pytest.raises(psycopg.OperationalError):
                while True:
                    others.enter_context(psycopg.connect(server.url()))
            with pytest.raises(StorageUnavailableError, match=r"no connection left\. Raise max_connections.*up to 3"):
                PostgresStorage(server.url()).open()
            assert storage.insert([job("b")]) == [True], "those that are connected go on"
            others.close()
            another = PostgresStorage(server.url())
            await eventually(lambda: _opens(another))  # the server ends those sessions a moment later
            assert one(another, "b")
            another.close()
    finally:
        server.remove()


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="a file system of its own takes root")
def test_the_disk_of_the_server_is_full(own_postgres: PostgresServer) -> None:
    """What was answered is stored, what was refused is not, and once there is room it goes on."""
    disk = own_postgres.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", str(disk)], check=True)
    try:
        (disk / "tables").mkdir(mode=0o700)
        shutil.chown(disk / "tables", own_postgres.directory.owner())
        with opened(own_postgres.url()) as storage, administrator(own_postgres.url()) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'tables'}'")
            connection.execute("ALTER TABLE jobify.jobs SET TABLESPACE small")
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(4_000_000))
            stored: list[str] = []
            with pytest.raises(StorageUnavailableError, match=r"the disk of the server is full\. Make room there"):
                while True:
                    id = f"job-{len(stored)}"
                    storage.insert([job(id, payload=bytes(1500))])
                    stored.append(id)
            assert len(storage.get(stored)) == len(stored)
            assert storage.get([f"job-{len(stored)}"]) == []
            ballast.unlink()
            assert storage.insert([job("afterwards")]) == [True]
    finally:
        own_postgres.stop()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_newer_schema_is_refused_and_not_touched(postgres_url: str) -> None:
    with opened(postgres_url), administrator(postgres_url) as connection:
        connection.execute("INSERT INTO jobify.migrations (version) VALUES (1000)")
        with pytest.raises(StorageVersionError, match="Update Jobify"):
            PostgresStorage(postgres_url).open()


def test_calls_that_wait_for_each_other_are_made_again(postgres_url: str) -> None:
    """The server ends one of two inserts that want the keys of each other."""
    with opened(postgres_url) as storage, opened(postgres_url) as other:
        answers: list[list[bool]] = []
        keys = [str(number) for number in range(300)]
        there = [job(f"there-{key}", unique_key=key) for key in keys]
        back = [job(f"back-{key}", unique_key=key) for key in reversed(keys)]
        threads = [
            threading.Thread(target=lambda: answers.append(storage.insert(there))),
            threading.Thread(target=lambda: answers.append(other.insert(back))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(map(sum, answers)) == 300


# -- answers that were lost --------------------------------------------------------------------------------------------


def lose_answer(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], *, by: str = "execute"
) -> None:
    """Make a call; its statements reach the server, and the connection ends before the last answer."""
    database = storage._database
    execute = getattr(type(database), by)

    def execute_and_lose(self: Any, *arguments: Any) -> Any:
        execute(self, *arguments)
        database._disconnect()
        raise StorageUnavailableError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(type(database), by, execute_and_lose)
        with pytest.raises(StorageUnavailableError):
            call()


def test_what_a_lost_claim_has_taken_waits_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(postgres_url) as storage:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([job("held"), job("held too")])
        assert len(claim(storage, owner)) == 2
        storage.insert([job("a"), job("b")])
        lose_answer(storage, monkeypatch, lambda: claim_once(storage, owner), by="claim")
        assert one(storage, "a").status == "running"
        found = claim_once(storage, owner).claims
        assert [(one.id, one.attempt) for one in found] == [("a", 1), ("b", 1)]
        assert one(storage, "held").status == "running"


def test_what_was_inserted_already_claimed_by_a_lost_call_is_gone(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(postgres_url) as storage:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([running("runs", owner)])
        lose_answer(storage, monkeypatch, lambda: storage.insert([running("lost", owner)]))
        lose_answer(storage, monkeypatch, lambda: storage.insert([job("waits")]))
        assert claim_once(storage, owner).claims[0].id == "waits"
        assert [record.id for record in storage.get(["runs", "lost", "waits"])] == ["runs", "waits"]


def test_a_commit_whose_answer_was_lost(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(postgres_url) as storage:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([job("a")])
        database = storage._database
        command = type(database).command

        def command_and_lose(self: Any, text: str) -> Any:
            answer = command(self, text)
            if text == "COMMIT":
                database._writer.close()
                database._writer = None
                raise StorageUnavailableError("lost")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(type(database), "command", command_and_lose)
            with pytest.raises(StorageUnavailableError), storage.transaction():
                storage.insert([running("lost", owner)])
                assert claim_once(storage, owner).claims
        assert one(storage, "a").status == "running"
        assert [found.id for found in claim_once(storage, owner).claims] == ["a"]
        assert storage.get(["lost"]) == []


def test_a_settlement_that_is_made_again_has_been_applied(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(postgres_url) as storage:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([running("a", owner), running("b", owner)])
        settlement = end(owner, running("a", owner))
        lose_answer(storage, monkeypatch, lambda: storage.settle([settlement]))
        assert storage.settle([settlement, end(owner, running("b", owner))]) == [Settled.APPLIED, Settled.APPLIED]
        assert storage.settle([settlement]) == [Settled.REFUSED], "there is no doubt any more"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.errors.DiskFull("could not extend file"), "the disk of the server is full. Make room there"),
        (psycopg.errors.AdminShutdown("terminating"), "connects again by itself"),
        (psycopg.errors.CannotConnectNow("starting up"), "starting or stopping"),
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), "primary"),
        (psycopg.errors.LockNotAvailable("canceling"), "pg_stat_activity"),
        (psycopg.errors.InsufficientPrivilege("denied"), "lacks a privilege"),
        (psycopg.errors.OutOfMemory("out of memory"), "not enough memory"),
        (psycopg.errors.ConnectionFailure("broken"), "connection was lost"),
        (psycopg.errors.InsufficientResources("none"), "lacks a resource"),
        (psycopg.OperationalError("refused"), "cannot be reached"),
        (psycopg.InterfaceError("closed"), "cannot be reached"),
    ],
)
def test_what_may_be_over_the_next_time_is_unavailable(error: psycopg.Error, words: str) -> None:
    explained = explain(error, "'postgresql://db/shop'")
    assert isinstance(explained, StorageUnavailableError)
    assert words in str(explained)
    assert "'postgresql://db/shop'" in str(explained)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('FATAL:  password authentication failed for user "shop"', "the password is wrong or missing"),
        ("fe_sendauth: no password supplied", "the password is wrong or missing"),
        ('FATAL:  Peer authentication failed for user "shop"', "refuses this user"),
        ('FATAL:  no pg_hba.conf entry for host "10.1.1.1", user "shop", database "shop"', "refuses this user"),
        ('FATAL:  role "shop" does not exist', "refuses this user"),
        ('FATAL:  role "shop" is not permitted to log in', "refuses this user"),
        ('FATAL:  permission denied for database "shop"', "lacks a privilege"),
        ('FATAL:  database "shop" does not exist', "there is no such database"),
        ('FATAL:  too many connections for role "shop"', "no connection left"),
        ('could not open root certificate: file "ca.crt" does not exist', "cannot be reached"),
    ],
)
def test_why_a_connection_was_refused_is_in_the_words_of_libpq(said: str, words: str) -> None:
    error = psycopg.OperationalError(f'connection failed: connection to server at "10.1.1.2", port 5432 failed: {said}')
    assert words in str(explain(error, "'postgresql://db/shop'"))


def test_other_errors_are_what_they_are() -> None:
    assert isinstance(explain(psycopg.errors.DeadlockDetected("deadlock"), "x"), TransactionConflictError)
    fault = psycopg.errors.NumericValueOutOfRange("out of range")
    assert explain(fault, "x") is fault
    unknown = explain(psycopg.errors.UndefinedTable("no table"), "x")
    assert type(unknown) is StorageError
    assert "42P01" in str(unknown)


@pytest.mark.parametrize("url", ["postgresql://[", 7])
def test_a_url_that_cannot_be_read(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://user@host/database"):
        PostgresStorage(url)


@pytest.mark.parametrize("schema", ["", "a" * 64, "a\0b", None])
def test_a_schema_that_is_no_name(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        PostgresStorage("postgresql://host/name", schema=schema)


def test_it_names_its_database_without_the_password() -> None:
    storage = PostgresStorage("postgresql://user:secret@host:5433/name?sslmode=require", schema="x")
    assert repr(storage) == "PostgresStorage('postgresql://user@host:5433/name', schema='x')"
