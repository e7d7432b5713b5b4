"""What a call costs, in steps of SQLite's machine and in statements: counted, not timed.

A step is one instruction of a compiled statement. It does not depend on the machine, and a scan of a table shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jobify.records import Claim, JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.claims import STEP
from jobify.testing.storage_contract.given import NOW, SECOND, born, claim, end, job, look

T = TypeVar("T")

CROWD = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
INSERT INTO jobs (id, status, ready, fence, task, queue, priority, due_at, created_at, attempt, payload, delete_at)
SELECT ? || n, ?, ?, 1, ?, 'default', 0, ?, 0, 0, x'00', ? FROM numbers
"""
CROWDS: list[tuple[Any, ...]] = [
    ("ended", "success", 0, "task", NOW, NOW + 10**12),
    ("future", "scheduled", 0, "task", NOW + 10**12, None),
    ("parked", "scheduled", 1, "unknown", NOW, None),
]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStorage]:
    """100,000 ended, 100,000 future and 100,000 parked jobs."""
    storage = SQLiteStorage(tmp_path_factory.mktemp("crowded") / "jobs.db", synchronous="normal")
    storage.open()
    for crowd in CROWDS:
        storage._database.execute(CROWD, crowd)
    yield storage
    storage.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SQLiteStorage]:
    storage = SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")
    storage.open()
    storage.insert([job("parked", task="unknown"), job("future", due_at=NOW + 10**12)])
    yield storage
    storage.close()


def steps(storage: SQLiteStorage, function: Callable[[], object]) -> int:
    """How many steps ``function`` takes, on both connections."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    connections = (storage._database._writer, storage._database._reader)
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
    connections = (storage._database._writer, storage._database._reader)
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
    owner = storage.register(now=NOW)
    taken: list[Claim] = []
    jobs = [job(f"j{number}") for number in range(10)]
    calls: dict[str, Callable[[], object]] = {
        "insert": lambda: storage.insert(jobs),
        "claim": lambda: taken.extend(look(storage, owner, tasks=("task", "other")).claims),
        "claim nothing": lambda: look(storage, owner),
        "find what runs": lambda: storage.find(JobQuery(statuses=("running",), tasks=("task",), limit=100)),
        "find what has not ended": lambda: storage.find(JobQuery(statuses=("running", "scheduled"), limit=1)),
        "cancel": lambda: storage.cancel(["j0"], reason="x", now=NOW, delete_at=None),
        "cancel requests": lambda: storage.cancel_requests(owner),
        "settle": lambda: storage.settle([end(owner, one) for one in taken]),
        "move nothing": lambda: storage.move("j0", due_at=NOW, now=NOW),
        "recover": lambda: storage.recover(now=NOW, max_crashes=3, delete_at=None),
        "find schedules": lambda: storage.find(JobQuery(is_schedule=True)),
        "get": lambda: storage.get(["j1", "j2"]),
        "delete": lambda: storage.delete(["j1", "j2"]),
        "purge": lambda: storage.purge(now=NOW + 3600 * SECOND, limit=100),
        "trim": lambda: storage.trim(keep=1, limit=100),
        "insert again": lambda: storage.insert([job("j3"), born("j4", owner)]),
        "retire": lambda: storage.retire(owner),
    }
    return {name: steps(storage, call) for name, call in calls.items()}


def test_no_call_costs_more_among_300_000_jobs(crowded: SQLiteStorage, empty: SQLiteStorage) -> None:
    among_few, among_many = _life(empty), _life(crowded)
    assert {name: count for name, count in among_many.items() if count > among_few[name] + 20} == {}


def test_a_claim_costs_by_what_it_takes_not_by_what_is_ready(empty: SQLiteStorage) -> None:
    owner = empty.register(now=NOW)
    empty.insert([job(f"a{number}") for number in range(20)])
    among_few = steps(empty, lambda: look(empty, owner, limit=19))
    # The same due time, and other priorities, and other times: whatever orders them, nobody reads them all.
    empty.insert([job(f"b{number}") for number in range(3000)])
    empty.insert([job(f"c{number}", priority=number % 7, due_at=NOW - number) for number in range(3000)])
    empty.insert([job(f"d{number}", queue=f"q{number % 3}") for number in range(3000)])
    among_many = steps(empty, lambda: look(empty, owner, limit=19))
    assert among_many < 2 * among_few


def test_a_hundred_thousand_overdue_jobs_are_staged_in_steps(crowded: SQLiteStorage, empty: SQLiteStorage) -> None:
    empty.insert([job(f"{number}", due_at=NOW + SECOND) for number in range(STEP)])
    owners = [storage.register(now=NOW) for storage in (empty, crowded)]
    late = NOW + 10**12
    few = steps(empty, lambda: look(empty, owners[0], limit=10, now=NOW + SECOND))
    many = steps(crowded, lambda: look(crowded, owners[1], limit=10, now=late))
    assert many < 1.1 * few


def test_a_batch_is_one_statement(empty: SQLiteStorage) -> None:
    owner = empty.register(now=NOW)
    jobs = [job(f"{number:03}") for number in range(500)]
    newborn = [born(f"b{number:03}", owner) for number in range(500)]
    taken: list[Claim] = []
    assert statements(empty, lambda: empty.insert(jobs)) == ["INSERT"]
    assert statements(empty, lambda: empty.insert(newborn)) == ["INSERT"]
    assert statements(empty, lambda: taken.extend(look(empty, owner, limit=400).claims)) == ["WITH", "UPDATE"]
    assert statements(empty, lambda: empty.settle([end(owner, one) for one in taken])) == ["UPDATE"]
    assert statements(empty, lambda: empty.get([one.id for one in jobs])) == ["SELECT"]
    assert statements(empty, lambda: empty.find(JobQuery(limit=500))) == ["SELECT"]
    # Ten statements cannot come from five hundred settlements, whatever is wrong with one of them.
    odd = [end(owner, one) for one in [*newborn, *newborn[:1]]]
    assert len(statements(empty, lambda: empty.settle(odd))) <= 10


def test_nothing_to_do_is_one_read_and_no_lock(empty: SQLiteStorage) -> None:
    owner = empty.register(now=NOW)
    assert statements(empty, lambda: look(empty, owner)) == ["WITH"]
    assert statements(empty, lambda: empty.recover(now=NOW, max_crashes=3, delete_at=None)) == ["SELECT"]
    assert statements(empty, lambda: empty.cancel_requests(owner)) == ["SELECT"]
    assert statements(empty, empty.changed) == ["PRAGMA"]
    bell = empty.bell
    assert bell is not None
    assert statements(empty, bell.ring) == []


def test_the_next_due_time_spares_a_look(empty: SQLiteStorage) -> None:
    owner = empty.register(now=NOW)
    empty.insert([job("a", due_at=NOW + 1)])
    look(empty, owner)
    assert statements(empty, lambda: look(empty, owner, now=NOW + 1)) == ["UPDATE", "WITH", "UPDATE"]
    empty.insert([job("b", due_at=NOW + 2)])
    assert [one.id for one in claim(empty, owner, now=NOW + 2)] == ["b"]
