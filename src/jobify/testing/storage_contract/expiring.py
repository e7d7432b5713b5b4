"""expire."""

from __future__ import annotations

from jobify.model.records import Expired, JobQuery
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, again, claim, claimed, job, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("ExpiryContract",)


class ExpiryContract(StorageCase):
    def test_a_job_that_waits_too_long_is_cancelled(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", expires_at=NOW, task="t", origin=owner, due_at=NOW + SECOND)])
        before = one(storage, "a")
        assert storage.expire(now=NOW - 1, limit=9, delete_at=NOW + 9) == []
        assert storage.expire(now=NOW, limit=9, delete_at=NOW + 9) == [Expired("a", "t", owner)]
        assert one(storage, "a")._replace(ready=before.ready) == before._replace(
            status="cancelled", error="expired", finished_at=NOW, delete_at=NOW + 9
        )
        assert storage.expire(now=NOW, limit=9, delete_at=None) == []
        assert claim(storage, owner, tasks=("t",), now=NOW + SECOND) == []

    def test_only_what_waits_expires(self, storage: Storage, owner: int) -> None:
        storage.insert([job("runs", expires_at=NOW), job("cancelled", expires_at=NOW)])
        storage.cancel(["cancelled"], reason="x", now=NOW, delete_at=None)
        claim(storage, owner)
        storage.insert([job("odd", status="hibernating", expires_at=NOW), job("never")])
        before = storage.find(JobQuery())
        assert storage.expire(now=NOW + SECOND, limit=9, delete_at=None) == []
        assert storage.find(JobQuery()) == before

    def test_a_wait_for_the_next_attempt_is_a_wait(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", expires_at=NOW + SECOND, queue="mail")
        assert found.expires_at == NOW + SECOND
        storage.settle([again(owner, found)])
        assert storage.expire(now=NOW + SECOND, limit=9, delete_at=None) == [Expired("a", "task", None, "mail", 1)]

    def test_the_longest_overdue_come_first_a_few_at_a_time(self, storage: Storage) -> None:
        storage.insert([job(f"{number:02}", expires_at=NOW - number) for number in range(25)])
        steps = [[found.id for found in storage.expire(now=NOW, limit=10, delete_at=None)] for _ in range(4)]
        assert [len(step) for step in steps] == [10, 10, 5, 0]
        assert sorted(steps[0]) == [f"{number:02}" for number in range(15, 25)]
        assert storage.expire(now=NOW, limit=0, delete_at=None) == []

    def test_a_replacement_has_an_expiry_of_its_own(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", expires_at=NOW)
        storage.replace(job("a", expires_at=NOW + 5))
        storage.settle([again(owner, found)])
        assert one(storage, "a").expires_at == NOW + 5
        assert storage.expire(now=NOW + 4, limit=9, delete_at=None) == []
        storage.replace(job("a"))
        assert storage.expire(now=NOW + 5, limit=9, delete_at=None) == []

    def test_what_is_blocked_or_paused_expires_too(self, storage: Storage, owner: int) -> None:
        storage.insert([running("parent", owner), job("child", parents=("parent",), expires_at=NOW)])
        storage.insert([job("schedule", rule="{}", expires_at=NOW), job("queued", queue="q", expires_at=NOW)])
        storage.pause(["schedule"])
        storage.pause_queue("q")
        assert len(storage.expire(now=NOW, limit=9, delete_at=None)) == 3
        assert statuses(storage, ["child", "schedule", "queued"]) == ["cancelled"] * 3
        assert one(storage, "schedule").blockers == 0

    def test_many_expire_at_once(self, storage: Storage) -> None:
        storage.insert([job(f"{number:04}", expires_at=NOW) for number in range(1300)])
        assert len(storage.expire(now=NOW, limit=5000, delete_at=None)) == 1300
