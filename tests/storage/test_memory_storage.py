"""What holds for the storage in memory and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobify import Jobify
from jobify.model.records import JobQuery
from jobify.storage.memory import MemoryStorage
from jobify.testing.rows import (
    NOW,
    PROFILE,
    SECOND,
    after,
    claim,
    claim_once,
    claimed,
    end,
    job,
    one,
    report,
    running,
    statuses,
)
from support import opened


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    with opened(MemoryStorage()) as storage:
        yield storage


def test_payloads_and_results_are_the_objects_themselves(storage: MemoryStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
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
        storage.delete(["a", unhashable], now=NOW, delete_at=None)
    assert [record.id for record in storage.find(JobQuery())] == ["a", "c"]


def test_what_is_moved_again_and_again_does_not_pile_up(storage: MemoryStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([job("a"), job("b", due_at=NOW + SECOND)])
    for step in range(2000):
        storage.reschedule("a", due_at=NOW + SECOND + step, now=NOW)
        storage.replace(job("b", due_at=NOW + SECOND - step))
    assert len(storage._table.staged._heap) < 200
    assert storage._table.staged._stale < 200
    assert [found.id for found in claim(storage, owner, now=NOW + SECOND + 2000)] == ["b", "a"]


def test_taken_back_and_taken_again(storage: MemoryStorage) -> None:
    """A row that a transaction has put back is in its queue again, once."""
    owner = storage.register(PROFILE, now=NOW)
    storage.insert([job("a"), job("b")])
    for _ in range(200):
        with pytest.raises(RuntimeError, match="undo"), storage.transaction():
            claim_once(storage, owner)
            raise RuntimeError("undo")
    assert len(storage._table.ready(("task",), None)[0]._heap) < 200
    assert [found.id for found in claim(storage, owner)] == ["a", "b"]


# -- how many ended jobs are kept --------------------------------------------------------------------------------------


def _ids(storage: MemoryStorage) -> str:
    return "".join(record.id for record in storage.find(JobQuery()))


def test_the_newest_ended_jobs_are_kept_with_what_belongs_to_them() -> None:
    storage = MemoryStorage(keep=2)
    owner = storage.register(PROFILE, now=NOW)
    for id in "dcba":
        found = claimed(storage, owner, id)
        storage.report([report(owner, found)])
        storage.settle([end(owner, found, result=id.encode())])
    storage.insert([job("waits")])
    assert statuses(storage, "abcd") == ["success", "success", "missing", "missing"]
    assert (one(storage, "b").result, len(storage.messages("b", after=0, limit=9))) == (b"b", 1)
    assert (storage.messages("d", after=0, limit=9), one(storage, "waits").status) == ([], "scheduled")


@pytest.mark.slow
def test_ten_thousand_are_kept_if_nothing_else_is_said() -> None:
    storage = MemoryStorage()
    owner = storage.register(PROFILE, now=NOW)
    jobs = [running(f"{number:05}", owner) for number in range(10_050)]
    storage.insert(jobs)
    storage.settle([end(owner, job) for job in jobs])
    assert len(storage.find(JobQuery(limit=20_000))) == 10_000


def test_what_has_ended_leaves_when_its_time_has_come_though_there_is_room(storage: MemoryStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
    storage.settle([end(owner, claimed(storage, owner, "a"), delete_at=NOW)])
    assert storage.purge(now=NOW, limit=9) == 1
    assert storage.get(["a"]) == []


def test_what_an_unfinished_job_depends_on_stays() -> None:
    storage = MemoryStorage(keep=1)
    owner = storage.register(PROFILE, now=NOW)
    wanted = claimed(storage, owner, "a")
    storage.insert([running("b", owner), after("c", "a", "b")])
    storage.settle([end(owner, wanted)])
    for id in ("w", "x", "y"):
        storage.settle([end(owner, claimed(storage, owner, id))])
    assert _ids(storage) == "abcy"
    storage.settle([end(owner, running("b", owner))])
    (child,) = claim(storage, owner)
    assert statuses(storage, "ab") == ["success", "success"]
    storage.settle([end(owner, child)])
    storage.settle([end(owner, claimed(storage, owner, "z"))])
    assert _ids(storage) == "z"


@pytest.mark.parametrize("status", ["success", "failed", "cancelled"])
def test_however_jobs_end_they_are_bounded(status: str) -> None:
    storage = MemoryStorage(keep=3)
    owner = storage.register(PROFILE, now=NOW)
    for number in range(20):
        storage.insert([job(f"{number}"), after(f"{number}-child", f"{number}")])
        if status == "cancelled":
            storage.cancel([f"{number}"], reason="x", now=NOW, delete_at=None)
        else:
            (found,) = claim(storage, owner)
            storage.settle([end(owner, found, status=status)])
            storage.settle([end(owner, found) for found in claim(storage, owner)])
    assert len(storage.find(JobQuery())) == 3


def test_none_at_all() -> None:
    storage = MemoryStorage(keep=0)
    owner = storage.register(PROFILE, now=NOW)
    assert all(storage.settle([end(owner, claimed(storage, owner, "a"))]))
    assert storage.find(JobQuery()) == []


def test_a_block_that_raises_brings_back_what_made_room() -> None:
    storage = MemoryStorage(keep=1)
    owner = storage.register(PROFILE, now=NOW)
    storage.settle([end(owner, claimed(storage, owner, "a"))])
    with pytest.raises(RuntimeError, match="undo"), storage.transaction():
        storage.settle([end(owner, claimed(storage, owner, "b"))])
        raise RuntimeError("undo")
    assert _ids(storage) == "a"


class Wrapped:
    """A storage in memory that is none of ours, and does what ours does."""

    def __init__(self) -> None:
        self._inner = MemoryStorage()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_whether_it_is_in_memory_is_asked_and_not_guessed() -> None:
    app = Jobify(storage=Wrapped())
    thing = object()

    @app.task(name="echo")
    async def echo(value: object) -> object:
        return value

    enqueued = echo.delay(thing)
    async with app:
        assert await (await echo.push(thing)) is thing
        assert await enqueued.aresult() is thing
