"""Rows that can be seen and not claimed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import StorageError
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.maintenance import check
from jobify.storage.sqlite.values import LARGE
from jobify.testing.rows import NOW, PROFILE, SECOND, claim_once, job, one
from probes import database_of

pytestmark = pytest.mark.promise("f53")

OTHERS = ["first", "later", "third"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with four jobs, one of which is going to be damaged; another one is not due yet."""
    path = tmp_path / "jobs.db"
    storage = SQLiteStorage(path)
    storage.open()
    names = ("first", "sorry", "third")
    storage.insert([job(id, queue=f"queue-{id}", options=f'{{"metadata":{{"of":"{id}"}}}}') for id in names])
    storage.insert([job("later", due_at=NOW + 5)])
    storage.close()
    return path


def flip(path: Path, name: str, word: bytes, bit: int = 1) -> None:
    """Change one bit of the first ``word`` on the only page of a table or an index."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    place = data.index(word, (page - 1) * size)
    assert place < page * size
    data[place] ^= bit
    path.write_bytes(data)


def write(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def forge(path: Path, change: str) -> None:
    """Change a row behind the back of an index, and of the types of its columns."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        (table,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchone()
        for loose in (table.replace(" NOT NULL", "").replace("STRICT", ""), table):
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'jobs'", (loose,))
            connection.execute("PRAGMA writable_schema = RESET")
            connection.execute("PRAGMA writable_schema = ON")
            if loose is not table:
                assert connection.execute(change).rowcount == 1
            connection.commit()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the row has another queue than the index": lambda path: flip(path, "jobs", b"queue-sorry"),
    "the index has another queue than the row": lambda path: flip(path, "jobs_ready", b"queue-sorry"),
    "the id is no text": lambda path: write(path, "UPDATE jobs SET id = CAST(x'ff' AS TEXT) WHERE id = 'sorry'"),
    "a number is gone": lambda path: forge(path, "UPDATE jobs SET created_at = NULL WHERE id = 'sorry'"),
    "a number is a text": lambda path: forge(path, "UPDATE jobs SET created_at = 'x' WHERE id = 'sorry'"),
    "a text is a blob": lambda path: forge(path, "UPDATE jobs SET options = x'00' WHERE id = 'sorry'"),
    "the arguments are a text": lambda path: forge(path, "UPDATE jobs SET payload = 'ünï' WHERE id = 'sorry'"),
    "the arguments are gone": lambda path: write(path, "UPDATE jobs SET payload_ref = 7340033 WHERE id = 'sorry'"),
}


@pytest.fixture
def opened(path: Path) -> Iterator[SQLiteStorage]:
    storage = SQLiteStorage(path)
    yield storage
    storage.close()


def take_all(storage: SQLiteStorage, owner: int, now: int = NOW + 10) -> list[str]:
    """All that can be claimed, one at a time; an answer that says there is more is believed so many times."""
    taken: list[str] = []
    for _ in range(20):
        found = claim_once(storage, owner, limit=1, now=now)
        taken += [one.id for one in found.claims]
        if not found.has_more:
            return taken
    pytest.fail("there was always more")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_cannot_be_claimed_is_set_aside(
    path: Path, opened: SQLiteStorage, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](path)
    opened.open()
    owner = opened.register(PROFILE, now=NOW)
    # What the damaged row hides is found a minute later by a claim that finds nothing.
    taken = [id for minute in range(4) for id in take_all(opened, owner, NOW + 10 + 61 * minute * SECOND)]
    assert sorted(taken) == OTHERS
    assert take_all(opened, owner) == []
    lines = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == 1
    assert "cannot be claimed" in lines[0].getMessage()
    opened.insert([job("new")])
    assert take_all(opened, owner) == ["new"]


@pytest.mark.parametrize("damage", ["a number is gone", "the arguments are gone"])
def test_its_row_tells_why(path: Path, opened: SQLiteStorage, damage: str) -> None:
    DAMAGES[damage](path)
    opened.open()
    take_all(opened, opened.register(PROFILE, now=NOW))
    (status, error, is_dead, owner) = database_of(opened).row(
        "SELECT status, error, is_dead, owner FROM jobs WHERE id = 'sorry'"
    )
    assert (status, is_dead, owner) == ("failed", 1, None)
    assert error.startswith("The row is damaged: ")


def test_a_staged_row_that_sqlite_cannot_change(
    path: Path, opened: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time has come, and it cannot be staged; the others are."""
    opened.open()
    opened.insert([job("worse", due_at=NOW + 1)])
    (seq,) = database_of(opened).row("SELECT seq FROM jobs WHERE id = 'worse'")
    write = database_of(opened).write

    def trips(statement: str, parameters: Any = ()) -> int:
        if "SET ready = 1" in statement and ("IN (" in statement or parameters == (seq,)):
            raise StorageError("the disk image is malformed")
        return write(statement, parameters)

    monkeypatch.setattr(database_of(opened), "write", trips)
    owner = opened.register(PROFILE, now=NOW)
    assert sorted(take_all(opened, owner)) == sorted([*OTHERS, "sorry"])
    assert one(opened, "worse").status == "failed"


def test_a_check_tells_what_sqlite_does_not_see(path: Path, opened: SQLiteStorage) -> None:
    opened.open()
    opened.insert([job("large", payload=bytes(LARGE + 1))])
    opened.close()
    assert check(path).problems == ()
    write(path, "DELETE FROM value_parts")
    write(path, "UPDATE jobs SET task = CAST(x'ff41' AS TEXT) WHERE id = 'sorry'")
    problems = " ".join(check(path).problems)
    assert "task is not text" in problems
    assert "parts of payload are missing" in problems


def test_what_can_be_read_is_told_from_what_cannot(path: Path, opened: SQLiteStorage) -> None:
    opened.open()
    assert one(opened, "sorry").status == "scheduled"
    assert sorted(take_all(opened, opened.register(PROFILE, now=NOW))) == sorted([*OTHERS, "sorry"])
