"""What a call costs, in steps of SQLite's machine and in statements: counted, not timed.

A step is one instruction of a compiled statement. It does not depend on the machine, and a scan of a table shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jobify.model.records import Claim, JobQuery, MessageKind, Report
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.claims import STEP
from jobify.testing.rows import NOW, PROFILE, SECOND, claim, claim_once, end, job, running
from jobify.testing.storage_contract.batching import claim_batches
from probes import database_of, reader_of, writer_of
from support import opened

T = TypeVar("T")

CROWD = """
WITH RECURSIVE
    numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000),
    crowd (name, status, ready, task, queue, due_at, delete_at, blockers) AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?))
INSERT INTO jobs (
    id, status, ready, fence, task, queue, priority, due_at, created_at, attempt, payload, delete_at, finished_at,
    blockers, unique_key, expires_at
)
SELECT
    name || n, status, ready, 1, task, queue, 0, due_at, 0, 0, x'00', delete_at, iif(status = 'success', 1, NULL),
    blockers, name || n, due_at + 1000000000000
FROM numbers CROSS JOIN crowd
"""
CROWDS: list[tuple[Any, ...]] = [
    ("ended", "success", 0, "task", "default", NOW, NOW + 10**12, 0),
    ("future", "scheduled", 0, "task", "default", NOW + 10**12, None, 0),
    ("parked", "scheduled", 1, "unknown", "default", NOW, None, 0),
    ("plain", "scheduled", 1, "unknown", "default", NOW, None, 0),
    ("blocked", "scheduled", 1, "task", "default", NOW - 1, None, 1),
    ("paused", "scheduled", 1, "task", "paused", NOW - 1, None, 0),
]
DEPENDENTS = """
INSERT INTO dependencies (parent, parent_id, child, is_open)
SELECT parents.seq, parents.id, jobs.seq, 1 FROM jobs CROSS JOIN jobs AS parents ON parents.id = 'future1'
WHERE jobs.blockers = 1
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStorage]:
    """100,000 each of ended, future, parked, blocked and paused jobs, and of those that wait as they were enqueued."""
    with opened(SQLiteStorage(tmp_path_factory.mktemp("crowded") / "jobs.db", synchronous="normal")) as storage:
        for crowd in CROWDS:
            database_of(storage).execute(CROWD, crowd)
        database_of(storage).execute(DEPENDENTS)
        storage.pause_queue("paused")
        yield storage


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")) as storage:
        storage.insert([job("parked", task="unknown"), job("future", due_at=NOW + 10**12)])
        storage.insert([job("blocked", parents=("future",)), job("paused", queue="paused")])
        storage.pause_queue("paused")
        yield storage


