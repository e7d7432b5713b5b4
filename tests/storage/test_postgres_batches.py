"""Batches on PostgreSQL that are one statement: what an insert does with a conflict, a settlement with what it leaves
out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import JobQuery, Settled
from jobify.storage import PostgresStorage
from jobify.storage.postgres.errors import TransactionConflictError
from jobify.testing.rows import NOW, PROFILE, after, claim, end, job, line, one
from support import opened

MANY = 40


@pytest.fixture
def storage(postgres_url: str) -> Iterator[PostgresStorage]:
    with opened(PostgresStorage(postgres_url)) as storage:
        yield storage


def block(storage: PostgresStorage, *, is_open: bool) -> AbstractContextManager[None]:
    return storage.transaction() if is_open else nullcontext()


@pytest.mark.parametrize("is_in_block", [False, True])
@pytest.mark.parametrize("fields", [{}, {"task": None}, {"options": "{}"}], ids=["alike", "plain", "any"])
def test_a_conflict_leaves_out_one_job_and_keeps_the_order(
    storage: PostgresStorage, fields: dict[str, Any], is_in_block: bool
) -> None:
    def row(number: int) -> Any:
        own = {name: f"{name}-{number % 2}" if value is None else value for name, value in fields.items()}
        return job(f"{number:02}", **own)

    assert storage.insert([row(5)]) == [True]
    with block(storage, is_open=is_in_block):
        assert storage.insert([row(number) for number in range(MANY)]) == [number != 5 for number in range(MANY)]
        assert len(storage.find(JobQuery(limit=100))) == MANY
    owner = storage.register(PROFILE, now=NOW)
    found = claim(storage, owner, tasks=("task", "task-0", "task-1"))
    assert [one.id for one in found] == ["05", *(f"{number:02}" for number in range(MANY) if number != 5)]


def test_an_ended_job_makes_room_in_a_batch(storage: PostgresStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([job("05", payload=b"old")])
    (found,) = claim(storage, owner)
    storage.settle([end(owner, found)])
    assert all(storage.insert([job(f"{number:02}") for number in range(MANY)]))
    assert one(storage, "05").payload != b"old"


def test_two_equal_ids_in_one_batch(storage: PostgresStorage) -> None:
    answers = storage.insert([job(str(number % (MANY - 1))) for number in range(MANY)])
    assert answers == [True] * (MANY - 1) + [False]


def test_texts_that_postgres_cannot_hold(storage: PostgresStorage) -> None:
    assert all(storage.insert([job(f"{number}\0", task="nul\0", queue="\U0010ffff") for number in range(MANY)]))
    found = one(storage, "7\0")
    assert (found.task, found.queue) == ("nul\0", "\U0010ffff")


# -- settlements -------------------------------------------------------------------------------------------------------


def _with_a_parent(storage: PostgresStorage) -> tuple[int, list[Any]]:
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([*(job(str(number)) for number in range(8)), after("child", "3")])
    return owner, [end(owner, found) for found in claim(storage, owner)]


def test_what_is_not_plain_is_settled_in_the_same_call(storage: PostgresStorage) -> None:
    owner, ends = _with_a_parent(storage)
    assert storage.settle(ends) == [Settled.CASCADED if one.id == "3" else Settled.APPLIED for one in ends]
    assert [found.id for found in claim(storage, owner)] == ["child"]
    assert storage.settle(ends) == [Settled.REFUSED] * 8


@pytest.mark.parametrize("error", [StorageUnavailableError("lost"), TransactionConflictError("twice"), MemoryError()])
def test_a_call_whose_second_half_fails_is_made_again(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _, ends = _with_a_parent(storage)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise error

        patch.setattr("jobify.storage.postgres.settlements.settle_held", fail)
        with pytest.raises(type(error)):
            storage.settle(ends)
    statuses = {record.id: record.status for record in storage.find(JobQuery())}
    assert statuses == {**{str(number): "success" for number in range(8)}, "3": "running", "child": "scheduled"}
    assert storage.settle(ends) == [Settled.CASCADED if one.id == "3" else Settled.APPLIED for one in ends]


def test_a_batch_with_history_is_one_transaction(storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _ = _with_a_parent(storage)
    held = storage.find(JobQuery(statuses=("running",)))
    ends = [
        end(owner, found, history=(line(found.id),))  # type: ignore[arg-type]  # a row has what it reads of a claim
        for found in held
    ]
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise StorageUnavailableError("lost")

        patch.setattr("jobify.storage.postgres.settlements.settle_held", fail)
        with pytest.raises(StorageUnavailableError):
            storage.settle(ends)
    assert {record.status for record in storage.find(JobQuery())} == {"running", "scheduled"}
    assert len(set(storage.settle(ends))) == 2
    assert len(storage.attempts("1")) == 1
