"""Commands on a PostgreSQL database: each one that there is, and what is only there for a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from test_cli_imports import FOR_STARTS, NEVER, among, modules

from cli_shop import Shop
from jobify.storage import PostgresStorage
from jobify.storage.postgres.database import lock_key
from jobify.storage.postgres.schema import migrations
from postgres_server import TestDatabases
from support import eventually

NEWEST = len(migrations())
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid()
"""
APP = """
from jobify import Jobify

app = Jobify(storage={url!r})

@app.task(name="pack")
async def pack(what: str = "a box") -> str:
    return f"packed {{what}}"
"""


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"


@pytest.fixture
def server(shop: Shop, postgres_url: str) -> Iterator[Shop]:
    """The shop, with its jobs on a server."""
    shop.storage.close()
    (shop.folder / "shop.py").write_text(APP.format(url=postgres_url))
    shop.storage = PostgresStorage(postgres_url)  # type: ignore[assignment]
    shop.storage.open()
    return shop


@pytest.fixture
def empty(shop: Shop, empty_postgres: str) -> Shop:
    """The shop, whose server has no schema yet."""
    (shop.folder / "shop.py").write_text(APP.format(url=empty_postgres))
    return shop


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "list"], ["jobs", "show", "JOB"], ["jobs", "cancel", "JOB"], ["jobs", "retry", "FAILED"],
        ["jobs", "delete", "JOB", "--yes"], ["jobs", "purge", "--dry-run"], ["schedules", "list"],
        ["schedules", "pause", "nightly"], ["schedules", "run-now", "nightly"], ["queues", "list"],
        ["queues", "pause", "default"], ["queues", "resume", "default"], ["workers"], ["stats"], ["db", "check"],
        ["db", "migrate"], ["health", "--min-workers", "0", "--max-dead-schedules", "9"],
    ],
    ids=lambda words: "-".join(words[:2]),
)  # fmt: skip
@pytest.mark.parametrize("is_without_code", [False, True])
def test_every_command_works_on_a_server(
    server: Shop, postgres_url: str, words: list[str], is_without_code: bool
) -> None:
    ids = {"JOB": server.add(), "FAILED": server.ended(server.worker(), "failed")}
    server.schedule("nightly")
    words = [ids.get(word, word) for word in words]
    answer = server(*words, *(["--database", postgres_url] if is_without_code else []), "--json")
    assert isinstance(answer.json, dict)
    assert answer.err == ""


def test_migrate_makes_a_schema_once(empty: Shop, empty_postgres: str) -> None:
    where = f"{without_password(empty_postgres)}\tjobify\tschema version {NEWEST}"
    assert empty("db", "migrate").out == f"{where}\tmade\n"
    assert empty("db", "migrate").out == f"{where}\tup to date\n"
    assert "\tother\t" in empty("db", "migrate", "--schema", "other").out


