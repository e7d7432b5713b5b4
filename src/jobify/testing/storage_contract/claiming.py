"""claim."""

from __future__ import annotations

import pytest

from jobify.model.records import Claim, Claimed, ClaimRequest, JobQuery, NewJob, Settled, TaskSlots
from jobify.storage.base import Storage
from jobify.testing.storage_contract.given import (
    NOW,
    SECOND,
    StorageCase,
    again,
    claim,
    claim_once,
    claimed_without_waiting,
    end,
    job,
    one,
    running,
)

__all__ = ("ClaimContract",)

_SHARED_FIELDS = [field for field in Claim._fields if field in NewJob._fields and field not in ("fence", "attempt")]


def _ids(claims: list[Claim]) -> list[str]:
    return [found.id for found in claims]


class ClaimContract(StorageCase):
    # -- who is eligible -----------------------------------------------------------------------------------------------

    def test_a_non_blocking_claim_is_made_or_refused(self, storage: Storage, owner: int) -> None:
        """Made, it is like any other; refused, it has taken nothing, and can be made again."""
        for number in range(50):
            id = f"{number:02}"
            storage.insert([job(id)])
            taken = claimed_without_waiting(storage, owner)
            assert taken in (None, [id])
            assert [found.id for found in claim(storage, owner)] == ([id] if taken is None else [])
        records = storage.find(JobQuery(limit=100))
        assert {(record.status, record.owner, record.attempt) for record in records} == {("running", owner, 1)}

    def test_a_non_blocking_claim_finds_nothing_or_is_refused(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", due_at=NOW + SECOND)])
        assert not claimed_without_waiting(storage, owner)
        assert not claim(storage, owner)

    def test_no_non_blocking_claim_is_made_in_a_block(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        with storage.transaction():
            assert claimed_without_waiting(storage, owner) is None
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_nothing_waits(self, storage: Storage, owner: int) -> None:
        assert claim_once(storage, owner) == Claimed([], False, None)

    def test_a_claim_says_all_about_its_job(self, storage: Storage, owner: int) -> None:
        whole = job(
            "a", rule="{}", offset_at=NOW - 1, options="{}", origin=owner, priority=3, queue="q", payload=b"\xff"
        )
        storage.insert([whole])
        (found,) = claim(storage, owner)
        for field in _SHARED_FIELDS:
            assert getattr(found, field) == getattr(whole, field), field
        assert found.attempt == 1
        assert (found.run_count, found.failure_count, found.crashes) == (0, 0, 0)

    def test_a_claim_makes_the_job_running(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        before = one(storage, "a")
        (found,) = claim(storage, owner, now=NOW + 5)
        record = one(storage, "a")
        assert (record.status, record.owner, record.started_at) == ("running", owner, NOW + 5)
        assert record.fence == found.fence > before.fence
        assert record.attempt == found.attempt == 1
        assert claim(storage, owner) == []

    def test_each_claim_counts_an_attempt_and_raises_the_fence(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        fences = []
        for attempt in (1, 2, 3):
            (found,) = claim(storage, owner)
            assert found.attempt == attempt
            fences.append(found.fence)
            storage.settle([again(owner, found, ready=True, due_at=NOW)])
        assert fences == sorted(set(fences))

    def test_only_due_jobs(self, storage: Storage, owner: int) -> None:
        storage.insert([job("later", due_at=NOW + 2), job("soon", due_at=NOW + 1), job("now")])
        assert claim_once(storage, owner) == Claimed(
            claims=[_claim_of(storage, "now")], has_more=False, next_due_at=NOW + 1
        )
        assert _ids(claim(storage, owner, now=NOW + 1)) == ["soon"]
        assert claim_once(storage, owner, now=NOW + 1).next_due_at == NOW + 2
        assert _ids(claim(storage, owner, now=NOW + 2)) == ["later"]
        assert claim_once(storage, owner, now=NOW + 2).next_due_at is None

    def test_jobs_that_are_due_in_a_moment_are_taken_ahead_and_start_when_they_are_due(
        self, storage: Storage, owner: int
    ) -> None:
        storage.insert([job("later", due_at=NOW + 3), job("soon", due_at=NOW + 2), job("overdue", due_at=NOW - 1)])
        found = storage.claim(ClaimRequest(owner, (TaskSlots(("task",), 9),), ahead=2), now=NOW)
        assert (_ids(found.claims), found.has_more, found.next_due_at) == (["overdue", "soon"], False, NOW + 3)
        assert [one(storage, id).started_at for id in ("overdue", "soon")] == [NOW, NOW + 2]

    def test_a_ready_job_starts_now_although_the_clock_was_set_back(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", ready=True)])
        storage.claim(ClaimRequest(owner, (TaskSlots(("task",), 9),), ahead=5), now=NOW - 20)
        assert one(storage, "a").started_at == NOW - 20

    def test_a_job_that_was_ready_stays_ready_if_the_clock_is_set_back(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b", due_at=NOW + SECOND)])
        claim_once(storage, owner, tasks=("other",), now=NOW + SECOND)
        assert _ids(claim(storage, owner, now=NOW - 3600 * SECOND)) == ["a", "b"]

    def test_only_jobs_of_the_tasks(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", task="x"), job("b", task="y"), job("c", task="z"), job("d", task="x")])
        assert _ids(claim(storage, owner, tasks=("x", "z"))) == ["a", "c", "d"]
        assert _ids(claim(storage, owner, tasks=("X", "task"))) == []
        assert one(storage, "b").status == "scheduled"

    def test_only_jobs_of_the_queues(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", queue="x"), job("b", queue="y"), job("c", queue="z")])
        assert claim(storage, owner, queues=()) == []
        assert _ids(claim(storage, owner, queues=("z", "x", "unknown"))) == ["a", "c"]
        assert _ids(claim(storage, owner, queues=None)) == ["b"]

    def test_no_tasks_and_no_lanes(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        assert claim(storage, owner, tasks=()) == []
        assert storage.claim(ClaimRequest(owner, ()), now=NOW).claims == []

    def test_nothing_but_waiting_jobs(self, storage: Storage, owner: int) -> None:
        storage.insert(
            [job("ended"), job("cancelled"), running("runs", owner), job("hibernates", status="hibernating")]
        )
        storage.cancel(["cancelled"], reason="x", now=NOW, delete_at=None)
        storage.settle([end(owner, found) for found in claim(storage, owner)])
        assert claim(storage, owner) == []

    # -- order ---------------------------------------------------------------------------------------------------------

    def test_order_is_priority_then_due_time_then_insertion(self, storage: Storage, owner: int) -> None:
        storage.insert(
            [
                job("5", priority=0, due_at=NOW - 1),
                job("6", priority=0),
                job("7", priority=0),
                job("2", priority=9, due_at=NOW - 1),
                job("1", priority=9, due_at=NOW - 2),
                job("8", priority=-1, due_at=NOW - 9),
                job("3", priority=9, due_at=NOW - 1),
                job("4", priority=1),
            ]
        )
        assert _ids(claim(storage, owner)) == list("12345678")

    def test_order_holds_across_queues_and_tasks(self, storage: Storage, owner: int) -> None:
        where = [("q1", "x"), ("q2", "x"), ("q1", "y"), ("q2", "z"), ("q1", "z")]
        jobs = [
            job(f"{number:03}", queue=queue, task=task, priority=number % 3, due_at=NOW - number * 7 % 11)
            for number, (queue, task) in enumerate(where * 40)
        ]
        storage.insert(jobs)
        expected = sorted(jobs, key=lambda job: (-job.priority, job.due_at, job.id))
        for start in range(0, 200, 23):
            found = claim(storage, owner, tasks=("z", "y", "x"), limit=23)
            assert _ids(found) == [job.id for job in expected[start : start + 23]]

    def test_order_does_not_care_how_a_job_became_ready(self, storage: Storage, owner: int) -> None:
        storage.insert([job("3", due_at=NOW + 3), job("1", due_at=NOW + 1), job("2", due_at=NOW + 2), job("0")])
        assert _ids(claim(storage, owner, now=NOW + 3)) == ["0", "1", "2", "3"]

    # -- how many ------------------------------------------------------------------------------------------------------

    def test_a_lane_takes_up_to_its_limit(self, storage: Storage, owner: int) -> None:
        storage.insert([job(id) for id in "abc"])
        found = claim_once(storage, owner, limit=2)
        assert (_ids(found.claims), found.has_more) == (["a", "b"], True)
        found = claim_once(storage, owner, limit=1)
        assert (_ids(found.claims), found.has_more) == (["c"], False)

    def test_a_lane_without_a_free_slot(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a")])
        found = claim_once(storage, owner, limit=0)
        assert (found.claims, found.has_more) == ([], True)

    def test_each_lane_by_itself_and_in_order(self, storage: Storage, owner: int) -> None:
        storage.insert([job(f"{task}{number}", task=task) for number in range(3) for task in "xyz"])
        lanes = (TaskSlots(("z",), 2), TaskSlots(("x", "y"), 3))
        found = storage.claim(ClaimRequest(owner, lanes), now=NOW)
        assert _ids(found.claims) == ["z0", "z1", "x0", "y0", "x1"]
        assert found.has_more is True
        found = storage.claim(ClaimRequest(owner, (TaskSlots(("z",), 9), TaskSlots(("x", "y"), 9))), now=NOW)
        assert _ids(found.claims) == ["z2", "y1", "x2", "y2"]
        assert found.has_more is False

    def test_many_at_once(self, storage: Storage, owner: int) -> None:
        ids = [f"{number:05}" for number in range(1300)]
        storage.insert([job(id, payload=id.encode()) for id in ids])
        found = claim_once(storage, owner, limit=5000)
        assert [(one.id, one.payload) for one in found.claims] == [(id, id.encode()) for id in ids]
        assert found.has_more is False
        assert storage.settle([end(owner, one) for one in found.claims]) == [Settled.APPLIED] * 1300

    @pytest.mark.parametrize("tasks", [("task",), ("other", "task")])
    def test_however_many_are_overdue_all_come_the_earliest_first(
        self, storage: Storage, owner: int, tasks: tuple[str, ...]
    ) -> None:
        count = 2500
        storage.insert([job(f"{number:05}", due_at=NOW + count - number) for number in range(count)])
        found = claim(storage, owner, tasks=tasks, now=NOW + count)
        assert _ids(found) == [f"{number:05}" for number in reversed(range(count))]

    def test_overdue_jobs_of_others_do_not_hide_ours(self, storage: Storage, owner: int) -> None:
        storage.insert([job(f"{number:05}", task="other", due_at=NOW + 1) for number in range(2500)])
        storage.insert([job("ours", due_at=NOW + 2)])
        assert _ids(claim(storage, owner, now=NOW + 2)) == ["ours"]

    def test_the_next_due_time_is_anybodys(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", task="other", queue="other", due_at=NOW + 9)])
        assert claim_once(storage, owner, queues=("default",)) == Claimed([], False, NOW + 9)


def _claim_of(storage: Storage, id: str) -> Claim:
    """The claim that a running job was given."""
    record = one(storage, id)
    return Claim(*(getattr(record, field) for field in Claim._fields if field not in ("is_snoozed", "limits")))
