"""Room in the log: made ahead, so that commits which are flushed do not make the file longer."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.connection import LONG_LOG
from jobify.storage.sqlite.descriptors import Descriptors
from jobify.storage.sqlite.log_room import LogRoom
from jobify.testing.rows import NOW, PROFILE, job
from probes import database_of, writer_of
from support import opened


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        yield storage


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db-wal"


def _room_of(storage: SQLiteStorage) -> LogRoom:
    room = database_of(storage)._room
    assert room is not None
    return room


def _insert(storage: SQLiteStorage, name: str, count: int, log: Path) -> set[int]:
    """Insert jobs one by one; which lengths the log had."""
    sizes = set()
    for number in range(count):
        assert storage.insert([job(f"{name}{number}")]) == [True]
        sizes.add(log.stat().st_size)
    return sizes


def _ids(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


def test_a_hundred_commits_make_the_log_longer_a_few_times(storage: SQLiteStorage, log: Path) -> None:
    assert len(_insert(storage, "a", 100, log)) < 8


def test_the_log_is_made_no_longer_than_it_may_be(storage: SQLiteStorage, log: Path) -> None:
    for number in range(12):
        storage.insert([job(f"{number}.{place}", payload=bytes(8000)) for place in range(100)])
    assert max(_insert(storage, "a", 20, log)) <= LONG_LOG
    assert _room_of(storage).size == LONG_LOG


def test_without_flushes_there_is_none(tmp_path: Path, log: Path) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        assert len(_insert(storage, "a", 50, log)) == 50


@pytest.mark.promise("f1")
def test_what_was_committed_is_read_from_a_log_with_room(storage: SQLiteStorage, tmp_path: Path, log: Path) -> None:
    """The copy is what a killed process leaves."""
    _insert(storage, "a", 70, log)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("jobs.db", "jobs.db-wal"):
        shutil.copy(tmp_path / name, copy)
    assert _ids(copy / "jobs.db") == 70


def test_processes_take_turns_in_one_room(storage: SQLiteStorage, tmp_path: Path, log: Path) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as other:
        sizes = set()
        for number in range(40):
            sizes |= _insert(storage, f"a{number}.", 1, log) | _insert(other, f"b{number}.", 1, log)
        assert len(sizes) < 8
    storage.close()
    assert _ids(tmp_path / "jobs.db") == 80


def test_while_another_process_writes_nothing_is_appended(storage: SQLiteStorage, tmp_path: Path, log: Path) -> None:
    storage.register(PROFILE, now=NOW)
    room, writer = LogRoom(database_of(storage)._identity, LONG_LOG), writer_of(storage)
    assert writer is not None
    os.truncate(log, log.stat().st_size - room._left(log.stat().st_size))
    database_of(storage)._identity.log_size = before = log.stat().st_size
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        room.make(writer)
        assert (room.size, log.stat().st_size) == (0, before)
        other.execute("ROLLBACK")
    room.make(writer)
    assert room.size == log.stat().st_size > before


def test_what_another_process_has_appended_is_enough(storage: SQLiteStorage, log: Path) -> None:
    storage.insert([job("a")])
    size = log.stat().st_size
    number = database_of(storage)._identity.descriptors.log
    assert number is not None
    assert _room_of(storage)._append(number) == size == log.stat().st_size


def test_a_full_disk_keeps_its_room(storage: SQLiteStorage, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    pwrite = os.pwrite

    def limited(number: int, data: bytes, start: int) -> int:
        if written:
            raise OSError(errno.ENOSPC, "no space")
        written.append(start)
        return pwrite(number, data, start)

    _insert(storage, "a", 5, log)
    monkeypatch.setattr(os, "pwrite", limited)
    sizes = _insert(storage, "b", 40, log)
    assert written
    assert len(sizes) > 20
    monkeypatch.undo()
    assert len(_insert(storage, "c", 40, log)) < 4


@pytest.mark.parametrize("what", ["log", "memory"])
def test_what_is_not_known_is_left_alone(
    what: str, storage: SQLiteStorage, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a process cannot see its descriptors."""
    _insert(storage, "a", 1, log)
    if what == "memory":
        monkeypatch.setattr(Descriptors, "checkpoint", lambda self: None)
    else:
        monkeypatch.setattr(database_of(storage)._identity, "descriptors", Descriptors())
    writer = writer_of(storage)
    assert writer is not None
    room = LogRoom(database_of(storage)._identity, LONG_LOG)
    database_of(storage)._identity.log_size = before = log.stat().st_size
    room.make(writer)
    assert (room.size, log.stat().st_size) == (before, before)