def steps(storage: SQLiteStorage, function: Callable[[], object]) -> int:
    """How many steps ``function`` takes, on both connections."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    connections = (writer_of(storage), reader_of(storage))
    for connection in connections:
        assert connection is not None
        connection.set_progress_handler(count, 1)
    function()
    for connection in connections:
        assert connection is not None
        connection.set_progress_handler(None, 0)
    return counted[0]


def statements(storage: SQLiteStorage, function: Callable[[], object]) -> list[str]:
    """The first words of the statements that ``function`` runs."""
    traced: list[str] = []
    connections = (writer_of(storage), reader_of(storage))
    for connection in connections:
        assert connection is not None
        connection.set_trace_callback(traced.append)
    function()
    for connection in connections:
        assert connection is not None
        connection.set_trace_callback(None)
    return [statement.split()[0] for statement in traced]


def _life(storage: SQLiteStorage) -> dict[str, int]:
    """The steps of each call in the life of ten jobs."""
    owner = storage.register(PROFILE, now=NOW)
    taken: list[Claim] = []
    jobs = [job(f"j{number}") for number in range(10)]
    calls: dict[str, Callable[[], object]] = {
        "insert": lambda: storage.insert(jobs),
        "claim": lambda: taken.extend(claim_once(storage, owner, tasks=("task", "other")).claims),
        "claim nothing": lambda: claim_once(storage, owner),
        "find what runs": lambda: storage.find(JobQuery(statuses=("running",), tasks=("task",), limit=100)),
        "find what has not ended": lambda: storage.find(JobQuery(statuses=("running", "scheduled"), limit=1)),
        "cancel": lambda: storage.cancel(["j0"], reason="x", now=NOW, delete_at=None),
        "cancel requests": lambda: storage.cancel_requests(owner),
        "settle": lambda: storage.settle([end(owner, one) for one in taken]),
        "move nothing": lambda: storage.reschedule("j0", due_at=NOW, now=NOW),
        "recover": lambda: storage.recover(now=NOW, max_crashes=3, delete_at=None),
        "find schedules": lambda: storage.find(JobQuery(is_schedule=True)),
        "get": lambda: storage.get(["j1", "j2"]),
        "delete": lambda: storage.delete(["j1", "j2"], now=NOW, delete_at=None),
        "purge": lambda: storage.purge(now=NOW + 3600 * SECOND, limit=100),
        "trim": lambda: storage.trim(keep=1, limit=100),
        "insert again": lambda: storage.insert([job("j3"), running("j4", owner)]),
        "deregister": lambda: storage.deregister(owner),
    }
    return {name: steps(storage, call) for name, call in calls.items()}


def _family(storage: SQLiteStorage) -> dict[str, int]:
    """The steps of each call in the lives of jobs that depend on each other, wait, pause, expire and report."""
    owner = storage.register(PROFILE, now=NOW)
    parents = [running(f"p{number}", owner) for number in range(3)]
    children = [job(f"c{number}", parents=("p0", "p1")) for number in range(10)]
    report = Report("p2", owner, 1, MessageKind.VALUE, NOW, b"x")
    failed = JobQuery(statuses=("failed", "timeout"), is_dead=True, limit=10)
    calls: dict[str, Callable[[], object]] = {
        "insert parents": lambda: storage.insert(parents),
        "insert children": lambda: storage.insert(children),
        "insert what must be unique": lambda: storage.insert([job("u", unique_key="u"), job("v", unique_key="u")]),
        "find what is unique": lambda: storage.find_unique("u"),
        "relations": lambda: storage.relations("p0"),
        "settle a parent": lambda: storage.settle([end(owner, parents[0])]),
        "keep a parent": lambda: storage.purge(now=NOW + 3600 * SECOND, limit=100),
        "fail a parent": lambda: storage.settle([end(owner, parents[1], status="failed", is_dead=True)]),
        "find what failed": lambda: storage.find(failed),
        "count what failed": lambda: storage.count(failed),
        "retry": lambda: storage.retry(["p1"], now=NOW),
        "report": lambda: storage.report([report] * 10),
        "messages": lambda: storage.messages("p2", after=5, limit=10),
        "insert what expires": lambda: storage.insert([job("e", expires_at=NOW + 1)]),
        "expire": lambda: storage.expire(now=NOW + 1, limit=10, delete_at=None),
        "expire nothing": lambda: storage.expire(now=NOW + 1, limit=10, delete_at=None),
        "insert a schedule": lambda: storage.insert([job("s", rule="{}")]),
        "pause": lambda: storage.pause(["s"]),
        "resume": lambda: storage.resume(["s"], now=NOW),
        "count what may go": lambda: storage.count_purgeable(now=NOW + 3600 * SECOND),
        "delete a child": lambda: storage.delete(["c1"], now=NOW, delete_at=None),
        "purge": lambda: storage.purge(now=NOW + 3600 * SECOND, limit=100),
    }
    return {name: steps(storage, call) for name, call in calls.items()}


@pytest.mark.parametrize("calls", [_life, _family])
@pytest.mark.no_cover  # others run the same lines, less often
def test_no_call_costs_more_among_600_000_jobs(
    calls: Callable[[SQLiteStorage], dict[str, int]], crowded: SQLiteStorage, empty: SQLiteStorage
) -> None:
    among_few, among_many = calls(empty), calls(crowded)
    assert {name: count for name, count in among_many.items() if count > among_few[name] + 20} == {}


def test_a_chain_costs_by_its_length_not_by_its_square(empty: SQLiteStorage) -> None:
    """It is added in one call, and falls with its first job in one, too."""
    owner = empty.register(PROFILE, now=NOW)

    def chain(name: str, length: int) -> int:
        first = running(f"{name}0", owner)
        rest = [job(f"{name}{number}", parents=(f"{name}{number - 1}",)) for number in range(1, length)]
        added = steps(empty, lambda: empty.insert([first, *rest]))
        return added + steps(empty, lambda: empty.settle([end(owner, first, status="failed")]))

    assert chain("long", 4000) < 1.2 * 10 * chain("short", 400)


def test_a_crossing_of_many_ways_costs_by_the_ways(empty: SQLiteStorage) -> None:
    """A thousand jobs that all lead to one, from which a thousand go on."""
    owner = empty.register(PROFILE, now=NOW)

    def crossing(name: str, width: int) -> int:
        root = running(f"{name}root", owner)
        before = [job(f"{name}a{number}", parents=(root.id,)) for number in range(width)]
        middle = job(f"{name}b", parents=tuple(one.id for one in before))
        after = [job(f"{name}c{number}", parents=(middle.id,)) for number in range(width)]
        empty.insert([root, *before, middle, *after])
        return steps(empty, lambda: empty.settle([end(owner, root, status="failed")]))

    assert crossing("wide", 1000) < 1.2 * 10 * crossing("narrow", 100)


@pytest.mark.parametrize(
    "matching",
    [{"tasks": ("task",)}, {"queues": ("default",)}, {"created_after": NOW}, {"created_before": NOW + 1}],
    ids=lambda matching: next(iter(matching)),
)
@pytest.mark.parametrize("is_newest_first", [False, True])
def test_a_page_costs_by_what_is_read_until_it_is_full(
    matching: dict[str, Any], is_newest_first: bool, empty: SQLiteStorage
) -> None:
    empty.delete(["parked", "future", "blocked", "paused"], now=NOW, delete_at=None)
    page = JobQuery(limit=10, is_newest_first=is_newest_first, **matching)
    empty.insert([job(f"{number:05}") for number in range(20)])
    empty.find(page)
    among_few = steps(empty, lambda: empty.find(page))
    empty.insert([job(f"{number:05}") for number in range(20, 5000)])
    assert steps(empty, lambda: empty.find(page)) <= among_few + 20


def test_a_claim_costs_by_what_it_takes_not_by_what_is_ready(empty: SQLiteStorage) -> None:
    owner = empty.register(PROFILE, now=NOW)
    empty.insert([job(f"a{number}") for number in range(20)])
    among_few = steps(empty, lambda: claim_once(empty, owner, limit=19))
    # The same due time, and other priorities, and other times: whatever orders them, nobody reads them all.
    empty.insert([job(f"b{number}") for number in range(3000)])
    empty.insert([job(f"c{number}", priority=number % 7, due_at=NOW - number) for number in range(3000)])
    empty.insert([job(f"d{number}", queue=f"q{number % 3}") for number in range(3000)])
    among_many = steps(empty, lambda: claim_once(empty, owner, limit=19))
    assert among_many < 2 * among_few


@pytest.mark.no_cover  # others run the same lines, less often
def test_a_hundred_thousand_overdue_jobs_are_staged_in_steps(crowded: SQLiteStorage, empty: SQLiteStorage) -> None:
    empty.insert([job(f"{number}", due_at=NOW + SECOND) for number in range(STEP)])
    owners = [storage.register(PROFILE, now=NOW) for storage in (empty, crowded)]
    late = NOW + 10**12
    few = steps(empty, lambda: claim_once(empty, owners[0], limit=10, now=NOW + SECOND))
    many = steps(crowded, lambda: claim_once(crowded, owners[1], limit=10, now=late))
    assert many < 1.1 * few


def test_a_batch_is_one_statement(empty: SQLiteStorage) -> None:
    owner = empty.register(PROFILE, now=NOW)
    jobs = [job(f"{number:03}") for number in range(500)]
    newborn = [running(f"b{number:03}", owner) for number in range(500)]
    taken: list[Claim] = []
    assert statements(empty, lambda: empty.insert(jobs)) == ["INSERT"]
    assert statements(empty, lambda: empty.insert(newborn)) == ["INSERT"]
    assert statements(empty, lambda: taken.extend(claim_once(empty, owner, limit=400).claims)) == ["WITH", "UPDATE"]
    assert statements(empty, lambda: empty.settle([end(owner, one) for one in taken])) == ["UPDATE"]
    assert statements(empty, lambda: empty.get([one.id for one in jobs])) == ["SELECT"]
    assert statements(empty, lambda: empty.find(JobQuery(limit=500))) == ["SELECT"]
    # Ten statements cannot come from five hundred settlements, whatever is wrong with one of them.
    odd = [end(owner, one) for one in [*newborn, *newborn[:1]]]
    assert len(statements(empty, lambda: empty.settle(odd))) <= 10


def test_nothing_to_do_is_one_read_and_no_lock(empty: SQLiteStorage) -> None:
    owner = empty.register(PROFILE, now=NOW)
    assert statements(empty, lambda: claim_once(empty, owner)) == ["WITH"]
    assert statements(empty, lambda: claim_batches(empty, owner, 5)) == ["WITH"]
    assert statements(empty, lambda: empty.recover(now=NOW, max_crashes=3, delete_at=None)) == ["SELECT"]
    assert statements(empty, lambda: empty.cancel_requests(owner)) == ["SELECT"]
    assert statements(empty, empty.has_external_changes) == ["PRAGMA"]
    notifier = empty.notifier
    assert notifier is not None
    assert statements(empty, lambda: notifier.notify(workers=True, clients=True, owners=[owner])) == []


def test_the_next_due_time_spares_a_look(empty: SQLiteStorage) -> None:
    owner = empty.register(PROFILE, now=NOW)
    empty.insert([job("a", due_at=NOW + 1)])
    claim_once(empty, owner)
    assert statements(empty, lambda: claim_once(empty, owner, now=NOW + 1)) == ["UPDATE", "WITH", "UPDATE"]
    empty.insert([job("b", due_at=NOW + 2)])
    assert [one.id for one in claim(empty, owner, now=NOW + 2)] == ["b"]
