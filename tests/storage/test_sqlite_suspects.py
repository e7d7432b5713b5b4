"""Suspects in a file: what outlives a process, several processes, the step from an older file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobify.model.records import ClaimRequest, JobQuery, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage import SQLiteStorage
from jobify.storage.begun import BegunTable, key_of, read_begun
from jobify.storage.suspicion import CALM, Death
from jobify.testing.rows import NOW, PROFILE, SECOND, job, one, running
from support import opened

pytestmark = pytest.mark.promise("f1")

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(path)) as storage:
        yield storage


def _die(path: Path, *ids: str, pid: int) -> None:
    """Begin these jobs as the process ``pid``, and die."""
    with opened(SQLiteStorage(path)) as dying:
        owner = dying.register(PROFILE, now=NOW)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE owners SET pid = ? WHERE id = ?", (pid, owner))
            for id in ids:
                known = connection.execute(
                    "UPDATE jobs SET status = 'running', owner = ?, attempt = attempt + 1, fence = fence + 1 "
                    "WHERE id = ?",
                    (owner, id),
                )
                assert known.rowcount == 1


def _recover(storage: SQLiteStorage, *, now: int = NOW, max_crashes: int = 3) -> list[Death]:
    deaths: list[Death] = []
    storage.recover(now=now, max_crashes=max_crashes, delete_at=None, on_death=deaths.append)
    return deaths


def test_while_other_processes_die_a_death_proves_nothing(storage: SQLiteStorage, path: Path) -> None:
    """As in a deploy: the same job is hit five times, each time alone, and so are others."""
    storage.insert([job("a"), job("b")])
    for _ in range(5):
        _die(path, "a", pid=1)
        _die(path, "b", pid=2)
        assert len(_recover(storage)) == 2
    assert [(one(storage, id).status, one(storage, id).crashes) for id in "ab"] == [("scheduled", 0)] * 2
    now = NOW + CALM + SECOND
    for _ in range(3):
        _die(path, "a", pid=1)
        _recover(storage, now=now)
    assert (one(storage, "a").status, one(storage, "a").crashes) == ("scheduled", 3)
    _recover(storage, now=now + CALM + SECOND)
    assert (one(storage, "a").status, one(storage, "a").crashes) == ("failed", 3)


def test_the_end_of_a_client_is_no_death(storage: SQLiteStorage, path: Path) -> None:
    storage.insert([job("a")])
    for _ in range(2):
        _die(path, "a", pid=1)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO owners (host, pid, started_at, seen_at, role, tasks, concurrency, lock, process) "
                "SELECT host, 7, 0, 0, 'client', tasks, 1, lock, process FROM owners"
            )
        (death,) = _recover(storage)
        assert (death.pid, death.begun) == (1, 1)
    assert one(storage, "a").crashes == 2
    assert storage.owners() == []


def test_what_had_begun_outlives_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    table = BegunTable(path)
    slots = [table.enter(id) for id in ("a", "b", "\ud800", "c")]
    table.leave(slots[1])
    assert read_begun(path) == [key_of(id) for id in ("a", "\ud800", "c")]
    table.enter("d")
    assert read_begun(path) == [key_of(id) for id in ("a", "d", "\ud800", "c")]
    table.close()
    table.leave(table.enter("of a child of the process"))
    assert read_begun(path) == [key_of(id) for id in ("a", "d", "\ud800", "c")]


def test_a_fork_changes_nothing_in_the_table_of_its_parent(storage: SQLiteStorage, path: Path) -> None:
    owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is not None
    slot = begun.enter("a")
    child = os.fork()
    if child == 0:
        begun.leave(slot)
        begun.enter("b")
        os._exit(0)
    os.waitpid(child, 0)
    (table,) = Path(f"{path}-owners").glob("*.begun")
    assert read_begun(str(table)) == [key_of("a")]


@pytest.mark.parametrize("damage", ["gone", "short", "foreign", "a pipe", "full"])
def test_what_cannot_be_known_counts_as_begun(storage: SQLiteStorage, path: Path, damage: str) -> None:
    with opened(SQLiteStorage(path)) as dying:
        owner = dying.register(PROFILE, now=NOW)
        begun = dying.begun(owner)
        assert begun is not None
        storage.insert([running("a", owner), running("b", owner)])
        (table,) = Path(f"{path}-owners").glob("*.begun")
        if damage == "full":
            for number in range(16_385):
                begun.enter(f"{number}")
        data = table.read_bytes()
    table.chmod(0o600)
    if damage == "short":
        table.write_bytes(data[:100])
    elif damage == "foreign":
        table.write_bytes(b"?" * len(data))
    elif damage != "full":
        table.unlink()
    if damage == "a pipe":
        os.mkfifo(table)
    (death,) = _recover(storage)
    assert (death.begun, [one(storage, id).attempt for id in "ab"]) == (2, [1, 1])
    assert os.listdir(f"{path}-owners") == []


def test_a_system_that_refuses_the_table_is_no_error(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobify.storage.begun._allocate", refuse)
    owner = storage.register(PROFILE, now=NOW)
    assert storage.begun(owner) is None
    assert [name for name in os.listdir(f"{storage.database}-owners") if name.endswith(".begun")] == []


def test_the_table_goes_with_its_owner(storage: SQLiteStorage, path: Path) -> None:
    owner = storage.register(PROFILE, now=NOW)
    begun = storage.begun(owner)
    assert begun is storage.begun(owner)
    assert begun is not None
    slot = begun.enter("a")
    storage.deregister(owner)
    begun.leave(slot)
    assert os.listdir(f"{path}-owners") == []


def test_an_older_file_learns_of_suspects(tmp_path: Path) -> None:
    shutil.copy(DATA / "schema_1.db", tmp_path / "jobs.db")
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        before = storage.find(JobQuery(limit=1000))
        assert before
        assert not any(record.is_apart for record in before)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert {record.id for record in storage.find(JobQuery(limit=1000))} == {record.id for record in before}


def test_a_suspect_of_an_older_file_runs_apart_as_before(tmp_path: Path) -> None:
    """The file is of the schema before suspects could be held."""
    shutil.copy(DATA / "schema_6.db", tmp_path / "jobs.db")
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        (killer,) = storage.find(JobQuery(tasks=("killer",)))
        owner = storage.register(PROFILE, now=NOW)
        request = ClaimRequest(owner, (TaskSlots(("killer",), 9),), scope=ClaimScope.APART)
        claimed = storage.claim(request, now=killer.due_at + SECOND)
        assert ([found.id for found in claimed.claims], killer.crashes, killer.is_apart) == ([killer.id], 1, True)


def test_deaths_and_suspicions_do_not_pile_up(storage: SQLiteStorage, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO deaths VALUES (?, 0, 'h', 1, 0, 0, 0)", [(n,) for n in range(1, 2000)])
    storage.insert([job("a"), job("b")])
    _die(path, "a", "b", pid=1)
    _recover(storage)
    storage.cancel(["a", "b"], reason="x", now=NOW, delete_at=None)
    _die(path, pid=1)
    _recover(storage)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), max(id) FROM deaths").fetchone() == (1000, 2001)
        assert connection.execute("SELECT count(*) FROM suspects").fetchone() == (0,)
