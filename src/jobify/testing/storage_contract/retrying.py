"""retry."""

from __future__ import annotations

import pytest

from jobify.model.records import JobQuery, MessageKind
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, claim, claimed, end, job, line, one, report, running, statuses
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("RetryContract",)


class RetryContract(StorageCase):
    @pytest.mark.parametrize("status", ["failed", "timeout", "permanently_failed"])
    def test_what_ended_badly_waits_again(self, storage: Storage, owner: int, status: str) -> None:
        found = claimed(storage, owner, "a", rule="{}", expires_at=NOW + 5, origin=owner, unique_key="k", priority=3)
        storage.report([report(owner, found, 50.0, MessageKind.PROGRESS), report(owner, found)])
        before = one(storage, "a")
        settlement = end(
            owner, found, status=status, attempt=7, run_count=5, failure_count=4, offset_at=NOW - 9, is_dead=True
        )
        storage.settle([settlement._replace(error="E: x", history=(line("a"),))])
        assert storage.retry(["a"], now=NOW + SECOND) == [True]
        after = one(storage, "a")
        assert after.fence > before.fence
        assert after == before._replace(
            status="scheduled",
            ready=True,
            due_at=NOW + SECOND,
            offset_at=NOW - 9,
            owner=None,
            fence=after.fence,
            attempt=0,
            started_at=None,
            expires_at=None,
            progress=None,
            run_count=5,
        )
        assert (storage.attempts("a"), len(storage.messages("a", after=0, limit=9))) == ([line("a")], 1)
        (found,) = claim(storage, owner)
        assert (found.attempt, found.crashes, found.run_count, found.failure_count) == (1, 0, 5, 0)

    def test_it_is_not_purged(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"), status="failed", delete_at=NOW)])
        storage.retry(["a"], now=NOW)
        assert storage.purge(now=NOW + SECOND, limit=9) == 0
        assert storage.expire(now=NOW + SECOND, limit=9, delete_at=None) == []

    def test_a_late_outcome_is_refused(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a")
        storage.settle([end(owner, found, status="failed")])
        storage.retry(["a"], now=NOW)
        claim(storage, owner)
        assert not any(storage.settle([end(owner, found)]))
        assert one(storage, "a").status == "running"

    def test_crashes_are_forgotten(self, storage: Storage, owner: int) -> None:
        claimed(storage, owner, "a")
        storage.close()
        storage.open()
        storage.recover(now=NOW, max_crashes=1, delete_at=None)
        assert one(storage, "a").is_dead is True
        assert storage.retry(["a"], now=NOW) == [True]
        assert (one(storage, "a").crashes, one(storage, "a").is_dead) == (0, False)

    def test_nothing_else_is_retried(self, storage: Storage, owner: int) -> None:
        for id, status in (("ok", "success"), ("off", "cancelled"), ("odd", "hibernating")):
            storage.settle([end(owner, claimed(storage, owner, id), status=status)])
        storage.insert([running("runs", owner), job("waits")])
        before = storage.find(JobQuery())
        assert storage.retry(["ok", "off", "odd", "runs", "waits", "missing"], now=NOW) == [False] * 6
        assert storage.retry([], now=NOW) == []
        assert storage.find(JobQuery()) == before

    def test_twice_is_once(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"), status="failed")])
        assert storage.retry(["a", "a"], now=NOW) == [True, False]

    def test_not_while_another_one_has_its_key(self, storage: Storage, owner: int) -> None:
        for id in "ab":
            storage.settle([end(owner, claimed(storage, owner, id, unique_key="k"), status="failed")])
        storage.insert([job("c", unique_key="k")])
        assert storage.retry(["a", "b"], now=NOW) == [False, False]
        storage.cancel(["c"], reason="x", now=NOW, delete_at=None)
        assert storage.retry(["a", "b"], now=NOW) == [True, False]
        assert (storage.find_unique("k"), statuses(storage, "ab")) == ("a", ["scheduled", "failed"])
        assert storage.insert([job("d", unique_key="k")]) == [False]
