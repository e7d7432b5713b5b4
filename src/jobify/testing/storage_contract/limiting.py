"""Limits on what runs at once: claims that pass gates, ends of claims that release, lines, keys."""

from __future__ import annotations

import json

import pytest

from jobify.model.limit_gates import LimitState, SettledLimits
from jobify.model.records import ClaimRequest, Settled, TaskSlots
from jobify.storage.base import Storage
from jobify.testing.storage_contract.given import (
    NOW,
    PROFILE,
    SECOND,
    StorageCase,
    again,
    claim,
    claim_once,
    end,
    job,
    one,
)
from jobify.testing.storage_contract.limit_rows import at_once, ended, found_ids, keyed

__all__ = ("LimitContract",)


class LimitContract(StorageCase):
    # -- jobs at once --------------------------------------------------------------------------------------------------

    def test_no_more_jobs_run_than_the_limit_allows(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.insert([job(str(number)) for number in range(5)])
        found = claim_once(storage, owner)
        assert (found_ids(found.claims), found.moved) == (["0", "1"], 3)
        assert [mine.limits for mine in found.claims] == [LimitState.HELD, LimitState.HELD]
        assert [one(storage, str(number)).blockers for number in range(5)] == [0, 0, 1, 1, 1]
        assert claim(storage, owner) == []

    def test_one_that_waits_looks_as_it_did_before(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)]})
        storage.insert([job("a")])
        before = one(storage, "a")
        assert claim(storage, owner) == []
        after = one(storage, "a")
        assert after == before._replace(blockers=1, fence=after.fence, waits_for_limit=True)

    def test_one_that_waits_keeps_a_key_that_it_has_until_it_starts(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)], "keyed": [at_once(1, name="users", key="user")]})
        storage.insert([job("a"), job("b", unique_key="start:b"), job("c", task="keyed", unique_key="start:c")])
        claims = claim_once(storage, owner, tasks=("task", "keyed")).claims
        assert sorted(found_ids(claims)) == ["a", "c"]
        assert [one(storage, id).unique_key for id in ("b", "c")] == ["start:b", "start:c"]  # c has no key of its limit
        assert storage.insert([job("d", unique_key="start:b")]) == [False]
        storage.settle([ended(owner, found) for found in claims if found.id == "a"])
        assert found_ids(claim(storage, owner)) == ["b"]
        assert storage.insert([job("d", unique_key="start:b")]) == [True]

    def test_the_end_of_one_is_the_beginning_of_the_next(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b"), job("c")])
        (first,) = claim(storage, owner)
        assert storage.settle([ended(owner, first)]) == [Settled.FREED]
        (second,) = claim(storage, owner)
        assert (second.id, second.attempt) == ("b", 1)
        storage.settle([ended(owner, second)])
        (third,) = claim(storage, owner)
        assert storage.settle([ended(owner, third)]) == [Settled.APPLIED]  # none waits

    @pytest.mark.parametrize("how", ["failed", "retry", "released", "next run"])
    def test_every_end_of_a_claim_releases(self, storage: Storage, owner: int, how: str) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a", rule="{}" if how == "next run" else None), job("b")])
        (first,) = claim(storage, owner)
        ends = {
            "failed": ended(owner, first, status="failed", result=None),
            "retry": again(owner, first, limits=SettledLimits()),
            "released": again(owner, first, limits=SettledLimits(), attempt=0, error=None),
            "next run": again(owner, first, limits=SettledLimits(), attempt=0, run_count=1, error=None),
        }
        storage.settle([ends[how]])
        assert found_ids(claim(storage, owner)) == ["b"]

    def test_a_retry_waits_like_others(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.settle([again(owner, first, limits=SettledLimits(), due_at=NOW, ready=True)])
        (found,) = claim(storage, owner)  # an older due time is no place in the line of what has not begun
        other = {"a": "b", "b": "a"}[found.id]
        assert one(storage, other).blockers <= 1
        storage.settle([ended(owner, found)])
        assert found_ids(claim(storage, owner)) == [other]

    def test_a_claim_that_does_not_hold_gives_nothing_back(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        assert storage.settle([ended(owner, first._replace(fence=first.fence + 1))]) == [Settled.REFUSED]
        assert claim(storage, owner) == []

    def test_a_cancelled_one_releases_when_it_has_ended(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        assert claim(storage, owner) == []
        storage.settle([again(owner, first, limits=SettledLimits())])
        assert (one(storage, "a").status, found_ids(claim(storage, owner))) == ("cancelled", ["b"])

    def test_a_replaced_one_releases_when_it_has_ended(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a")])
        (first,) = claim(storage, owner)
        storage.replace(job("a", payload=b"2"))
        assert claim(storage, owner) == []
        storage.settle([ended(owner, first)])
        assert [found.payload for found in claim(storage, owner)] == [b"2"]

    def test_the_jobs_of_a_dead_owner_hold_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        claim(storage, owner)
        storage.close()
        storage.open()
        survivor = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert len(claim(storage, survivor)) == 1
        assert [limit.active for limit in storage.limits()] == [1]

    def test_an_owner_that_leaves_holds_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        claim(storage, owner)
        storage.deregister(owner)
        assert len(claim(storage, storage.register(PROFILE, now=NOW))) == 1

    def test_what_still_runs_in_a_thread_holds_on(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        kept = end(owner, first, status="timeout", result=None, limits=SettledLimits(is_kept=True))
        assert storage.settle([kept]) == [Settled.APPLIED]
        assert claim(storage, owner) == []
        assert [limit.active for limit in storage.limits()] == [1]
        assert storage.let_go("a", owner, first.fence)
        assert found_ids(claim(storage, owner)) == ["b"]
        assert not storage.let_go("a", owner, first.fence)

    def test_what_an_end_has_not_said_is_found_by_a_recovery(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        assert claim(storage, owner) == []
        storage.settle([end(owner, first)])  # as a release does that knows no limits
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert found_ids(claim(storage, owner)) == ["b"]

    # -- those that wait -----------------------------------------------------------------------------------------------

    def test_they_go_on_by_priority_then_due_time_then_insertion(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("first", priority=9)])
        claims = claim(storage, owner)
        jobs = [job("c"), job("d"), job("b", due_at=NOW - 1), job("a", priority=5)]
        storage.insert(jobs)
        assert claim(storage, owner) == []
        order = []
        for _ in jobs:
            storage.settle([ended(owner, claims[0])])
            claims = claim(storage, owner)
            order += found_ids(claims)
        assert order == ["a", "b", "c", "d"]

    def test_a_newcomer_of_higher_priority_goes_first(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.insert([job("c", priority=1)])
        storage.settle([ended(owner, first)])
        assert found_ids(claim(storage, owner)) == ["c"]

    def test_what_cannot_run_takes_no_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)], "other": [at_once(1)]})
        storage.insert([job("a"), job("paused", queue="x"), job("unknown", task="other"), job("b", queue="y")])
        (first,) = claim(storage, owner, tasks=("task",), queues=("default",))
        assert claim(storage, owner, tasks=("task", "other")) == []
        storage.pause_queue("x")
        storage.settle([ended(owner, first)])
        assert claim(storage, owner, queues=("default",)) == []
        (second,) = claim(storage, owner)
        assert second.id == "b"
        storage.settle([ended(owner, second)])
        assert found_ids(claim(storage, owner, tasks=("other",))) == ["unknown"]

    @pytest.mark.parametrize("how", ["cancel", "delete", "expire", "replace", "reschedule"])
    def test_whatever_ends_a_wait_leaves_the_place_to_the_next(self, storage: Storage, owner: int, how: str) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b", expires_at=NOW + 1), job("c")])
        (first,) = claim(storage, owner)
        if how == "cancel":
            storage.cancel(["b"], reason="x", now=NOW, delete_at=None)
        elif how == "delete":
            storage.delete(["b"], now=NOW, delete_at=None)
        elif how == "expire":
            assert len(storage.expire(now=NOW + 1, limit=9, delete_at=None)) == 1
        elif how == "replace":
            storage.replace(job("b", due_at=NOW + SECOND))
        else:
            storage.reschedule("b", due_at=NOW + SECOND, now=NOW)
        storage.settle([ended(owner, first)])
        (second,) = claim(storage, owner)
        assert second.id == "c"
        storage.settle([ended(owner, second)])
        later = claim(storage, owner, now=NOW + SECOND)
        assert found_ids(later) == (["b"] if how in ("replace", "reschedule") else [])

    def test_a_paused_schedule_that_waits_takes_no_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b", rule="{}"), job("c")])
        (first,) = claim(storage, owner)
        storage.pause(["b"])
        storage.settle([ended(owner, first)])
        (second,) = claim(storage, owner)
        assert second.id == "c"
        storage.settle([ended(owner, second)])
        assert claim(storage, owner) == []
        storage.resume(["b"], now=NOW)
        assert found_ids(claim(storage, owner)) == ["b"]

    def test_jobs_of_other_tasks_pass_by(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)]})
        storage.insert([job(str(number)) for number in range(10)])
        storage.insert([job("free", task="free")])
        assert found_ids(claim(storage, owner, tasks=("task", "free"))) == ["free"]
        assert found_ids(claim(storage, owner, tasks=("task", "free"))) == []

    def test_the_rest_of_a_lane_is_found_behind_those_that_wait(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)]})
        storage.insert([job(str(number)) for number in range(20)])
        storage.insert([job("free", task="free")])
        lanes = (TaskSlots(("task", "free"), 4),)
        found: list[str] = []
        for _ in range(10):
            answer = storage.claim(ClaimRequest(owner, lanes), now=NOW)
            found += found_ids(answer.claims)
            if not answer.has_more:
                break
        assert found == ["free"]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def test_each_key_has_its_own_gate(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        storage.insert([job(f"{user}{n}", options=keyed(user=user)) for n in range(2) for user in ("x", "y", None)])
        found = claim(storage, owner)
        assert found_ids(found) == ["x0", "y0", "None0"]
        storage.settle([ended(owner, found[1])])
        assert found_ids(claim(storage, owner)) == ["y1"]
        assert [(key.key, key.active, key.waiting) for key in storage.limit_keys("limit", limit=9)] == [
            ('"x"', 1, 1),
            ("null", 1, 1),
            ('"y"', 1, 0),
        ]

    def test_a_key_that_is_not_known_is_to_be_evaluated(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0, key="user")]})
        storage.insert([job("a")])
        (found,) = claim(storage, owner)
        assert found.limits is LimitState.UNKEYED
        completed = SettledLimits(options=keyed(user="x"))
        storage.settle([again(owner, found, attempt=0, due_at=NOW, ready=True, limits=completed)])
        assert json.loads(one(storage, "a").options or "")["limit_keys"] == {"user": '"x"'}
        assert claim(storage, owner) == []
        assert one(storage, "a").blockers == 1

    def test_all_limits_or_none(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, name="all"), at_once(1, name="each", key="user")]})
        storage.insert([job("a", options=keyed(user="x")), job("b", options=keyed(user="x"))])
        storage.insert([job("c", options=keyed(user="y"))])
        (first,) = claim(storage, owner)
        assert first.id == "a"
        assert {limit.name: limit.active for limit in storage.limits()} == {"all": 1, "each": 1}
        waits = storage.limit_waits(["a", "b", "c"])
        assert {id: wait.name for id, wait in waits.items()} == {"b": "each", "c": "all"}
        storage.settle([ended(owner, first)])
        (second,) = claim(storage, owner)
        storage.settle([ended(owner, second)])
        (third,) = claim(storage, owner)
        assert {second.id, third.id} == {"b", "c"}

    def test_tasks_share_a_limit(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"one": [at_once(1)], "two": [at_once(1)]})
        storage.insert([job("a", task="one"), job("b", task="two")])
        (first,) = claim(storage, owner, tasks=("one", "two"))
        storage.settle([ended(owner, first)])
        assert found_ids(claim(storage, owner, tasks=("one", "two"))) == ["b"]
