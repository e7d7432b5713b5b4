"""The PostgreSQL server of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from postgres_server import PostgresServer, TestDatabases, shared_server

TESTS = Path(__file__).parents[1]
USER = """
import sys, psycopg
from pathlib import Path
from postgres_server import shared_server
with shared_server(Path(sys.argv[1])) as url:
    with psycopg.connect(url) as connection:
        print(connection.execute("SELECT pg_postmaster_start_time()").fetchone()[0], flush=True)
    sys.stdin.read()
"""


def user_of(folder: Path) -> subprocess.Popen[str]:
    """A process that uses the server of a session until its input ends."""
    command = [sys.executable, "-c", USER, str(folder)]
    return subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_database_of_a_test_has_what_its_template_has(postgres_databases: TestDatabases) -> None:
    template = postgres_databases.create()
    with psycopg.connect(template) as connection:
        connection.execute("CREATE TABLE shelf (id int)")
    copy = postgres_databases.create(template)
    with psycopg.connect(copy) as connection:
        connection.execute("INSERT INTO shelf VALUES (1)")
        assert connection.execute("SELECT count(*) FROM shelf").fetchone() == (1,)
        postgres_databases.drop(copy)  # although it is in use
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    connection.close()
    postgres_databases.drop(template)


def test_one_server_serves_all_and_ends_with_the_last(tmp_path: Path) -> None:
    users = [user_of(tmp_path) for _ in range(3)]
    try:
        starts = {user.stdout.readline() for user in users if user.stdout is not None}
        assert len(starts) == 1
        users[0].kill()  # one that dies uses it no more, and takes it from nobody
        users[1].communicate("")
        with shared_server(tmp_path) as url, psycopg.connect(url) as connection:
            (begun,) = connection.execute("SELECT pg_postmaster_start_time()").fetchone() or ()
            assert {f"{begun}\n"} == starts
            (data,) = connection.execute("SHOW data_directory").fetchone() or ()
        connection.close()
    finally:
        for user in users:
            user.communicate("")
    with shared_server(tmp_path) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT pg_postmaster_start_time() > %s", (begun,)).fetchone() == (True,)
    connection.close()
    assert not Path(data).parent.exists()


def test_a_server_of_its_own_keeps_port_and_data(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE shelf (id int)")
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own_postgres.start()
    with psycopg.connect(own_postgres.socket_url()) as connection:
        assert connection.execute("SELECT count(*) FROM shelf").fetchone() == (0,)
    own_postgres.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_it_does_not_run_as_root(own_postgres: PostgresServer) -> None:
    owner = (own_postgres.data / "postmaster.pid").stat().st_uid
    assert owner != 0
    assert os.geteuid() in (0, owner)
