"""Limits on starts; places in line; definitions of limits, and settings that go before them."""

from __future__ import annotations

import pytest

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.testing.rows import ask, ids_of, suspects
from jobify.testing.storage_contract.given import NOW, SECOND, StorageCase, again, claim, claim_once, job, one, undone
from jobify.testing.storage_contract.limit_rows import at_once, ended, found_ids, keyed, place, rate

__all__ = ("RateContract",)


class RateContract(StorageCase):
    # -- rates ---------------------------------------------------------------------------------------------------------

    def test_a_rate_without_burst_paces(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(2, 10)]})
        storage.insert([job(str(number)) for number in range(3)])
        found = claim_once(storage, owner)
        assert (found_ids(found.claims), found.next_due_at) == (["0"], None if not found.moved else NOW + 5 * SECOND)
        assert claim(storage, owner, now=NOW + 5 * SECOND - 1) == []
        assert found_ids(claim(storage, owner, now=NOW + 5 * SECOND)) == ["1"]
        assert found_ids(claim(storage, owner, now=NOW + 60 * SECOND)) == ["2"]

    def test_the_end_of_a_job_is_no_start_for_another(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(1, 10)]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.settle([ended(owner, first)])
        assert claim(storage, owner) == []

    def test_a_burst_is_on_top_and_nothing_is_saved_up(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(2, 10, burst=3)]})
        storage.insert([job(f"{number:02}") for number in range(30)])
        assert len(claim(storage, owner, now=NOW + 3600 * SECOND)) == 4
        starts: list[int] = [NOW + 3600 * SECOND] * 4
        for step in range(400):
            now = NOW + 3600 * SECOND + step * SECOND // 10
            starts += [now] * len(claim(storage, owner, now=now))
        for start in starts:
            assert sum(start <= other < start + 10 * SECOND for other in starts) <= 5

    def test_a_cost_takes_so_many(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(10, 10)]})
        storage.insert([job("a"), job("b", options=keyed(cost=10)), job("c")])
        assert found_ids(claim(storage, owner)) == ["a"]
        assert claim(storage, owner, now=NOW + 10 * SECOND - 1) == []
        assert found_ids(claim(storage, owner, now=NOW + 10 * SECOND)) == ["b"]
        assert claim(storage, owner, now=NOW + 20 * SECOND - 1) == []
        assert found_ids(claim(storage, owner, now=NOW + 20 * SECOND)) == ["c"]

    def test_a_claim_says_when_a_job_of_a_high_cost_may_start(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(10, 10)]})
        storage.insert([job("a"), job("b", options=keyed(cost=5))])
        assert found_ids(claim(storage, owner)) == ["a"]
        for now in (NOW + SECOND, NOW + 2 * SECOND):  # a job of cost 1 might start
            answer = claim_once(storage, owner, now=now)
            assert (answer.claims, answer.next_due_at) == ([], NOW + 5 * SECOND)
        assert found_ids(claim(storage, owner, now=NOW + 5 * SECOND)) == ["b"]

    def test_jobs_of_low_costs_do_not_pass_one_of_a_high_cost(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(10, 10)]})
        storage.insert([job("a"), job("b", options=keyed(cost=5))])
        order = found_ids(claim(storage, owner))
        for second in range(1, 10):
            storage.insert([job(f"late {second}")])
            order += found_ids(claim(storage, owner, now=NOW + second * SECOND))
        assert order == ["a", "b"]
        assert found_ids(claim(storage, owner, now=NOW + 10 * SECOND)) == ["late 1"]

    def test_a_retry_takes_another_token(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(1, 10)]})
        storage.insert([job("a")])
        (first,) = claim(storage, owner)
        storage.settle([again(owner, first, due_at=NOW + SECOND, limits=SettledLimits())])
        assert claim(storage, owner, now=NOW + SECOND) == []
        assert found_ids(claim(storage, owner, now=NOW + 10 * SECOND)) == ["a"]

    def test_a_task_can_close_the_rates_of_its_keys(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(100, 1, key="shop")]})
        storage.insert([job(f"{shop}{n}", options=keyed(shop=shop)) for n in range(2) for shop in ("x", "y")])
        found = claim(storage, owner)
        assert found_ids(found) == ["x0", "y0"]
        closed = SettledLimits(closed_until=NOW + 30 * SECOND)
        storage.settle([again(owner, found[0], attempt=0, due_at=NOW + 30 * SECOND, limits=closed)])
        assert found_ids(claim(storage, owner, now=NOW + SECOND)) == ["y1"]
        assert claim(storage, owner, now=NOW + 30 * SECOND - 1) == []
        assert found_ids(claim(storage, owner, now=NOW + 31 * SECOND)) == ["x1"]

    # -- places --------------------------------------------------------------------------------------------------------

    def test_a_limit_has_as_many_places_as_it_would_admit(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(3)._replace(on_excess="skip")]})
        assert place(storage, "a", "b") == [None, None]
        (first, second) = claim(storage, owner)
        assert place(storage, "c", "d") == [None, "limit"]
        storage.cancel(["d"], reason="x", now=NOW, delete_at=None)
        storage.settle([ended(owner, first), ended(owner, second)])
        assert place(storage, "e", "f", "g") == [None, None, "limit"]
        storage.cancel(["g"], reason="x", now=NOW, delete_at=None)
        assert found_ids(claim(storage, owner)) == ["c", "e", "f"]

    def test_a_job_needs_a_place_at_each_of_its_limits(self, storage: Storage, owner: int) -> None:
        all_of_them, each = at_once(3, name="all"), at_once(1, name="each", key="user")
        storage.define_limits({"task": [one._replace(on_excess="fail") for one in (all_of_them, each)]})
        assert place(storage, "a", options=keyed(user=1)) == [None]
        assert place(storage, "b", options=keyed(user=1)) == ["each"]
        storage.cancel(["b"], reason="x", now=NOW, delete_at=None)
        assert place(storage, "c", options=keyed(user=2)) == [None]
        assert sorted(found_ids(claim(storage, owner))) == ["a", "c"]

    @pytest.mark.parametrize("others", [{}, {"key": "shop"}])
    def test_one_in_the_line_of_a_limit_has_places_at_all(
        self, storage: Storage, owner: int, others: dict[str, str]
    ) -> None:
        limits = [at_once(5, name="user", key="user"), at_once(2, name="two", **others)]
        storage.define_limits({"task": [one._replace(on_excess="fail") for one in limits]})
        for id, user in (("a", 1), ("b", 1), ("c", 2), ("d", 1)):
            assert place(storage, id, options=keyed(user=user, shop=1)) == [None if id < "c" else "two"]
            storage.cancel([id] if id > "b" else [], reason="x", now=NOW, delete_at=None)
        assert found_ids(claim(storage, owner)) == ["a", "b"]
        assert place(storage, "e", options=keyed(user=3, shop=2)) == [None if others else "two"]

    def test_a_rate_has_a_place_for_each_start_that_it_allows_now(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(2, 10, burst=1)._replace(on_excess="skip")]})
        assert place(storage, "a", "b", "c") == [None, None, "rate"]
        storage.cancel(["c"], reason="x", now=NOW, delete_at=None)
        assert len(claim(storage, owner)) == 2
        assert place(storage, "d") == ["rate"]

    def test_what_does_not_start_now_needs_no_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)._replace(on_excess="skip")], "free": []})
        assert place(storage, "later", due_at=NOW + SECOND) == [None]
        assert place(storage, "waits", parents=("later",)) == [None]
        assert place(storage, "rule", rule="{}") == [None]
        assert place(storage, "free", task="free") == [None]
        assert [one(storage, id).blockers for id in ("later", "waits", "rule", "free")] == [0, 1, 0, 0]

    # -- definitions and settings --------------------------------------------------------------------------------------

    def test_a_limit_that_is_raised_lets_those_go_on_that_wait(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(4)])
        claim(storage, owner)
        storage.define_limits({"task": [at_once(3)]})
        assert found_ids(claim(storage, owner)) == ["1", "2"]
        assert storage.task_limits(["task", "other"]) == {"task": [at_once(3)]}

    def test_a_limit_that_is_lowered_holds_at_once(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.insert([job(str(number)) for number in range(4)])
        first, second = claim(storage, owner)
        storage.define_limits({"task": [at_once(1)]})
        storage.settle([ended(owner, first)])
        assert claim(storage, owner) == []
        storage.settle([ended(owner, second)])
        assert found_ids(claim(storage, owner)) == ["2"]

    @pytest.mark.parametrize("is_set", [False, True])
    def test_a_rate_that_is_raised_goes_on_at_once(self, storage: Storage, owner: int, is_set: bool) -> None:
        storage.define_limits({"task": [rate(1, 3600)]})
        storage.insert([job("a"), job("b")])
        assert found_ids(claim(storage, owner)) == ["a"]
        if is_set:
            storage.set_limit("rate", key=None, maximum=3600, now=NOW)
        else:
            storage.define_limits({"task": [rate(3600, 3600)]}, now=NOW)
        assert claim(storage, owner, now=NOW + SECOND - 1) == []
        assert found_ids(claim(storage, owner, now=NOW + SECOND)) == ["b"]

    def test_a_rate_that_is_lowered_has_no_other_burst(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(100, 100, burst=9)]})
        storage.insert([job(f"{number:02}") for number in range(40)])
        assert len(claim(storage, owner)) == 10
        storage.define_limits({"task": [rate(1, 100, burst=9)]}, now=NOW)
        assert claim(storage, owner, now=NOW + 100 * SECOND - 1) == []
        assert len(claim(storage, owner, now=NOW + 100 * SECOND)) == 1

    def test_places_of_jobs_that_do_not_wait_any_more_are_free(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)._replace(on_excess="skip")]})
        assert place(storage, "a", "b") == [None, None]
        storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        storage.reschedule("b", due_at=NOW + SECOND, now=NOW)
        assert place(storage, "c", "d") == [None, None]

    def test_lists_count_what_still_waits(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0, key="user")]})
        storage.insert([job(id, options=keyed(user="x")) for id in "abcd"])
        assert claim(storage, owner) == []
        storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
        storage.delete(["b"], now=NOW, delete_at=None)
        storage.reschedule("c", due_at=NOW + SECOND, now=NOW)
        assert [limit.waiting for limit in storage.limits()] == [1]
        assert [key.waiting for key in storage.limit_keys("limit", limit=9)] == [1]

    def test_lines_of_other_queues_hide_none(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        storage.set_limit("limit", key=None, maximum=0)
        jobs = [job(f"{number:04}", queue="other", options=keyed(user=number)) for number in range(1100)]
        storage.insert([*jobs, job("mine", options=keyed(user="mine"))])
        assert claim(storage, owner) == []
        storage.set_limit("limit", key=None, maximum=None)
        assert found_ids(claim(storage, owner, queues=("default",))) == ["mine"]

    def test_a_limit_that_is_removed_holds_none_back(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(0)]})
        storage.insert([job("a"), job("b")])
        assert claim(storage, owner) == []
        storage.cancel(["b"], reason="x", now=NOW, delete_at=None)
        storage.define_limits({"task": []})
        assert [found.limits for found in claim(storage, owner)] == [LimitState.NONE]
        assert storage.limits() == []

    @pytest.mark.parametrize("others", [rate(9, 9, burst=9, name="limit"), at_once(1, key="user")])
    def test_what_waits_goes_by_another_key_at_once(
        self, storage: Storage, owner: int, others: LimitDefinition
    ) -> None:
        storage.define_limits({"task": [at_once(1)], "other": [at_once(1)]})
        storage.insert([
            job("a", options=keyed(user=1)), job("b", options=keyed(user=2)),
            job("c", task="other", options=keyed(user=3)),
        ])  # fmt: skip
        assert found_ids(claim(storage, owner, tasks=("task", "other"))) == ["a"]
        storage.define_limits({"task": [others]})
        assert [one(storage, id).blockers for id in ("b", "c")] == [0, 0]
        assert found_ids(claim(storage, owner, tasks=("task", "other"))) == ["b", "c"]

    def test_one_that_is_added_holds_for_those_that_wait_for_another(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, name="first")]})
        storage.insert([job("a"), job("b")])
        (first,) = claim(storage, owner)
        storage.define_limits({"task": [at_once(1, name="first"), at_once(0, name="second")]})
        storage.settle([ended(owner, first)])
        assert claim(storage, owner) == []
        assert storage.limit_waits(["b"])["b"].name == "second"

    def test_what_is_set_goes_before_the_definition_until_it_is_reset(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.set_limit("limit", key=None, maximum=0)
        storage.insert([job(str(number)) for number in range(4)])
        assert claim(storage, owner) == []
        assert [(limit.maximum, limit.is_set) for limit in storage.limits()] == [(0, True)]
        storage.define_limits({"task": [at_once(3)]})
        assert claim(storage, owner) == []
        storage.set_limit("limit", key=None, maximum=None)
        assert len(claim(storage, owner)) == 3
        assert [(limit.maximum, limit.is_set) for limit in storage.limits()] == [(3, False)]

    def test_a_key_can_be_set_by_itself(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        storage.set_limit("limit", key='"x"', maximum=0)
        storage.set_limit("limit", key=None, maximum=2)
        storage.insert([job(f"{user}{n}", options=keyed(user=user)) for n in range(3) for user in ("x", "y")])
        assert found_ids(claim(storage, owner)) == ["y0", "y1"]
        storage.set_limit("limit", key='"x"', maximum=None)
        assert found_ids(claim(storage, owner)) == ["x0", "x1"]

    def test_a_limit_can_be_set_before_it_is_defined(self, storage: Storage, owner: int) -> None:
        storage.set_limit("limit", key=None, maximum=1)
        assert storage.limits() == []
        storage.define_limits({"task": [at_once(9)]})
        storage.insert([job("a"), job("b")])
        assert found_ids(claim(storage, owner)) == ["a"]

    def test_a_definition_that_is_undone_holds_none_back(self, storage: Storage, owner: int) -> None:
        undone(storage, lambda: storage.define_limits({"task": [at_once(0)]}))
        storage.insert([job("a")])
        assert found_ids(claim(storage, owner)) == ["a"]

    def test_a_claim_that_is_undone_holds_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b")])
        undone(storage, lambda: claim(storage, owner))
        assert [limit.active for limit in storage.limits()] == [0]
        assert found_ids(claim(storage, owner)) == ["a"]

    # -- beside other claims -------------------------------------------------------------------------------------------

    def test_suspects_that_run_apart_obey(self, storage: Storage) -> None:
        owner = suspects(storage, ["a", "b", "c", "d", "e"])
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("other")])
        (other,) = ask(storage, owner, ClaimScope.ORDINARY).claims
        refused = ask(storage, owner, ClaimScope.APART)
        assert (refused.claims, refused.moved > 0) == ([], True)
        assert (one(storage, "a").is_apart, one(storage, "a").blockers) == (True, 2)
        storage.settle([ended(owner, other)])
        assert ids_of(ask(storage, owner, ClaimScope.ORDINARY)) == []
        assert ids_of(ask(storage, owner, ClaimScope.APART)) == ["a"]
