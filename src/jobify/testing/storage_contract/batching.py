"""Claims of batches: when one goes, what is in it, and what is not touched."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.records import BatchRule, Claimed, ClaimRequest, Settled, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.testing.storage_contract.given import (
    NOW,
    PROFILE,
    SECOND,
    StorageCase,
    again,
    claimed_without_waiting,
    end,
    job,
    one,
    suspects,
)
from jobify.testing.storage_contract.limit_rows import at_once, found_ids, keyed, rate

__all__ = ("BatchContract", "SharedBatchContract", "claim_batches")


def claim_batches(
    storage: Storage,
    owner: int,
    size: int,
    *,
    limit: int = 100,
    now: int = NOW,
    tasks: tuple[str, ...] = ("task",),
    **fields: Any,
) -> Claimed:
    """Claim from one lane of batches. ``fields``: of the rule and of the request."""
    rule = BatchRule(size, fields.pop("wait", SECOND), fields.pop("key", None))
    return storage.claim(ClaimRequest(owner, (TaskSlots(tasks, limit, rule),), **fields), now=now)


def _insert(storage: Storage, ids: Sequence[str], **fields: object) -> None:
    storage.insert([job(id, **fields) for id in ids])


class BatchContract(StorageCase):
    # -- when a batch goes ---------------------------------------------------------------------------------------------

    def test_full_batches_go_at_once_and_the_rest_waits(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abcdefg")
        found = claim_batches(storage, owner, 3)
        assert found.batches == (("a", "b", "c"), ("d", "e", "f"))
        assert found_ids(found.claims) == list("abcdef")
        assert [mine.attempt for mine in found.claims] == [1] * 6
        assert (found.has_more, found.next_due_at) == (False, NOW + SECOND)

    def test_what_waits_for_others_is_not_touched(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abcd")
        before = one(storage, "d")
        claim_batches(storage, owner, 3)
        assert one(storage, "d") == before

    def test_a_part_goes_when_its_oldest_job_has_waited(self, storage: Storage, owner: int) -> None:
        storage.insert([job("late", priority=1, due_at=NOW, created_at=NOW), job("old", due_at=NOW - 5)])
        storage.insert([job("young", due_at=NOW - 9, created_at=NOW + 7)])  # it could not run before it was there
        early = claim_batches(storage, owner, 5, now=NOW + SECOND - 1)
        assert (early.claims, early.has_more, early.next_due_at) == ([], False, NOW + SECOND)
        found = claim_batches(storage, owner, 5, now=NOW + SECOND)
        assert found.batches == (("late", "young", "old"),)
        assert (found.has_more, found.next_due_at) == (False, None)

    def test_a_job_that_becomes_due_waits_from_then_on(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", due_at=NOW + 5 * SECOND)])
        assert claim_batches(storage, owner, 2).next_due_at == NOW + 5 * SECOND
        found = claim_batches(storage, owner, 2, now=NOW + 5 * SECOND)
        assert (found.claims, found.has_more, found.next_due_at) == ([], False, NOW + 6 * SECOND)
        assert claim_batches(storage, owner, 2, now=NOW + 6 * SECOND).batches == (("a",),)

    def test_the_next_due_time_is_the_earliest_of_all(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b", due_at=NOW + 5), job("c", task="other", due_at=NOW + 9 * SECOND)])
        assert claim_batches(storage, owner, 3).next_due_at == NOW + 5
        assert claim_batches(storage, owner, 3, now=NOW + 5).next_due_at == NOW + SECOND

    def test_without_a_wait_whatever_is_ready_goes(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abcd")
        assert claim_batches(storage, owner, 3, wait=0).batches == (("a", "b", "c"), ("d",))

    def test_one_that_goes_within_the_time_ahead_goes_now(self, storage: Storage, owner: int) -> None:
        _insert(storage, "a")
        assert claim_batches(storage, owner, 3, now=NOW + SECOND - 9, ahead=8).batches == ()
        assert claim_batches(storage, owner, 3, now=NOW + SECOND - 8, ahead=8).batches == (("a",),)

    def test_what_was_ready_stays_ready_when_the_clock_is_set_back(self, storage: Storage, owner: int) -> None:
        _insert(storage, "a")
        assert claim_batches(storage, owner, 3, now=NOW - 9 * SECOND).batches == (("a",),)

    def test_nothing_is_left_when_nothing_is_there(self, storage: Storage, owner: int) -> None:
        found = claim_batches(storage, owner, 3)
        assert (found.claims, found.batches, found.has_more, found.next_due_at) == ([], (), False, None)

    # -- what is in it -------------------------------------------------------------------------------------------------

    def test_a_batch_has_one_key(self, storage: Storage, owner: int) -> None:
        for number, key in enumerate("xyxyxzy"):
            storage.insert([job(f"{key}{number}", options=keyed(table=key))])
        found = claim_batches(storage, owner, 2, key="table")
        assert found.batches == (("x0", "x2"), ("y1", "y3"))
        later = claim_batches(storage, owner, 2, key="table", now=NOW + SECOND)
        assert later.batches == (("x4",), ("z5",), ("y6",))

    def test_a_full_one_passes_parts_before_it(self, storage: Storage, owner: int) -> None:
        for number, key in enumerate("abcdd"):
            storage.insert([job(str(number), options=keyed(table=key))])
        found = claim_batches(storage, owner, 2, key="table", limit=1)
        assert (found.batches, found.has_more) == ((("3", "4"),), False)
        assert found.next_due_at == NOW + SECOND

    def test_higher_priorities_lead(self, storage: Storage, owner: int) -> None:
        storage.insert([job(str(number), priority=number) for number in range(6)])
        found = claim_batches(storage, owner, 2, limit=2)
        assert (found.batches, found.has_more) == ((("5", "4"), ("3", "2")), True)

    def test_there_is_more_if_slots_are_missing_alone(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abcd")
        assert claim_batches(storage, owner, 2, limit=1).has_more
        assert claim_batches(storage, owner, 2, limit=1).batches == (("c", "d"),)
        _insert(storage, "ef")
        assert claim_batches(storage, owner, 2, limit=0) == Claimed([], True, None)

    def test_the_names_of_a_task_are_one_task(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", task="new"), job("b", task="old", queue="q"), job("c", task="other")])
        found = claim_batches(storage, owner, 2, tasks=("new", "old"))
        assert found.batches == (("a", "b"),)

    def test_only_jobs_of_served_and_open_queues_count(self, storage: Storage, owner: int) -> None:
        storage.insert([job(f"{queue}{number}", queue=queue) for number in range(2) for queue in ("p", "q", "r")])
        storage.pause_queue("p")
        assert claim_batches(storage, owner, 3, queues=("p", "q")).batches == ()
        assert claim_batches(storage, owner, 2, queues=("p", "q")).batches == (("q0", "q1"),)

    def test_a_blocked_job_does_not_count(self, storage: Storage, owner: int) -> None:
        storage.insert([job("parent", task="other"), job("child", parents=("parent",)), job("a")])
        assert claim_batches(storage, owner, 2).batches == ()

    def test_a_job_without_its_key_is_in_no_batch(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b", options="no JSON"), job("c", options=keyed(table=1))])
        found = claim_batches(storage, owner, 2, key="table")
        assert (found.batches, found_ids(found.claims)) == ((), ["a", "b"])
        assert [mine.limits for mine in found.claims] == [LimitState.UNKEYED] * 2
        completed = SettledLimits(options=keyed(table=1))
        first, second = found.claims
        assert storage.settle([again(owner, first, attempt=0, due_at=NOW, ready=True, limits=completed)])[0]
        assert claim_batches(storage, owner, 2, key="table").batches == (("a", "c"),)
        assert storage.settle([end(owner, second, limits=SettledLimits())])[0]

    def test_other_lanes_are_claimed_as_ever(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b", task="other"), job("c"), job("d")])
        lanes = (TaskSlots(("task",), 2, BatchRule(2, SECOND)), TaskSlots(("other",), 9))
        found = storage.claim(ClaimRequest(owner, lanes), now=NOW)
        assert (found.batches, sorted(found_ids(found.claims))) == ((("a", "c"),), ["a", "b", "c"])
        assert (found.has_more, found.next_due_at) == (False, NOW + SECOND)

    def test_payloads_come_with_the_jobs(self, storage: Storage, owner: int) -> None:
        payloads = [b"1", b"", b"large" * 20_000, b"4"]
        storage.insert([job(str(number), payload=payload) for number, payload in enumerate(payloads)])
        found = claim_batches(storage, owner, 4)
        assert [mine.payload for mine in found.claims] == payloads

    @pytest.mark.parametrize("count", [600])
    def test_a_batch_may_be_large(self, storage: Storage, owner: int, count: int) -> None:
        storage.insert([job(f"{number:04}", options=keyed(table=number % 2)) for number in range(2 * count)])
        found = claim_batches(storage, owner, count, key="table")
        assert [len(batch) for batch in found.batches] == [count, count]
        assert [batch[:2] for batch in found.batches] == [("0000", "0002"), ("0001", "0003")]
        assert found_ids(found.claims) == [id for batch in found.batches for id in batch]

    def test_where_more_are_ready_than_are_looked_at_none_waits(self, storage: Storage, owner: int) -> None:
        keys = [*range(1001), 7, 7]  # what one claim looks at has no full batch
        storage.insert([job(f"{n:04}", options=keyed(table=key)) for n, key in enumerate(keys)])
        found = claim_batches(storage, owner, 9, key="table")
        assert (len(found.batches), found.has_more) == (1, True)
        while found.has_more:
            found = claim_batches(storage, owner, 9, key="table")
        assert (found.claims, found.next_due_at) == ([], NOW + SECOND)
        assert one(storage, "1002").status == "scheduled"

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def test_each_job_ends_by_itself(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abc")
        first, second, third = claim_batches(storage, owner, 3).claims
        assert storage.settle([end(owner, first), again(owner, second, due_at=NOW)]) == [Settled.APPLIED] * 2
        storage.cancel(["c"], reason="x", now=NOW, delete_at=None)
        assert storage.cancel_requests(owner) == ["c"]
        storage.settle([again(owner, third)])
        assert [one(storage, id).status for id in "abc"] == ["success", "scheduled", "cancelled"]

    def test_the_jobs_of_a_dead_owner_come_back(self, storage: Storage, owner: int) -> None:
        _insert(storage, "abc")
        assert len(claim_batches(storage, owner, 3).batches) == 1
        storage.deregister(owner)
        survivor = storage.register(PROFILE, now=NOW)
        assert claim_batches(storage, survivor, 3).batches == (("a", "b", "c"),)

    def test_what_runs_apart_is_a_batch_of_one(self, storage: Storage) -> None:
        owner = suspects(storage, ["a", "b"], deaths=3)
        found = claim_batches(storage, owner, 5, scope=ClaimScope.APART)
        assert found.batches == tuple((mine.id,) for mine in found.claims) != ()

    def test_a_non_blocking_claim_of_batches_is_refused(self, storage: Storage, owner: int) -> None:
        _insert(storage, "ab")
        if storage.nonblocking_claims is None:
            return
        assert claimed_without_waiting(storage, owner, batch=BatchRule(2, SECOND)) is None
        assert claim_batches(storage, owner, 2).batches == (("a", "b"),)


class SharedBatchContract(StorageCase):
    """For storages whose ``is_shared`` is true."""

    @pytest.mark.parametrize("limits", [[], [at_once(100), rate(1, 1, burst=300)]], ids=["free", "limited"])
    def test_claims_at_once_split_no_batch(
        self, storage: Storage, tmp_path: Path, limits: list[LimitDefinition]
    ) -> None:
        storage.define_limits({"task": limits})
        jobs = [job(f"{number:03}", options=keyed(table=number % 4)) for number in range(200)]
        storage.insert(jobs)
        start = threading.Barrier(8)

        def claim_all(_: int) -> list[tuple[str, ...]]:
            with self._another(tmp_path) as other:
                owner = other.register(PROFILE, now=NOW)
                batches: list[tuple[str, ...]] = []
                start.wait()
                while True:
                    found = claim_batches(other, owner, 7, key="table", limit=2)
                    assert sorted(found_ids(found.claims)) == sorted(id for batch in found.batches for id in batch)
                    batches += found.batches
                    if not found.has_more:
                        return batches

        with ThreadPoolExecutor(8) as threads:
            batches = [batch for some in threads.map(claim_all, range(8)) for batch in some]
        assert [len(batch) for batch in batches] == [7] * 28
        assert all(len({int(id) % 4 for id in batch}) == 1 for batch in batches)
        assert len({id for batch in batches for id in batch}) == 196
        assert sum(one(storage, new.id).status == "scheduled" for new in jobs) == 4

    @contextmanager
    def _another(self, directory: Path) -> Iterator[Storage]:
        storage = self.new_storage(directory)
        storage.open()
        try:
            yield storage
        finally:
            storage.close()
