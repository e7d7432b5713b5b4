"""Many jobs of one call that wait for all of the same parents."""

from __future__ import annotations

from functools import partial

import pytest

from jobify.model.records import JobQuery, Relations, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, after, claim, end, job, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("GroupContract",)


def _given(storage: Storage, owner: int) -> None:
    """The jobs a and b run; c and d wait for both, and e for c."""
    storage.insert(
        [running("a", owner), running("b", owner), after("c", "a", "b"), after("d", "a", "b"), after("e", "c")]
    )


def _settle(storage: Storage, owner: int, id: str, **fields: object) -> Settled:
    (met,) = storage.settle([end(owner, running(id, owner), **fields)])
    return met


class GroupContract(StorageCase):
    def test_a_group_waits_for_all_of_another(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        assert [one(storage, id).blockers for id in "cde"] == [2, 2, 1]
        assert storage.relations("a") == Relations((), ("c", "d"))
        assert storage.relations("c") == Relations(("a", "b"), ("e",))
        assert _settle(storage, owner, "a") == Settled.APPLIED
        assert [record.blockers for record in storage.find(JobQuery()) if record.id in "cd"] == [1, 1]
        assert claim(storage, owner) == []
        assert _settle(storage, owner, "b") == Settled.CASCADED
        assert [found.id for found in claim(storage, owner)] == ["c", "d"]
        assert [(name, record and record.id) for name, record in storage.parents("d")] == [("a", "a"), ("b", "b")]

    def test_all_may_end_in_one_call(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        assert storage.settle([end(owner, running(id, owner)) for id in "ab"])[-1] == Settled.CASCADED
        assert [found.id for found in claim(storage, owner)] == ["c", "d"]

    @pytest.mark.parametrize("is_first", [True, False])
    @pytest.mark.parametrize("how", ["failed", "cancelled", "deleted"])
    def test_one_that_fails_takes_all_behind_it(self, storage: Storage, owner: int, how: str, is_first: bool) -> None:
        _given(storage, owner)
        bad, good = ("a", "b") if is_first else ("b", "a")
        if not is_first:
            _settle(storage, owner, good)
        if how == "deleted":
            storage.deregister(owner)
            assert storage.delete([bad], now=NOW, delete_at=None) == 1
        else:
            assert _settle(storage, owner, bad, status=how) == Settled.CASCADED
        assert statuses(storage, "cde") == ["cancelled"] * 3
        assert [bad in (one(storage, id).error or "").split() for id in "cd"] == [True, True]
        if is_first and how != "deleted":
            assert _settle(storage, owner, good) == Settled.APPLIED
            assert statuses(storage, "cde") == ["cancelled"] * 3

    def test_members_have_their_own_times(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a", "b", due_at=NOW + 2 * SECOND)])
        storage.insert([after("d", "a", "b"), after("e", "a", "b", due_at=NOW + 2 * SECOND)])
        storage.settle([end(owner, running(id, owner)) for id in "ab"])
        assert [found.id for found in claim(storage, owner, now=NOW + SECOND)] == ["d"]
        assert sorted(found.id for found in claim(storage, owner, now=NOW + 2 * SECOND)) == ["c", "e"]

    def test_some_have_succeeded_before(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner)])
        _settle(storage, owner, "a")
        storage.insert([after("c", "a", "b"), after("d", "a", "b")])
        assert [one(storage, id).blockers for id in "cd"] == [1, 1]
        _settle(storage, owner, "b")
        storage.insert([after("e", "a", "b"), after("f", "a", "b")])
        assert [found.id for found in claim(storage, owner)] == ["c", "d", "e", "f"]

    def test_one_has_failed_before(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner)])
        _settle(storage, owner, "b", status="failed")
        storage.insert([after("c", "a", "b"), after("d", "a", "b")])
        assert statuses(storage, "cd") == ["cancelled", "cancelled"]
        assert storage.relations("d").parents == ("a", "b")
        assert _settle(storage, owner, "a") == Settled.APPLIED
        assert statuses(storage, "cd") == ["cancelled", "cancelled"]

    def test_members_may_be_cancelled_and_deleted(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        storage.cancel(["c"], reason="no", now=NOW, delete_at=None)
        storage.delete(["c", "e"], now=NOW, delete_at=None)
        assert storage.relations("a") == Relations((), ("d",))
        storage.settle([end(owner, running(id, owner)) for id in "ab"])
        assert [found.id for found in claim(storage, owner)] == ["d"]
        storage.delete(["a", "b"], now=NOW, delete_at=None)
        assert statuses(storage, "ab") == ["success", "success"]

    def test_what_is_before_a_barrier_is_needed_behind_it(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        storage.settle([end(owner, running(id, owner), delete_at=NOW) for id in "ab"])
        assert (storage.purge(now=NOW, limit=9), storage.delete(["a", "b"], now=NOW, delete_at=None)) == (0, 0)
        assert sum(storage.count_purgeable(now=NOW).values()) == 0
        for found in claim(storage, owner):
            assert storage.purge(now=NOW, limit=9) == 0
            storage.settle([end(owner, found, delete_at=None)])
        assert sum(storage.count_purgeable(now=NOW).values()) == 2
        assert storage.purge(now=NOW, limit=9) == 2

    def test_a_new_job_under_an_old_id_is_another_parent(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner)])
        storage.settle([end(owner, running(id, owner), result=id.encode()) for id in "ab"])
        storage.insert([after("c", "a", "b"), job("a"), after("d", "a", "b"), after("e", "a", "b")])
        assert [one(storage, id).blockers for id in "cde"] == [0, 1, 1]
        assert storage.relations("a").children == ("d", "e")
        assert [record and record.result for _, record in storage.parents("c")] == [b"a", b"b"]

    def test_a_block_that_raises_closes_it_again(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        for status in ("success", "failed"):
            undone(storage, partial(storage.settle, [end(owner, running(id, owner), status=status) for id in "ab"]))
            assert [one(storage, id).blockers for id in "cde"] == [2, 2, 1]
        storage.settle([end(owner, running(id, owner)) for id in "ab"])
        assert [found.id for found in claim(storage, owner)] == ["c", "d"]

    def test_a_thousand_after_a_thousand(self, storage: Storage, owner: int) -> None:
        first, second = ([f"{letter}{number:04}" for number in range(1000)] for letter in "xy")
        batch = [*(running(id, owner) for id in first), *(after(id, *first) for id in second)]
        assert storage.insert(batch) == [True] * 2000
        assert one(storage, second[-1]).blockers == 1000
        storage.settle([end(owner, running(id, owner)) for id in first])
        assert len(claim(storage, owner)) == 1000
