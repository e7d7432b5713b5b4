"""Which jobs others may still need, whatever is to delete them or to take their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest

from jobify.model.records import Relations
from jobify.storage.base import Storage
from jobify.testing.rows import NOW, SECOND, after, claim, end, job, line, one, report, running, statuses
from jobify.testing.storage_contract.given import StorageCase, undone

__all__ = ("NeedContract",)

Act: TypeAlias = Callable[[Storage, int], object]


def _fail(storage: Storage, owner: int, id: str) -> object:
    return storage.settle([end(owner, running(id, owner), status="failed", delete_at=None)])


def _succeed(storage: Storage, owner: int, id: str) -> object:
    return storage.settle([end(owner, running(id, owner), delete_at=None)])


def _run(storage: Storage, owner: int, status: str) -> object:
    (found,) = claim(storage, owner)
    return storage.settle([end(owner, found, status=status, delete_at=None)])


def _finish(storage: Storage, owner: int, status: str) -> object:
    _succeed(storage, owner, "b")
    return _run(storage, owner, status)


NEEDS: dict[str, Act] = {
    "it waits": lambda storage, owner: None,
    "it runs": lambda storage, owner: (_succeed(storage, owner, "b"), claim(storage, owner)),
    "it has failed": lambda storage, owner: _finish(storage, owner, "failed"),
    "it has timed out": lambda storage, owner: _finish(storage, owner, "timeout"),
    "it fell with another": lambda storage, owner: _fail(storage, owner, "b"),
}
"""What may have become of the job c, which depends on a and b, while it needs a."""
DONE: dict[str, Act] = {
    "it has succeeded": lambda storage, owner: _finish(storage, owner, "success"),
    "it was cancelled": lambda storage, owner: storage.cancel(["c"], reason="no", now=NOW, delete_at=None),
    "it fell with one that was cancelled": lambda storage, owner: (
        storage.cancel(["b"], reason="no", now=NOW, delete_at=None),
        storage.settle([end(owner, running("b", owner), status="cancelled", delete_at=None)]),
    ),
    "it fell with one that is gone": lambda storage, owner: (
        _fail(storage, owner, "b"),
        storage.delete(["b"], now=NOW, delete_at=None),
    ),
}
"""What may have become of it when it needs nothing any more."""


def _given(storage: Storage, owner: int) -> None:
    """The job a has succeeded, b runs, and c depends on both."""
    storage.insert([running("a", owner), running("b", owner), after("c", "a", "b")])
    storage.report([report(owner, running("a", owner))])
    storage.settle([end(owner, running("a", owner), result=b"wanted", delete_at=NOW, history=(line("a"),))])


def _results(storage: Storage, id: str) -> list[bytes | None]:
    return [None if record is None else record.result for _, record in storage.parents(id)]


class NeedContract(StorageCase):
    @pytest.mark.parametrize("why", NEEDS)
    @pytest.mark.parametrize("write", ["insert", "put"])
    def test_one_that_is_needed_is_set_aside_for_a_new_one(
        self, storage: Storage, owner: int, write: str, why: str
    ) -> None:
        _given(storage, owner)
        NEEDS[why](storage, owner)
        new = job("a", payload=b"2", due_at=NOW + SECOND)
        assert storage.insert([new]) == [True] if write == "insert" else storage.replace(new)
        assert (one(storage, "a").status, storage.attempts("a"), storage.messages("a", after=0, limit=9)) == (
            "scheduled",
            [],
            [],
        )
        assert (storage.parents("c")[0][0], _results(storage, "c")[0]) == ("a", b"wanted")
        (aside,) = (record.id for name, record in storage.parents("c") if name == "a" and record is not None)
        assert storage.relations("c") == Relations((aside, "b"), ())
        assert (storage.relations("a").children, storage.relations(aside).children) == ((), ("c",))
        assert [each.job_id for each in storage.attempts(aside)] == [aside]
        assert len(storage.messages(aside, after=0, limit=9)) == 1
        assert storage.purge(now=NOW + 9 * SECOND, limit=9) == 0

    @pytest.mark.parametrize("why", NEEDS)
    def test_one_that_is_needed_is_not_deleted(self, storage: Storage, owner: int, why: str) -> None:
        _given(storage, owner)
        NEEDS[why](storage, owner)
        assert storage.delete(["a"], now=NOW, delete_at=None) == 0
        assert sum(storage.count_purgeable(now=NOW).values()) == 0
        assert storage.purge(now=NOW, limit=9) == 0
        assert _results(storage, "c")[0] == b"wanted"

    @pytest.mark.parametrize("why", DONE)
    @pytest.mark.parametrize("how", ["insert", "delete", "purge"])
    def test_one_that_is_not_needed_goes(self, storage: Storage, owner: int, how: str, why: str) -> None:
        _given(storage, owner)
        assert storage.purge(now=NOW, limit=9) == 0
        DONE[why](storage, owner)
        ways: dict[str, Callable[[], Any]] = {
            "insert": lambda: storage.insert([job("a", due_at=NOW + SECOND)]) == [True],
            "delete": lambda: storage.delete(["a"], now=NOW, delete_at=None) == 1,
            "purge": lambda: sum(storage.count_purgeable(now=NOW).values()) == storage.purge(now=NOW, limit=9) == 1,
        }
        assert ways[how]()
        assert storage.parents("c")[0] == ("a", None)
        assert storage.relations("c").parents[0] == "a"

    def test_those_that_need_it_may_be_deleted_with_it(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        storage.insert([after("d", "c")])
        _finish(storage, owner, "failed")
        assert storage.delete(["a", "b"], now=NOW, delete_at=None) == 0
        assert storage.delete(["a", "c"], now=NOW, delete_at=None) == 2, "b had gone otherwise"
        assert statuses(storage, "abcd") == ["missing", "success", "missing", "cancelled"]
        assert storage.delete(["b"], now=NOW, delete_at=None) == 1

    def test_what_stays_keeps_what_it_needs(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), running("b", owner), after("c", "a"), after("d", "b", "c")])
        storage.settle([end(owner, running("a", owner))])
        _fail(storage, owner, "b")
        storage.cancel(["c"], reason="no", now=NOW, delete_at=None)
        assert storage.delete(["a"], now=NOW, delete_at=None) == 1, "c will not come back"
        assert storage.delete(["c"], now=NOW, delete_at=None) == 0, "d may"
        assert storage.delete(["b", "c", "d"], now=NOW, delete_at=None) == 3

    def test_purge_goes_on_when_the_need_has_ended(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        _finish(storage, owner, "failed")
        assert storage.purge(now=NOW, limit=9) == 0
        assert storage.retry(["c"], now=NOW) == [True]
        assert storage.purge(now=NOW, limit=9) == 0
        _run(storage, owner, "success")
        assert storage.purge(now=NOW, limit=9) == 1
        assert statuses(storage, "abc") == ["missing", "success", "success"]

    def test_purge_deletes_those_that_need_each_other(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        storage.settle([end(owner, running("b", owner), delete_at=NOW)])
        assert storage.purge(now=NOW, limit=9) == 0
        (found,) = claim(storage, owner)
        storage.settle([end(owner, found, status="failed", delete_at=NOW)])
        assert storage.purge(now=NOW, limit=9) == 3

    def test_one_that_failed_may_go_and_gives_up_what_fell_with_it(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        _fail(storage, owner, "b")
        assert storage.delete(["b"], now=NOW, delete_at=None) == 1
        assert (one(storage, "c").status, storage.delete(["a"], now=NOW, delete_at=None)) == ("cancelled", 1)

    def test_it_may_be_set_aside_many_times(self, storage: Storage, owner: int) -> None:
        for number in range(3):
            storage.insert(
                [
                    running("a", owner, fence=1),
                    running(f"b{number}", owner),
                    after(f"c{number}", "a", f"b{number}"),
                ]
            )
            storage.settle([end(owner, running("a", owner), result=b"%d" % number)])
        assert [_results(storage, f"c{number}")[0] for number in range(3)] == [b"0", b"1", b"2"]
        assert len({storage.relations(f"c{number}").parents[0] for number in range(3)}) == 3

    def test_what_was_set_aside_goes_when_it_is_not_needed(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        storage.insert([job("a", due_at=NOW + SECOND, created_at=NOW + 5)])
        (aside, _) = storage.relations("c").parents
        assert storage.purge(now=NOW + 5, limit=9) == 0
        _finish(storage, owner, "success")
        assert storage.purge(now=NOW + 5, limit=9) == 1
        assert statuses(storage, [aside, "a"]) == ["missing", "scheduled"]

    def test_in_one_call_an_id_means_what_it_meant_before(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner)])
        storage.settle([end(owner, running("a", owner), result=b"old")])
        assert storage.insert([after("b", "a"), job("a"), after("c", "a")]) == [True] * 3
        assert (one(storage, "b").blockers, _results(storage, "b")) == (0, [b"old"])
        assert (one(storage, "c").blockers, _results(storage, "c")) == (1, [None])
        assert storage.relations("a").children == ("c",)

    def test_a_replacement_is_what_the_others_wait_for(self, storage: Storage, owner: int) -> None:
        storage.insert([running("a", owner), after("b", "a")])
        storage.replace(job("a", payload=b"2"))
        storage.settle([end(owner, running("a", owner), result=b"old")])
        (found,) = claim(storage, owner)
        storage.settle([end(owner, found, result=b"new")])
        assert _results(storage, "b") == [b"new"]

    def test_a_block_that_raises_gives_the_id_back(self, storage: Storage, owner: int) -> None:
        _given(storage, owner)
        undone(storage, partial(storage.insert, [job("a")]))
        assert (one(storage, "a").result, storage.relations("c").parents) == (b"wanted", ("a", "b"))
        assert len(storage.attempts("a")) == 1
