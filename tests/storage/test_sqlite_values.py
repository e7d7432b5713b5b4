"""Large arguments and results, which are stored beside their rows."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobify.model.records import ClaimRequest, JobQuery, MessageKind, SummaryIds, TaskSlots
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import jobs, queries, values
from jobify.storage.sqlite.values import LARGE, PART
from jobify.testing.rows import (
    NOW,
    PROFILE,
    SECOND,
    after,
    again,
    claim,
    claim_once,
    claimed,
    end,
    job,
    line,
    one,
    report,
    running,
)
from probes import database_of, reader_of, writer_of
from support import opened

SIZES = [LARGE, LARGE + 1, PART, PART + 1, 3 * PART + 7]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        yield storage


@pytest.fixture
def owner(storage: SQLiteStorage) -> int:
    return storage.register(PROFILE, now=NOW)


def value(size: int) -> bytes:
    return os.urandom(size)


def ask(storage: SQLiteStorage, question: str, *parameters: Any) -> Any:
    return database_of(storage).row(question, parameters)[0]


def parts(storage: SQLiteStorage) -> int:
    return int(ask(storage, "SELECT count(*) FROM value_parts"))


def written(storage: SQLiteStorage) -> int:
    """Bytes of the log, which begins anew at each call."""
    size = os.path.getsize(f"{database_of(storage).path}-wal")
    ask(storage, "PRAGMA wal_checkpoint(TRUNCATE)")
    return size


@pytest.mark.promise("f57")
@pytest.mark.parametrize("size", SIZES)
def test_large_values_come_back_as_they_are(storage: SQLiteStorage, owner: int, size: int) -> None:
    payload, result = value(size), value(size)
    found = claimed(storage, owner, "a", payload=payload)
    assert found.payload == payload
    storage.settle([end(owner, found, result=result)])
    assert (one(storage, "a").payload, one(storage, "a").result) == (payload, result)
    (record,) = storage.find(JobQuery())
    assert (record.payload, record.result) == (payload, result)
    storage.delete(["a"], now=NOW, delete_at=None)
    assert parts(storage) == 0


@pytest.mark.promise("f57")
def test_no_change_of_state_writes_arguments_or_results_again(storage: SQLiteStorage, owner: int) -> None:
    payload, result = value(20 * PART), value(20 * PART)
    storage.insert([job("a", payload=payload), job("b")])
    written(storage)
    found, other = claim(storage, owner)
    storage.report([report(owner, found, 50.0, MessageKind.PROGRESS)])
    storage.settle([again(owner, found), end(owner, other)])
    storage.reschedule("a", due_at=NOW, now=NOW)
    (found,) = claim(storage, owner)
    storage.cancel(["a"], reason="no", now=NOW, delete_at=None)
    storage.settle([end(owner, found, status="failed")])
    storage.retry(["a"], now=NOW)
    (found,) = claim(storage, owner)
    assert found.payload == payload
    storage.deregister(owner)
    owner = storage.register(PROFILE, now=NOW)
    (found,) = claim(storage, owner)
    assert written(storage) < PART
    storage.settle([end(owner, found, result=result)])
    assert written(storage) < len(result) * 1.1, "once"


@pytest.mark.promise("f57")
def test_lists_and_summaries_leave_large_values_out(storage: SQLiteStorage, owner: int) -> None:
    storage.settle([end(owner, claimed(storage, owner, "a", payload=value(PART)), result=value(PART))])
    storage.insert([job("b")])
    first, second = storage.find(JobQuery(has_values=False))
    assert (first.payload, first.result, second.payload) == (b"", b"", job("b").payload)
    (summary,) = storage.get(SummaryIds(["a"]))
    assert summary == first
    (summary,) = storage.get(SummaryIds(["a"], with_results=True))
    assert (summary.payload, len(summary.result or b"")) == (b"", PART)


@pytest.mark.promise("f57")
def test_a_claim_reads_a_bounded_number_of_bytes(
    storage: SQLiteStorage, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_LARGE_IN_ALL", 2 * PART)
    storage.insert([job(id, payload=value(PART)) for id in "abc"] + [job("d", payload=value(5 * PART)), job("e")])
    sizes = []
    while (found := claim_once(storage, owner)).claims:
        sizes.append([len(one.payload) // PART for one in found.claims])
        assert found.has_more is (len(sizes) < 3)
    assert sizes == [[1, 1], [1], [5, 0]] or sizes == [[1, 1], [1], [5], [0]]


@pytest.mark.promise("f57")
def test_a_claim_of_several_lanes_is_bounded_as_a_whole(
    storage: SQLiteStorage, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_LARGE_IN_ALL", 2 * PART)
    storage.insert([job(f"{lane}{n}", task=lane, payload=value(PART)) for lane in "xy" for n in range(3)])
    request = ClaimRequest(owner, (TaskSlots(("x",), 9), TaskSlots(("y",), 9)))
    taken: list[str] = []
    while (found := storage.claim(request, now=NOW)).claims:
        assert len(found.claims) <= 2
        taken += [one.id for one in found.claims]
    assert sorted(taken) == ["x0", "x1", "x2", "y0", "y1", "y2"]


@pytest.mark.promise("f57")
def test_what_replaces_a_job_replaces_its_values(storage: SQLiteStorage, owner: int) -> None:
    first, second, third, fourth = (value(PART + n) for n in range(4))
    storage.replace(job("a", payload=first))
    storage.replace(job("a", payload=second))
    assert (one(storage, "a").payload, parts(storage)) == (second, 2)
    (found,) = claim(storage, owner)
    assert storage.replace(job("a", payload=third)) is False
    assert storage.replace(job("a", payload=fourth)) is False
    assert one(storage, "a").payload == second
    storage.settle([end(owner, found, result=value(PART))])
    assert (one(storage, "a").payload, one(storage, "a").result, parts(storage)) == (fourth, None, 2)
    (found,) = claim(storage, owner)
    storage.replace(job("a", payload=first))
    storage.cancel(["a"], reason="no", now=NOW, delete_at=None)
    storage.settle([again(owner, found)])
    assert (one(storage, "a").status, one(storage, "a").payload, parts(storage)) == ("cancelled", fourth, 2)
    storage.replace(job("a"))
    assert parts(storage) == 0


@pytest.mark.promise("f57")
def test_an_ended_job_takes_its_values_along_when_it_makes_room(storage: SQLiteStorage, owner: int) -> None:
    storage.settle([end(owner, claimed(storage, owner, "a", payload=value(PART)), result=value(PART))])
    assert storage.insert([job("a", payload=value(PART)), job("a", payload=value(PART))]) == [True, False]
    assert parts(storage) == 1


@pytest.mark.promise("f57")
def test_a_schedule_keeps_its_last_result(storage: SQLiteStorage, owner: int) -> None:
    results = [value(PART), value(PART), b"null", value(PART), None]
    storage.insert([job("a", rule="{}")])
    for result in results:
        (found,) = claim(storage, owner)
        next_run = again(owner, found, due_at=NOW, ready=True, attempt=0, error=None, result=result)
        storage.settle([next_run])
        assert one(storage, "a").result == result
        assert parts(storage) == (result is not None and len(result) > LARGE)


@pytest.mark.promise("f57")
def test_dependents_and_recovery_keep_to_it(storage: SQLiteStorage, owner: int) -> None:
    payload = value(PART)
    storage.insert([running("a", owner, payload=payload), after("b", "a", payload=payload)])
    storage.close()
    storage.open()
    storage.recover(now=NOW, max_crashes=9, delete_at=None)
    owner = storage.register(PROFILE, now=NOW)
    (found,) = claim(storage, owner)
    assert (found.id, found.payload) == ("a", payload)
    storage.settle([end(owner, found, result=payload)])
    (found,) = claim(storage, owner)
    assert (found.id, found.payload) == ("b", payload)


@pytest.mark.promise("f57")
def test_a_settlement_that_does_not_hold_writes_nothing(storage: SQLiteStorage, owner: int) -> None:
    found = claimed(storage, owner, "a")
    late = end(owner, found._replace(fence=found.fence - 1), result=value(PART))
    assert storage.settle([late, late]) == [0, 0]
    assert parts(storage) == 0


@pytest.mark.promise("f57")
def test_what_is_large_is_deleted_a_few_at_a_time(
    storage: SQLiteStorage, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PARTS", 4)
    monkeypatch.setattr(jobs, "_LARGE_MESSAGES", 3)
    for id, size in (("a", PART), ("b", 9 * PART), ("c", PART)):
        found = claimed(storage, owner, id, payload=value(size))
        storage.report([report(owner, found, value(LARGE + 1)) for _ in range(7)])
        storage.settle([end(owner, found, result=value(PART), delete_at=NOW)])
    assert [storage.purge(now=NOW, limit=9) for _ in range(4)] == [1, 1, 1, 0]
    assert (parts(storage), ask(storage, "SELECT count(*) FROM messages")) == (0, 0)


@pytest.mark.promise("f57")
def test_a_parent_that_is_still_needed_keeps_its_values(storage: SQLiteStorage, owner: int) -> None:
    storage.insert([running("a", owner), after("b", "a", due_at=NOW + SECOND)])
    found = storage.get(["a"])[0]
    storage.report([report(owner, running("a", owner), value(LARGE + 1))])
    storage.settle([end(owner, running("a", owner), result=value(PART), delete_at=NOW)])
    assert storage.purge(now=NOW + SECOND, limit=9) == 0
    assert len(one(storage, "a").result or b"") == PART
    assert len(storage.messages("a", after=0, limit=9)) == 1
    assert found.result is None


@pytest.mark.promise("f57")
def test_values_that_an_older_release_stored_inline_are_read(storage: SQLiteStorage, owner: int) -> None:
    payload = value(3 * PART)
    storage.insert([job("a")])
    database_of(storage).write("UPDATE jobs SET payload = ?", (payload,))
    (found,) = claim(storage, owner)
    assert found.payload == payload
    storage.settle([end(owner, found)])
    database_of(storage).write("UPDATE jobs SET result = ?", (payload,))
    assert (one(storage, "a").payload, one(storage, "a").result) == (payload, payload)


@pytest.mark.promise("f57")
def test_a_file_of_the_first_schema_keeps_everything(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent.parent / "data" / "schema_1.db", tmp_path / "jobs.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        before = connection.execute("SELECT id, status, payload, result FROM jobs ORDER BY id").fetchall()
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        now = [
            (record.id, record.status, record.payload, record.result) for record in storage.find(JobQuery(limit=10_000))
        ]
        assert now == before
        assert before


@pytest.mark.promise("f57")
def test_a_number_is_never_used_twice(storage: SQLiteStorage, owner: int) -> None:
    seen = set()
    for _ in range(3):
        storage.insert([job("a", payload=value(PART))])
        seen.add(ask(storage, "SELECT payload_ref FROM jobs"))
        storage.delete(["a"], now=NOW, delete_at=None)
    assert len(seen) == 3


@pytest.mark.promise("f57")
def test_a_value_that_goes_while_it_is_read_is_read_again(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.insert([job("a", payload=value(2 * PART))])
    reads, load = storage._reads, storage._reads._load

    def replaced_first(reference: int) -> bytes:
        monkeypatch.setattr(reads, "_load", load)
        storage.replace(job("a", payload=b"new"))
        return load(reference)

    monkeypatch.setattr(reads, "_load", replaced_first)
    assert one(storage, "a").payload == b"new"


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.promise("f32")
def test_a_page_of_messages_is_bounded_by_bytes(storage: SQLiteStorage, owner: int) -> None:
    """More than SQLite could give in one answer is read page by page, and the lines of the log without the values."""
    storage.get(["a"])
    for connection in (writer_of(storage), reader_of(storage)):
        assert connection is not None
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 7_000_000)
    found = claimed(storage, owner, "a")
    for number in range(6):
        storage.report(
            [report(owner, found, bytes([number]) * 3_000_000), report(owner, found, "a line", MessageKind.LOG)]
        )
    pages: list[list[int]] = []
    after = 0
    while page := storage.messages("a", after=after, limit=500):
        pages.append([len(message.data) for message in page])
        after = page[-1].number
    assert pages == [[3_000_000, 6]] * 6
    assert len(storage.messages("a", after=0, limit=500, kind=MessageKind.LOG)) == 6


@pytest.mark.promise("f32")
def test_one_message_is_never_too_much(storage: SQLiteStorage, owner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_PAGE_BYTES", 10)
    found = claimed(storage, owner, "a")
    storage.report([report(owner, found, bytes(size)) for size in (100, 4, 4, 4, 100)])
    numbers, after = [], 0
    while page := storage.messages("a", after=after, limit=500):
        numbers.append([message.number for message in page])
        after = page[-1].number
    assert numbers == [[1], [2, 3], [4], [5]]


@pytest.mark.promise("f32")
def test_a_long_history_is_read_in_pages(storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_LINES", 3)
    storage.insert([job("a")])
    for count in range(8):
        assert [one.attempt for one in storage.attempts("a")] == list(range(count))
        storage.add_history([line("a", attempt=count)])
