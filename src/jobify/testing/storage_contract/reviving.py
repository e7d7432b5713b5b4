"""Retrying a failed job: the jobs that were cancelled because of it wait again, and owners are notified."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest

from jobify.model.records import JobQuery, MessageKind, Settled
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, after, claim, claimed, end, job, line, one, report, running, statuses
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("RetryContract", "ReviveContract")


# -- retrying ----------------------------------------------------------------------------------------------------------


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


# -- reviving ----------------------------------------------------------------------------------------------------------

BECAUSE = "charge failed: ConnectionError: payment is down"


def _fail(storage: Storage, owner: int, id: str = "a", **fields: object) -> Settled:
    usual = {"status": "failed", "error": "ConnectionError: payment is down", "delete_at": None, "result": None}
    (met,) = storage.settle([end(owner, running(id, owner), **{**usual, **fields})])
    return met


def _succeed(storage: Storage, owner: int, *, tasks: tuple[str, ...] = ("task", "charge")) -> list[str]:
    """Let all run that can; their ids."""
    ran: list[str] = []
    while claims := claim(storage, owner, tasks=tasks):
        storage.settle([end(owner, found, delete_at=None) for found in claims])
        ran += [found.id for found in claims]
    return ran


class ReviveContract(StorageCase):
    # -- reasons -------------------------------------------------------------------------------------------------------

    def test_the_reason_names_the_root_of_it_on_all_levels(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner, task="charge"), after("b", "a"), after("c", "b"), after("d", "c")])
        _fail(storage, owner)
        assert one(storage, "b").error == f"dependency a failed: {BECAUSE}"
        assert one(storage, "c").error == f"dependency b was cancelled: {BECAUSE}"
        assert one(storage, "d").error == f"dependency c was cancelled: {BECAUSE}"
        storage.insert([after("e", "d"), after("f", "a")])
        assert one(storage, "e").error == f"dependency d was cancelled: {BECAUSE}"
        assert one(storage, "f").error == f"dependency a failed: {BECAUSE}"

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ("cancelled", "was cancelled"),
            ("expired", "expired"),
            ("deleted", "was deleted"),
        ],
    )
    def test_it_says_how_the_root_has_ended(self, storage: Storage, owner: int, how: str, words: str) -> None:
        storage.insert([job("a", task="charge", expires_at=NOW), after("b", "a"), after("c", "b")])
        if how == "cancelled":
            storage.cancel(["a"], reason="no", now=NOW, delete_at=None)
        elif how == "expired":
            storage.expire(now=NOW, limit=9, delete_at=None)
        else:
            storage.delete(["a"], now=NOW, delete_at=None)
        assert one(storage, "b").error == f"dependency a {words}"
        assert one(storage, "c").error == f"dependency b was cancelled: charge {words}"

    def test_a_long_error_is_shortened(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a")])
        _fail(storage, owner, error=f"ValueError: {'x' * 9000}\nmore")
        assert len(one(storage, "b").error or "") < 400

    # -- who comes back ------------------------------------------------------------------------------------------------

    def test_a_chain_goes_on_where_it_broke(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a"), after("c", "b", priority=3), after("d", "c")])
        before = one(storage, "c")
        _fail(storage, owner)
        assert statuses(storage, "bcd") == ["cancelled"] * 3
        assert storage.retry(["a"], now=NOW + SECOND) == [True]
        assert [one(storage, id).blockers for id in "abcd"] == [0, 1, 1, 1]
        revived = one(storage, "c")
        assert revived == before._replace(fence=revived.fence)
        assert revived.fence > before.fence
        assert storage.purge(now=NOW + 999 * SECOND, limit=9) == 0
        assert _succeed(storage, owner) == ["a", "b", "c", "d"]

    def test_it_stays_cancelled_on_request(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a")])
        _fail(storage, owner)
        assert storage.retry(["a"], now=NOW, with_dependents=False) == [True]
        assert (one(storage, "b").status, _succeed(storage, owner)) == ("cancelled", ["a"])

    def test_it_may_come_back_the_next_time(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), after("b", "a")])
        for is_last in (False, True):
            (found,) = claim(storage, owner)
            storage.settle([end(owner, found, status="failed")])
            assert storage.retry(["a"], now=NOW, with_dependents=is_last) == [True]
        assert _succeed(storage, owner) == ["a", "b"]

    def test_only_what_fell_with_it_comes_back(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("x", owner), after("b", "a"), after("c", "a"), after("d", "x")])
        storage.cancel(["b"], reason="no", now=NOW, delete_at=None)
        _fail(storage, owner)
        _fail(storage, owner, "x")
        storage.retry(["a"], now=NOW)
        assert statuses(storage, "bcd") == ["cancelled", "scheduled", "cancelled"]
        assert storage.retry(["b", "d"], now=NOW) == [False, False]

    def test_a_diamond_comes_back(self, storage: Storage, owner: int) -> None:
        storage.insert(
            [running("a", owner), after("b", "a"), after("c", "a"), after("d", "b", "c"), after("e", "d", "a")]
        )
        _fail(storage, owner)
        storage.retry(["a"], now=NOW)
        assert [one(storage, id).blockers for id in "bcde"] == [1, 1, 2, 2]
        assert _succeed(storage, owner) == ["a", "b", "c", "d", "e"]

    def test_what_has_succeeded_meanwhile_is_not_waited_for(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a", "b")])
        _fail(storage, owner)
        storage.settle([end(owner, running("b", owner), result=b"b")])
        storage.retry(["a"], now=NOW)
        assert one(storage, "c").blockers == 1
        assert _succeed(storage, owner) == ["a", "c"]
        assert [record and record.result for _, record in storage.parents("c")] == [b"null", b"b"]

    def test_what_still_runs_is_waited_for(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a", "b")])
        _fail(storage, owner)
        storage.retry(["a"], now=NOW)
        assert one(storage, "c").blockers == 2
        assert _succeed(storage, owner) == ["a"]
        assert storage.settle([end(owner, running("b", owner))]) == [Settled.CASCADED]
        assert _succeed(storage, owner) == ["c"]

    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_two_that_failed_must_both_be_tried_again(self, storage: Storage, owner: int, order: str) -> None:
        storage.insert([running("a", owner), running("b", owner, task="charge"), after("c", "a", "b"), after("d", "c")])
        _fail(storage, owner)
        _fail(storage, owner, "b")
        first, second = order[0], order[1]
        storage.retry([first], now=NOW)
        assert statuses(storage, "cd") == ["cancelled", "cancelled"]
        if first == "a":
            assert one(storage, "c").error == f"dependency b failed: {BECAUSE}"
            assert one(storage, "d").error == f"dependency c was cancelled: {BECAUSE}"
        storage.retry([second], now=NOW)
        assert [one(storage, id).blockers for id in "cd"] == [2, 1]
        assert sorted(_succeed(storage, owner)) == ["a", "b", "c", "d"]

    def test_both_may_be_tried_in_one_call(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a", "b")])
        _fail(storage, owner)
        _fail(storage, owner, "b")
        assert storage.retry(["b", "a"], now=NOW) == [True, True]
        assert one(storage, "c").blockers == 2

    def test_a_parent_that_a_user_cancelled_keeps_it_cancelled(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), job("b", due_at=NOW + SECOND), after("c", "a", "b")])
        _fail(storage, owner)
        storage.cancel(["b"], reason="no", now=NOW, delete_at=None)
        storage.retry(["a"], now=NOW)
        assert (one(storage, "c").status, one(storage, "c").error) == ("cancelled", "dependency b was cancelled")
        assert _succeed(storage, owner) == ["a"]

    def test_what_was_added_too_late_comes_back_too(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        _fail(storage, owner)
        storage.insert([after("b", "a"), after("c", "b")])
        storage.retry(["a"], now=NOW)
        assert _succeed(storage, owner) == ["a", "b", "c"]

    def test_a_step_in_the_middle_is_tried_again(self, storage: Storage, owner: int) -> None:
        storage.insert([job("a"), after("b", "a", task="charge"), after("c", "b")])
        assert _succeed(storage, owner, tasks=("task",)) == ["a"]
        (found,) = claim(storage, owner, tasks=("charge",))
        storage.settle([end(owner, found, status="timeout", result=None)])
        assert storage.retry(["b"], now=NOW) == [True]
        assert _succeed(storage, owner) == ["b", "c"]

    def test_groups_come_back(self, storage: Storage, owner: int) -> None:
        storage.insert([running(id, owner) for id in "abx"])
        storage.insert([after("c", "a", "b"), after("d", "a", "b"), after("e", "c", "d"), after("f", "c", "d")])
        _fail(storage, owner)
        storage.settle([end(owner, running("b", owner), delete_at=None)])
        assert statuses(storage, "cdef") == ["cancelled"] * 4
        storage.retry(["a"], now=NOW)
        assert [one(storage, id).blockers for id in "cdef"] == [1, 1, 2, 2]
        assert _succeed(storage, owner) == ["a", "c", "d", "e", "f"]

    def test_a_group_with_a_member_that_was_cancelled_alone(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a", "b"), after("d", "a", "b")])
        storage.cancel(["c"], reason="no", now=NOW, delete_at=None)
        _fail(storage, owner, "b")
        storage.retry(["b"], now=NOW)
        assert (statuses(storage, "cd"), one(storage, "d").blockers) == (["cancelled", "scheduled"], 2)
        storage.settle([end(owner, running("a", owner))])
        assert _succeed(storage, owner) == ["b", "d"]

    def test_its_own_time_still_holds_and_its_patience_not(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a", due_at=NOW + 5 * SECOND, expires_at=NOW + SECOND)])
        _fail(storage, owner)
        storage.retry(["a"], now=NOW + 2 * SECOND)
        assert storage.expire(now=NOW + 9 * SECOND, limit=9, delete_at=None) == []
        assert _succeed(storage, owner) == ["a"]
        assert (one(storage, "b").status, one(storage, "b").due_at) == ("scheduled", NOW + 5 * SECOND)
        assert [found.id for found in claim(storage, owner, now=NOW + 5 * SECOND)] == ["b"]

    def test_not_one_whose_unique_key_is_taken(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a", unique_key="k"), after("c", "b"), after("d", "a")])
        _fail(storage, owner)
        storage.insert([job("other", unique_key="k", due_at=NOW + 9 * SECOND)])
        assert storage.retry(["a"], now=NOW) == [True]
        assert statuses(storage, "bcd") == ["cancelled", "cancelled", "scheduled"]
        assert storage.find_unique("k") == "other"

    def test_not_what_was_cancelled_for_a_job_that_had_the_id_before(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a")])
        _fail(storage, owner)
        storage.insert([running("a", owner)])
        _fail(storage, owner)
        storage.retry(["a"], now=NOW)
        assert statuses(storage, "ab") == ["scheduled", "cancelled"]

    def test_nor_for_one_in_whose_place_another_was_put(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a")])
        _fail(storage, owner)
        storage.replace(job("a", payload=b"2"))
        (found,) = claim(storage, owner)
        storage.settle([end(owner, found, status="failed")])
        storage.retry(["a"], now=NOW)
        assert statuses(storage, "ab") == ["scheduled", "cancelled"]

    def test_what_was_set_aside_comes_back(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("x", owner), after("b", "a"), after("c", "b", "x")])
        _fail(storage, owner)
        storage.insert([job("b", due_at=NOW + 9 * SECOND)])
        (aside, _) = storage.relations("c").parents
        assert (aside != "b", one(storage, aside).status) == (True, "cancelled")
        storage.retry(["a"], now=NOW)
        assert _succeed(storage, owner) == ["a", aside]
        assert one(storage, "c").blockers == 1, "x runs"

    def test_a_long_chain_comes_back_at_once(self, storage: Storage, owner: int) -> None:
        ids = [f"{number:04}" for number in range(1500)]
        storage.insert([running(ids[0], owner), *(after(id, before) for before, id in pairwise(ids))])
        _fail(storage, owner, ids[0])
        assert storage.retry([ids[0]], now=NOW) == [True]
        assert {record.status for record in storage.find(JobQuery(limit=9999))} == {"scheduled"}

    def test_a_block_that_raises_revives_no_job(self, storage: Storage, owner: int) -> None:
        storage.insert([running(id, owner) for id in "ab"])
        storage.insert([after("c", "a", "b"), after("d", "a", "b"), after("e", "c")])
        _fail(storage, owner)
        undone(storage, partial(storage.retry, ["a"], now=NOW))
        assert statuses(storage, "acde") == ["failed"] + ["cancelled"] * 3
        storage.settle([end(owner, running("b", owner))])
        storage.retry(["a"], now=NOW)
        assert _succeed(storage, owner) == ["a", "c", "d", "e"]
