"""The numbers of jobs: in the order of insertion, and never given twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import schema
from jobify.storage.sqlite.statements import CHUNK
from jobify.testing.rows import NOW, SECOND, end, job, one, running
from probes import database_of
from support import opened

DATA = Path(__file__).parents[1] / "data"
AUTOINCREMENT = "SELECT count(*) FROM sqlite_master WHERE name = 'jobs' AND sql LIKE '%KEY AUTOINCREMENT%'"


@pytest.fixture(params=["edited", "refused"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStorage]:
    """In a file with numbers of our own, and in one whose schema SQLite does not let us edit."""
    if request.param == "refused":
        monkeypatch.setattr(schema, "_EDIT", "UPDATE no_such_table SET sql = ''")
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        assert database_of(storage).row(AUTOINCREMENT) == (int(request.param == "refused"),)
        yield storage


def number(storage: SQLiteStorage, id: str) -> int:
    (seq,) = database_of(storage).row("SELECT max(seq) FROM jobs WHERE id = ?", (id,))
    return int(seq)


def count(storage: SQLiteStorage) -> int:
    return int(database_of(storage).row("SELECT count(*) FROM jobs")[0])


def _delete(storage: SQLiteStorage) -> None:
    storage.delete(["b", "c"], now=NOW, delete_at=None)


def _purge(storage: SQLiteStorage) -> None:
    assert storage.purge(now=NOW + 3600 * SECOND, limit=10) == 2


@pytest.mark.parametrize("remove", [_delete, _purge])
@pytest.mark.parametrize(
    "insert",
    [
        lambda storage: storage.insert([job("new")]),
        lambda storage: storage.insert([job("new"), *(job(str(number)) for number in range(CHUNK))]),
        lambda storage: storage.insert([job("new", parents=("a",))]),
        lambda storage: storage.insert([job("a"), job("new")]),
        lambda storage: storage.replace(job("new")),
    ],
    ids=["one", "many", "child", "one of two", "put"],
)
def test_the_number_of_a_deleted_job_is_not_given_again(
    insert: Callable[[SQLiteStorage], object], remove: Callable[[SQLiteStorage], None], storage: SQLiteStorage
) -> None:
    storage.insert([job("a"), running("b", 1), running("c", 1)])
    last = number(storage, "c")
    storage.settle([end(1, running("b", 1)), end(1, running("c", 1))])
    remove(storage)
    insert(storage)
    assert number(storage, "new") > last
    assert one(storage, "new").status == "scheduled"
    storage.insert([job("later")])
    assert number(storage, "later") > number(storage, "new")


@pytest.mark.parametrize(
    "change",
    [lambda storage: storage.insert([job("a")]), lambda storage: storage.replace(job("a", payload=b"new"))],
    ids=["id in use", "put in its place"],
)
def test_a_number_stays_taken_when_nothing_new_comes(
    change: Callable[[SQLiteStorage], object], storage: SQLiteStorage
) -> None:
    storage.insert([job("a"), job("b")])
    last = number(storage, "b")
    storage.delete(["b"], now=NOW, delete_at=None)
    change(storage)
    assert count(storage) == 1
    storage.insert([job("new")])
    assert (count(storage), number(storage, "new") > last) == (2, True)


def test_a_job_in_the_place_of_the_last_one_that_has_ended_is_another(storage: SQLiteStorage) -> None:
    storage.insert([running("a", 1)])
    last = number(storage, "a")
    storage.settle([end(1, running("a", 1))])
    assert storage.insert([job("a")]) == [True]
    assert (count(storage), number(storage, "a") > last) == (1, True)


def test_no_number_is_lost_in_an_older_file(tmp_path: Path) -> None:
    """Its last job, the eleventh, was deleted."""
    shutil.copy(DATA / "schema_9.db", tmp_path / "jobs.db")
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        assert database_of(storage).row(AUTOINCREMENT) == (0,)
        assert number(storage, "schedule") == 10
        storage.insert([job("new")])
        assert number(storage, "new") == 12
        assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)
