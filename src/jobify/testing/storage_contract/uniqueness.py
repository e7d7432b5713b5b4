"""Unique keys: while a job has one, no other one can be added with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobify.model.records import JobQuery
from jobify.model.status import TERMINAL
from jobify.storage.base import Storage
from jobify.testing.rows import (
    NASTY_TEXTS,
    NOW,
    PROFILE,
    after,
    again,
    claim,
    claimed,
    end,
    job,
    one,
    running,
    statuses,
)
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("UniqueContract",)


def _keyed(id: str, **fields: Any) -> Any:
    return job(id, unique_key="k", **fields)


def _crash(storage: Storage, max_crashes: int) -> object:
    storage.close()
    storage.open()
    return storage.recover(now=NOW, max_crashes=max_crashes, delete_at=None)


WAYS_OUT: dict[str, Callable[[Storage, int], object]] = {
    "cancelled": lambda storage, owner: storage.cancel(["a"], reason="x", now=NOW, delete_at=None),
    "expired": lambda storage, owner: storage.expire(now=NOW, limit=1, delete_at=None),
    "deleted": lambda storage, owner: storage.delete(["a"], now=NOW, delete_at=None),
    "replace": lambda storage, owner: storage.replace(job("a")),
    "its parent failed": lambda storage, owner: storage.cancel(["parent"], reason="x", now=NOW, delete_at=None),
}
"""How a job that waits may let go of its key."""


class UniqueContract(StorageCase):
    def test_a_key_is_held_by_one(self, storage: Storage, owner: int) -> None:
        assert storage.insert([_keyed("a"), job("b", unique_key="other"), job("c")]) == [True] * 3
        assert one(storage, "a").unique_key == "k"
        assert storage.insert([_keyed("x"), job("y"), job("z")]) == [False, True, True]
        assert storage.get(["x"]) == []
        assert [storage.find_unique(key) for key in ("k", "other", "none")] == ["a", "b", None]

    def test_the_first_of_two_equal_keys_wins(self, storage: Storage) -> None:
        assert storage.insert([_keyed("a"), _keyed("b"), job("c")]) == [True, False, True]
        assert storage.find_unique("k") == "a"

    def test_one_that_is_refused_holds_no_key(self, storage: Storage) -> None:
        storage.insert([job("a")])
        assert storage.insert([_keyed("a"), _keyed("b")]) == [False, True]
        assert storage.find_unique("k") == "b"

    def test_one_that_is_added_as_cancelled_holds_no_key_but_won(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "bad"), status="failed")])
        assert storage.insert([after("a", "bad", unique_key="k"), _keyed("b"), job("a")]) == [True, False, False]
        assert (one(storage, "a").status, storage.find_unique("k")) == ("cancelled", None)
        assert storage.insert([_keyed("b")]) == [True]

    def test_a_refused_duplicate_needs_no_parents(self, storage: Storage) -> None:
        """The same request has the same result, also when the parents of the job are gone."""
        storage.insert([_keyed("a")])
        assert storage.insert([after("b", "missing", unique_key="k"), after("a", "missing")]) == [False, False]

    @pytest.mark.parametrize("key", NASTY_TEXTS)
    def test_keys_are_compared_letter_for_letter(self, storage: Storage, key: str) -> None:
        assert storage.insert([job("a", unique_key=key), job("b", unique_key=key + "x")]) == [True, True]
        assert storage.insert([job("c", unique_key=key)]) == [False]
        assert (storage.find_unique(key), one(storage, "a").unique_key) == ("a", key)

    def test_a_running_job_holds_its_key(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", unique_key="k")
        storage.insert([running("b", owner, unique_key="running")])
        assert storage.insert([_keyed("x"), job("y", unique_key="running")]) == [False, False]
        storage.settle([again(owner, found)])
        assert (storage.find_unique("k"), one(storage, "a").unique_key) == ("a", "k")

    def test_a_status_that_is_not_known_holds_its_key(self, storage: Storage) -> None:
        storage.insert([_keyed("a", status="hibernating")])
        assert storage.insert([_keyed("b")]) == [False]
        assert storage.find_unique("k") == "a"

    @pytest.mark.parametrize("status", sorted(TERMINAL))
    def test_an_end_lets_go(self, storage: Storage, owner: int, status: str) -> None:
        found = claimed(storage, owner, "a", unique_key="k")
        storage.settle([end(owner, found, status=status)])
        assert (storage.find_unique("k"), one(storage, "a").unique_key) == (None, "k")
        assert storage.insert([_keyed("b")]) == [True]

    @pytest.mark.parametrize("how", WAYS_OUT)
    def test_a_job_that_waits_lets_go(self, storage: Storage, owner: int, how: str) -> None:
        storage.insert([job("parent"), after("a", "parent", unique_key="k", expires_at=NOW)])
        WAYS_OUT[how](storage, owner)
        assert storage.find_unique("k") is None
        assert storage.insert([_keyed("b")]) == [True]

    def test_a_replacement_lets_go(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", unique_key="k")
        storage.replace(job("a", payload=b"2"))
        assert storage.insert([_keyed("b")]) == [False], "the old one still runs"
        storage.settle([end(owner, found)])
        assert one(storage, "a").unique_key is None
        assert storage.insert([_keyed("b")]) == [True]

    def test_a_replacement_may_have_a_key_that_is_free(self, storage: Storage, owner: int) -> None:
        storage.insert([_keyed("a"), job("b", unique_key="other")])
        with pytest.raises(ValueError, match="'a'"):
            storage.replace(job("a", unique_key="other", payload=b"2"))
        assert storage.replace(_keyed("a", payload=b"2"))
        assert storage.insert([_keyed("x")]) == [False]
        assert storage.replace(job("a", unique_key="new", payload=b"3"))
        assert [storage.find_unique(key) for key in ("k", "new", "other")] == [None, "a", "b"]
        assert one(storage, "a").payload == b"3"

    def test_what_follows_a_running_job_may_keep_its_key(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", unique_key="k")
        assert storage.replace(_keyed("a", payload=b"2")) is False
        assert storage.insert([_keyed("x")]) == [False]
        storage.settle([end(owner, found)])
        assert (one(storage, "a").unique_key, one(storage, "a").payload) == ("k", b"2")
        assert storage.insert([_keyed("x")]) == [False]
        storage.settle([end(owner, claim(storage, owner)[0])])
        assert storage.insert([_keyed("x")]) == [True]

    def test_what_follows_a_running_job_has_no_other_key(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        with pytest.raises(ValueError, match="'a'"):
            storage.replace(_keyed("a"))
        assert one(storage, "a").has_successor is False

    def test_a_key_until_the_start_is_given_up_by_the_claim(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", unique_key="start:k")
        assert (one(storage, "a").unique_key, storage.find_unique("start:k")) == (None, None)
        assert storage.insert([job("b", unique_key="start:k"), job("c", unique_key="start:k")]) == [True, False]
        storage.settle([again(owner, found)])
        assert (storage.find_unique("start:k"), one(storage, "a").unique_key) == ("b", None)

    def test_a_key_can_be_given_up(self, storage: Storage, owner: int) -> None:
        found = claimed(storage, owner, "a", unique_key="k")
        with storage.transaction():
            storage.hold_keys(["k", "k", "other"])
            assert storage.hold_unique("k") == "a"
            storage.give_up_key("a")
            assert (storage.hold_unique("k"), storage.insert([_keyed("b")])) == (None, [True])
        storage.settle([end(owner, found)])
        assert storage.find_unique("k") == "b"

    def test_the_death_of_an_owner_lets_go_only_where_it_ends_the_job(self, storage: Storage, owner: int) -> None:
        claimed(storage, owner, "a", unique_key="k")
        _crash(storage, 2)
        assert storage.find_unique("k") == "a"
        claim(storage, storage.register(PROFILE, now=NOW))
        _crash(storage, 1)
        assert (one(storage, "a").status, storage.find_unique("k")) == ("failed", None)

    def test_an_ended_job_makes_room_for_its_own_key(self, storage: Storage, owner: int) -> None:
        storage.settle([end(owner, claimed(storage, owner, "a", unique_key="k"))])
        assert storage.insert([_keyed("a", payload=b"2")]) == [True]
        assert storage.find_unique("k") == "a"

    def test_a_block_that_raises_gives_the_key_back(self, storage: Storage) -> None:
        def hand_over() -> None:
            storage.cancel(["a"], reason="x", now=NOW, delete_at=None)
            assert storage.insert([_keyed("b")]) == [True]
            assert storage.find_unique("k") == "b"

        storage.insert([_keyed("a")])
        undone(storage, hand_over)
        assert storage.find_unique("k") == "a"
        assert (storage.insert([_keyed("b")]), statuses(storage, "ab")) == ([False], ["scheduled", "missing"])

    def test_many_keys_at_once(self, storage: Storage) -> None:
        jobs = [job(f"{number:04}", unique_key=f"{number // 2}") for number in range(2600)]
        assert storage.insert(jobs) == [number % 2 == 0 for number in range(2600)]
        assert len(storage.find(JobQuery(limit=9999))) == 1300
