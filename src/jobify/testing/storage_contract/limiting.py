"""Limits: claims that pass gates, ends of claims that release, keys, rates, definitions, settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.records import Claim, ClaimRequest, Settled, Settlement, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.testing.storage_contract.dying import ask, ids_of, suspects
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
    undone,
)

__all__ = ("LimitContract",)


def _at_once(maximum: int, *, name: str = "limit", key: str | None = None) -> LimitDefinition:
    return LimitDefinition(name, "concurrency", maximum, key=key)


def _rate(maximum: int, per: int, *, burst: int = 0, name: str = "rate", key: str | None = None) -> LimitDefinition:
    return LimitDefinition(name, "rate", maximum, per * SECOND, burst, key)


def _keyed(**keys: Any) -> str:
    """Options with keys, and a cost if one is among them."""
    cost = keys.pop("cost", 1)
    return json.dumps({"limit_keys": {key: json.dumps(value) for key, value in keys.items()}, "cost": cost})


def _ids(claims: list[Claim]) -> list[str]:
    return [found.id for found in claims]


def _ended(owner: int, found: Claim, **fields: Any) -> Settlement:
    return end(owner, found, limits=SettledLimits(), **fields)


class LimitContract(StorageCase):
    # -- jobs at once --------------------------------------------------------------------------------------------------

    def test_no_more_jobs_run_than_the_limit_allows(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(2)]})
        storage.insert([job(str(number)) for number in range(5)])
        found = claim_once(storage, owner)
        assert (_ids(found.claims), found.moved) == (["0", "1"], 3)
        assert [one.limits for one in found.claims] == [LimitState.HELD, LimitState.HELD]
        assert [one(storage, str(number)).blockers for number in range(5)] == [0, 0, 1, 1, 1]
        assert claim(storage, owner) == []

    def test_one_that_waits_looks_as_it_did_before(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(0)]})
        storage.insert([job("a")])
        before = one(storage, "a")
        assert claim(storage, owner) == []
        after = one(storage, "a")
        assert after == before._replace(blockers=1, fence=after.fence, waits_for_limit=True)

    def test_the_end_of_one_is_the_beginning_of_the_next(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b"), job("c")])
        (first,) = claim(storage, owner)
        assert storage.settle([_ended(owner, first)]) == [Settled.CASCADED]
        (second,) = claim(storage, owner)
        assert (second.id, second.attempt) == ("b", 1)
        storage.settle([_ended(owner, second)])
        (third,) = claim(storage, owner)
        assert storage.settle([_ended(owner, third)]) == [Settled.APPLIED]  # none waits

    @pytest.mark.parametrize("how", ["failed", "retry", "released", "next run"])
    def test_every_end_of_a_claim_releases(self, storage: Storage, owner: int, how: str) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a", rule="{}" if how == "next run" else None), job("b")])
        (first,) = claim(storage, owner)
        ends = {
            "failed": _ended(owner, first, status="failed", result=None),
            "retry": again(owner, first, limits=SettledLimits()),
            "released": again(owner, first, limits=SettledLimits(), attempt=0, error=None),
            "next run": again(owner, first, limits=SettledLimits(), attempt=0, run_count=1, error=None),
        }
        storage.settle([ends[how]])
        assert _ids(claim(storage, owner)) == ["b"]

    def test_a_retry_waits_like_others(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.settle([again(owner, first, limits=SettledLimits(), due_at=NOW, ready=True)])
        (found,) = claim(storage, owner)  # an older due time is no place in the line of what has not begun
        other = {"a": "b", "b": "a"}[found.id]
        assert one(storage, other).blockers <= 1
        storage.settle([_ended(owner, found)])
        assert _ids(claim(storage, owner)) == [other]

    def test_a_claim_that_does_not_hold_gives_nothing_back(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        assert storage.settle([_ended(owner, first._replace(fence=first.fence + 1))]) == [Settled.REFUSED]
        assert claim(storage, owner) == []

    def test_a_cancelled_one_releases_when_it_has_ended(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        assert claim(storage, owner) == []
        storage.settle([again(owner, first, limits=SettledLimits())])
        assert (one(storage, "a").status, _ids(claim(storage, owner))) == ("cancelled", ["b"])

    def test_a_replaced_one_releases_when_it_has_ended(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a")])
        (first,) = claim(storage, owner)
        storage.replace(job("a", payload=b"2"))
        assert claim(storage, owner) == []
        storage.settle([_ended(owner, first)])
        assert [found.payload for found in claim(storage, owner)] == [b"2"]

    def test_the_jobs_of_a_dead_owner_hold_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        claim(storage, owner)
        storage.close()
        storage.open()
        survivor = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert len(claim(storage, survivor)) == 1
        assert [limit.active for limit in storage.limits()] == [1]

    def test_an_owner_that_leaves_holds_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        claim(storage, owner)
        storage.deregister(owner)
        assert len(claim(storage, storage.register(PROFILE, now=NOW))) == 1

    def test_what_still_runs_in_a_thread_holds_on(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        kept = end(owner, first, status="timeout", result=None, limits=SettledLimits(is_kept=True))
        assert storage.settle([kept]) == [Settled.APPLIED]
        assert claim(storage, owner) == []
        assert [limit.active for limit in storage.limits()] == [1]
        assert storage.let_go("a", owner, first.fence)
        assert _ids(claim(storage, owner)) == ["b"]
        assert not storage.let_go("a", owner, first.fence)

    def test_what_an_end_has_not_said_is_found_by_a_recovery(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        assert claim(storage, owner) == []
        storage.settle([end(owner, first)])  # as a release does that knows no limits
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert _ids(claim(storage, owner)) == ["b"]

    # -- those that wait -----------------------------------------------------------------------------------------------

    def test_they_go_on_by_priority_then_due_time_then_insertion(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("first", priority=9)])
        claims = claim(storage, owner)
        jobs = [job("c"), job("d"), job("b", due_at=NOW - 1), job("a", priority=5)]
        storage.insert(jobs)
        assert claim(storage, owner) == []
        order = []
        for _ in jobs:
            storage.settle([_ended(owner, claims[0])])
            claims = claim(storage, owner)
            order += _ids(claims)
        assert order == ["a", "b", "c", "d"]

    def test_a_newcomer_of_higher_priority_goes_first(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.insert([job("c", priority=1)])
        storage.settle([_ended(owner, first)])
        assert _ids(claim(storage, owner)) == ["c"]

    def test_what_cannot_run_takes_no_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)], "other": [_at_once(1)]})
        storage.insert([job("a"), job("paused", queue="x"), job("unknown", task="other"), job("b", queue="y")])
        (first,) = claim(storage, owner, tasks=("task",), queues=("default",))
        assert claim(storage, owner, tasks=("task", "other")) == []
        storage.pause_queue("x")
        storage.settle([_ended(owner, first)])
        assert claim(storage, owner, queues=("default",)) == []
        (second,) = claim(storage, owner)
        assert second.id == "b"
        storage.settle([_ended(owner, second)])
        assert _ids(claim(storage, owner, tasks=("other",))) == ["unknown"]

    @pytest.mark.parametrize("how", ["cancel", "delete", "expire", "replace", "reschedule"])
    def test_whatever_ends_a_wait_leaves_the_place_to_the_next(self, storage: Storage, owner: int, how: str) -> None:
        storage.define_limits({"task": [_at_once(1)]})
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
        storage.settle([_ended(owner, first)])
        (second,) = claim(storage, owner)
        assert second.id == "c"
        storage.settle([_ended(owner, second)])
        later = claim(storage, owner, now=NOW + SECOND)
        assert _ids(later) == (["b"] if how in ("replace", "reschedule") else [])

    def test_a_paused_schedule_that_waits_takes_no_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b", rule="{}"), job("c")])
        (first,) = claim(storage, owner)
        storage.pause(["b"])
        storage.settle([_ended(owner, first)])
        (second,) = claim(storage, owner)
        assert second.id == "c"
        storage.settle([_ended(owner, second)])
        assert claim(storage, owner) == []
        storage.resume(["b"], now=NOW)
        assert _ids(claim(storage, owner)) == ["b"]

    def test_jobs_of_other_tasks_pass_by(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(0)]})
        storage.insert([job(str(number)) for number in range(10)])
        storage.insert([job("free", task="free")])
        assert _ids(claim(storage, owner, tasks=("task", "free"))) == ["free"]
        assert _ids(claim(storage, owner, tasks=("task", "free"))) == []

    def test_the_rest_of_a_lane_is_found_behind_those_that_wait(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(0)]})
        storage.insert([job(str(number)) for number in range(20)])
        storage.insert([job("free", task="free")])
        lanes = (TaskSlots(("task", "free"), 4),)
        found: list[str] = []
        for _ in range(10):
            answer = storage.claim(ClaimRequest(owner, lanes), now=NOW)
            found += _ids(answer.claims)
            if not answer.has_more:
                break
        assert found == ["free"]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def test_each_key_has_its_own_gate(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1, key="user")]})
        storage.insert([job(f"{user}{n}", options=_keyed(user=user)) for n in range(2) for user in ("x", "y", None)])
        found = claim(storage, owner)
        assert _ids(found) == ["x0", "y0", "None0"]
        storage.settle([_ended(owner, found[1])])
        assert _ids(claim(storage, owner)) == ["y1"]
        assert [(key.key, key.active, key.waiting) for key in storage.limit_keys("limit", limit=9)] == [
            ('"x"', 1, 1),
            ("null", 1, 1),
            ('"y"', 1, 0),
        ]

    def test_a_key_that_is_not_known_is_to_be_evaluated(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(0, key="user")]})
        storage.insert([job("a")])
        (found,) = claim(storage, owner)
        assert found.limits is LimitState.UNKEYED
        completed = SettledLimits(options=_keyed(user="x"))
        storage.settle([again(owner, found, attempt=0, due_at=NOW, ready=True, limits=completed)])
        assert json.loads(one(storage, "a").options or "")["limit_keys"] == {"user": '"x"'}
        assert claim(storage, owner) == []
        assert one(storage, "a").blockers == 1

    def test_all_limits_or_none(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1, name="all"), _at_once(1, name="each", key="user")]})
        storage.insert([job("a", options=_keyed(user="x")), job("b", options=_keyed(user="x"))])
        storage.insert([job("c", options=_keyed(user="y"))])
        (first,) = claim(storage, owner)
        assert first.id == "a"
        assert {limit.name: limit.active for limit in storage.limits()} == {"all": 1, "each": 1}
        waits = storage.limit_waits(["a", "b", "c"])
        assert {id: wait.name for id, wait in waits.items()} == {"b": "each", "c": "all"}
        storage.settle([_ended(owner, first)])
        (second,) = claim(storage, owner)
        storage.settle([_ended(owner, second)])
        (third,) = claim(storage, owner)
        assert {second.id, third.id} == {"b", "c"}

    def test_tasks_share_a_limit(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"one": [_at_once(1)], "two": [_at_once(1)]})
        storage.insert([job("a", task="one"), job("b", task="two")])
        (first,) = claim(storage, owner, tasks=("one", "two"))
        storage.settle([_ended(owner, first)])
        assert _ids(claim(storage, owner, tasks=("one", "two"))) == ["b"]

    # -- rates ---------------------------------------------------------------------------------------------------------

    def test_a_rate_without_burst_paces(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(2, 10)]})
        storage.insert([job(str(number)) for number in range(3)])
        found = claim_once(storage, owner)
        assert (_ids(found.claims), found.next_due_at) == (["0"], None if not found.moved else NOW + 5 * SECOND)
        assert claim(storage, owner, now=NOW + 5 * SECOND - 1) == []
        assert _ids(claim(storage, owner, now=NOW + 5 * SECOND)) == ["1"]
        assert _ids(claim(storage, owner, now=NOW + 60 * SECOND)) == ["2"]

    def test_the_end_of_a_job_is_no_start_for_another(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(1, 10)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.settle([_ended(owner, first)])
        assert claim(storage, owner) == []

    def test_a_burst_is_on_top_and_nothing_is_saved_up(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(2, 10, burst=3)]})
        storage.insert([job(f"{number:02}") for number in range(30)])
        assert len(claim(storage, owner, now=NOW + 3600 * SECOND)) == 4
        starts: list[int] = [NOW + 3600 * SECOND] * 4
        for step in range(400):
            now = NOW + 3600 * SECOND + step * SECOND // 10
            starts += [now] * len(claim(storage, owner, now=now))
        for start in starts:
            assert sum(start <= other < start + 10 * SECOND for other in starts) <= 5

    def test_a_cost_takes_so_many(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(10, 10)]})
        storage.insert([job("a"), job("b", options=_keyed(cost=10)), job("c")])
        assert _ids(claim(storage, owner)) == ["a"]
        assert claim(storage, owner, now=NOW + 10 * SECOND - 1) == []
        assert _ids(claim(storage, owner, now=NOW + 10 * SECOND)) == ["b"]
        assert claim(storage, owner, now=NOW + 20 * SECOND - 1) == []
        assert _ids(claim(storage, owner, now=NOW + 20 * SECOND)) == ["c"]

    def test_a_retry_takes_another_token(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(1, 10)]})
        storage.insert([job("a")])
        (first,) = claim(storage, owner)
        storage.settle([again(owner, first, due_at=NOW + SECOND, limits=SettledLimits())])
        assert claim(storage, owner, now=NOW + SECOND) == []
        assert _ids(claim(storage, owner, now=NOW + 10 * SECOND)) == ["a"]

    def test_a_task_can_close_the_rates_of_its_keys(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_rate(100, 1, key="shop")]})
        storage.insert([job(f"{shop}{n}", options=_keyed(shop=shop)) for n in range(2) for shop in ("x", "y")])
        found = claim(storage, owner)
        assert _ids(found) == ["x0", "y0"]
        closed = SettledLimits(closed_until=NOW + 30 * SECOND)
        storage.settle([again(owner, found[0], attempt=0, due_at=NOW + 30 * SECOND, limits=closed)])
        assert _ids(claim(storage, owner, now=NOW + SECOND)) == ["y1"]
        assert claim(storage, owner, now=NOW + 30 * SECOND - 1) == []
        assert _ids(claim(storage, owner, now=NOW + 31 * SECOND)) == ["x1"]

    # -- definitions and settings --------------------------------------------------------------------------------------

    def test_a_limit_that_is_raised_lets_those_go_on_that_wait(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job(str(number)) for number in range(4)])
        claim(storage, owner)
        storage.define_limits({"task": [_at_once(3)]})
        assert _ids(claim(storage, owner)) == ["1", "2"]
        assert storage.task_limits(["task", "other"]) == {"task": [_at_once(3)]}

    def test_a_limit_that_is_lowered_holds_at_once(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(2)]})
        storage.insert([job(str(number)) for number in range(4)])
        first, second = claim(storage, owner)
        storage.define_limits({"task": [_at_once(1)]})
        storage.settle([_ended(owner, first)])
        assert claim(storage, owner) == []
        storage.settle([_ended(owner, second)])
        assert _ids(claim(storage, owner)) == ["2"]

    def test_a_limit_that_is_removed_holds_none_back(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(0)]})
        storage.insert([job("a"), job("b")])
        assert claim(storage, owner) == []
        storage.cancel(["b"], reason="x", now=NOW, delete_at=None)
        storage.define_limits({"task": []})
        assert [found.limits for found in claim(storage, owner)] == [LimitState.NONE]
        assert storage.limits() == []

    def test_one_that_is_added_holds_for_those_that_wait_for_another(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1, name="first")]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.define_limits({"task": [_at_once(1, name="first"), _at_once(0, name="second")]})
        storage.settle([_ended(owner, first)])
        assert claim(storage, owner) == []
        assert storage.limit_waits(["b"])["b"].name == "second"

    def test_what_is_set_goes_before_the_definition_until_it_is_reset(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(2)]})
        storage.set_limit("limit", key=None, maximum=0)
        storage.insert([job(str(number)) for number in range(4)])
        assert claim(storage, owner) == []
        assert [(limit.maximum, limit.is_set) for limit in storage.limits()] == [(0, True)]
        storage.define_limits({"task": [_at_once(3)]})
        assert claim(storage, owner) == []
        storage.set_limit("limit", key=None, maximum=None)
        assert len(claim(storage, owner)) == 3
        assert [(limit.maximum, limit.is_set) for limit in storage.limits()] == [(3, False)]

    def test_a_key_can_be_set_by_itself(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1, key="user")]})
        storage.set_limit("limit", key='"x"', maximum=0)
        storage.set_limit("limit", key=None, maximum=2)
        storage.insert([job(f"{user}{n}", options=_keyed(user=user)) for n in range(3) for user in ("x", "y")])
        assert _ids(claim(storage, owner)) == ["y0", "y1"]
        storage.set_limit("limit", key='"x"', maximum=None)
        assert _ids(claim(storage, owner)) == ["x0", "x1"]

    def test_a_limit_can_be_set_before_it_is_defined(self, storage: Storage, owner: int) -> None:
        storage.set_limit("limit", key=None, maximum=1)
        assert storage.limits() == []
        storage.define_limits({"task": [_at_once(9)]})
        storage.insert([job("a"), job("b")])
        assert _ids(claim(storage, owner)) == ["a"]

    def test_a_definition_that_is_undone_holds_none_back(self, storage: Storage, owner: int) -> None:
        undone(storage, lambda: storage.define_limits({"task": [_at_once(0)]}))
        storage.insert([job("a")])
        assert _ids(claim(storage, owner)) == ["a"]

    def test_a_claim_that_is_undone_holds_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("a"), job("b")])
        undone(storage, lambda: claim(storage, owner))
        assert [limit.active for limit in storage.limits()] == [0]
        assert _ids(claim(storage, owner)) == ["a"]

    # -- beside other claims -------------------------------------------------------------------------------------------

    def test_suspects_that_run_apart_obey(self, storage: Storage) -> None:
        owner = suspects(storage, ["a", "b", "c", "d", "e"])
        storage.define_limits({"task": [_at_once(1)]})
        storage.insert([job("other")])
        (other,) = ask(storage, owner, ClaimScope.ORDINARY).claims
        refused = ask(storage, owner, ClaimScope.APART)
        assert (refused.claims, refused.moved > 0) == ([], True)
        assert (one(storage, "a").is_apart, one(storage, "a").blockers) == (True, 2)
        storage.settle([_ended(owner, other)])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == []
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]
