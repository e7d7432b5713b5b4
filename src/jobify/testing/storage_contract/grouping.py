"""Many jobs of one call that wait for all of the same parents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import pytest

from jobify.model.records import Expired, JobQuery, Relations, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, after, again, claim, end, job, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("CascadeContract", "GroupContract")


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


# -- cascading ---------------------------------------------------------------------------------------------------------
# What the end of a parent does to all that depend on it.

End: TypeAlias = Callable[[Storage, int], object]


def _end_as(storage: Storage, owner: int, status: str) -> object:
    (found,) = claim(storage, owner)
    return storage.settle([end(owner, found, status=status, delete_at=NOW + 9)])


def _crash(storage: Storage, owner: int) -> object:
    claim(storage, owner)
    storage.close()
    storage.open()
    return storage.recover(now=NOW + SECOND, max_crashes=1, delete_at=NOW + 9)


def _cancel_while_it_runs(storage: Storage, owner: int) -> object:
    (found,) = claim(storage, owner)
    storage.cancel(["a"], reason="stop", now=NOW + SECOND, delete_at=NOW + 9)
    return storage.settle([again(owner, found)])


def _retire(storage: Storage, owner: int) -> None:
    claim(storage, owner)
    storage.cancel(["a"], reason="stop", now=NOW + SECOND, delete_at=NOW + 9)
    storage.deregister(owner)


BAD_ENDS: dict[str, tuple[str, End]] = {
    "failed": ("failed", lambda storage, owner: _end_as(storage, owner, "failed")),
    "timed out": ("timed out", lambda storage, owner: _end_as(storage, owner, "timeout")),
    "stopped": ("failed for good", lambda storage, owner: _end_as(storage, owner, "permanently_failed")),
    "cancelled in its task": ("cancelled", lambda storage, owner: _end_as(storage, owner, "cancelled")),
    "cancelled": (
        "cancelled",
        lambda storage, owner: storage.cancel(["a"], reason="no", now=NOW + SECOND, delete_at=NOW + 9),
    ),
    "cancelled while it runs": ("cancelled", _cancel_while_it_runs),
    "cancelled and released": ("cancelled", _retire),
    "quarantined": ("failed", _crash),
    "expired": (
        "expired",
        lambda storage, owner: storage.expire(now=NOW + SECOND, limit=9, delete_at=NOW + 9),
    ),
    "deleted": ("deleted", lambda storage, owner: storage.delete(["a"], now=NOW + SECOND, delete_at=NOW + 9)),
}
"""How a parent may end without success, and the word for that in the reason. Each at ``NOW + SECOND``, with ``NOW + 9``
as ``delete_at``."""


class CascadeContract(StorageCase):
    @pytest.mark.parametrize("how", BAD_ENDS)
    def test_a_bad_end_cancels_all_that_depend_on_it(self, storage: Storage, owner: int, how: str) -> None:
        word, make_end = BAD_ENDS[how]
        storage.insert([job("a", expires_at=NOW + SECOND)])
        storage.insert([after("b", "a", due_at=NOW + SECOND), after("c", "b"), after("d", "c"), job("e", task="other")])
        make_end(storage, owner)
        assert statuses(storage, "bcde") == ["cancelled", "cancelled", "cancelled", "scheduled"]
        for child, parent, why in (("b", "a", word), ("c", "b", "cancelled"), ("d", "c", "cancelled")):
            record = one(storage, child)
            assert record.error is not None
            assert parent in record.error.split()
            assert why in record.error
            assert (record.finished_at, record.delete_at, record.blockers) == (NOW + SECOND, NOW + 9, 0)

    @pytest.mark.parametrize("status", ["failed", "success"])
    def test_a_diamond(self, storage: Storage, owner: int, status: str) -> None:
        storage.insert([job("a"), after("b", "a"), after("c", "a"), after("d", "b", "c"), after("e", "d", "a")])
        (top,) = claim(storage, owner)
        assert storage.settle([end(owner, top, status=status)]) == [Settled.CASCADED]
        if status == "failed":
            assert statuses(storage, "abcde") == ["failed"] + ["cancelled"] * 4
            return
        storage.settle([end(owner, found) for found in claim(storage, owner)])
        (bottom,) = claim(storage, owner)
        assert (bottom.id, one(storage, "e").blockers) == ("d", 1)
        storage.settle([end(owner, bottom)])
        assert [found.id for found in claim(storage, owner)] == ["e"]

    def test_a_long_chain_falls_at_once(self, storage: Storage, owner: int) -> None:
        ids = [f"{number:04}" for number in range(3000)]
        chain = [job(ids[0]), *(after(id, before) for before, id in pairwise(ids))]
        assert storage.insert(chain) == [True] * 3000
        (first,) = claim(storage, owner)
        assert storage.settle([end(owner, first, status="failed")]) == [Settled.CASCADED]
        assert {record.status for record in storage.find(JobQuery(after_id=ids[0], limit=9999))} == {"cancelled"}
        last = one(storage, ids[-1])
        assert last.error is not None
        assert ids[-2] in last.error

    def test_a_wide_group_and_what_follows_it(self, storage: Storage, owner: int) -> None:
        ids = [f"{number:04}" for number in range(1500)]
        storage.insert([job("first"), *(after(id, "first") for id in ids), after("last", *ids)])
        assert one(storage, "last").blockers == 1500
        storage.settle([end(owner, found) for found in claim(storage, owner)])
        members = claim(storage, owner)
        assert sorted(member.id for member in members) == ids
        answers = storage.settle([end(owner, member) for member in members])
        assert Settled.CASCADED in answers
        assert [found.id for found in claim(storage, owner)] == ["last"]

    def test_the_reason_of_a_cancel_is_kept_where_parent_and_child_are_named(self, storage: Storage) -> None:
        storage.insert([job("a"), after("b", "a"), after("c", "b")])
        storage.cancel(["a", "b"], reason="enough", now=NOW, delete_at=None)
        assert (one(storage, "a").error, one(storage, "b").error) == ("enough", "enough")
        assert one(storage, "c").status == "cancelled"

    def test_both_may_expire(self, storage: Storage) -> None:
        storage.insert([job("a", expires_at=NOW), after("b", "a", expires_at=NOW)])
        expired = storage.expire(now=NOW, limit=9, delete_at=None)
        assert sorted(expired) == [Expired("a", "task", None), Expired("b", "task", None)]
        assert one(storage, "b").error == "expired"
