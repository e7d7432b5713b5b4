"""transaction, and what other threads see meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from jobify.model.records import Claim, CountKey, JobQuery, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import (
    NOW,
    PROFILE,
    after,
    again,
    claim,
    claim_once,
    claimed,
    end,
    job,
    line,
    made_without_waiting,
    one,
    report,
    running,
)
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("TransactionContract",)

T = TypeVar("T")


def _elsewhere(function: Callable[[], T]) -> T:
    """Call ``function`` in another thread, and wait for it."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    return answers[0]


def _everything(storage: Storage) -> object:
    """All there is to see."""
    records = storage.find(JobQuery(limit=1000))
    ids = [record.id for record in records]
    belongings = [
        (storage.attempts(id), storage.relations(id), storage.messages(id, after=0, limit=1000)) for id in ids
    ]
    return records, belongings, storage.find_unique("k"), storage.paused_queues(), storage.owners()


WRITES: dict[str, Callable[[Storage, int], Any]] = {
    "insert": lambda storage, owner: storage.insert([job("new"), job("waits"), job("ended")]),
    "replace": lambda storage, owner: storage.replace(job("waits", payload=b"2")),
    "put on a running job": lambda storage, owner: storage.replace(job("runs", payload=b"2")),
    "claim": lambda storage, owner: claim(storage, owner, now=NOW + 5),
    "settle": lambda storage, owner: storage.settle([end(owner, running("runs", owner), history=(line("runs"),))]),
    "settle what is replaced": lambda storage, owner: storage.settle([end(owner, running("replaced", owner))]),
    "settle what is cancelled": lambda storage, owner: storage.settle([again(owner, running("cancelled", owner))]),
    "reschedule": lambda storage, owner: storage.reschedule("waits", due_at=NOW + 9, now=NOW),
    "cancel": lambda storage, owner: storage.cancel(["waits", "replaced"], reason="x", now=NOW, delete_at=NOW),
    "delete": lambda storage, owner: storage.delete(["waits", "ended"], now=NOW, delete_at=None),
    "add_history": lambda storage, owner: storage.add_history([line("waits")]),
    "purge": lambda storage, owner: storage.purge(now=NOW + 10**9, limit=10),
    "trim": lambda storage, owner: storage.trim(keep=1, limit=10),
    "register": lambda storage, owner: storage.register(PROFILE, now=NOW),
    "heartbeat": lambda storage, owner: storage.heartbeat(owner, now=NOW + 5),
    "settle what others wait for": lambda storage, owner: storage.settle(
        [end(owner, running("runs", owner), status="failed")]
    ),
    "expire": lambda storage, owner: storage.expire(now=NOW + 7, limit=10, delete_at=None),
    "retry": lambda storage, owner: storage.retry(["failed"], now=NOW),
    "pause": lambda storage, owner: storage.pause(["later"]),
    "resume": lambda storage, owner: storage.resume(["paused"], now=NOW),
    "pause_queue": lambda storage, owner: storage.pause_queue("mail"),
    "resume_queue": lambda storage, owner: storage.resume_queue("quiet"),
    "report": lambda storage, owner: storage.report([report(owner, running("runs", owner))]),
}


def _fill(storage: Storage, owner: int) -> None:
    storage.settle([end(owner, claimed(storage, owner, "ended"), history=(line("ended"),))])
    storage.settle([end(owner, claimed(storage, owner, "failed", unique_key="k"), status="failed")])
    storage.insert([job("waits"), job("later", due_at=NOW + 5, rule="{}"), job("paused", rule="{}")])
    storage.pause(["paused"])
    storage.pause_queue("quiet")
    storage.add_history([line("later"), line("later", attempt=2)])
    storage.insert([running(id, owner) for id in ("runs", "replaced", "cancelled")])
    storage.insert([after("child", "runs", expires_at=NOW + 7), after("grandchild", "child")])
    storage.replace(job("replaced", payload=b"2"))
    storage.cancel(["cancelled"], reason="stop", now=NOW, delete_at=None)


