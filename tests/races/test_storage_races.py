"""Several processes at one database, all at the same time."""

from __future__ import annotations

from collections import Counter

from crowd import in_processes, opened

from jobify.model.records import JobQuery
from jobify.testing.rows import NOW, PROFILE, claim_once, end, job, running


def _open_and_insert(path: str, number: int) -> int:
    with opened(path) as storage:
        storage.insert([job(str(number))])
        return storage.register(PROFILE, now=NOW)


def test_eight_processes_open_a_new_database_at_once(place: str) -> None:
    owners = in_processes(8, _open_and_insert, place)
    assert len(set(owners)) == 8
    with opened(place) as storage:
        assert len(storage.find(JobQuery())) == 8


def _insert_the_same(path: str, number: int) -> list[str]:
    added: list[str] = []
    with opened(path) as storage:
        for batch in range(20):
            jobs = [job(f"{batch:02}-{index:02}", payload=b"%d" % number) for index in range(25)]
            added += [one.id for one, is_added in zip(jobs, storage.insert(jobs), strict=True) if is_added]
    return added


def test_an_id_is_given_once_however_many_want_it(place: str) -> None:
    """B2."""
    added = in_processes(4, _insert_the_same, place)
    ids = [id for some in added for id in some]
    assert len(ids) == len(set(ids)) == 500
    with opened(place) as storage:
        by = {record.id: int(record.payload) for record in storage.find(JobQuery(limit=1000))}
        assert by == {id: number for number, some in enumerate(_sorted_by_process(added, by)) for id in some}


def _sorted_by_process(added: list[list[str]], by: dict[str, int]) -> list[list[str]]:
    """The answers come in any order; who gave which shows in the rows."""
    found: list[list[str]] = [[] for _ in added]
    for some in added:
        assert len({by[id] for id in some}) <= 1
        if some:
            found[by[some[0]]] = some
    return found


def _drain(path: str, number: int) -> tuple[list[str], int]:
    ran: list[str] = []
    empty_handed = 0
    with opened(path) as storage:
        owner = storage.register(PROFILE, now=NOW)
        while True:
            found = claim_once(storage, owner, limit=5 + number)
            ran += [claim.id for claim in found.claims]
            assert all(storage.settle([end(owner, claim) for claim in found.claims]))
            empty_handed += not found.claims
            if not found.claims and not found.has_more:
                storage.deregister(owner)
                return ran, empty_handed


def test_four_workers_run_each_job_once(place: str) -> None:
    """B1."""
    with opened(place) as storage:
        storage.insert([job(f"{number:05}") for number in range(3000)])
        answers = in_processes(4, _drain, place)
        ran = Counter(id for ids, _ in answers for id in ids)
        assert ran == Counter(f"{number:05}" for number in range(3000))
        assert storage.count(JobQuery()) == {("task", "default", "success", False): 3000}


def _recover(path: str, number: int) -> list[str]:
    with opened(path) as storage:
        return [found.id for found in storage.recover(now=NOW, max_crashes=3, delete_at=None)]


def test_each_job_of_the_dead_is_recovered_once(place: str) -> None:
    with opened(place) as storage:
        for _ in range(4):
            owner = storage.register(PROFILE, now=NOW)
            storage.insert([running(f"{owner}-{number:03}", owner) for number in range(100)])
    answers = in_processes(4, _recover, place)
    recovered = [id for ids in answers for id in ids]
    assert len(recovered) == len(set(recovered)) == 400
    with opened(place) as storage:
        assert storage.owners() == []
        found = storage.find(JobQuery(limit=1000))
        assert {len(storage.attempts(record.id)) for record in found} == {1}
        assert {record.crashes for record in found} == {0}, "they died in company"


def _write_often(path: str, number: int) -> int:
    with opened(path) as storage:
        for index in range(150):
            storage.insert([job(f"{number}-{index}")])
        return number


def test_nobody_starves_among_many_writers(place: str) -> None:
    assert sorted(in_processes(6, _write_often, place)) == list(range(6))
    with opened(place) as storage:
        assert len(storage.find(JobQuery(limit=1000))) == 900
