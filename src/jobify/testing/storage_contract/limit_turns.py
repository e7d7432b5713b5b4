"""Fair shares: jobs of several keys take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from jobify.model.limit_gates import LimitDefinition, LimitState, SettledLimits
from jobify.model.records import Claim
from jobify.storage.base import Storage
from jobify.testing.storage_contract.given import NOW, SECOND, StorageCase, again, claim, claim_once, job, one
from jobify.testing.storage_contract.limit_rows import at_once, ended, found_ids, keyed, place

__all__ = ("TurnContract",)

TURNS = LimitDefinition("turns", "fair", 1, key="shop")


def _jobs(storage: Storage, shop: str, count: int, **fields: object) -> None:
    place(storage, *(f"{shop}{number:04}" for number in range(count)), options=keyed(shop=shop), **fields)


def _shops(claims: Sequence[Claim]) -> str:
    return "".join(found.id[0] for found in claims)


class TurnContract(StorageCase):
    def test_a_key_with_few_jobs_does_not_wait_for_one_with_many(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 500)
        assert _shops(claim(storage, owner, limit=4)) == "aaaa"
        _jobs(storage, "b", 1)
        assert sorted(_shops(claim(storage, owner, limit=4))) == list("aaab")

    def test_keys_take_turns_by_their_weights(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS._replace(weights='{"\\"b\\"": 2.0, "\\"c\\"": 4.0}')]})
        for shop in "abc":
            _jobs(storage, shop, 200)
        starts = Counter[str]()
        for _ in range(35):
            starts.update(_shops(claim(storage, owner, limit=4)))
        assert starts == {"a": 20, "b": 40, "c": 80}

    def test_what_was_not_used_is_not_saved_up(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 100)
        assert len(claim(storage, owner, limit=50)) == 50
        _jobs(storage, "b", 50)
        assert Counter(_shops(claim(storage, owner, limit=20))) == {"a": 10, "b": 10}

    def test_a_higher_priority_goes_first(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 5)
        _jobs(storage, "b", 5, priority=1)
        assert _shops(claim(storage, owner, limit=6)) == "bbbbba"

    def test_a_cost_counts_as_so_many(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        place(storage, *(f"a{number}" for number in range(9)), options=keyed(shop="a", cost=3))
        _jobs(storage, "b", 20)
        assert Counter(_shops(claim(storage, owner, limit=8))) == {"a": 2, "b": 6}

    def test_a_job_that_was_let_go_on_and_not_taken_keeps_its_place(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 3)
        storage.insert([job("free", task="free", priority=1)])
        order = [found_ids(claim_once(storage, owner, tasks=("task", "free"), limit=1).claims) for _ in range(4)]
        assert order == [["free"], ["a0000"], ["a0001"], ["a0002"]]
        assert storage.limits()[0].waiting == 0

    def test_what_was_not_lined_up_is_by_the_first_claim(self, storage: Storage, owner: int) -> None:
        storage.insert([job(f"a{number}", options=keyed(shop="a")) for number in range(3)])
        storage.insert([job("later", options=keyed(shop="b"), due_at=NOW + SECOND), job("unknown")])
        storage.define_limits({"task": [TURNS]})
        found = claim(storage, owner, now=NOW + SECOND)
        states = {one.id: one.limits for one in found}
        assert states.pop("unknown") is LimitState.UNKEYED
        found += claim(storage, owner, now=NOW + SECOND)
        assert sorted(one.id for one in found) == ["a0", "a1", "a2", "later", "unknown"]

    def test_a_retry_stands_in_line_again(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 2)
        (first,) = claim_once(storage, owner, limit=1).claims
        assert first.limits is LimitState.HELD
        storage.settle([again(owner, first, due_at=NOW, ready=True)])
        assert sorted(found_ids([*claim(storage, owner), *claim(storage, owner)])) == ["a0000", "a0001"]

    def test_one_that_gets_its_place_from_a_claim_is_for_the_next_claim_at_once(
        self, storage: Storage, owner: int
    ) -> None:
        storage.define_limits({"task": [TURNS]})
        storage.insert([job("a", options=keyed(shop="a"))])
        first = claim_once(storage, owner)
        assert (first.claims, first.has_more) == ([], True)
        assert found_ids(claim_once(storage, owner).claims) == ["a"]

    def test_a_released_one_is_the_next_in_its_line(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 9)
        _jobs(storage, "b", 9)
        claims = claim(storage, owner, limit=4)
        for found in claims[:2]:
            released = again(owner, found, attempt=0, due_at=NOW, ready=True, error=None, limits=SettledLimits())
            storage.settle([released])
        assert set(found_ids(claims[:2])) <= set(found_ids(claim(storage, owner, limit=4)))

    @pytest.mark.parametrize("error", ["ValueError: no", "put off"])
    def test_one_that_is_tried_again_at_once_does_not_take_every_turn(
        self, storage: Storage, owner: int, error: str
    ) -> None:
        storage.define_limits({"task": [TURNS]})
        _jobs(storage, "a", 1)
        (bad,) = claim(storage, owner)
        _jobs(storage, "b", 2)
        storage.settle([again(owner, bad, due_at=NOW, ready=True, error=error, limits=SettledLimits())])
        order: list[str] = []
        while len(order) < 3:
            claims = claim(storage, owner, limit=1)
            order += _shops(claims)
            storage.settle([ended(owner, found) for found in claims])
        assert order.index("a") > 0

    def test_turns_beside_another_limit(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(2), TURNS]})
        for shop in "ab":
            _jobs(storage, shop, 5)
        order = ""
        for _ in range(5):
            claims = claim(storage, owner)
            order += "".join(sorted(_shops(claims)))
            storage.settle([ended(owner, found) for found in claims])
        assert order == "ab" * 5
        assert one(storage, "a0000").status == "success"

    def test_turns_beside_a_limit_with_a_key(self, storage: Storage, owner: int) -> None:
        storage.define_limits({"task": [at_once(1, key="shop"), TURNS]})
        for shop in "abc":
            _jobs(storage, shop, 3)
        rounds = []
        for _ in range(3):
            claims = claim(storage, owner)
            rounds.append("".join(sorted(_shops(claims))))
            storage.settle([ended(owner, found) for found in claims])
        assert rounds == ["abc", "abc", "abc"]
