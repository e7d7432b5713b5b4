"""What holds for the storage in memory and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobify.records import JobQuery
from jobify.storage.memory import MemoryStorage
from jobify.testing.storage_contract.given import NOW, SECOND, claim, end, job, look, one


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    storage = MemoryStorage()
    storage.open()
    yield storage
    storage.close()


def test_payloads_and_results_are_the_objects_themselves(storage: MemoryStorage) -> None:
    owner = storage.register(now=NOW)
    payload, result = object(), object()
    storage.insert([job("a", payload=payload)])
    (found,) = claim(storage, owner)
    assert found.payload is payload
    storage.settle([end(owner, found, result=result)])
    assert one(storage, "a").result is result


def test_jobs_live_as_long_as_the_object(storage: MemoryStorage) -> None:
    storage.insert([job("a")])
    storage.close()
    storage.open()
    assert one(storage, "a").status == "scheduled"
    assert MemoryStorage().find(JobQuery()) == []


def test_a_call_that_raises_has_changed_nothing(storage: MemoryStorage) -> None:
    unhashable: Any = ["not", "an", "id"]
    with storage.transaction():
        storage.insert([job("a")])
        with pytest.raises(TypeError):
            storage.insert([job("b"), job(unhashable)])
        storage.insert([job("c")])
    with pytest.raises(TypeError):
        storage.delete(["a", unhashable])
    assert [record.id for record in storage.find(JobQuery())] == ["a", "c"]


def test_what_is_moved_again_and_again_does_not_pile_up(storage: MemoryStorage) -> None:
    owner = storage.register(now=NOW)
    storage.insert([job("a"), job("b", due_at=NOW + SECOND)])
    for step in range(2000):
        storage.move("a", due_at=NOW + SECOND + step, now=NOW)
        storage.put(job("b", due_at=NOW + SECOND - step))
    assert len(storage._table.staged._heap) < 200
    assert storage._table.staged._stale < 200
    assert [found.id for found in claim(storage, owner, now=NOW + SECOND + 2000)] == ["b", "a"]


def test_taken_back_and_taken_again(storage: MemoryStorage) -> None:
    """A row that a transaction has put back is in its queue again, once."""
    owner = storage.register(now=NOW)
    storage.insert([job("a"), job("b")])
    for _ in range(200):
        with pytest.raises(RuntimeError, match="undo"), storage.transaction():
            look(storage, owner)
            raise RuntimeError("undo")
    assert len(storage._table.ready(("task",), None)[0]._heap) < 200
    assert [found.id for found in claim(storage, owner)] == ["a", "b"]
