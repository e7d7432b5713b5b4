"""The file: whose it is, which release wrote it, how it is opened, and what is wrong with it."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import (
    ApplicationStateError,
    ConfigurationError,
    StorageError,
    StorageUnavailableError,
    StorageVersionError,
)
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import schema
from jobify.storage.sqlite.layout import APPLICATION_ID
from jobify.storage.sqlite.schema import migrations
from jobify.testing.rows import NOW, PROFILE, claim, job, line, one
from probes import database_of, reader_of


def _objects(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """All objects, without comments and spaces: a column that ALTER TABLE has added has none of them in the schema."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
    return [(*names, re.sub(r"\s+", "", re.sub("--.*", "", sql or ""))) for *names, sql in found]


def _open(path: Path, **options: Any) -> SQLiteStorage:
    storage = SQLiteStorage(path, **options)
    storage.open()
    return storage


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["", None, 3, b"jobs.db", "a\0b"])
def test_a_database_is_a_path(database: Any) -> None:
    with pytest.raises(ConfigurationError, match="database"):
        SQLiteStorage(database)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "20", None, True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        SQLiteStorage("jobs.db", timeout=timeout)


@pytest.mark.parametrize("synchronous", ["off", "FULL", None, 1])
def test_synchronous_is_one_of_two_words(synchronous: Any) -> None:
    with pytest.raises(ConfigurationError, match="synchronous"):
        SQLiteStorage("jobs.db", synchronous=synchronous)


@pytest.mark.parametrize("own_file", [1, "yes"])
def test_own_file_is_yes_no_or_unknown(own_file: Any) -> None:
    with pytest.raises(ConfigurationError, match="own_file"):
        SQLiteStorage("jobs.db", own_file=own_file)


