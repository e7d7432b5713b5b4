"""Batches and limits: a batch is one unit."""

from __future__ import annotations

import pytest

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.records import Claim, ClaimRequest, Settled, TaskSlots
from jobify.storage.base import Storage
from jobify.testing.storage_contract.batching import claim_batches
from jobify.testing.storage_contract.given import NOW, PROFILE, SECOND, StorageCase, again, end, job, one
from jobify.testing.storage_contract.limit_rows import at_once, ended, found_ids, keyed, place, rate

__all__ = ("BatchLimitContract",)


def _end(storage: Storage, owner: int, claims: list[Claim]) -> list[Settled]:
    return storage.settle([ended(owner, mine) for mine in claims])


class BatchLimitContract(StorageCase):
    # -- jobs at once --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("settled", ["together", "one by one"])
    def test_a_batch_takes_one_place(self, storage: Storage, owner: int, settled: str) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(f"{number:02}") for number in range(12)])
        sizes: list[int] = []
        while claims := (found := claim_batches(storage, owner, 5, now=NOW + SECOND)).claims:
            assert found.batches == (tuple(found_ids(claims)),)
            assert {mine.limits for mine in claims} == {LimitState.HELD}
            assert [limit.active for limit in storage.limits()] == [1]
            assert claim_batches(storage, owner, 5, now=NOW + SECOND).claims == []
            sizes.append(len(claims))
            if settled == "together":
                _end(storage, owner, claims)
                continue
            for mine in claims[:-1]:
                assert _end(storage, owner, [mine]) == [Settled.APPLIED]
                assert claim_batches(storage, owner, 5, now=NOW + SECOND).claims == []
            assert _end(storage, owner, claims[-1:]) == [Settled.FREED if sum(sizes) < 12 else Settled.APPLIED]
        assert sizes == [5, 5, 2]
        assert [(limit.active, limit.waiting) for limit in storage.limits()] == [(0, 0)]

    def test_all_of_a_batch_wait_or_none(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(6)])
        found = claim_batches(storage, owner, 3)
        assert (found.batches, found.moved) == ((("0", "1", "2"),), 3)
        assert [one(storage, str(number)).blockers for number in range(6)] == [0, 0, 0, 1, 1, 1]

    def test_a_batch_and_other_jobs_share_a_limit(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)], "other": [at_once(2)]})
        storage.insert([*[job(str(number)) for number in range(4)], job("x", task="other"), job("y", task="other")])
        first = claim_batches(storage, owner, 2, limit=1)
        assert found_ids(storage.claim(ClaimRequest(owner, (TaskSlots(("other",), 9),)), now=NOW).claims) == ["x"]
        assert claim_batches(storage, owner, 2).claims == []
        _end(storage, owner, first.claims)
        assert claim_batches(storage, owner, 2).batches == (("2", "3"),)
        assert [(limit.active, limit.waiting) for limit in storage.limits()] == [(2, 1)]

    def test_the_jobs_of_a_dead_owner_and_its_place_come_back(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(6)])
        first = claim_batches(storage, owner, 3).claims
        _end(storage, owner, first[:1])
        storage.close()
        storage.open()
        survivor = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert [limit.active for limit in storage.limits()] == [0]
        found = claim_batches(storage, survivor, 3)
        if found.has_more and not found.claims:  # it did not know yet that there are limits
            found = claim_batches(storage, survivor, 3)
        assert (len(found.batches), len(found.claims)) == (1, 3)
        assert [limit.active for limit in storage.limits()] == [1]

    def test_what_an_owner_that_leaves_held_is_free(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.insert([job(str(number)) for number in range(6)])
        claim_batches(storage, owner, 3, limit=1)
        other = storage.register(PROFILE, now=NOW)
        assert len(claim_batches(storage, other, 3, limit=1).batches) == 1
        storage.deregister(owner)
        assert [limit.active for limit in storage.limits()] == [1]
        assert claim_batches(storage, other, 3).batches == (("0", "1", "2"),)

    def test_what_still_runs_in_a_thread_holds_the_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(4)])
        first, second = claim_batches(storage, owner, 2).claims
        kept = {"status": "timeout", "result": None, "limits": SettledLimits(is_kept=True)}
        assert storage.settle([end(owner, first, **kept), end(owner, second, **kept)]) == [Settled.APPLIED] * 2
        assert [limit.active for limit in storage.limits()] == [1]
        assert not storage.let_go("0", owner, first.fence)
        assert claim_batches(storage, owner, 2).claims == []
        assert storage.let_go("1", owner, second.fence)
        assert claim_batches(storage, owner, 2).batches == (("2", "3"),)

    def test_one_that_is_kept_and_one_that_runs_hold_one_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.insert([job(str(number)) for number in range(2)])
        first, second = claim_batches(storage, owner, 2).claims
        storage.settle([end(owner, first, status="timeout", result=None, limits=SettledLimits(is_kept=True))])
        assert [limit.active for limit in storage.limits()] == [1]
        _end(storage, owner, [second])
        assert [limit.active for limit in storage.limits()] == [1]
        storage.let_go("0", owner, first.fence)
        assert [limit.active for limit in storage.limits()] == [0]

    def test_a_retry_of_one_has_a_place_of_its_own(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2)]})
        storage.insert([job("a"), job("b")])
        first, second = claim_batches(storage, owner, 2).claims
        storage.settle([again(owner, first, due_at=NOW, ready=True, limits=SettledLimits())])
        assert claim_batches(storage, owner, 2, wait=0).batches == (("a",),)
        assert [limit.active for limit in storage.limits()] == [2]
        _end(storage, owner, [second])
        assert [limit.active for limit in storage.limits()] == [1]

    # -- those that wait -----------------------------------------------------------------------------------------------

    def test_those_that_wait_make_batches_with_newcomers(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(4)])
        first = claim_batches(storage, owner, 2)
        assert first.moved == 2
        storage.insert([job("4"), job("5")])
        _end(storage, owner, first.claims)
        assert claim_batches(storage, owner, 3).batches == (("2", "3", "4"),)

    def test_a_part_waits_for_others_before_an_open_gate_too(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job(str(number)) for number in range(4)])
        first = claim_batches(storage, owner, 2)
        _end(storage, owner, first.claims)
        found = claim_batches(storage, owner, 3)  # of a size that is not reached
        assert (found.claims, found.has_more, found.next_due_at) == ([], False, NOW + SECOND)
        assert [one(storage, id).waits_for_limit for id in "23"] == [True, True]
        assert claim_batches(storage, owner, 3, now=NOW + SECOND).batches == (("2", "3"),)

    def test_a_full_batch_of_one_key_is_found_in_a_line(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        for number, key in enumerate("aabcabcbcc"):
            storage.insert([job(str(number), options=keyed(table=key))])
        first = claim_batches(storage, owner, 2, key="table")
        assert first.batches == (("0", "1"),)
        _end(storage, owner, first.claims)
        second = claim_batches(storage, owner, 3, key="table")
        assert second.batches == (("2", "5", "7"),)
        _end(storage, owner, second.claims)
        assert claim_batches(storage, owner, 3, key="table").batches == (("3", "6", "8"),)

    def test_a_closed_key_holds_up_no_other(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        for number, user in enumerate("aabb"):
            storage.insert([job(str(number), options=keyed(user=user))])
        first = claim_batches(storage, owner, 2, key="user", limit=1)
        assert first.batches == (("0", "1"),)
        storage.insert([job("4", options=keyed(user="a")), job("5", options=keyed(user="a"))])
        assert claim_batches(storage, owner, 2, key="user").batches == (("2", "3"),)
        _end(storage, owner, first.claims)
        assert claim_batches(storage, owner, 2, key="user").batches == (("4", "5"),)

    def test_those_with_another_key_go_without_those_that_wait(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        storage.insert([job(str(number), options=keyed(user=user)) for number, user in enumerate("abacb")])
        first = claim_batches(storage, owner, 2, limit=1)
        assert first.batches == (("0", "1"),)  # a place of each
        found = claim_batches(storage, owner, 3, limit=1)
        assert (found.batches, found.moved) == ((("3",),), 2)
        _end(storage, owner, first.claims)
        assert claim_batches(storage, owner, 2).batches == (("2", "4"),)

    def test_a_job_without_the_key_of_a_limit_leaves_its_batch(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="user")]})
        storage.insert([job("a", options=keyed(user=1)), job("b"), job("c", options=keyed(user=1))])
        found = claim_batches(storage, owner, 3)
        assert found.batches == (("a", "c"),)
        assert {mine.id: mine.limits for mine in found.claims} == {"a": 1, "b": LimitState.UNKEYED, "c": 1}

    def test_a_job_without_the_key_of_its_batch_holds_nothing(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1)]})
        storage.insert([job("a"), job("b", options=keyed(table=1)), job("c", options=keyed(table=1))])
        found = claim_batches(storage, owner, 2, key="table")
        assert found.batches == (("b", "c"),)
        assert {mine.id: mine.limits for mine in found.claims} == {"a": LimitState.UNKEYED, "b": 1, "c": 1}

    # -- rates ---------------------------------------------------------------------------------------------------------

    def test_a_rate_counts_the_jobs(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(1, 1, burst=6)]})  # seven, and then one each second
        storage.insert([job(str(number)) for number in range(9)])
        found = claim_batches(storage, owner, 3)
        assert [len(batch) for batch in found.batches] == [3, 3]
        assert (found.moved, found.next_due_at) == (3, NOW + 2 * SECOND)
        found = claim_batches(storage, owner, 3, now=NOW + SECOND)  # two might start, but not three
        assert (found.claims, found.has_more, found.next_due_at) == ([], False, NOW + 2 * SECOND)
        assert claim_batches(storage, owner, 3, now=NOW + 2 * SECOND).batches == (("6", "7", "8"),)
        assert [limit.active for limit in storage.limits()] == [3]

    def test_a_rate_counts_costs(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(1, 1, burst=6)]})
        storage.insert([job(str(number), options=keyed(cost=3)) for number in range(4)])
        found = claim_batches(storage, owner, 2)
        assert found.batches == (("0", "1"),)
        found = claim_batches(storage, owner, 2, now=NOW + 5 * SECOND - 1)
        assert (found.claims, found.next_due_at) == ([], NOW + 5 * SECOND)
        assert claim_batches(storage, owner, 2, now=NOW + 5 * SECOND).batches == (("2", "3"),)

    def test_a_batch_is_no_larger_than_a_rate_allows(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [rate(2, 2, burst=1)]})
        storage.insert([job(str(number)) for number in range(5)])
        assert claim_batches(storage, owner, 5).batches == (("0", "1", "2"),)
        found = claim_batches(storage, owner, 5, now=NOW + 3 * SECOND - 1)
        assert (found.claims, found.next_due_at) == ([], NOW + 3 * SECOND)
        assert claim_batches(storage, owner, 5, now=NOW + 3 * SECOND).batches == (("3", "4"),)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def test_batches_are_filled_in_turns(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [LimitDefinition("fair", "fair", 0, key="user"), at_once(1)]})
        place(storage, "a1", "a2", "a3", "a4", options=keyed(user="a"))
        place(storage, "b1", "b2", options=keyed(user="b"))
        found = claim_batches(storage, owner, 4)
        assert found.batches == (("a1", "a2", "b1", "b2"),)
        assert [limit.active for limit in storage.limits()] == [1, 1]
        assert claim_batches(storage, owner, 4, now=NOW + SECOND).claims == []
        _end(storage, owner, found.claims)
        assert claim_batches(storage, owner, 4, now=NOW + SECOND).batches == (("a3", "a4"),)

    def test_newcomers_get_their_turns_first(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [LimitDefinition("fair", "fair", 0, key="user")]})
        storage.insert([job(id, options=keyed(user=id[0])) for id in ("a1", "a2", "a3", "b1")])
        found = claim_batches(storage, owner, 2)
        assert (found.claims, found.moved) == ([], 4)
        found = claim_batches(storage, owner, 2, limit=1)
        assert sorted(found_ids(found.claims)) == ["a1", "b1"]
        assert claim_batches(storage, owner, 2).batches == (("a2", "a3"),)
