"""pause, resume, pause_queue, resume_queue."""

from __future__ import annotations

import pytest

from jobify.model.records import Claimed, JobQuery
from jobify.storage.base import Storage
from jobify.testing.rows import NASTY_TEXTS, NOW, SECOND, again, claim, claim_once, claimed, end, job, one, running
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("PauseContract",)


class PauseContract(StorageCase):
    # -- schedules -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("due_at", [NOW, NOW + SECOND])
    def test_a_paused_schedule_waits_until_it_is_resumed(self, storage: Storage, owner: int, due_at: int) -> None:
        storage.insert([job("a", rule="{}", due_at=due_at)])
        before = one(storage, "a")
        assert storage.pause(["a"]) == [True]
        assert one(storage, "a").blockers == 1
        assert claim_once(storage, owner, now=NOW + SECOND) == Claimed([], False, None)
        assert storage.resume(["a"], now=NOW + SECOND) == [True]
        assert one(storage, "a")._replace(ready=before.ready) == before
        assert [found.due_at for found in claim(storage, owner, now=NOW + SECOND)] == [due_at]

    def test_pausing_twice_is_pausing_once(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", rule="{}")])
        assert storage.pause(["a", "a"]) == [True, True]
        assert storage.pause(["a"]) == [True]
        assert one(storage, "a").blockers == 1
        assert storage.resume(["a"], now=NOW) == [True]
        assert storage.resume(["a"], now=NOW) == [False]
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_a_schedule_that_is_named_twice_was_paused_both_times(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", rule="{}"), job("b", rule="{}")])
        storage.pause(["a"])
        assert storage.resume(["a", "b", "a"], now=NOW) == [True, False, True]
        assert one(storage, "a").blockers == 0

    def test_only_schedules_that_have_not_ended(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "ended", rule="{}"))])
        storage.insert([job("once"), running("runs", owner)])
        before = storage.find(JobQuery())
        ids = ["ended", "once", "runs", "missing"]
        assert storage.pause(ids) == [False] * 4
        assert storage.resume(ids, now=NOW) == [False] * 4
        assert storage.find(JobQuery()) == before

    def test_a_run_that_is_under_way_goes_on(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", rule="{}")
        assert storage.pause(["a"]) == [True]
        assert one(storage, "a").status == "running"
        assert any(storage.settle([again(owner, found, ready=True, due_at=NOW, attempt=0)]))
        assert (one(storage, "a").status, claim(storage, owner)) == ("scheduled", [])
        storage.resume(["a"], now=NOW)
        assert [found.id for found in claim(storage, owner)] == ["a"]

    @pytest.mark.parametrize("how", ["settled", "cancelled", "cancelled while it runs"])
    def test_an_end_is_the_end_of_a_pause(self, storage: Storage, owner: int, how: str) -> None:
        found = claimed(storage, owner, "a", rule="{}")
        storage.pause(["a"])
        if how == "settled":
            storage.settle([end(owner, found, status="failed")])
        elif how == "cancelled while it runs":
            storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
            storage.settle([again(owner, found)])
        else:
            storage.settle([again(owner, found)])
            storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        assert one(storage, "a").blockers == 0
        assert storage.resume(["a"], now=NOW) == [False]
        storage.insert([job("a", rule="{}")])
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_a_schedule_that_was_paused_and_stopped_can_be_retried(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", rule="{}")
        storage.pause(["a"])
        storage.settle([end(owner, found, status="permanently_failed")])
        assert storage.retry(["a"], now=NOW) == [True]
        assert [found.id for found in claim(storage, owner)] == ["a"]

    def test_a_schedule_stays_paused_when_its_rule_changes(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits", rule="{}"), running("runs", owner, rule="{}")])
        storage.pause(["waits", "runs"])
        for id in ("waits", "runs"):
            storage.replace(job(id, rule="{1}"))
        storage.settle([end(owner, running("runs", owner))])
        assert [one(storage, id).blockers for id in ("waits", "runs")] == [1, 1]
        assert claim(storage, owner) == []
        assert storage.resume(["waits", "runs"], now=NOW) == [True, True]
        assert [found.rule for found in claim(storage, owner)] == ["{1}", "{1}"]

    def test_a_job_that_is_no_schedule_takes_the_place_of_one_unpaused(self, storage: Storage, owner: int) -> None:
        storage.insert([job("waits", rule="{}"), running("runs", owner, rule="{}")])
        storage.pause(["waits", "runs"])
        for id in ("waits", "runs"):
            storage.replace(job(id))
        storage.settle([end(owner, running("runs", owner))])
        assert sorted(found.id for found in claim(storage, owner)) == ["runs", "waits"]

    def test_a_released_schedule_stays_paused(self, storage: Storage, owner: int) -> None:
        claimed(storage, owner, "a", rule="{}")
        storage.pause(["a"])
        storage.close()
        storage.open()
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert (one(storage, "a").status, one(storage, "a").blockers) == ("scheduled", 1)
        assert claim(storage, owner) == []

    # -- queues --------------------------------------------------------------------------------------------------------

    def test_a_paused_queue_gives_no_jobs(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", queue="x", priority=9), job("b", queue="y"), job("c", queue="x", due_at=NOW + 1)])
        storage.pause_queue("x")
        assert storage.paused_queues() == ["x"]
        found = claim_once(storage, owner, now=NOW + 1)
        assert ([one.id for one in found.claims], found.has_more) == (["b"], False)
        assert claim(storage, owner, queues=("x",), now=NOW + 1) == []
        assert one(storage, "a").blockers == 0
        storage.resume_queue("x")
        assert [one.id for one in claim(storage, owner, now=NOW + 1)] == ["a", "c"]

    def test_jobs_may_be_added_to_a_paused_queue(self, storage: Storage, owner: int) -> None:
        storage.pause_queue("x")
        assert storage.insert([job("a", queue="x")]) == [True]
        assert claim(storage, owner) == []

    def test_what_runs_goes_on(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", queue="x")
        storage.pause_queue("x")
        assert all(storage.settle([end(owner, found)]))

    @pytest.mark.parametrize("name", NASTY_TEXTS)
    def test_any_name_any_number_of_times(self, storage: Storage, owner: int, name: str) -> None:
        storage.insert([job("a", queue=name)])
        storage.resume_queue(name)
        for _ in range(2):
            storage.pause_queue(name)
        assert (storage.paused_queues(), claim(storage, owner)) == ([name], [])
        for _ in range(2):
            storage.resume_queue(name)
        assert storage.paused_queues() == []
        assert len(claim(storage, owner)) == 1

    def test_in_order_of_name(self, storage: Storage) -> None:
        for name in ("b", "c", "a"):
            storage.pause_queue(name)
        assert storage.paused_queues() == ["a", "b", "c"]

    def test_a_block_that_raises_pauses_nothing(self, storage: Storage) -> None:
        storage.pause_queue("before")

        def swap() -> None:
            storage.pause_queue("x")
            storage.resume_queue("before")

        undone(storage, swap)
        assert storage.paused_queues() == ["before"]