class TransactionContract(StorageCase):
    @pytest.mark.parametrize("name", WRITES)
    def test_a_block_that_raises_has_changed_nothing(self, storage: Storage, owner: int, name: str) -> None:
        _fill(storage, owner)
        before = _everything(storage)
        undone(storage, lambda: WRITES[name](storage, owner))
        assert _everything(storage) == before
        assert WRITES[name](storage, owner) != []

    @pytest.mark.parametrize("name", WRITES)
    def test_a_write_in_a_block_is_the_same_write(self, storage: Storage, owner: int, name: str) -> None:
        _fill(storage, owner)
        with storage.transaction():
            WRITES[name](storage, owner)
            inside = _everything(storage)
        assert _everything(storage) == inside

    def test_all_of_a_block_or_nothing(self, storage: Storage, owner: int) -> None:
        with storage.transaction():
            storage.insert([job("a"), job("b")])
            (first, second) = claim_once(storage, owner).claims
            assert storage.settle([end(owner, first), end(owner, second)]) == [Settled.APPLIED, Settled.APPLIED]
            assert storage.insert([job("a")]) == [True]
        assert {record.id: record.status for record in storage.find(JobQuery())} == {"a": "scheduled", "b": "success"}

        def write() -> None:
            storage.insert([job("c")])
            storage.settle([end(owner, found) for found in claim(storage, owner)])
            storage.delete(["b"], now=NOW, delete_at=None)

        undone(storage, write)
        assert {record.id: record.status for record in storage.find(JobQuery())} == {"a": "scheduled", "b": "success"}
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_what_a_block_took_back_can_be_claimed(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b", due_at=NOW + 1)])
        taken: list[Claim] = []
        for _ in range(2):
            undone(storage, lambda: taken.extend(claim(storage, owner, now=NOW + 1)))
        assert [found.id for found in taken] == ["a", "b", "a", "b"]
        assert [found.fence for found in claim(storage, owner, now=NOW + 1)] == [1, 1]

    def test_blocks_do_not_nest(self, storage: Storage) -> None:
        with storage.transaction():
            storage.insert([job("a")])
            with pytest.raises(RuntimeError):
                storage.transaction().__enter__()
            storage.insert([job("b")])
        assert len(storage.get(["a", "b"])) == 2

    def test_an_empty_block(self, storage: Storage) -> None:
        with storage.transaction():
            pass
        storage.insert([job("a")])
        assert one(storage, "a")

    def test_a_block_reads_what_it_has_written(self, storage: Storage) -> None:
        with storage.transaction():
            storage.insert([job("a")])
            assert one(storage, "a").status == "scheduled"
            assert storage.count(JobQuery()) == {CountKey("task", "default", "scheduled", False): 1}
            assert [record.id for record in storage.find(JobQuery())] == ["a"]
            storage.add_history([line("a")])
            assert storage.attempts("a") == [line("a")]

    def test_other_threads_see_what_is_committed(self, storage: Storage, owner: int) -> None:
        _fill(storage, owner)
        before = _everything(storage)
        with storage.transaction():
            storage.insert([job("new")])
            storage.delete(["waits"], now=NOW, delete_at=None)
            storage.add_history([line("later")])
            storage.insert([job("key", unique_key="k")])
            storage.pause_queue("mail")
            storage.register(PROFILE, now=NOW)
            assert _elsewhere(lambda: _everything(storage)) == before
            assert _elsewhere(lambda: storage.get(["new", "waits"]))[0].id == "waits"
            assert sum(_elsewhere(lambda: storage.count(JobQuery())).values()) == 10
        assert _elsewhere(lambda: storage.get(["new", "waits"]))[0].id == "new"

    def test_threads_may_read_while_another_one_writes(self, storage: Storage, owner: int) -> None:
        """Each reader sees a whole number of batches."""
        seen: list[int] = []
        is_done = threading.Event()

        def read() -> None:
            while not is_done.is_set():
                seen.append(sum(storage.count(JobQuery()).values()))
                seen.append(len(storage.find(JobQuery(limit=10_000))))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for batch in range(20):
                storage.insert([job(f"{batch}-{number}") for number in range(10)])
        finally:
            is_done.set()
        for reader in readers:
            reader.join()
        assert {count % 10 for count in seen} <= {0}
        assert len(storage.find(JobQuery(limit=10_000))) == 200

    def test_a_non_blocking_call_is_made_or_refused(self, storage: Storage, owner: int) -> None:
        """Made, it is like any other; refused, it can be made again."""
        for number in range(50):
            new = running(f"{number:02}", owner)
            is_made = made_without_waiting(storage, lambda new=new: storage.insert([new]))  # type: ignore[misc]
            assert storage.insert([new]) == [not is_made]
            ended = end(owner, new)
            is_made = made_without_waiting(storage, lambda ended=ended: storage.settle([ended]))  # type: ignore[misc]
            assert storage.settle([ended]) == [Settled.REFUSED if is_made else Settled.APPLIED]
        assert storage.count(JobQuery()) == {CountKey("task", "default", "success", False): 50}

    def test_no_non_blocking_call_is_made_in_a_block(self, storage: Storage) -> None:
        """What is open, here or in another thread, would have to be waited for, or be part of it."""
        storage.insert([job("before")])
        with storage.transaction():
            assert not made_without_waiting(storage, lambda: storage.insert([job("a")]))
            assert not _elsewhere(lambda: made_without_waiting(storage, lambda: storage.insert([job("a")])))
        assert storage.get(["a"]) == []