async def test_of_several_processes_that_migrate_at_once_one_has_made_it(empty: Shop, empty_postgres: str) -> None:
    command = [sys.executable, "-m", "jobify", "db", "migrate", "--database", empty_postgres]
    with psycopg.connect(empty_postgres, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (lock_key("jobify", "migrations"),))
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        await eventually(lambda: connection.execute(WAITING).fetchone() == (3,))
    said = [process.communicate(timeout=60)[0].strip().split("\t")[-2:] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    version = f"schema version {NEWEST}"
    assert sorted(said) == [[version, "made"], [version, "up to date"], [version, "up to date"]]
    assert empty("db", "check").code == 0


def test_without_a_schema_none_is_made(empty: Shop, empty_postgres: str) -> None:
    answer = empty("jobs")
    assert (answer.code, answer.table) == (0, [])
    assert "There is no schema 'jobify' in" in answer.err
    assert empty("jobs", "show", "x").code == 1
    assert "(no schema 'jobify')" in empty("jobs", "--database", empty_postgres).err
    assert "There is no schema 'jobify'" in empty("health").err
    assert "there is no schema 'jobify'" in empty("db", "check").err
    with psycopg.connect(empty_postgres) as connection:
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname = 'jobify'").fetchone() is None


def test_check_looks_at_the_schema_and_its_server(server: Shop) -> None:
    server.ended(server.worker(), "failed")
    document = server("db", "check", "--json").json
    assert (document["is_well"], document["problems"], document["jobs"], document["attempts"]) == (True, [], 1, 1)
    assert document["size"] > 0
    assert f"schema version\t{NEWEST} (this release: {NEWEST})\n" in server("db", "check").out


def test_a_database_of_another_encoding_is_refused(
    shop: Shop, empty_postgres: str, postgres_databases: TestDatabases
) -> None:
    url = f"{empty_postgres}_ascii"
    with psycopg.connect(empty_postgres, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"CREATE DATABASE {name}_ascii ENCODING SQL_ASCII TEMPLATE template0".encode())
    for words in (["db", "migrate"], ["db", "check"]):
        answer = shop(*words, "--database", url)
        assert answer.code == 1
        assert "SQL_ASCII; Jobify needs UTF8" in answer.out + answer.err
    postgres_databases.drop(url)


def test_a_problem_that_is_the_only_one_is_not_counted(server: Shop, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on".encode())
    answer = server("db", "check")
    assert (answer.code, "the server takes no writes" in answer.err) == (1, True)
    assert "problems in all" not in answer.err


def test_a_newer_schema_is_refused(server: Shop, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO jobify.migrations (version) VALUES (99)")
    for words in (["db", "check"], ["db", "migrate"], ["jobs"], ["health"]):
        answer = server(*words)
        assert answer.code == 1
        assert "Update Jobify" in answer.err


def test_sql_prints_what_a_migration_would_run(empty: Shop, empty_postgres: str) -> None:
    whole = empty("db", "sql").out
    assert whole == empty("db", "sql", "--from", "0").out
    assert whole.startswith(f"-- The schema 'jobify', from version 0 to {NEWEST}\n")
    assert 'CREATE TABLE "jobify".jobs (' in whole
    assert 'CREATE TABLE "other".jobs (' in empty("db", "sql", "--schema", "other").out
    with psycopg.connect(empty_postgres, autocommit=True) as connection:
        connection.execute(whole.encode())
    assert "up to date" in empty("db", "migrate").out
    assert empty("db", "sql").out.strip() == f"-- The schema 'jobify', from version {NEWEST} to {NEWEST}"
    assert "Update Jobify" in empty("db", "sql", "--from", "99").err


def test_sql_needs_no_server_when_the_version_is_given(shop: Shop) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nowhere"
    assert "CREATE TABLE" in shop("db", "sql", "--from", "0", "--database", nowhere).out
    assert "cannot be reached" in shop("db", "sql", "--database", nowhere).err


def test_copy_takes_a_file_to_a_server(shop: Shop, empty_postgres: str) -> None:
    shop.ended(shop.worker(), "failed")
    shop.schedule("nightly")
    shop.storage.close()
    document = shop("db", "copy", "shop.db", empty_postgres, "--json").json
    assert (document["source"], document["schema"]) == (shop.database, "jobify")
    assert (document["rows"]["jobs"], document["rows"]["attempts"]) == (2, 1)
    answer = shop("db", "copy", "shop.db", empty_postgres)
    assert (answer.code, "is not empty" in answer.err) == (1, True)
    assert "jobs\t2\n" in shop("db", "copy", f"sqlite:///{shop.database}", empty_postgres, "--schema", "second").out


def test_copy_is_refused_while_a_worker_lives(shop: Shop, empty_postgres: str) -> None:
    shop.worker()
    answer = shop("db", "copy", "shop.db", empty_postgres)
    assert (answer.code, "Stop them first" in answer.err) == (1, True)


@pytest.mark.parametrize(
    ("source", "destination", "complaint"),
    [
        ("absent.db", "postgresql://x@localhost/y", "There is no database file"),
        ("shop.db", "other.db", "DST is the URL of a PostgreSQL database"),
        ("postgresql://x@localhost/y", "postgresql://x@localhost/z", "SRC is a database file"),
    ],
)
def test_copy_names_its_two_ends(shop: Shop, source: str, destination: str, complaint: str) -> None:
    answer = shop("db", "copy", source, destination)
    assert (answer.code, answer.out) == (1 if source == "absent.db" else 2, "")
    assert complaint in answer.err


def test_what_is_only_done_to_files_names_the_way_on_a_server(server: Shop) -> None:
    assert "pg_dump" in server("db", "backup", "copy.db").err
    assert "autovacuum" in server("db", "vacuum").err


def test_a_server_that_is_away_is_one_line_without_the_password(shop: Shop) -> None:
    answer = shop("jobs", "--database", "postgresql://me:secret@127.0.0.1:1/nowhere")
    assert (answer.code, answer.out) == (1, "")
    assert "is not available: the server cannot be reached" in answer.err
    assert answer.err.count("\n") == 1
    assert "secret" not in answer.err


def test_workers_are_said_to_wait_for_a_server_that_is_away(shop: Shop) -> None:
    answer = shop("workers", "--database", "postgresql://127.0.0.1:1/nowhere")
    assert (answer.code, answer.out) == (1, "")
    assert "the server cannot be reached" in answer.err
    assert "Its workers wait, and go on by themselves when it is there again.\n" in answer.err


def test_a_worker_that_has_lost_its_connection_is_disconnected(server: Shop, postgres_url: str) -> None:
    owner = server.worker()
    assert [row["process"] for row in server("workers").table] == [str(os.getpid())]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE jobify.owners SET lock_key = 17 WHERE id = %s", (owner,))
    (row,) = server("workers").table
    assert row["role"] == "disconnected"
    (document,) = server("workers", "--json").json["workers"]
    assert (document["is_alive"], document["is_disconnected"]) == (False, True)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE jobify.owners SET process = 'closed' WHERE id = %s", (owner,))
    assert server("workers").table == []
    assert [row["role"] for row in server("workers", "--all").table] == ["dead"]


def test_a_command_on_a_server_imports_what_a_client_needs(server: Shop) -> None:
    found = modules(server.folder, "jobs", "list", "--app", "shop:app")
    of_psycopg = {name for name in found if name.startswith("importlib.metadata")}
    assert among(found, (*NEVER, *FOR_STARTS)) - of_psycopg == set()
