"""The filters of find and count that people use, the newest first, and what a purge would take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobify.model.records import CountKey, JobQuery
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, PROFILE, claimed, end, job, running
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("ListContract",)


def _options(**metadata: Any) -> str:
    return json.dumps({"timeout": 1.5, "metadata": metadata})


def _ids(storage: Storage, **filters: Any) -> str:
    found = "".join(record.id for record in storage.find(JobQuery(**filters)))
    assert sum(storage.count(JobQuery(**filters)).values()) == len(found)
    return found


class ListContract(StorageCase):
    def test_what_is_dead(self, storage: Storage, owner: int) -> None:
        for id, is_dead in (("a", True), ("b", False)):
            storage.settle([end(owner, claimed(storage, owner, id), status="failed", is_dead=is_dead)])
        storage.insert([job("c")])
        assert (_ids(storage, is_dead=True), _ids(storage, is_dead=False)) == ("a", "bc")
        assert storage.count(JobQuery()) == {
            CountKey("task", "default", "failed", True): 1,
            CountKey("task", "default", "failed", False): 1,
            CountKey("task", "default", "scheduled", False): 1,
        }

    def test_what_an_owner_runs(self, storage: Storage, owner: int) -> None:
        other = storage.register(PROFILE, now=NOW)
        storage.settle([end(owner, claimed(storage, owner, "ended"))])
        storage.insert([running("a", owner), running("b", other), running("c", owner), job("d")])
        assert (_ids(storage, owner=owner), _ids(storage, owner=other)) == ("ac", "b")
        assert _ids(storage, owner=other + 1) == ""

    def test_when_it_was_created(self, storage: Storage) -> None:
        storage.insert([job(id, created_at=NOW + number) for number, id in enumerate("abcd")])
        assert _ids(storage, created_after=NOW + 1) == "bcd"
        assert _ids(storage, created_before=NOW + 2) == "ab"
        assert _ids(storage, created_after=NOW + 1, created_before=NOW + 2) == "b"
        assert _ids(storage, created_after=NOW + 2, created_before=NOW + 2) == ""

    def test_when_it_was_created_is_not_in_its_id(self, storage: Storage) -> None:
        storage.insert([job("b", created_at=NOW + 1), job("a", created_at=NOW + 2), job("c", created_at=NOW)])
        assert _ids(storage, created_after=NOW + 1) == "ab"
        storage.replace(job("c", created_at=NOW + 3))
        assert (_ids(storage, created_after=NOW + 2), _ids(storage, created_before=NOW + 2)) == ("ac", "b")

    @pytest.mark.parametrize(
        ("pairs", "expected"),
        [
            ({"user": 7}, "ab"),
            ({"user": 7.0}, "ab"),
            ({"user": "7"}, "c"),
            ({"user": 7, "kind": "x"}, "b"),
            ({"user": True}, "d"),
            ({"user": 1}, "e"),
            ({"user": None}, "f"),
            ({"none": None}, ""),
            ({"user": False}, ""),
            ({"half": 0.5}, "e"),
            ({"ünï.\"cødé'": "✓"}, "c"),
            ({"list": "[1]"}, ""),
            ({"timeout": 1.5}, ""),
        ],
    )
    def test_what_its_metadata_says(self, storage: Storage, pairs: dict[str, Any], expected: str) -> None:
        metadata: dict[str, dict[str, Any]] = {
            "a": {"user": 7},
            "b": {"user": 7, "kind": "x"},
            "c": {"user": "7", "ünï.\"cødé'": "✓", "list": [1]},
            "d": {"user": True},
            "e": {"user": 1, "half": 0.5},
            "f": {"user": None},
        }
        storage.insert([job(id, options=_options(**said)) for id, said in metadata.items()])
        storage.insert([job("g"), job("h", options="{}"), job("i", options='{"metadata": null}')])
        assert _ids(storage, metadata=tuple(pairs.items())) == expected

    @pytest.mark.parametrize("options", ["no JSON", "[]", "7", '{"metadata": 7}', '{"metadata": ["user"]}', ""])
    def test_options_that_others_wrote_match_nothing(self, storage: Storage, options: str) -> None:
        storage.insert([job("a", options=options), job("b", options=_options(user=7))])
        assert _ids(storage, metadata=(("user", 7),)) == "b"

    def test_the_newest_first_in_pages(self, storage: Storage, owner: int) -> None:
        storage.insert([job(id, queue="q" if id in "bdf" else "r") for id in "abcdefg"])
        pages, after = [], None
        while page := storage.find(JobQuery(is_newest_first=True, after_id=after, limit=3)):
            pages.append("".join(record.id for record in page))
            after = page[-1].id
        assert pages == ["gfe", "dcb", "a"]
        found = storage.find(JobQuery(is_newest_first=True, queues=("q",), after_id="f", limit=1))
        assert [record.id for record in found] == ["d"]

    def test_what_a_purge_would_delete(self, storage: Storage, owner: int) -> None:
        assert storage.count_purgeable(now=NOW) == {}
        for id, task, status, delete_at in (
            ("a", "x", "success", NOW - 1),
            ("b", "x", "success", NOW),
            ("c", "y", "failed", NOW),
            ("d", "y", "failed", NOW + 1),
            ("e", "y", "failed", None),
        ):
            found = claimed(storage, owner, id, task=task)
            storage.settle([end(owner, found, status=status, delete_at=delete_at, is_dead=status == "failed")])
        storage.insert([job("waits")])
        purgeable = storage.count_purgeable(now=NOW)
        assert purgeable == {
            CountKey("x", "default", "success", False): 2,
            CountKey("y", "default", "failed", True): 1,
        }
        assert storage.purge(now=NOW, limit=9) == sum(purgeable.values())
