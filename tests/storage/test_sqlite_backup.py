"""A copy of a database that is in use; and a database that is damaged."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import StorageCorruptError, StorageError
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import backup, maintenance
from jobify.testing.rows import NOW, PROFILE, job


def _open(path: Path) -> SQLiteStorage:
    storage = SQLiteStorage(path)
    storage.open()
    return storage


def _ids(path: Path) -> set[str]:
    storage = _open(path)
    found = {record.id for record in storage.find(JobQuery(limit=10_000))}
    storage.close()
    return found


@pytest.mark.promise("f43")
@pytest.mark.parametrize("is_open", [True, False])
def test_a_backup_opens_and_holds_the_jobs(tmp_path: Path, is_open: bool) -> None:
    storage = _open(tmp_path / "jobs.db")
    storage.register(PROFILE, now=NOW)
    storage.insert([job(f"{number}", payload=bytes(900)) for number in range(300)])
    if not is_open:
        storage.close()
    made = storage.backup(tmp_path / "copy.db")
    assert made == (str(tmp_path / "copy.db"), 300, (tmp_path / "copy.db").stat().st_size)
    if is_open:
        assert storage.insert([job("after")]) == [True]
        storage.close()
    assert maintenance.check(tmp_path / "copy.db").is_well
    assert _ids(tmp_path / "copy.db") == {f"{number}" for number in range(300)}
    assert [path.name for path in tmp_path.glob("*copy*") if path.is_file()] == ["copy.db"]


@pytest.mark.promise("f43")
def test_a_backup_is_one_moment_of_a_database_that_is_written(tmp_path: Path) -> None:
    storage = _open(tmp_path / "jobs.db")
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            storage.insert([job(f"{number}-a", payload=bytes(2000)), job(f"{number}-b")])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for copy in range(5):
            storage.backup(tmp_path / f"copy-{copy}.db")
    finally:
        is_over.set()
        writer.join()
    for copy in range(5):
        ids = _ids(tmp_path / f"copy-{copy}.db")
        assert {id[:-2] for id in ids if id.endswith("a")} == {id[:-2] for id in ids if id.endswith("b")}
    storage.close()


@pytest.mark.promise("f43")
def test_a_backup_harms_no_lock(tmp_path: Path) -> None:
    """It is made in the process that uses the database: the locks of the process stay."""
    storage = _open(tmp_path / "jobs.db")
    storage.insert([job("a")])
    storage.backup(tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
        other.execute("SELECT count(*) FROM jobs").fetchone()
    assert (tmp_path / "jobs.db-wal").exists()
    assert storage.insert([job("b")]) == [True]
    storage.close()


@pytest.mark.promise("f43")
def test_a_backup_replaces_nothing_unless_told(tmp_path: Path) -> None:
    storage = _open(tmp_path / "jobs.db")
    storage.insert([job("a")])
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    with pytest.raises(StorageError, match="exists, and was left as it is"):
        storage.backup(copy)
    assert copy.read_text() == "precious"
    storage.backup(copy, overwrite=True)
    assert _ids(copy) == {"a"}
    other = _open(copy)
    other.insert([job("b")])
    with pytest.raises(StorageError, match="in use"):
        storage.backup(copy, overwrite=True)
    other.close()
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        with pytest.raises(StorageError, match="the database itself"):
            storage.backup(tmp_path / name, overwrite=True)
    storage.close()


@pytest.mark.promise("f43")
@pytest.mark.parametrize("destination", ["nowhere/copy.db", "folder"])
def test_a_backup_that_cannot_be_made_leaves_nothing(tmp_path: Path, destination: str) -> None:
    (tmp_path / "folder").mkdir()
    storage = _open(tmp_path / "jobs.db")
    with pytest.raises(StorageError, match="folder"):
        storage.backup(tmp_path / destination)
    storage.close()
    with pytest.raises(StorageError, match="no database"):
        SQLiteStorage(tmp_path / "other.db").backup(tmp_path / "copy.db")
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name or "copy" in path.name]


@pytest.mark.promise("f43")
def test_a_backup_that_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = _open(tmp_path / "jobs.db")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*No backup was made"):
        storage.backup(tmp_path / "copy.db")
    monkeypatch.undo()
    storage.close()
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.promise("f43")
def test_a_backup_can_be_read_by_the_same_users(tmp_path: Path) -> None:
    storage = _open(tmp_path / "jobs.db")
    (tmp_path / "jobs.db").chmod(0o600)
    storage.backup(tmp_path / "copy.db")
    assert stat.S_IMODE(os.stat(tmp_path / "copy.db").st_mode) == 0o600
    storage.close()


# -- damage ------------------------------------------------------------------------------------------------------------


def _damaged(path: Path, damage: str) -> SQLiteStorage:
    storage = _open(path)
    storage.insert([job(f"{number}", payload=bytes(900)) for number in range(100)])
    storage.close()
    data = bytearray(path.read_bytes())
    match damage:
        case "schema":
            start = data.index(b"CREATE TABLE jobs")
            data[start : start + 12] = b"\xff\xfe\xc3\x28" * 3
        case "name":
            start = data.index(b"tablejobsjobs")
            data[start : start + 13] = b"table\xff\xfe\xc3(jobs"
        case "header":
            data[:16] = bytes(16)
        case "pages":
            data[4096:] = b"\xff" * (len(data) - 4096)
        case _:
            del data[len(data) // 2 :]
    path.write_bytes(data)
    return storage


@pytest.mark.promise("f53")
@pytest.mark.parametrize("damage", ["schema", "name", "header", "pages", "half"])
def test_a_damaged_database_says_so_and_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.db"
    storage = _damaged(path, damage)
    with pytest.raises(StorageCorruptError, match=r"damaged.*jobify db check.*backup") as caught:
        storage.open()
        storage.insert([job("x", payload=bytes(900))])
        storage.find(JobQuery(limit=1000))
    assert caught.value.path == str(path)
    storage.close()
    with pytest.raises(StorageError) as refused:
        storage.backup(tmp_path / "copy.db")
    assert not isinstance(refused.value, UnicodeDecodeError)
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.promise("f53")
@pytest.mark.parametrize("damage", ["schema", "name", "pages", "half"])
def test_a_check_of_a_damaged_database_finds_it(tmp_path: Path, damage: str) -> None:
    _damaged(tmp_path / "jobs.db", damage)
    found = ""
    with suppress(StorageCorruptError):  # it is damaged so much that SQLite does not read it
        health = maintenance.check(tmp_path / "jobs.db")
        found = "well" if health.is_well else health.problems[0]
    assert found != "well"


@pytest.mark.promise("f53")
def test_an_answer_that_cannot_be_read(tmp_path: Path) -> None:
    from jobify.storage.sqlite.statements import decode_rows

    with pytest.raises(StorageCorruptError, match="an answer cannot be read"):
        decode_rows(b"[1e999999999, \xff")


@pytest.mark.promise("f53")
def test_errors_can_be_passed_on(tmp_path: Path) -> None:
    import pickle

    error: Any = pickle.loads(pickle.dumps(StorageCorruptError("a.db", "it is")))
    assert (error.path, error.damage, str(error)[:20]) == ("a.db", "it is", "The database 'a.db' ")
