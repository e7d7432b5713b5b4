"""Migrations on a real server: at once, on tables in use, by another role, and after an interrupted one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from jobify import Jobify
from jobify.exceptions import StorageError, StorageVersionError
from jobify.model.records import OwnerProfile, OwnerRole
from jobify.storage import PostgresStorage
from jobify.storage.postgres import maintenance, schema
from jobify.storage.postgres.database import lock_key
from support import eventually, soon

INDEX = """-- outside of a transaction
CREATE INDEX CONCURRENTLY jobs_of_task ON @jobs (task);

-- What is written twice must not be.
CREATE UNIQUE INDEX CONCURRENTLY attempts_once ON @attempts (job_id, outcome);
"""
JOBS_INDEX = """-- outside of a transaction
CREATE INDEX CONCURRENTLY jobs_of_task ON @jobs (task);
"""
WORKER = OwnerProfile(OwnerRole.WORKER, None, (), 1)


@pytest.fixture
def knows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have this release know more migrations."""
    known = schema.migrations()

    def know(*steps: str) -> None:
        monkeypatch.setattr(schema, "migrations", lambda: [*known, *steps])

    return know


def opened(url: str) -> None:
    """Start with a storage, as a process does, and end."""
    storage = PostgresStorage(url)
    storage.open()
    storage.close()


def versions(connection: psycopg.Connection) -> list[int]:
    return [version for (version,) in connection.execute("SELECT version FROM jobify.migrations ORDER BY 1")]


def index(connection: psycopg.Connection, name: str) -> tuple[bool] | None:
    return connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (f"jobify.{name}",)
    ).fetchone()


def add_job(connection: psycopg.Connection, id: str) -> None:
    connection.execute(
        "INSERT INTO jobify.jobs (fence, priority, due_at, created_at, attempt, ready, status, id, task, queue, "
        "payload) VALUES (1, 0, 0, 0, 0, true, 'scheduled', %s, 'pack', 'default', '')",
        (id,),
    )


def add_attempt(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO jobify.attempts (due_at, finished_at, attempt, job_id, outcome) VALUES (0, 0, 1, 'a', 'failed')"
    )


def test_processes_that_start_at_once_migrate_once(empty_postgres: str) -> None:
    barrier = threading.Barrier(6)

    def start() -> None:
        barrier.wait()
        opened(empty_postgres)

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(start) for _ in range(6)]:
            done.result()
    with psycopg.connect(empty_postgres) as connection:
        assert versions(connection) == list(range(1, len(schema.migrations()) + 1))


def test_who_waits_for_the_migration_of_another_process_has_no_snapshot(empty_postgres: str) -> None:
    """An index that is built concurrently waits for every snapshot, so it would wait for who waits for it."""
    asked = "SELECT state, backend_xmin FROM pg_stat_activity WHERE strpos(query, %s) > 0 AND pid <> pg_backend_pid()"
    with psycopg.connect(empty_postgres, autocommit=True) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("SELECT pg_advisory_lock(%s)", (lock_key("jobify", "migrations"),))
        waiting = threads.submit(opened, empty_postgres)
        while ("idle", None) not in holder.execute(asked, ("pg_try_advisory_lock",)).fetchall():
            assert not waiting.done()
        holder.execute("SELECT pg_advisory_unlock_all()")
        waiting.result()


