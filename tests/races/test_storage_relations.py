"""Several processes at jobs that depend on each other, or must be the only ones of their kind."""

from __future__ import annotations

from collections import Counter

from crowd import in_processes, opened

from jobify.model.records import CancelResult, JobQuery, Settled
from jobify.testing.rows import NOW, PROFILE, claim, end, job, one, running

CHILDREN = 200


def _settle_the_parent_of_this_number(path: str, number: int) -> Counter[Settled]:
    met: Counter[Settled] = Counter()
    with opened(path) as storage:
        for child in range(CHILDREN):
            met.update(storage.settle([end(number + 1, running(f"{child}-{number}", number + 1))]))
        return met


def test_parents_of_one_child_that_end_at_once_free_it_once(place: str) -> None:
    """Whichever is last frees it; none is lost, none counted twice."""
    with opened(place) as storage:
        owners = [storage.register(PROFILE, now=NOW) for _ in range(2)]
        assert owners == [1, 2]
        for child in range(CHILDREN):
            parents = [running(f"{child}-{number}", owner) for number, owner in enumerate(owners)]
            storage.insert([*parents, job(f"child-{child}", parents=(f"{child}-0", f"{child}-1"))])
        met = in_processes(2, _settle_the_parent_of_this_number, place)
        assert met[0] + met[1] == {Settled.APPLIED: CHILDREN, Settled.CASCADED: CHILDREN}
        found = storage.find(JobQuery(statuses=("scheduled",), limit=1000))
        assert {record.blockers for record in found} == {0}
        assert len(claim(storage, 1)) == CHILDREN


def _insert_what_must_be_unique(path: str, number: int) -> tuple[list[str], list[str | None]]:
    added: list[str] = []
    standing: list[str | None] = []
    with opened(path) as storage:
        for key in map(str, range(20)):
            id = f"{key}-{number}"
            if storage.insert([job(id, unique_key=key)]) == [True]:
                added.append(id)
            standing.append(storage.find_unique(key))
    return added, standing


def test_eight_processes_add_one_job_for_a_key(place: str) -> None:
    with opened(place) as storage:
        answers = in_processes(8, _insert_what_must_be_unique, place)
        added = [id for ids, _ in answers for id in ids]
        assert sorted(record.id for record in storage.find(JobQuery())) == sorted(added)
        assert sorted(id.split("-")[0] for id in added) == sorted(map(str, range(20)))
        by_key = {id.split("-")[0]: id for id in added}
        assert all(standing == [by_key[str(key)] for key in range(20)] for _, standing in answers)


def _settle_or_cancel(path: str, number: int) -> list[bool]:
    with opened(path) as storage:
        ids = [f"p{index}" for index in range(CHILDREN)]
        if number == 0:
            return [storage.settle([end(1, running(id, 1))]) != [Settled.REFUSED] for id in ids]
        return [storage.cancel([id], reason="stop", now=NOW, delete_at=None) == [CancelResult.REQUESTED] for id in ids]


def test_a_cancel_against_the_end_of_a_parent(place: str) -> None:
    """A request that came too late, or in time for nothing, does not take the dependents along."""
    with opened(place) as storage:
        storage.register(PROFILE, now=NOW)
        for index in range(CHILDREN):
            storage.insert([running(f"p{index}", 1), job(f"c{index}", parents=(f"p{index}",))])
        in_processes(2, _settle_or_cancel, place)
        for index in range(CHILDREN):
            parent, child = one(storage, f"p{index}"), one(storage, f"c{index}")
            assert (parent.status, parent.is_cancel_requested) == ("success", False)
            assert (child.status, child.blockers) == ("scheduled", 0)


def _cancel_or_insert(path: str, number: int) -> list[str]:
    with opened(path) as storage:
        ids = [f"p{index}" for index in range(CHILDREN)]
        if number == 0:
            return [result for id in ids for result in storage.cancel([id], reason="stop", now=NOW, delete_at=None)]
        for id in ids:
            storage.insert([job(f"child of {id}", parents=(id,))])
        return []


def test_a_child_that_comes_while_its_parent_is_cancelled_never_waits_for_ever(place: str) -> None:
    with opened(place) as storage:
        storage.insert([job(f"p{index}") for index in range(CHILDREN)])
        in_processes(2, _cancel_or_insert, place)
        found = storage.find(JobQuery(limit=1000))
        assert len(found) == 2 * CHILDREN
        assert {record.status for record in found} == {"cancelled"}
        assert {record.error for record in found if record.id.startswith("child")} == {
            f"dependency p{index} was cancelled" for index in range(CHILDREN)
        }
