"""Batches: their sizes, what stands for NULL in them, and answers that are too long for one row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import JobQuery, NewJob, Parking, Settlement
from jobify.model.status import TERMINAL
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import statements
from jobify.storage.sqlite.parameters import (
    attempt_values,
    job_values,
    settlement_values,
    started_values,
    success_values,
)
from jobify.storage.sqlite.statements import CHUNK, id_values, sql
from jobify.storage.sqlite.values import LARGE
from jobify.testing.rows import NOW, PROFILE, again, claim, claim_once, end, job, line, one, running
from probes import reader_of, writer_of
from support import opened


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        yield storage


def test_the_words_in_the_statements_are_those_of_the_vocabulary() -> None:
    words = ", ".join(f"'{status}'" for status in TERMINAL)
    for name in ("unfinished", "delete_ended"):
        text = statements._STATEMENTS[name]
        assert all(f"'{status}'" in text for status in TERMINAL), words


def test_the_same_statement_is_the_same_text() -> None:
    assert sql("insert", rows=(4, 19)) is sql("insert", rows=(4, 19))
    assert sql("delete", ids=2).count("?") == 2
    assert sql("delete_orphaned_cancels").count("{") == 0


@pytest.mark.slow
@given(st.integers(1, CHUNK))
def test_a_batch_is_padded_to_a_power_of_two(count: int) -> None:
    for (rows, width), values in (
        job_values([job(str(number)) for number in range(count)]),
        settlement_values([end(1, running(str(number), 1)) for number in range(count)]),
        attempt_values([line(str(number)) for number in range(count)]),
    ):
        assert rows & (rows - 1) == 0
        assert count <= rows < 2 * count or rows == 1
        assert len(values) == rows * width
    size, ids = id_values([str(number) for number in range(count)])
    assert size == len(ids)
    assert set(ids) == {str(number) for number in range(count)}


@pytest.mark.parametrize("count", [1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_batches_of_any_size(storage: SQLiteStorage, count: int) -> None:
    owner = storage.register(PROFILE, now=NOW)
    jobs = [running(f"{number:04}", owner) for number in range(count)]
    assert storage.insert(jobs) == [True] * count
    assert storage.settle([again(owner, one, ready=True, due_at=NOW) for one in jobs]) == [True] * count
    found = claim_once(storage, owner, limit=count).claims
    assert [one.id for one in found] == [one.id for one in jobs]
    assert storage.settle([end(owner, one, history=(line(one.id),)) for one in found]) == [True] * count
    assert storage.count(JobQuery()) == {("task", "default", "success", False): count}
    assert storage.delete([one.id for one in jobs], now=NOW, delete_at=None) == count


def started(number: int, owner: int) -> NewJob:
    """A job with nothing but its arguments, as an app inserts it that runs it at once."""
    return NewJob(
        f"{number:04}", "task", "default", 2, "running", False, NOW - 5, NOW, b"[1]", None, None, None, owner, owner, 1,
        1, NOW, None, None,
    )  # fmt: skip


def rows_of(storage: SQLiteStorage, ids: Sequence[str]) -> list[tuple[object, ...]]:
    """All columns of these jobs but their numbers and ids."""
    reader = reader_of(storage)
    assert reader is not None
    rows = [reader.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone() for id in ids]
    return [row[2:] for row in rows]


@pytest.mark.parametrize("count", [1, 2, CHUNK + 1])
@pytest.mark.parametrize("delete_at", [None, NOW + 9])
def test_the_short_statements_write_what_the_long_ones_write(
    storage: SQLiteStorage, count: int, delete_at: int | None
) -> None:
    owner = storage.register(PROFILE, now=NOW)
    jobs = [started(number, owner) for number in range(count)]
    odd = started(9999, owner)._replace(options="{}")
    assert started_values([odd]) is None
    assert started_values(jobs) is not None
    assert storage.insert(jobs) == [True] * count
    assert storage.insert([odd]) == [True]
    storage.find(JobQuery(limit=1))  # connects the reader
    writer_of(storage).execute("UPDATE jobs SET options = NULL WHERE id = '9999'")
    ids = [job.id for job in jobs]
    assert rows_of(storage, ids) == rows_of(storage, ["9999"]) * count
    ends = [end(owner, one, result=b"7", finished_at=NOW + 1, delete_at=delete_at) for one in jobs]
    long_end = end(owner, odd, result=b"7", finished_at=NOW + 1, delete_at=delete_at, error="odd")
    assert success_values(ends) is not None
    assert success_values([long_end]) is None
    assert storage.settle(ends) == [True] * count
    assert storage.settle([long_end]) == [True]
    writer_of(storage).execute("UPDATE jobs SET error = NULL WHERE id = '9999'")
    assert rows_of(storage, ids) == rows_of(storage, ["9999"]) * count


def test_what_is_not_quite_plain_is_no_matter_of_the_short_statements() -> None:
    plain = started(1, 1)
    assert started_values([plain, plain]) is not None
    for name, value in {
        "status": "scheduled", "ready": True, "payload": b"x" * (LARGE + 1), "rule": "r", "offset_at": 0, "options": "",
        "origin": None, "owner": 2, "fence": 2, "attempt": 2, "started_at": NOW + 1, "unique_key": "", "expires_at": 0,
        "parents": ("p",),
    }.items():  # fmt: skip
        assert started_values([plain, plain._replace(**{name: value})]) is None, name
    ended = end(1, plain, result=b"", finished_at=NOW)
    assert success_values([ended, ended]) is not None
    for name, value in {
        "status": "failed", "ready": True, "offset_at": 0, "attempt": 0, "run_count": 1, "failure_count": 1,
        "result": None, "error": "", "is_dead": True, "is_lost": True, "history": (line("1"),),
        "parking": Parking("", 0, ()),
    }.items():  # fmt: skip
        assert success_values([ended, ended._replace(**{name: value})]) is None, name
    assert success_values([ended._replace(result=b"x" * (LARGE + 1))]) is None


texts = st.sampled_from(["", "0", "NULL", "x", "ä\0"]) | st.text(max_size=3)
numbers = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]) | st.integers(-5, 5)
blobs = st.sampled_from([b"", b"\0", b"0"]) | st.binary(max_size=3)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            NewJob,
            id=st.uuids().map(str),
            task=texts,
            queue=texts,
            priority=numbers,
            status=st.just("odd"),
            ready=st.booleans(),
            due_at=numbers,
            created_at=numbers,
            payload=blobs,
            rule=st.none() | texts,
            offset_at=st.none() | numbers,
            options=st.none() | texts,
            origin=st.none() | numbers,
            owner=st.none() | numbers,
            fence=numbers,
            attempt=numbers,
            started_at=st.none() | numbers,
            unique_key=st.none() | st.uuids().map(str),
            expires_at=st.none() | numbers,
            parents=st.just(()),
        ),
        max_size=5,
    )
)
def test_every_value_comes_back_none_included(jobs: list[NewJob]) -> None:
    with opened(SQLiteStorage(":memory:")) as storage:
        assert storage.insert(jobs) == [True] * len(jobs)
        rows = storage.find(JobQuery())
        found = {row.id: NewJob(*row[:17], row.unique_key, row.expires_at) for row in rows}
        assert found == {job.id: job for job in jobs}
        owner = storage.register(PROFILE, now=NOW)
        held = [running(f"r{number}", owner) for number in range(2)]
        storage.insert(held)
        settlements = [
            end(owner, one, result=result, error=error, finished_at=at, delete_at=at, offset_at=at)
            for one, result, error, at in zip(held, (b"", None), ("", None), (0, None), strict=True)
        ]
        assert storage.settle(settlements) == [True, True]
        for settlement in settlements:
            record = one(storage, settlement.id)
            wanted = ("result", "error", "finished_at", "delete_at", "offset_at")
            assert [getattr(record, name) for name in wanted] == [getattr(settlement, name) for name in wanted]


def test_a_fault_in_a_batch_changes_nothing(storage: SQLiteStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
    held = [running("a", owner), running("b", owner)]
    storage.insert(held)
    faulty: list[Settlement] = [end(owner, held[0]), end(owner, held[1], due_at=2**70)]
    with pytest.raises(OverflowError):
        storage.settle(faulty)
    with pytest.raises(OverflowError):
        storage.insert([job("c"), job("d", due_at=2**70)])
    with pytest.raises(TypeError):
        storage.insert([job("e"), job("f", payload=object())])
    assert {record.id: record.status for record in storage.find(JobQuery())} == {"a": "running", "b": "running"}


def test_a_fault_in_a_block_spoils_only_its_own_call(storage: SQLiteStorage) -> None:
    many = [job(f"{number:04}") for number in range(CHUNK)]
    storage.insert([job("0000")])
    with storage.transaction():
        storage.insert([job("a")])
        with pytest.raises(OverflowError):
            storage.insert([*many, job("x", due_at=2**70)])
        with pytest.raises(OverflowError):
            storage.add_history([line("a"), *[line("a")] * CHUNK, line("a", attempt=2**70)])
        storage.insert([job("b")])
    assert [record.id for record in storage.find(JobQuery())] == ["0000", "a", "b"]
    assert storage.attempts("a") == []


# -- answers that are too long -----------------------------------------------------------------------------------------


@pytest.fixture
def narrow(storage: SQLiteStorage) -> SQLiteStorage:
    """A storage whose SQLite refuses values of more than 40 kB, as every SQLite does at a gigabyte."""
    storage.find(JobQuery())  # connects the reader
    for connection in (writer_of(storage), reader_of(storage)):
        assert connection is not None
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 40_000)
    return storage


def test_claims_whose_payloads_are_too_long_together_come_one_after_the_other(narrow: SQLiteStorage) -> None:
    owner = narrow.register(PROFILE, now=NOW)
    for number in range(12):
        narrow.insert([job(f"{number:02}", payload=bytes([number]) * 9000)])
    found = claim_once(narrow, owner, limit=12)
    assert found.has_more is True
    rest = claim(narrow, owner)
    assert [(one.id, one.payload[0]) for one in [*found.claims, *rest]] == [(f"{n:02}", n) for n in range(12)]


def test_records_that_are_too_long_together_are_read_all_the_same(narrow: SQLiteStorage) -> None:
    ids = [f"{number:02}" for number in range(12)]
    for number, id in enumerate(ids):
        narrow.insert([job(id, payload=bytes([number]) * 9000)])
    assert sorted(record.id for record in narrow.get(ids)) == ids
    assert [record.payload[0] for record in narrow.find(JobQuery())] == list(range(12))
    assert [record.id for record in narrow.find(JobQuery(limit=7))] == ids[:7]
    assert [record.id for record in narrow.find(JobQuery(limit=50, after_id="03"))] == ids[4:]


def test_one_record_that_is_too_long_is_an_error(narrow: SQLiteStorage) -> None:
    owner = narrow.register(PROFILE, now=NOW)
    narrow.insert([job("a", payload=bytes(30_000))])
    for connection in (writer_of(narrow), reader_of(narrow)):
        assert connection is not None
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
    for call in (
        lambda: narrow.get(["a"]),
        lambda: narrow.find(JobQuery(limit=1)),
        lambda: claim_once(narrow, owner),
        lambda: narrow.insert([job("b", payload=bytes(30_000))]),
    ):
        with pytest.raises(sqlite3.DataError):
            call()


# -- when SQLite gives up a transaction --------------------------------------------------------------------------------


def test_a_transaction_that_sqlite_has_given_up_ends_the_block(storage: SQLiteStorage) -> None:
    def give_up() -> None:
        with storage.transaction():
            storage.insert([job("a")])
            writer_of(storage).rollback()  # as SQLite itself does when a disk fails
            storage.insert([job("b")])

    with pytest.raises(StorageUnavailableError, match="given up"):
        give_up()
    storage.insert([job("c")])
    assert [record.id for record in storage.find(JobQuery())] == ["c"]