def test_a_newer_schema_is_refused_and_stays_as_it_is(postgres_url: str) -> None:
    opened(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("INSERT INTO jobify.migrations (version) VALUES (99)")
        with pytest.raises(
            StorageVersionError, match=r"has version 99; this release of Jobify knows \d+. .*Update Jobify"
        ):
            opened(postgres_url)
        assert versions(connection)[-1] == 99


def test_a_process_of_the_older_release_goes_on_beside_a_newer_one(
    postgres_url: str, knows: Callable[..., None]
) -> None:
    older = PostgresStorage(postgres_url)
    older.open()
    owner = older.register(WORKER, now=0)
    knows("ALTER TABLE @jobs ADD COLUMN colour text;")
    opened(postgres_url)
    older.heartbeat(owner, now=1)
    assert [each.id for each in older.owners() if each.is_alive] == [owner]
    older.deregister(owner)
    older.close()


async def test_jobs_run_in_both_releases_during_and_after_a_migration(
    postgres_url: str, knows: Callable[..., None]
) -> None:
    """What waits, what runs and what is enqueued meanwhile; no attempt is lost by it."""
    may_end = asyncio.Event()

    def app_of_a_release() -> Jobify:
        app = Jobify(storage=postgres_url, concurrency=3)

        @app.task(name="hold")
        async def hold(number: int) -> int:
            await may_end.wait()
            return number

        return app

    older, newer = app_of_a_release(), app_of_a_release()
    async with older:
        jobs = [await older.aenqueue("hold", (number,)) for number in range(6)]
        await eventually(lambda: len([job for job in jobs if job.status == "running"]) == 3)
        knows("ALTER TABLE @jobs ADD COLUMN colour text;", JOBS_INDEX)
        async with newer:
            jobs += [await app.aenqueue("hold", (number,)) for number in range(6, 12) for app in (older, newer)]
            may_end.set()
            assert [await soon(job.aresult()) for job in jobs[:6]] == list(range(6))
            assert [await soon(job.aresult()) for job in jobs[6:]] == [number for number in range(6, 12) for _ in "12"]
        jobs.append(await older.aenqueue("hold", (12,)))
        assert await soon(jobs[-1].aresult()) == 12
    assert [job.attempt for job in jobs] == [1] * len(jobs)


@pytest.mark.parametrize("has_rows", [True, False])
def test_an_index_is_built_outside_of_a_transaction(
    postgres_url: str, knows: Callable[..., None], has_rows: bool
) -> None:
    opened(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        if has_rows:
            add_job(connection, "a")
            add_attempt(connection)
        knows(INDEX)
        opened(postgres_url)
        assert index(connection, "jobs_of_task") == index(connection, "attempts_once") == (True,)
        assert versions(connection)[-1] == len(schema.migrations())


def test_an_invalid_index_of_an_interrupted_build_is_dropped(postgres_url: str, knows: Callable[..., None]) -> None:
    opened(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        add_attempt(connection)
        add_attempt(connection)
        knows(INDEX)
        with pytest.raises(StorageError, match=r"was not migrated: could not create unique index .*attempts_once"):
            opened(postgres_url)
        assert index(connection, "attempts_once") == (False,)
        assert len(versions(connection)) == len(schema.migrations()) - 1
        assert any(
            "attempts_once is invalid" in said for said in maintenance.check(PostgresStorage(postgres_url)).problems
        )
        connection.execute("DELETE FROM jobify.attempts WHERE seq = 1")
        opened(postgres_url)
        assert index(connection, "attempts_once") == (True,)


def test_a_migration_that_waits_for_a_table_lets_others_pass(postgres_url: str, knows: Callable[..., None]) -> None:
    opened(postgres_url)
    knows("ALTER TABLE @jobs ADD COLUMN colour text;")
    with (
        psycopg.connect(postgres_url) as reader,
        psycopg.connect(postgres_url, autocommit=True) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        reader.execute("SELECT FROM jobify.jobs")  # its lock is held until the end of the transaction
        migrating = threads.submit(opened, postgres_url)
        waits = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        while other.execute(waits).fetchone() is None:
            assert not migrating.done()
        add_job(other, "a")  # waits behind the migration, until that gives up for now
        assert not migrating.done()
        reader.rollback()
        migrating.result()
        assert other.execute("SELECT colour FROM jobify.jobs").fetchall() == [(None,)]


def test_the_script_does_what_a_migration_does(
    postgres_url: str, empty_postgres: str, knows: Callable[..., None]
) -> None:
    knows("ALTER TABLE @jobs ADD COLUMN colour text;", INDEX)
    opened(postgres_url)
    described = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'jobify' "
        "UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'jobify' ORDER BY 1, 2"
    )
    with psycopg.connect(empty_postgres, autocommit=True) as empty, psycopg.connect(postgres_url) as ours:
        for statement in _as_psql(schema.script("jobify")):
            empty.execute(statement.encode())
        assert empty.execute(described).fetchall() == ours.execute(described).fetchall()
        assert versions(empty) == versions(ours)
    assert "Version 1\n" not in schema.script("jobify", since=1)
    assert schema.script("jobify", since=len(schema.migrations())) == ""


def _as_psql(script: str) -> list[str]:
    """A script in what psql sends: one statement after the other; here a transaction goes as a whole."""
    parts: list[str] = []
    for paragraph in script.split("-- Version"):
        body = paragraph.partition("\n")[2] if parts else paragraph
        parts += [body] if "BEGIN;" in body else body.split(";\n")
    return [part for part in parts if part.strip()]


def test_the_version_of_a_schema(empty_postgres: str, postgres_url: str) -> None:
    assert maintenance.schema_version(PostgresStorage(empty_postgres)) == 0
    assert not maintenance.check(PostgresStorage(empty_postgres)).is_well
    opened(postgres_url)
    found = maintenance.check(PostgresStorage(postgres_url))
    assert (found.is_well, found.jobs, found.problems) == (True, 0, ())
