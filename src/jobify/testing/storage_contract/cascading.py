"""What the end of a parent does to all that depend on it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import pytest

from jobify.model.records import Expired, JobQuery, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, after, again, claim, end, job, one, statuses
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("CascadeContract",)

End: TypeAlias = Callable[[Storage, int], object]


def _settle(storage: Storage, owner: int, status: str) -> object:
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
    "failed": ("failed", lambda storage, owner: _settle(storage, owner, "failed")),
    "timed out": ("timed out", lambda storage, owner: _settle(storage, owner, "timeout")),
    "stopped": ("failed for good", lambda storage, owner: _settle(storage, owner, "permanently_failed")),
    "cancelled in its task": ("cancelled", lambda storage, owner: _settle(storage, owner, "cancelled")),
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
