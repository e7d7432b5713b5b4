"""Who counts as dead on PostgreSQL, when processes are killed, stopped or forked, and connections are lost."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import Recovered
from jobify.storage import PostgresStorage
from jobify.storage.postgres import liveness
from jobify.testing.rows import NOW, PROFILE, one, running
from postgres_server import PostgresServer
from support import stopped, until

OWNER = """
import os, sys, time
from jobify.storage import PostgresStorage
from jobify.testing.rows import NOW, PROFILE, running
storage = PostgresStorage(sys.argv[1], notify=sys.argv[2])
storage.open()
owner = storage.register(PROFILE, now=NOW)
storage.insert([running("job", owner)])
forked = os.fork() if sys.argv[3] == "forks" else owner
if forked == 0:
    os.close(1)
    time.sleep(600)
print(forked, flush=True)
sys.stdin.read()
"""
SESSIONS = """
    SELECT pid, state, backend_xmin FROM pg_stat_activity
    WHERE application_name = 'jobify' AND datname = current_database() ORDER BY pid
"""


@contextmanager
def opened(url: str, **options: Any) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(url, **options)
    storage.open()
    try:
        yield storage
    finally:
        storage.close()


class OtherProcess:
    """A process that is an owner and holds a job."""

    def __init__(self, url: str, *, notify: str = "after_commit", how: str = "") -> None:
        command = [sys.executable, "-c", OWNER, url, notify, how]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.program.stdout is not None
        self.said = int(self.program.stdout.readline())

    def kill(self) -> None:
        self.program.kill()
        self.program.communicate()


@contextmanager
def other_process(url: str, **options: str) -> Iterator[OtherProcess]:
    other = OtherProcess(url, **options)
    try:
        yield other
    finally:
        if other.program.poll() is None:
            other.kill()


def recover(storage: PostgresStorage) -> list[Recovered]:
    return storage.recover(now=NOW, max_crashes=9, delete_at=None)


def sessions(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(SESSIONS).fetchall()


def end_sessions(url: str) -> None:
    """Have the server end all connections of Jobify to this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'jobify' AND datname = current_database()"
        )


def test_a_storage_has_three_connections_and_no_transaction(postgres_url: str) -> None:
    with opened(postgres_url) as storage:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([running("a", owner)])
        assert storage.notifier is not None
        storage.notifier.notify(workers=True, clients=True)
        storage.get(["a"])
        found = until(lambda: [] if any(state != "idle" for _, state, _ in sessions(postgres_url)) else "idle")
        assert found == "idle"
        assert len(sessions(postgres_url)) == 3
        assert [xmin for _, _, xmin in sessions(postgres_url)] == [None] * 3


