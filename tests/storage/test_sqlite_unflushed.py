"""Writes that are flushed later: they wait for nothing, and are on disk when the flush has returned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobify.exceptions import StorageReplacedError, StorageUnavailableError
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import connection
from jobify.testing.rows import job, one
from probes import database_of
from support import opened


class Flushes:
    """The files that were flushed by us; SQLite flushes by itself."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.error: OSError | None = None

    def __call__(self, number: int) -> None:
        self.files.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")))
        if self.error is not None:
            raise self.error


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    found = Flushes()
    monkeypatch.setattr(connection, "_flush", found)
    return found


@pytest.fixture
def storage(tmp_path: Path, flushes: Flushes) -> Iterator[SQLiteStorage]:
    """One that has written before, so that it can do so without waiting."""
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        storage.insert([job("first")])
        assert not _can(storage, "second")
        storage.insert([job("second")])
        assert _can(storage, "third")
        _flush(storage)
        flushes.files.clear()
        yield storage


def _can(storage: SQLiteStorage, id: str) -> bool:
    """Whether a job is inserted without waiting."""
    assert storage.unflushed_writes is not None
    try:
        with storage.unflushed_writes:
            return storage.insert([job(id)]) == [True]
    except StorageUnavailableError:
        return False


def _flush(storage: SQLiteStorage) -> None:
    assert storage.unflushed_writes is not None
    storage.unflushed_writes.flush()


def test_without_flushes_there_is_no_such_thing(tmp_path: Path) -> None:
    assert SQLiteStorage(tmp_path / "jobs.db", synchronous="normal").unflushed_writes is None


def test_the_log_is_flushed_once_for_what_was_written(storage: SQLiteStorage, flushes: Flushes) -> None:
    assert all(_can(storage, f"{number}") for number in range(3))
    assert flushes.files == []
    _flush(storage)
    assert flushes.files == ["jobs.db-wal"]
    _flush(storage)
    assert flushes.files == ["jobs.db-wal"]
    assert one(storage, "2").status == "scheduled"


def test_other_commits_are_flushed_by_sqlite(storage: SQLiteStorage) -> None:
    assert _can(storage, "a")
    assert database_of(storage).row("PRAGMA synchronous") == (2,)
    with pytest.raises(RuntimeError), storage.unflushed_writes:  # type: ignore[union-attr]
        raise RuntimeError
    assert database_of(storage).row("PRAGMA synchronous") == (2,)


def test_a_disk_that_takes_nothing_fails_the_flush(storage: SQLiteStorage, flushes: Flushes) -> None:
    assert _can(storage, "a")
    flushes.error = OSError(5, "Input/output error")
    with pytest.raises(StorageUnavailableError, match="cannot be flushed"):
        _flush(storage)
    flushes.error = None
    _flush(storage)


def test_a_log_that_is_not_known_fails_the_flush(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _can(storage, "a")
    monkeypatch.setattr(database_of(storage)._identity.descriptors, "log", None)
    with pytest.raises(StorageUnavailableError, match="not known"):
        _flush(storage)


def test_the_log_is_flushed_before_it_is_closed(storage: SQLiteStorage, flushes: Flushes) -> None:
    assert _can(storage, "a")
    storage.close()
    assert flushes.files == ["jobs.db-wal"]


def test_a_fork_flushes_first(storage: SQLiteStorage, flushes: Flushes) -> None:
    assert _can(storage, "a")
    storage.before_fork()
    storage.after_fork_in_parent()
    assert flushes.files == ["jobs.db-wal"]
    _flush(storage)
    assert flushes.files == ["jobs.db-wal"]


def test_what_is_in_no_file_is_not_acknowledged(storage: SQLiteStorage, tmp_path: Path) -> None:
    assert _can(storage, "a")
    (tmp_path / "jobs.db-wal").unlink()
    with pytest.raises(StorageReplacedError):
        _flush(storage)


def test_a_long_log_is_copied_after_a_flush(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    database = database_of(storage)
    monkeypatch.setattr("jobify.storage.sqlite.database.LONG_LOG", 1)
    assert _can(storage, "a")
    _flush(storage)
    assert database._identity.descriptors.log_goes_on() is False
    assert not _can(storage, "b")  # it would begin the log again
