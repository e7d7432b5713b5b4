"""Two storages on the same jobs, as two processes would have them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from select import select

import pytest

from jobify.model.records import CancelResult, JobQuery, Settled
from jobify.storage.base import Notifier, Storage
from jobify.testing.storage_contract.batching import SharedBatchContract
from jobify.testing.storage_contract.given import (
    NOW,
    PROFILE,
    claim,
    claim_once,
    claimed,
    claimed_without_waiting,
    end,
    job,
    line,
    made_without_waiting,
    one,
    running,
)

__all__ = ("SharedStorageContract",)


def _at_once(*functions: Callable[[], None]) -> None:
    """Call each in a thread of its own, all at the same time; raise what one of them raises."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], None]) -> None:
        start.wait()
        function()

    with ThreadPoolExecutor(len(functions)) as threads:
        list(threads.map(run, functions))


class SharedStorageContract(SharedBatchContract):
    """For storages whose ``is_shared`` is true."""

    @pytest.fixture
    def other(self, storage: Storage, tmp_path: Path) -> Iterator[Storage]:
        other = self.new_storage(tmp_path)
        other.open()
        yield other
        other.close()

    def test_what_one_has_committed_the_other_sees(self, storage: Storage, other: Storage, owner: int) -> None:
        assert storage.is_shared
        storage.insert([job("a")])
        assert one(other, "a") == one(storage, "a")
        with storage.transaction():
            storage.insert([job("b")])
            assert other.get(["b"]) == []
        assert one(other, "b").status == "scheduled"

    def test_it_outlives_its_storages(self, storage: Storage, tmp_path: Path, owner: int) -> None:
        assert storage.is_durable
        storage.settle([end(owner, claimed(storage, owner, "a"), history=(line("a"),))])
        storage.insert([job("b", due_at=NOW + 1)])
        before = storage.find(JobQuery())
        storage.close()
        later = self.new_storage(tmp_path)
        later.open()
        assert later.find(JobQuery()) == before
        assert later.attempts("a") == [line("a")]
        later.close()

    def test_a_non_blocking_write_waits_for_no_other(self, storage: Storage, other: Storage) -> None:
        storage.insert([job("before")])
        with other.transaction():
            other.insert([job("theirs")])
            assert not made_without_waiting(storage, lambda: storage.insert([job("ours")]))
        assert storage.get(["ours"]) == []
        assert storage.insert([job("ours")]) == [True]

    def test_a_non_blocking_claim_waits_for_no_other(self, storage: Storage, other: Storage, owner: int) -> None:
        storage.insert([job("a")])
        with other.transaction():
            other.insert([job("theirs")])
            assert claimed_without_waiting(storage, owner) is None
        assert sorted(found.id for found in claim(storage, owner)) == ["a", "theirs"]

    def test_an_id_is_unique_among_all(self, storage: Storage, other: Storage) -> None:
        answers: list[list[bool]] = []
        jobs = [job(f"{number:02}") for number in range(50)]
        _at_once(lambda: answers.append(storage.insert(jobs)), lambda: answers.append(other.insert(jobs)))
        assert [one + two for one, two in zip(*answers, strict=True)] == [1] * 50

    def test_two_claims_never_return_the_same_job(self, storage: Storage, other: Storage) -> None:
        storage.insert([job(f"{number:04}") for number in range(1000)])
        taken: list[str] = []

        def work(mine: Storage) -> None:
            owner = mine.register(PROFILE, now=NOW)
            while True:
                found = claim_once(mine, owner, limit=7)
                taken.extend(one.id for one in found.claims)
                assert mine.settle([end(owner, one) for one in found.claims]) == [Settled.APPLIED] * len(found.claims)
                if not found.claims and not found.has_more:
                    return

        _at_once(lambda: work(storage), lambda: work(other))
        assert sorted(taken) == [f"{number:04}" for number in range(1000)]

    def test_owner_ids_are_unique_among_all(self, storage: Storage, other: Storage) -> None:
        ids = [one.register(PROFILE, now=NOW) for one in (storage, other) * 3]
        assert len(set(ids)) == 6
        assert {owner.id for owner in other.owners()} == set(ids)
        assert all(owner.is_alive for owner in storage.owners())

    def test_everybody_sees_who_is_dead_and_who_is_not(self, storage: Storage, other: Storage, owner: int) -> None:
        dead = other.register(PROFILE, now=NOW)
        storage.insert([running("theirs", dead), running("ours", owner)])
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
        other.close()
        assert {found.id: found.is_alive for found in storage.owners()} == {owner: True, dead: False}
        (recovered,) = storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert (recovered.id, recovered.status) == ("theirs", "scheduled")
        assert one(storage, "ours").status == "running"

    def test_each_job_is_recovered_once(self, storage: Storage, other: Storage, tmp_path: Path) -> None:
        dying = self.new_storage(tmp_path)
        dying.open()
        owners = [dying.register(PROFILE, now=NOW) for _ in range(5)]
        storage.insert([running(f"{number:03}", owners[number % 5]) for number in range(100)])
        dying.close()
        recovered: list[str] = []

        def recover(mine: Storage) -> None:
            recovered.extend(job.id for job in mine.recover(now=NOW, max_crashes=3, delete_at=None))

        _at_once(lambda: recover(storage), lambda: recover(other))
        assert sorted(recovered) == [f"{number:03}" for number in range(100)]
        assert {len(storage.attempts(record.id)) for record in storage.find(JobQuery())} == {1}
        assert {record.crashes for record in storage.find(JobQuery())} == {0}, "they died in company"
        assert storage.owners() == []

    def test_a_cancel_reaches_the_owner_elsewhere(self, storage: Storage, other: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        assert other.cancel(["a"], reason="stop", now=NOW, delete_at=None) == [CancelResult.REQUESTED]
        assert storage.cancel_requests(owner) == ["a"]

    def test_a_replacement_from_elsewhere_waits_for_the_end(self, storage: Storage, other: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        assert other.replace(job("a", payload=b"2")) is False
        assert storage.settle([end(owner, found)]) == [Settled.CASCADED]
        assert [found.payload for found in claim(other, other.register(PROFILE, now=NOW))] == [b"2"]

    def test_a_block_keeps_others_from_writing_between(self, storage: Storage, other: Storage) -> None:
        """Read, decide, write: two that count up lose no step."""
        storage.insert([job("a", priority=0)])

        def count_up(mine: Storage) -> None:
            for _ in range(50):
                with mine.transaction():
                    mine.replace(job("a", priority=one(mine, "a").priority + 1))

        _at_once(lambda: count_up(storage), lambda: count_up(other))
        assert one(storage, "a").priority == 100

    # -- wake-ups ------------------------------------------------------------------------------------------------------

    def test_external_changes_are_commits_of_others(self, storage: Storage, other: Storage) -> None:
        self._until_nothing_changes(storage, lambda: None)
        other.insert([job("a")])
        assert storage.has_external_changes() is True
        self._until_nothing_changes(storage, lambda: None)
        self._until_nothing_changes(storage, lambda: storage.insert([job("b")]))

    @staticmethod
    def _until_nothing_changes(storage: Storage, write: Callable[[], object]) -> None:
        """Where a server has other users, there are false alarms, but not each time."""
        for _ in range(100):
            storage.has_external_changes()
            write()
            if storage.has_external_changes() is False:
                return
        raise AssertionError("what is done here is taken for a change by others")

    def test_a_notification_reaches_all_others(self, storage: Storage, other: Storage, tmp_path: Path) -> None:
        third = self.new_storage(tmp_path)
        third.open()
        notifiers = []
        for one_of_them in (storage, other, third):
            one_of_them.register(PROFILE, now=NOW)
            notifiers.append(one_of_them.notifier)
        first, second, last = (one for one in notifiers if one is not None)
        assert self._is_woken(first), "others have arrived"
        self._let_arrivals_pass(first, second, last)
        second.notify(workers=True, clients=True)
        assert [self._is_woken(one) for one in (first, last)] == [True, True]
        assert [one.drain() for one in (first, second, last)] == [False, False, False]
        third.close()
        first.notify(workers=True, clients=True)
        assert self._is_woken(second)
        second.notify(workers=True, clients=True)
        assert self._is_woken(first)
        assert last.drain() is False

    def test_notifying_never_blocks(self, storage: Storage, other: Storage) -> None:
        storage.register(PROFILE, now=NOW)
        other.register(PROFILE, now=NOW)
        ours, theirs = storage.notifier, other.notifier
        assert ours is not None
        assert theirs is not None
        assert self._is_woken(ours), "a new process has arrived, which is notified from now on"
        for _ in range(10_000):
            ours.notify(workers=True, clients=True)
        assert self._is_woken(theirs)
        self._let_arrivals_pass(theirs)

    @staticmethod
    def _let_arrivals_pass(*notifiers: Notifier) -> None:
        """Until nothing comes any more."""
        while select([each.fileno() for each in notifiers if each.fileno() >= 0], [], [], 0.1)[0]:
            for notifier in notifiers:
                notifier.drain()
        assert not any(each.drain() for each in notifiers if each.fileno() >= 0)

    @staticmethod
    def _is_woken(notifier: Notifier) -> bool:
        """Whether a notification arrives. A notifier without a descriptor has it at once."""
        if notifier.fileno() >= 0:
            select([notifier.fileno()], [], [], 20)
        return notifier.drain()