def test_nothing_is_touched_before_open(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    assert storage.notifier is None
    assert repr(storage) == f"SQLiteStorage({str(tmp_path / 'jobs.db')!r})"
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_a_file_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SQLiteStorage()
    storage.open()
    storage.close()
    assert (tmp_path / "jobify.db").exists()


def test_a_storage_that_is_not_open_says_so(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    with pytest.raises(ApplicationStateError, match=r"Call open\(\) first"):
        storage.insert([job("a")])
    with pytest.raises(ApplicationStateError, match=r"Call open\(\) first"):
        storage.get(["a"])


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_synchronous_is_set(tmp_path: Path, synchronous: str, level: int) -> None:
    storage = _open(tmp_path / "jobs.db", synchronous=synchronous)
    assert database_of(storage).row("PRAGMA synchronous") == (level,)
    assert database_of(storage).row("PRAGMA journal_mode") == ("wal",)
    storage.close()


def test_memory_is_private_and_gone_after_close() -> None:
    first, second = SQLiteStorage(":memory:"), SQLiteStorage(":memory:")
    for storage in (first, second):
        storage.open()
        assert (storage.is_durable, storage.is_shared) == (False, False)
        storage.register(PROFILE, now=NOW)
        assert storage.notifier is None
    first.insert([job("a")])
    assert second.find(JobQuery()) == []
    directory = Path(database_of(first).path).parent
    assert directory.exists()
    for storage in (first, second):
        storage.close()
    assert not directory.exists()
    first.open()
    assert first.find(JobQuery()) == []
    first.close()


def test_two_names_of_a_file_are_one_database(tmp_path: Path) -> None:
    first = _open(tmp_path / "jobs.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    second = _open(tmp_path / "link.db")
    owner = second.register(PROFILE, now=NOW)
    assert [(found.id, found.is_alive) for found in first.owners()] == [(owner, True)]
    for storage in (first, second):
        storage.close()


# -- schema ------------------------------------------------------------------------------------------------------------


def test_all_migrations_make_the_schema(tmp_path: Path) -> None:
    _open(tmp_path / "jobs.db").close()
    migrated, whole = sqlite3.connect(tmp_path / "jobs.db"), sqlite3.connect(":memory:")
    whole.executescript((Path(schema.__file__).parent / "schema.sql").read_text())
    assert _objects(migrated) == _objects(whole)
    migrated.close()
    whole.close()


def test_a_new_file_is_marked_as_ours(tmp_path: Path) -> None:
    _open(tmp_path / "jobs.db").close()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    connection.close()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").touch()
    storage = _open(tmp_path / "jobs.db")
    storage.insert([job("a")])
    storage.close()


def test_a_later_migration_is_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.db"
    storage = _open(path)
    storage.insert([job("a")])
    storage.close()
    monkeypatch.setattr(
        schema, "migrations", lambda: [*migrations(), "CREATE TABLE later (x);\nCREATE TABLE more (x);"]
    )
    for _ in range(2):
        storage = _open(path)
        assert one(storage, "a").status == "scheduled"
        assert database_of(storage).row("SELECT count(*) FROM sqlite_master WHERE name IN ('later', 'more')") == (2,)
        storage.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.db"
    _open(path).close()
    monkeypatch.setattr(schema, "migrations", lambda: [*migrations(), "CREATE TABLE later (x);\nNOT A STATEMENT;"])
    with pytest.raises(StorageError, match="syntax error"):
        SQLiteStorage(path).open()
    monkeypatch.undo()
    storage = _open(path)
    assert database_of(storage).row("SELECT count(*) FROM sqlite_master WHERE name = 'later'") == (0,)
    storage.close()


# -- files that are not for us -----------------------------------------------------------------------------------------


def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    _open(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    storage = SQLiteStorage(path)
    with pytest.raises(StorageVersionError, match=r"schema version 99.*Update Jobify"):
        storage.open()
    assert path.read_bytes() == before
    with pytest.raises(ApplicationStateError):
        storage.get(["a"])


def test_a_database_of_something_else_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not one of this package"):
        SQLiteStorage(path, own_file=True).open()
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["jobs.db"]


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_of_the_package_of_this_interface_is_shared(
    tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that changes from the one package to the other starts, with the file that it has, in either order."""
    path = tmp_path / "jobify.db"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("CREATE TABLE jobify_schedules (job_id TEXT PRIMARY KEY, message BLOB)")
    theirs.executemany("INSERT INTO jobify_schedules VALUES (?, ?)", [(f"{number}", b"{}") for number in range(count)])
    for number in range(2):
        storage = _open(path)
        storage.insert([job(f"ours {number}")])
        storage.close()
    assert theirs.execute("SELECT count(*) FROM jobify_schedules").fetchone() == (count,)
    assert theirs.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
    theirs.close()
    assert caplog.text.count("2 schedules of another package") == (1 if count else 0)


def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"certainly not a database\n" * 1000)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not a database") as caught:
        SQLiteStorage(path).open()
    assert not isinstance(caught.value, StorageUnavailableError)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["missing/jobs.db", "."])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be opened"):
        SQLiteStorage(tmp_path / name).open()


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    storage = _open(path)
    storage.insert([job(f"{number}", payload=bytes(2000)) for number in range(200)])
    storage.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    storage = _open(path)
    with pytest.raises(StorageError, match="malformed") as caught:
        storage.find(JobQuery(limit=1000))
    assert not isinstance(caught.value, StorageUnavailableError)
    storage.close()


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StorageError, match=r"needs 3\.37\.0"):
        SQLiteStorage(tmp_path / "jobs.db").open()
    assert not list(tmp_path.glob("*-wal"))


def test_a_file_system_without_a_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    row = type(database_of(storage)).row

    def without_log(self: Any, statement: str, parameters: Any = ()) -> Any:
        return ("delete",) if "journal_mode" in statement else row(self, statement, parameters)

    monkeypatch.setattr(type(database_of(storage)), "row", without_log)
    with pytest.raises(StorageError, match="local disk"):
        storage.open()


# -- what was written by hand ------------------------------------------------------------------------------------------


def test_a_row_of_wrong_types_cannot_be_written(tmp_path: Path) -> None:
    """B33, at its root: what cannot be read back is refused where it is written."""
    storage = _open(tmp_path / "jobs.db")
    storage.insert([job("a")])
    connection = sqlite3.connect(tmp_path / "jobs.db")
    for change in ("due_at = NULL", "due_at = 'soon'", "payload = NULL", "ready = 7", "task = NULL", "result = 'x'"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"UPDATE jobs SET {change}")
    connection.close()
    storage.close()


@pytest.mark.parametrize(
    "change",
    [
        "status = 'hibernating'",
        "status = ''",
        "rule = 'not json'",
        "options = '}'",
        "payload = x'ff00'",
        "payload = x''",
        "task = CAST(x'ff20' AS TEXT)",
        "id = CAST(x'62ff' AS TEXT)",
        "error = CAST(x'c328' AS TEXT)",
        "queue = 'a' || char(0) || 'b'",
        "due_at = -1",
        "due_at = 9223372036854775807",
        "owner = 12345, status = 'running'",
        "has_successor = 1, status = 'running', owner = 1",
        "has_cancel = 1, status = 'running', owner = 1",
        "fence = -5",
    ],
)
def test_a_bad_row_stops_nothing(tmp_path: Path, change: str) -> None:
    """B33: whatever somebody wrote into a row, the others are read, counted and claimed."""
    storage = _open(tmp_path / "jobs.db")
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([job("bad"), job("good")])
    storage.add_history([line("bad")])
    database_of(storage).write(f"UPDATE jobs SET {change} WHERE id = 'bad'")
    database_of(storage).write("UPDATE attempts SET error = CAST(x'ff' AS TEXT)")
    assert sum(storage.count(JobQuery()).values()) == 2
    assert sum(storage.count(JobQuery(statuses=("scheduled", "running"))).values()) in (1, 2)
    assert [record.id[0] for record in storage.find(JobQuery())] == ["b", "g"]
    assert len(storage.get(["bad", "good"])) in (1, 2)
    assert len(storage.attempts("bad")) == 1
    assert "good" in [found.id for found in claim(storage, owner)]
    storage.cancel(["bad"], reason="x", now=NOW, delete_at=None)
    storage.cancel_requests(owner)
    storage.recover(now=NOW, max_crashes=3, delete_at=None)
    storage.deregister(owner)
    assert [record.id[0] for record in storage.find(JobQuery())] == ["b", "g"]
    storage.close()


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_a_claim_does_not_wait_for_the_disk_and_what_comes_after_it_does(tmp_path: Path, synchronous: Any) -> None:
    storage = _open(tmp_path / "jobs.db", synchronous=synchronous)
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([job("a"), job("b")])
    database = database_of(storage)
    assert database.connections.writer is not None
    said: list[str] = []
    database.connections.writer.set_trace_callback(said.append)
    assert len(claim(storage, owner, limit=1)) == 1
    taking = [text.split()[0] for text in said if text.startswith(("UPDATE", "PRAGMA synchronous"))]
    assert taking == (["PRAGMA", "UPDATE", "PRAGMA"] if synchronous == "full" else ["UPDATE"])
    with storage.transaction():
        assert len(claim(storage, owner, limit=1)) == 1
    with pytest.raises(StorageError, match="no such table"):
        database.write_unflushed("UPDATE nowhere SET a = 1", ())
    assert database.row("PRAGMA synchronous") == ({"full": 2, "normal": 1}[synchronous],)
    storage.close()


def test_a_long_read_does_not_hold_up_a_close(tmp_path: Path) -> None:
    """It would go on for ever."""
    storage = _open(tmp_path / "jobs.db")
    assert storage.count(JobQuery()) == {}
    has_begun = threading.Event()
    reader_of(storage).create_function("begun", 0, has_begun.set)
    endless = "WITH RECURSIVE n (x) AS (SELECT begun() UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(database_of(storage).read, endless)
        assert has_begun.wait(20)
        storage.close()
        with pytest.raises(StorageUnavailableError, match="closed"):
            reading.result(20)
    storage.open()
    assert storage.count(JobQuery()) == {}
    storage.close()
