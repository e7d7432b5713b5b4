"""get, find, count, attempts, changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobify.model.records import Claim, CountKey, JobQuery, NewJob, Relations
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, PROFILE, after, claim, claimed, end, job, line, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("ListContract", "ReadContract", "RelationContract")


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


# -- listing -----------------------------------------------------------------------------------------------------------
# The filters of find and count that people use, the newest first, and what a purge would take.


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


# -- relating ----------------------------------------------------------------------------------------------------------
# What stays known of parents and children: relations, and results that a child may want.


class RelationContract(StorageCase):
    def test_relations_come_in_order_of_insertion(self, storage: Storage, owner: int) -> None:
        storage.insert([job("z"), job("y"), after("x", "z", "y"), after("w", "y"), after("a", "y")])
        assert storage.relations("x") == Relations(("z", "y"), ())
        assert storage.relations("y") == Relations((), ("x", "w", "a"))
        assert storage.relations("missing") == Relations((), ())

    def test_relations_outlast_the_end(self, storage: Storage, owner: int) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([after("b", "a"), after("c", "a")])
        storage.settle([end(owner, parent)])
        storage.settle([end(owner, found) for found in claim(storage, owner)])
        assert storage.relations("a") == Relations((), ("b", "c"))
        storage.delete(["a", "c"], now=NOW, delete_at=None)
        assert storage.relations("b") == Relations(("a",), ())
        assert storage.relations("c") == Relations((), ())

    def test_kinship_is_all_that_is_connected(self, storage: Storage, owner: int) -> None:
        storage.insert(
            [
                running("a", owner),
                running("b", owner),
                after("c", "a", "b"),
                after("d", "a", "b"),
                after("e", "c"),
            ]
        )
        storage.insert([after("f", "b"), job("other"), after("another", "other")])
        storage.settle([end(owner, running("b", owner), status="failed", error="E: x", is_dead=True)])
        for id in "bcdef":
            assert [each.id for each in storage.kinship(id, limit=100).jobs] == [*"abcdef"]
        kin = storage.kinship("a", limit=100)
        assert ([each.id for each in kin.jobs], kin.is_whole) == ([*"abcdef"], True)
        named = {each.number: each.id for each in kin.jobs}
        b = kin.jobs[1]
        assert (b.task, b.status, b.is_dead, b.error) == ("task", "failed", True, "E: x")
        links = [(named.get(parent, ""), named.get(child, "")) for parent, child in kin.edges]
        assert sorted(links) == [("", "c"), ("", "d"), ("a", ""), ("b", ""), ("b", "f"), ("c", "e")]
        assert [each.id for each in storage.kinship("another", limit=100).jobs] == ["other", "another"]
        assert storage.kinship("missing", limit=100).jobs == ()
        storage.insert([after(f"g{number}", "other") for number in range(50)])
        near = storage.kinship("other", limit=10)
        assert (len(near.jobs) <= 10, near.is_whole) == (True, False)

    def test_a_child_that_is_deleted_leaves_the_list(self, storage: Storage) -> None:
        storage.insert([job("a"), after("b", "a"), after("c", "a")])
        storage.delete(["b"], now=NOW, delete_at=None)
        assert storage.relations("a") == Relations((), ("c",))

    def test_purge_keeps_what_an_unfinished_job_depends_on(self, storage: Storage, owner: int) -> None:
        wanted = claimed(storage, owner, "a", payload=b"1")
        storage.insert([running("b", owner), after("c", "a", "b")])
        storage.settle([end(owner, wanted, result=b"wanted", delete_at=NOW, history=(line("a"),))])
        storage.settle([end(owner, claimed(storage, owner, "other"), delete_at=NOW)])
        assert sum(storage.count_purgeable(now=NOW).values()) == 1
        assert storage.purge(now=NOW, limit=9) == 1
        assert (one(storage, "a").result, len(storage.attempts("a"))) == (b"wanted", 1)
        storage.settle([end(owner, running("b", owner), delete_at=None)])
        (child,) = claim(storage, owner)
        assert storage.purge(now=NOW, limit=9) == 0, "c runs, and may fetch its result"
        storage.settle([end(owner, child, delete_at=None)])
        assert sum(storage.count_purgeable(now=NOW).values()) == 1
        assert storage.purge(now=NOW, limit=9) == 1
        assert statuses(storage, "abc") == ["missing", "success", "success"]
        assert storage.relations("c").parents == ("a", "b")

    @pytest.mark.parametrize("how", ["cancelled", "deleted", "replaced"])
    def test_purge_goes_on_when_no_job_depends_on_it_any_more(self, storage: Storage, owner: int, how: str) -> None:
        parent = claimed(storage, owner, "a")
        storage.insert([running("b", owner), after("c", "a", "b")])
        storage.settle([end(owner, parent, delete_at=NOW)])
        assert storage.purge(now=NOW, limit=9) == 0
        leave: dict[str, Callable[[], Any]] = {
            "cancelled": lambda: storage.cancel(["c"], reason="x", now=NOW, delete_at=None),
            "deleted": lambda: storage.delete(["c"], now=NOW, delete_at=None),
            "replaced": lambda: storage.replace(job("c")),
        }
        leave[how]()
        assert storage.purge(now=NOW, limit=9) == 1

    def test_what_is_kept_for_others_holds_up_no_purge(self, storage: Storage, owner: int) -> None:
        parents: list[NewJob | Claim] = [running(f"a{number:02}", owner) for number in range(30)]
        storage.insert([parent for parent in parents if isinstance(parent, NewJob)])
        storage.insert([running("b", owner), after("c", "b", *(parent.id for parent in parents))])
        storage.settle([end(owner, parent, delete_at=NOW - 1) for parent in parents])
        storage.settle([end(owner, claimed(storage, owner, "other"), delete_at=NOW)])
        assert sum(storage.purge(now=NOW, limit=10) for _ in range(5)) == 1
        assert statuses(storage, ["other", "a00"]) == ["missing", "success"]
