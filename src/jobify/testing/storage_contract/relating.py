"""What stays known of parents and children: relations, and results that a child may want."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobify.model.records import Claim, NewJob, Relations
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, after, claim, claimed, end, job, line, one, running, statuses
from jobify.testing.storage_contract.given import StorageCase

__all__ = ("RelationContract",)


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