def test_both_sides_notice_a_network_that_is_cut(postgres_url: str) -> None:
    """Probes on an idle connection, and an end to waiting for what is not acknowledged, because probes rest then."""
    with opened(postgres_url) as storage:
        connection = storage._database.new_connection()
        shown = connection.execute("SELECT setting FROM pg_settings WHERE name LIKE 'tcp\\_%' ORDER BY name").fetchall()
        assert shown == [("3",), ("3",), ("1",), ("5000",)]
        with socket.socket(fileno=os.dup(connection.fileno())) as ours:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [ours.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [3, 1, 3, 5_000]
        connection.close()


def test_a_killed_process_is_dead_at_once(postgres_url: str) -> None:
    with opened(postgres_url) as storage, other_process(postgres_url) as other:
        assert recover(storage) == []
        other.kill()
        (recovered,) = until(lambda: recover(storage))
        assert (recovered.id, recovered.status) == ("job", "scheduled")
        assert storage.owners() == []


def test_what_cannot_be_seen_from_here_is_dead_a_second_later(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness.process, "is_running", lambda *_: None)
    with opened(postgres_url) as storage, other_process(postgres_url) as other:
        other.kill()
        until(lambda: not storage.owners()[0].is_alive)
        begun = time.monotonic()
        assert recover(storage) == []
        assert until(lambda: recover(storage))[0].id == "job"
        assert time.monotonic() - begun >= liveness.PATIENCE


def test_a_stopped_process_is_alive(postgres_url: str) -> None:
    with opened(postgres_url) as storage, other_process(postgres_url) as other:
        with stopped(other.program.pid):
            for _ in range(3):
                assert recover(storage) == []
                assert storage.owners()[0].is_alive
        other.program.communicate("")


def test_a_fork_does_not_keep_the_lock_of_a_dead_parent(postgres_url: str) -> None:
    with opened(postgres_url) as storage, other_process(postgres_url, how="forks") as other:
        try:
            assert recover(storage) == []
            other.kill()
            assert until(lambda: recover(storage))[0].id == "job"
        finally:
            os.kill(other.said, signal.SIGKILL)


def test_a_connection_that_the_server_ends_is_made_again(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with opened(postgres_url) as storage, opened(postgres_url) as other, caplog.at_level(logging.WARNING):
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([running("a", owner)])
        end_sessions(postgres_url)
        until(lambda: "again, after" in caplog.text)
        assert "has lost its connection to" in caplog.text
        assert [found.is_alive for found in other.owners()] == [True]
        assert recover(other) == []
        assert storage.notifier is not None
        assert storage.notifier.drain(), "what was said meanwhile is lost, so it looks by itself"
        assert one(storage, "a").status == "running"


def test_a_server_that_restarts(own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    with opened(own_postgres.url()) as storage, caplog.at_level(logging.WARNING):
        owner = storage.register(PROFILE, now=NOW)
        own_postgres.stop()
        with pytest.raises(StorageUnavailableError, match="the server cannot be reached"):
            storage.insert([running("a", owner)])
        own_postgres.start()
        until(lambda: "again, after" in caplog.text)
        storage.insert([running("a", owner)])
        assert storage.owners()[0].is_alive
        assert recover(storage) == []


def test_one_that_was_taken_for_dead_goes_on_under_its_number(postgres_url: str) -> None:
    with opened(postgres_url) as storage, opened(postgres_url) as other:
        owner = storage.register(PROFILE, now=NOW)
        storage.insert([running("a", owner)])
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("DELETE FROM jobify.owners")
        assert recover(storage) == []
        assert [(found.id, found.is_alive) for found in other.owners()] == [(owner, True)]


def test_a_lease_ends_with_its_process(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobify.storage.postgres.owners.LEASE", 1.0)
    with opened(postgres_url, notify="poll") as storage, opened(postgres_url, notify="poll") as other:
        assert storage.notifier is not None
        owner = storage.register(PROFILE, now=NOW)
        assert storage.notifier.fileno() == -1
        storage.insert([running("a", owner)])
        assert [found.is_alive for found in other.owners()] == [True]
        storage.close()
        (recovered,) = recover(other)
        assert recovered.id == "a"


def test_a_lease_runs_out(postgres_url: str) -> None:
    with opened(postgres_url) as storage, other_process(postgres_url, notify="poll") as other:
        other.kill()
        assert recover(storage) == []
        assert storage.owners()[0].is_alive
        with psycopg.connect(postgres_url, autocommit=True) as connection:

            def found() -> list[Recovered]:  # again, if a renewal was on its way when the process was killed
                connection.execute("UPDATE jobify.owners SET lease_until = lease_until - 10000000")
                return recover(storage)

            assert until(found, "the lease is over")[0].id == "job"


def test_a_lease_is_renewed_while_its_process_is_busy(postgres_url: str) -> None:
    with opened(postgres_url) as storage, other_process(postgres_url, notify="poll"):
        with psycopg.connect(postgres_url, autocommit=True) as connection:

            def lease() -> int:
                row = connection.execute("SELECT lease_until FROM jobify.owners").fetchone()
                assert row is not None
                return int(row[0])

            first = lease()
            until(lambda: lease() > first)
        assert recover(storage) == []


def test_the_thread_of_its_session_may_close_a_storage(postgres_url: str) -> None:
    """The garbage collector runs in any thread, and closes what nothing refers to any more."""
    with opened(postgres_url) as storage:
        storage.register(PROFILE, now=NOW)
        storage._owners._session.call(lambda _: storage.close())
