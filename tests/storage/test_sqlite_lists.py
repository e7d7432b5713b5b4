"""Lists of what has not ended, which no single index holds in the order of its ids."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import queries
from jobify.storage.sqlite.schema import migrations
from jobify.storage.sqlite.values import LARGE
from jobify.testing.rows import NOW, PROFILE, SECOND, again, claim, end, job, running
from probes import database_of
from support import opened

DATA = Path(__file__).parents[1] / "data"
LIVE = ("scheduled", "running")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        yield storage


@pytest.fixture(params=["some rows", "sorted", "all rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a page is found."""
    if request.param != "some rows":
        monkeypatch.setattr(queries, "_ROWS_LOOKED_THROUGH", -1)
    monkeypatch.setattr(queries, "_SORTED", 1000 if request.param == "sorted" else -1)
    return str(request.param)


def _fill(storage: SQLiteStorage) -> None:
    """Jobs of every kind, in turn, so that each kind lies between the others."""
    owner = storage.register(PROFILE, now=NOW)
    for number in range(0, 80, 8):
        names = [f"{number + place:02}" for place in range(8)]
        retried, ended = running(names[0], owner), running(names[1], owner)
        storage.insert([retried, ended, running(names[2], owner), job(names[3]), job(names[4], queue="mail")])
        storage.insert([job(names[5], due_at=NOW + 60 * SECOND), job(names[6], parents=(names[2],)), job(names[7])])
        storage.settle([again(owner, retried), end(owner, ended)])
    storage.pause([f"{number:02}" for number in range(7, 80, 8)])


@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("matching", [{}, {"queues": ("mail",)}, {"tasks": ("task",), "created_before": NOW + 1}])
@pytest.mark.parametrize("statuses", [LIVE, ("scheduled",)])
def test_pages_hold_all_that_has_not_ended_in_order(
    statuses: tuple[str, ...], matching: dict[str, object], is_newest_first: bool, way: str, storage: SQLiteStorage
) -> None:
    _fill(storage)
    everything = storage.find(JobQuery(limit=1000, is_newest_first=is_newest_first, **matching))  # type: ignore[arg-type]
    expected = [record for record in everything if record.status in statuses]
    assert expected
    found = []
    page = JobQuery(statuses=statuses, limit=7, is_newest_first=is_newest_first, **matching)  # type: ignore[arg-type]
    while some := storage.find(page):
        assert len(some) <= 7
        found += some
        page = page._replace(after_id=some[-1].id)
    assert found == expected


def test_no_limit_is_no_page(storage: SQLiteStorage, way: str) -> None:
    _fill(storage)
    assert storage.find(JobQuery(statuses=LIVE, limit=0)) == []


def test_large_values_come_with_a_page(storage: SQLiteStorage, way: str) -> None:
    payload = b"x" * (LARGE + 1)
    storage.insert([job("a", payload=payload), job("b")])
    assert [record.payload for record in storage.find(JobQuery(statuses=LIVE, limit=1))] == [payload]
    assert [record.payload for record in storage.find(JobQuery(statuses=LIVE, limit=1, has_values=False))] == [b""]


def test_what_is_due_and_was_not_ready_yet_is_listed(storage: SQLiteStorage, way: str) -> None:
    storage.insert([job("odd", ready=False, due_at=NOW, created_at=NOW), job("ready")])
    database_of(storage).execute("UPDATE jobs SET blockers = 1 WHERE id = 'odd'")
    assert [record.id for record in storage.find(JobQuery(statuses=LIVE, limit=10))] == ["odd", "ready"]


# -- files of an older release -----------------------------------------------------------------------------------------


def test_an_older_file_keeps_its_lists_and_its_work(tmp_path: Path, way: str) -> None:
    """The file is of the schema in which each waiting job had an entry in the index of the list."""
    shutil.copy(DATA / "schema_9.db", tmp_path / "jobs.db")
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        assert database_of(storage).row("PRAGMA user_version") == (len(migrations()),)
        live = [record.id for record in storage.find(JobQuery(statuses=LIVE, limit=10))]
        assert live == ["child", "future", "newest", "retries", "runs", "schedule", "waits", "waits-too"]
        owner = storage.register(PROFILE, now=NOW)
        taken = claim(storage, owner, now=NOW + 60 * SECOND)
        assert [one.id for one in taken] == ["waits-too", "waits", "retries", "schedule"]
        storage.settle([end(owner, one) for one in taken])
        live = [record.id for record in storage.find(JobQuery(statuses=LIVE, limit=10))]
        assert live == ["child", "future", "newest", "runs"]
        assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)
