"""Non-blocking writes: what would have to wait is refused, and nothing there ever waits for the disk."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import errors
from jobify.storage.sqlite.connection import LONG_LOG
from jobify.testing.rows import NOW, PROFILE, end, job, made_without_waiting, one, running

LONG = bytes(60_000)
"""A payload of some thirty pages: with it the log is soon long."""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    """One that has written before, so that it can do so without waiting."""
    storage = _open(tmp_path)
    _warm_up(storage)
    yield storage
    storage.close()


def _open(directory: Path) -> SQLiteStorage:
    storage = SQLiteStorage(directory / "jobs.db", synchronous="normal")
    storage.open()
    return storage


def _can(storage: SQLiteStorage, id: str, payload: bytes = b"") -> bool:
    return made_without_waiting(storage, lambda: storage.insert([job(id, payload=payload)]))


def _warm_up(storage: SQLiteStorage) -> None:
    """Write, and find out that whatever others have done so far was before that."""
    storage.insert([job("first")])
    assert not _can(storage, "second")
    storage.insert([job("second")])
    assert _can(storage, "third")


def _generation(directory: Path) -> bytes:
    """Which of its lives the log is in: the salts in its head, which change whenever it begins anew."""
    with (directory / "jobs.db-wal").open("rb") as log:
        return log.read(24)[16:]


# -- when it is refused ------------------------------------------------------------------------------------------------


def test_with_flushes_there_is_no_such_thing(tmp_path: Path) -> None:
    assert SQLiteStorage(tmp_path / "jobs.db").nonblocking is None
    assert SQLiteStorage(tmp_path / "jobs.db", synchronous="normal").nonblocking is not None


def test_not_before_an_ordinary_write(tmp_path: Path) -> None:
    """The first write of a connection may begin the log anew, which is flushed."""
    storage = _open(tmp_path)
    assert not _can(storage, "a")
    storage.insert([job("a")])
    assert not _can(storage, "b")  # what others did before is not known yet
    storage.insert([job("b")])
    assert _can(storage, "c")
    storage.close()
    assert not _can(storage, "d")


def test_a_locked_file_is_not_waited_for(
    storage: SQLiteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(seconds: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr(errors.time, "sleep", never)
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not _can(storage, "a")
    other.execute("ROLLBACK")
    assert _can(storage, "a")
    other.close()


def test_a_locked_file_is_waited_for_again_afterwards(storage: SQLiteStorage, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    assert not _can(storage, "a")
    soon = threading.Timer(0.05, lambda: other.execute("ROLLBACK"))
    soon.start()
    assert storage.insert([job("a")]) == [True]
    soon.join()
    other.close()


def test_others_that_have_committed_may_have_left_a_flush(storage: SQLiteStorage, tmp_path: Path) -> None:
    other = _open(tmp_path)
    other.insert([job("theirs")])
    assert not _can(storage, "a")
    storage.insert([job("a")])
    assert _can(storage, "b")
    other.close()


def test_after_a_while_an_ordinary_write_is_due(storage: SQLiteStorage) -> None:
    made = 0
    while _can(storage, f"job {made}"):
        made += 1
    assert 100 < made < 1000
    storage.insert([job("copies the log")])
    storage.insert([job("begins it anew")])
    assert _can(storage, "y")


def test_a_write_that_writes_nothing_opens_nothing(storage: SQLiteStorage, tmp_path: Path) -> None:
    """The log was copied and is to begin anew: whoever is the first to write does that."""
    number = 0
    while _can(storage, f"{number}"):
        storage.insert([job(f"long {number}", payload=LONG)])
        number += 1
    assert (tmp_path / "jobs.db-wal").stat().st_size > 4_000_000
    assert storage.reschedule("nobody", due_at=NOW, now=NOW) is False
    assert storage.delete(["nobody"], now=NOW, delete_at=None) == 0
    assert not _can(storage, "a")
    storage.insert([job("a")])
    assert _can(storage, "b")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_the_parent_begins_with_an_ordinary_write(storage: SQLiteStorage) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if not _can(storage, "child") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not _can(storage, "a")
    storage.delete(["first", "second"], now=NOW, delete_at=None)
    _warm_up(storage)


# -- what it does ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_non_blocking_write_neither_copies_nor_restarts_the_log(tmp_path: Path) -> None:
    """Those are the two moments at which there is a flush. The log stays bounded all the same."""
    storage, file, log = _open(tmp_path), tmp_path / "jobs.db", tmp_path / "jobs.db-wal"
    owner = storage.register(PROFILE, now=NOW)
    nonblocking = anew = 0
    for number in range(4000):
        new = running(f"{number}", owner, payload=LONG if number % 10 == 0 else b"")
        before, copied = _generation(tmp_path), file.stat().st_mtime_ns
        if made_without_waiting(storage, lambda new=new: storage.insert([new])):  # type: ignore[misc]
            nonblocking += 1
            assert (_generation(tmp_path), file.stat().st_mtime_ns) == (before, copied)
        else:
            storage.insert([new])
            anew += _generation(tmp_path) != before
        assert log.stat().st_size < 50_000_000
    assert nonblocking > 3800
    assert anew > 1
    storage.close()


@pytest.mark.slow
def test_a_long_log_is_copied_by_ordinary_writes(tmp_path: Path) -> None:
    storage, log = _open(tmp_path), tmp_path / "jobs.db-wal"
    for number in range(1000):
        storage.insert([job(f"{number}", payload=LONG)])
        assert log.stat().st_size < LONG_LOG + 1_000_000
    with storage.transaction():
        storage.insert([job(f"block {number}", payload=LONG) for number in range(400)])
    storage.insert([job("next")])
    storage.insert([job("after")])
    assert log.stat().st_size < LONG_LOG + 1_000_000
    storage.close()


def test_a_call_of_several_steps_is_made_whole(storage: SQLiteStorage) -> None:
    """An ended job makes room for one with its id; of two settlements the first one holds."""
    owner = storage.register(PROFILE, now=NOW)
    new = running("a", owner)
    assert made_without_waiting(storage, lambda: storage.insert([new]))
    ended = end(owner, new)
    answers: list[list[bool]] = []
    assert made_without_waiting(storage, lambda: answers.append(storage.settle([ended])))
    assert made_without_waiting(storage, lambda: answers.append(storage.settle([ended])))
    assert made_without_waiting(storage, lambda: answers.append(storage.insert([job("a", payload=b"2")])))
    assert answers == [[True], [False], [True]]
    assert one(storage, "a").payload == b"2"
