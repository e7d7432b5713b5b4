"""Dependencies: the jobs that wait for others, and when they become eligible."""

from __future__ import annotations

from functools import partial

import pytest

from jobify.exceptions import UnknownDependencyError
from jobify.model.records import JobQuery, Relations, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, PROFILE, SECOND, after, again, claim, claimed, end, job, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("DependencyContract",)


class DependencyContract(StorageCase):
    # -- waiting -------------------------------------------------------------------------------------------------------

    def test_a_job_waits_for_its_parent(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        assert storage.insert([after("b", "a")]) == [True]
        assert (one(storage, "b").status, one(storage, "b").blockers) == ("scheduled", 1)
        assert claim(storage, owner) == []
        assert storage.settle([end(owner, parent)]) == [Settled.CASCADED]
        assert one(storage, "b").blockers == 0
        assert [found.id for found in claim(storage, owner)] == ["b"]

    def test_a_job_waits_for_all_of_its_parents(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b"), after("c", "a", "b")])
        assert one(storage, "c").blockers == 2
        first, second = claim(storage, owner)
        assert storage.settle([end(owner, first)]) == [Settled.APPLIED], "c waits for another one"
        assert (one(storage, "c").blockers, claim(storage, owner)) == (1, [])
        assert storage.settle([end(owner, second)]) == [Settled.CASCADED]
        assert [found.id for found in claim(storage, owner)] == ["c"]

    def test_both_parents_end_in_one_call(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), job("b"), after("c", "a", "b")])
        storage.settle([end(owner, found) for found in claim(storage, owner)])
        assert [found.id for found in claim(storage, owner)] == ["c"]

    def test_a_parent_that_is_listed_twice_counts_once(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a", "a")])
        assert one(storage, "b").blockers == 1
        assert storage.relations("b") == Relations(("a",), ())
        storage.settle([end(owner, parent)])
        assert [found.id for found in claim(storage, owner)] == ["b"]

    def test_it_waits_for_its_time_too(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a", due_at=NOW + 2 * SECOND)])
        assert storage.settle([end(owner, parent)]) == [Settled.CASCADED]
        assert claim(storage, owner, now=NOW + SECOND) == []
        assert [found.id for found in claim(storage, owner, now=NOW + 2 * SECOND)] == ["b"]

    def test_its_time_may_come_before_its_parent(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a", due_at=NOW + SECOND)])
        assert claim(storage, owner, now=NOW + 2 * SECOND) == []
        storage.settle([end(owner, parent)])
        assert [found.id for found in claim(storage, owner, now=NOW + 2 * SECOND)] == ["b"]

    def test_a_blocked_job_does_not_hold_up_others(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), *(after(f"b{number:04}", "a", priority=9) for number in range(1500))])
        storage.insert([job("c")])
        found = claim(storage, owner, limit=1)
        assert [one.id for one in found] == ["c"]
        assert one(storage, "b0000").status == "scheduled"

    def test_a_blocked_job_may_be_moved(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        assert storage.reschedule("b", due_at=NOW + 2 * SECOND, now=NOW) is True
        storage.settle([end(owner, parent)])
        assert claim(storage, owner, now=NOW + SECOND) == []
        assert [found.id for found in claim(storage, owner, now=NOW + 2 * SECOND)] == ["b"]

    def test_an_attempt_that_is_not_the_last_ends_no_wait(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        assert storage.settle([again(owner, parent, ready=True, due_at=NOW)]) == [Settled.APPLIED]
        (parent,) = claim(storage, owner)
        assert (parent.id, one(storage, "b").blockers) == ("a", 1)
        storage.settle([end(owner, parent)])
        assert [found.id for found in claim(storage, owner)] == ["b"]

    def test_a_status_that_is_not_known_is_no_end(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a", status="hibernating"), after("b", "a")])
        assert (one(storage, "b").status, one(storage, "b").blockers) == ("scheduled", 1)
        storage.delete(["a"], now=NOW, delete_at=None)
        assert one(storage, "b").status == "cancelled"

    def test_a_refused_settlement_unblocks_no_job(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        stale = parent._replace(fence=parent.fence + 1)
        refused = [end(owner, stale), end(owner + 1, parent), end(owner, stale, status="failed")]
        assert storage.settle(refused) == [Settled.REFUSED] * 3
        assert (one(storage, "b").status, one(storage, "b").blockers) == ("scheduled", 1)

    def test_a_job_without_parents_changes_no_other_job(self, storage: Storage, owner: int) -> None:
        assert storage.settle([end(owner, claimed(storage, owner, "a"))]) == [Settled.APPLIED]

    # -- parents that have ended, and such that do not exist -----------------------------------------------------------

    def test_a_parent_that_has_succeeded_is_done(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"))])
        assert storage.insert([after("b", "a")]) == [True]
        assert (one(storage, "b").blockers, storage.relations("b")) == (0, Relations(("a",), ()))
        assert [found.id for found in claim(storage, owner)] == ["b"]

    @pytest.mark.parametrize("status", ["failed", "timeout", "cancelled", "permanently_failed"])
    def test_a_job_that_comes_too_late_is_added_as_cancelled(self, storage: Storage, owner: int, status: str) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a"), status=status, delete_at=NOW + 9)])
        assert storage.insert([after("b", "a", created_at=NOW + 7)]) == [True]
        record = one(storage, "b")
        assert (record.status, record.blockers, record.finished_at) == ("cancelled", 0, NOW + 7)
        assert record.delete_at == NOW + 9
        assert record.error is not None
        assert "a" in record.error.split()
        assert storage.relations("b").parents == ("a",)
        assert claim(storage, owner) == []

    def test_one_bad_parent_is_enough(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "bad"), status="failed")])
        waits = claimed(storage, owner, "waits")
        storage.insert([after("c", "waits", "bad")])
        assert (one(storage, "c").status, one(storage, "c").blockers) == ("cancelled", 0)
        assert storage.settle([end(owner, waits)]) == [Settled.APPLIED]
        assert one(storage, "c").status == "cancelled"

    def test_parents_may_stand_earlier_in_the_call(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "bad"), status="failed")])
        assert storage.insert([job("a"), after("b", "a"), after("c", "b", "bad"), after("d", "c")]) == [True] * 4
        assert statuses(storage, "abcd") == ["scheduled", "scheduled", "cancelled", "cancelled"]
        assert [found.id for found in claim(storage, owner)] == ["a"]

    @pytest.mark.parametrize("parents", [("missing",), ("a", "missing"), ("later",), ("b",)])
    def test_an_unknown_parent_spoils_the_call(self, storage: Storage, owner: int, parents: tuple[str, ...]) -> None:
        storage.insert([job("a")])
        before = storage.find(JobQuery())
        with pytest.raises(UnknownDependencyError) as caught:
            storage.insert([job("first"), after("b", *parents), job("later")])
        assert (caught.value.job_id, caught.value.parent_id) == ("b", parents[-1])
        assert storage.find(JobQuery()) == before
        assert storage.relations("a") == Relations((), ())
        assert storage.insert([job("first"), job("later")]) == [True, True]

    def test_a_schedule_is_no_parent(self, storage: Storage) -> None:
        storage.insert([job("nightly", rule="{}", offset_at=NOW), job("a")])
        for parents in (("nightly",), ("a", "nightly"), ("nightly", "a")):
            with pytest.raises(UnknownDependencyError, match="is a schedule") as caught:
                storage.insert([job("first"), after("b", *parents)])
            assert (caught.value.job_id, caught.value.parent_id) == ("b", "nightly")
        with pytest.raises(UnknownDependencyError):
            storage.insert([job("hourly", rule="{}", offset_at=NOW), after("b", "hourly")])
        assert statuses(storage, ["first", "b", "hourly"]) == ["missing"] * 3

    def test_an_unknown_parent_spoils_nothing_else_of_a_block(self, storage: Storage) -> None:
        with storage.transaction():
            storage.insert([job("a")])
            with pytest.raises(UnknownDependencyError):
                storage.insert([job("b"), after("c", "missing")])
            storage.insert([after("d", "a")])
        assert statuses(storage, "abcd") == ["scheduled", "missing", "missing", "scheduled"]

    # -- tries, replacements, new jobs with old ids --------------------------------------------------------------------

    def test_a_parent_that_is_retried_alone_revives_no_other_job(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        storage.settle([end(owner, parent, status="failed")])
        assert storage.retry(["a", "b"], now=NOW, with_dependents=False) == [True, False]
        assert storage.insert([after("c", "a")]) == [True]
        (parent,) = claim(storage, owner)
        assert storage.settle([end(owner, parent)]) == [Settled.CASCADED]
        assert statuses(storage, "abc") == ["success", "cancelled", "scheduled"]
        assert [found.id for found in claim(storage, owner)] == ["c"]

    def test_a_replaced_parent_is_waited_for(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        storage.replace(job("a", payload=b"2"))
        assert storage.settle([end(owner, parent, status="failed")]) == [Settled.CASCADED]
        assert (one(storage, "b").status, one(storage, "b").blockers) == ("scheduled", 1)
        (parent,) = claim(storage, owner)
        storage.replace(job("a", payload=b"3"))
        storage.deregister(owner)
        storage.replace(job("a", payload=b"4"))
        other = storage.register(PROFILE, now=NOW)
        (parent,) = claim(storage, other)
        assert parent.payload == b"4"
        storage.settle([end(other, parent)])
        assert [found.id for found in claim(storage, other)] == ["b"]

    def test_a_replacement_of_a_waiting_job_waits_for_no_job(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        assert storage.replace(job("b", payload=b"2")) is True
        assert (one(storage, "b").blockers, storage.relations("b").parents) == (0, ())
        (child,) = claim(storage, owner)
        assert storage.settle([end(owner, parent, status="failed")]) == [Settled.APPLIED]
        assert one(storage, "b").status == "running"
        storage.settle([end(owner, child)])

    def test_a_replacement_has_no_parents(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), running("b", owner)])
        for id in ("b", "new"):
            with pytest.raises(ValueError, match=id):
                storage.replace(after(id, "a"))
        assert one(storage, "b").has_successor is False
        assert storage.get(["new"]) == []

    @pytest.mark.parametrize("status", ["success", "failed"])
    def test_a_new_child_with_the_id_of_one_that_was_cancelled(self, storage: Storage, owner: int, status: str) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a")])
        storage.cancel(["b"], reason="no", now=NOW, delete_at=None)
        storage.insert([job("b", due_at=NOW + SECOND)])
        assert storage.settle([end(owner, parent, status=status)]) == [Settled.APPLIED]
        assert (one(storage, "b").status, one(storage, "b").blockers) == ("scheduled", 0)

    def test_a_new_parent_with_an_old_id_is_not_waited_for(self, storage: Storage, owner: int) -> None:
        old = claimed(storage, owner, "a")
        storage.insert([running("b", owner), after("c", "a", "b")])
        storage.settle([end(owner, old)])
        storage.insert([job("a")])
        (new,) = claim(storage, owner)
        storage.settle([end(owner, new, status="failed")])
        assert (one(storage, "c").status, one(storage, "c").blockers) == ("scheduled", 1)

    def test_a_block_that_raises_gives_the_wait_back(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a"), after("c", "b")])
        for settlement in (end(owner, parent), end(owner, parent, status="failed")):
            undone(storage, partial(storage.settle, [settlement]))
            assert [one(storage, id).blockers for id in "bc"] == [1, 1]
            assert statuses(storage, "abc") == ["running", "scheduled", "scheduled"]
        storage.settle([end(owner, parent)])
        assert [found.id for found in claim(storage, owner)] == ["b"]
