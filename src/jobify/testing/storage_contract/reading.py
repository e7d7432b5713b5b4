"""get, find, count, attempts, changed."""

from __future__ import annotations

from typing import Any

import pytest

from jobify.model.records import CountKey, JobQuery
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, claimed, end, job, line, running
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("ReadContract",)


def _fill(storage: Storage, owner: int) -> None:
    storage.settle([end(owner, claimed(storage, owner, "f", task="x", queue="q1"))])
    storage.settle([end(owner, claimed(storage, owner, "a", task="y", queue="q1"), status="failed")])
    storage.insert(
        [
            job("e", task="x", queue="q2"),
            running("b", owner, task="x", queue="q1"),
            job("d", task="x", queue="q1", rule="{}", due_at=NOW + 9),
            job("c", task="z", queue="q2", status="hibernating"),
        ]
    )


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "abcdef"),
    ({"statuses": ("scheduled",)}, "de"),
    ({"statuses": ("failed", "success", "running")}, "abf"),
    ({"statuses": ("running",)}, "b"),
    ({"statuses": ("hibernating", "never")}, "c"),
    ({"statuses": ()}, ""),
    ({"tasks": ("x",)}, "bdef"),
    ({"tasks": ("x", "z", "none")}, "bcdef"),
    ({"queues": ("q2",)}, "ce"),
    ({"is_schedule": True}, "d"),
    ({"is_schedule": False}, "abcef"),
    ({"is_schedule": True, "statuses": ("scheduled",), "tasks": ("x",)}, "d"),
    ({"tasks": ("x",), "queues": ("q1",), "statuses": ("success", "running")}, "bf"),
    ({"tasks": ("missing",)}, ""),
]


class ReadContract(StorageCase):
    # -- get -----------------------------------------------------------------------------------------------------------

    def test_get_leaves_out_what_is_unknown(self, storage: Storage) -> None:
        storage.insert([job("a"), job("b")])
        assert sorted(record.id for record in storage.get(["b", "missing", "a", "a"])) == ["a", "b"]
        assert storage.get([]) == []

    def test_get_many(self, storage: Storage) -> None:
        ids = [f"{number:04}" for number in range(1300)]
        storage.insert([job(id, payload=id.encode() * 3) for id in ids])
        records = storage.get(ids)
        assert sorted((record.id, record.payload) for record in records) == [(id, id.encode() * 3) for id in ids]

    # -- find, count ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("filters", "expected"), FILTERS)
    def test_find_what_matches_in_order_of_id(
        self, storage: Storage, owner: int, filters: dict[str, Any], expected: str
    ) -> None:
        _fill(storage, owner)
        assert "".join(record.id for record in storage.find(JobQuery(**filters))) == expected

    @pytest.mark.parametrize(("filters", "expected"), FILTERS)
    def test_count_what_matches(self, storage: Storage, owner: int, filters: dict[str, Any], expected: str) -> None:
        _fill(storage, owner)
        records = storage.find(JobQuery(**filters))
        counts = storage.count(JobQuery(**filters, after_id="c", limit=1))
        assert sum(counts.values()) == len(expected)
        kinds = [CountKey(record.task, record.queue, record.status, record.is_dead) for record in records]
        for kind in kinds:
            assert counts[kind] == kinds.count(kind)

    def test_an_unknown_status_is_counted_under_its_word(self, storage: Storage, owner: int) -> None:
        _fill(storage, owner)
        assert storage.count(JobQuery(tasks=("z",))) == {CountKey("z", "q2", "hibernating", False): 1}

    def test_find_in_pages(self, storage: Storage, owner: int) -> None:
        _fill(storage, owner)
        pages = []
        after = None
        while page := storage.find(JobQuery(after_id=after, limit=4)):
            pages.append("".join(record.id for record in page))
            after = page[-1].id
        assert pages == ["abcd", "ef"]
        assert storage.find(JobQuery(limit=0)) == []
        assert [record.id for record in storage.find(JobQuery(after_id="b", limit=1, tasks=("x",)))] == ["d"]

    def test_find_is_get_for_many(self, storage: Storage, owner: int) -> None:
        _fill(storage, owner)
        found = storage.find(JobQuery())
        assert sorted(storage.get("abcdef")) == found

    # -- attempts, changed ---------------------------------------------------------------------------------------------

    def test_no_history(self, storage: Storage) -> None:
        storage.insert([job("a"), job("b")])
        storage.add_history([line("b")])
        assert storage.attempts("a") == []
        assert storage.attempts("missing") == []

    def test_what_was_done_here_is_no_change_by_others(self, storage: Storage, owner: int) -> None:
        for _ in range(100):  # where a server has other users, there are false alarms, but not each time
            storage.has_external_changes()
            _fill(storage, owner)
            if not storage.has_external_changes():
                return
            storage.delete([*"abcdef"], now=NOW, delete_at=None)
        raise AssertionError("what is done here is taken for a change by others")
