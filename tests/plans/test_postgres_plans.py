"""What statements on PostgreSQL read, with many jobs that they are not about.

The plans are generic ones, as in production (see ``connection``). The server counts the rows that a transaction has
read of each table; what a statement may read is a small multiple of what it answers or changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

import psycopg
import pytest

from jobify.model.records import ClaimRequest, JobQuery, MessageKind, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage import PostgresStorage
from jobify.storage.postgres.claims import _far, _near
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.places import Places
from jobify.storage.postgres.statements import texts
from jobify.testing.rows import NOW, PROFILE, SECOND, claim_once, end, job, line, report, running
from jobify.testing.storage_contract.batching import claim_batches
from support import opened

OTHERS = 20_000
"""Jobs that have ended, and as many that are due later."""
READY = 300
TASKS = ("task", "mail", "sum")

FILL = f"""
    INSERT INTO jobify.jobs (
        id, task, queue, priority, status, ready, due_at, created_at, payload, fence, attempt, finished_at, delete_at
    )
    SELECT
        'ended-' || n, 'task', 'default', 0, CASE n % 100 WHEN 0 THEN 'failed' ELSE 'success' END, true,
        {NOW} - n, {NOW} - n, '', 1, 1, {NOW}, {NOW + SECOND} + n
    FROM generate_series(1, {OTHERS}) AS n;
    INSERT INTO jobify.jobs (
        id, task, queue, priority, status, ready, due_at, created_at, payload, fence, attempt
    )
    SELECT 'later-' || n, 'task', 'default', 0, 'scheduled', false, {NOW + SECOND} + n, {NOW}, '', 0, 0
    FROM generate_series(1, {OTHERS}) AS n;
"""


@pytest.fixture(scope="module", params=["no statistics", "statistics"])
def filled(request: pytest.FixtureRequest, postgres_databases: Any) -> Iterator[str]:
    url = postgres_databases.create()
    storage = PostgresStorage(url)
    storage.open()
    storage.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobify.jobs SET (autovacuum_enabled = false)")
        connection.execute(FILL)
        if request.param == "statistics":
            connection.execute("VACUUM ANALYZE jobify.jobs")
    yield url
    postgres_databases.drop(url)


@pytest.fixture
def storage(filled: str) -> Iterator[PostgresStorage]:
    """What a test changes is undone."""
    with opened(PostgresStorage(filled)) as storage:
        with storage.transaction():
            yield storage
            storage._database.command("ROLLBACK")
            storage._database.command("BEGIN")


def rows_read(storage: PostgresStorage, call: Callable[[], object]) -> int:
    """How many rows of jobs a call has read, in the transaction that is open."""
    before = _counted(storage)
    call()
    return _counted(storage) - before


def _counted(storage: PostgresStorage) -> int:
    cursor = storage._database.command(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
        "WHERE schemaname = 'jobify' AND relname = 'jobs'"
    )
    (count,) = cursor.fetchone() or (0,)
    return int(count)


def fill_ready(storage: PostgresStorage) -> int:
    """Jobs that are due; the owner that may claim them."""
    for task in TASKS:
        storage.insert([job(f"{task}-{number:04}", task=task, priority=number % 3) for number in range(READY)])
    return storage.register(PROFILE, now=NOW)


def request(owner: int, limit: int, *tasks: str, **fields: Any) -> ClaimRequest:
    return ClaimRequest(owner, (TaskSlots(tasks, limit),), **fields)


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize("tasks", [("task",), TASKS])
def test_a_claim_reads_what_it_takes(storage: PostgresStorage, limit: int, tasks: tuple[str, ...]) -> None:
    owner = fill_ready(storage)
    found: list[int] = []
    read = rows_read(storage, lambda: found.append(len(claim_once(storage, owner, limit=limit, tasks=tasks).claims)))
    assert found == [limit]
    assert read <= (len(tasks) + 3) * (limit + 1) + 30


@pytest.mark.parametrize("tasks", [("task",), TASKS])
def test_a_claim_of_batches_reads_what_it_looks_at_and_takes(storage: PostgresStorage, tasks: tuple[str, ...]) -> None:
    owner = fill_ready(storage)
    found: list[int] = []
    read = rows_read(
        storage, lambda: found.extend(map(len, claim_batches(storage, owner, 20, limit=2, tasks=tasks).batches))
    )
    assert found == [20, 20]
    looked_at = len(tasks) * (40 + 1)
    assert read <= 2 * looked_at + 3 * 40 + 60


def test_a_batch_that_waits_for_jobs_costs_a_look(storage: PostgresStorage) -> None:
    owner = fill_ready(storage)
    assert rows_read(storage, lambda: claim_batches(storage, owner, READY + 1)) <= READY + 20


def test_a_claim_for_which_there_is_nothing_reads_nothing(storage: PostgresStorage) -> None:
    owner = fill_ready(storage)
    assert rows_read(storage, lambda: claim_once(storage, owner, tasks=["unknown"])) <= 10


def test_a_claim_promotes_what_is_due(storage: PostgresStorage) -> None:
    owner = fill_ready(storage)
    late = NOW + SECOND + 50
    read = rows_read(storage, lambda: claim_once(storage, owner, limit=10, now=late))
    assert read <= 400


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("fields", [(), ("error",), ("history",)], ids=["alike", "each", "history"])
def test_a_settlement_reads_what_it_changes(storage: PostgresStorage, count: int, fields: Collection[str]) -> None:
    owner = fill_ready(storage)
    claims = claim_once(storage, owner, limit=count).claims
    for _ in range(2):  # many others run
        claim_once(storage, owner, limit=100, tasks=("mail", "sum"))
    own = {"error": lambda id: id, "history": lambda id: (line(id),)}
    settlements = [end(owner, claim, **{name: own[name](claim.id) for name in fields}) for claim in claims]
    assert rows_read(storage, lambda: storage.settle(settlements)) <= 5 * count + 5


def test_a_settlement_that_is_not_plain(storage: PostgresStorage) -> None:
    owner = fill_ready(storage)
    storage.insert([running("parent", owner), job("child", parents=("parent",))])
    assert rows_read(storage, lambda: storage.settle([end(owner, running("parent", owner))])) <= 40


CALLS: dict[str, tuple[int, Callable[[PostgresStorage, int], object]]] = {
    "insert": (5, lambda storage, owner: storage.insert([job("new")])),
    "insert many": (200, lambda storage, owner: storage.insert([job(f"new-{number}") for number in range(100)])),
    "insert over an ended one": (20, lambda storage, owner: storage.insert([job("ended-7")])),
    "insert what is there": (20, lambda storage, owner: storage.insert([job("later-7")])),
    "insert a child": (20, lambda storage, owner: storage.insert([job("child", parents=("later-7",))])),
    "replace": (20, lambda storage, owner: storage.replace(job("later-7"))),
    "reschedule": (5, lambda storage, owner: storage.reschedule("later-7", due_at=NOW, now=NOW)),
    "cancel": (30, lambda storage, owner: storage.cancel(["later-7"], reason="", now=NOW, delete_at=None)),
    "cancel_requests": (5, lambda storage, owner: storage.cancel_requests(owner)),
    "expire": (5, lambda storage, owner: storage.expire(now=NOW, limit=100, delete_at=None)),
    "retry": (30, lambda storage, owner: storage.retry(["ended-100"], now=NOW)),
    "pause": (20, lambda storage, owner: storage.pause(["later-7"])),
    "delete": (30, lambda storage, owner: storage.delete(["later-7"], now=NOW, delete_at=None)),
    "purge nothing": (5, lambda storage, owner: storage.purge(now=NOW, limit=100)),
    "purge": (300, lambda storage, owner: storage.purge(now=NOW + SECOND + 50, limit=50)),
    "trim": (5, lambda storage, owner: storage.trim(keep=10, limit=100)),
    "report": (
        20,
        lambda storage, owner: storage.report([report(owner, running("r", owner), 1.0, MessageKind.PROGRESS)]),
    ),
    "recover": (20, lambda storage, owner: storage.recover(now=NOW, max_crashes=3, delete_at=None)),
    "claim parked": (
        5,
        lambda storage, owner: storage.claim(request(owner, 5, *TASKS, scope=ClaimScope.PARKED), now=NOW),
    ),
    "claim apart": (
        5,
        lambda storage, owner: storage.claim(request(owner, 5, *TASKS, scope=ClaimScope.APART), now=NOW),
    ),
    "get": (10, lambda storage, owner: storage.get(["ended-7", "later-7"])),
    "find": (400, lambda storage, owner: storage.find(JobQuery())),
    "find running": (50, lambda storage, owner: storage.find(JobQuery(statuses=("running",)))),
    "find of an owner": (50, lambda storage, owner: storage.find(JobQuery(owner=owner))),
    "find failed": (400, lambda storage, owner: storage.find(JobQuery(statuses=("failed",)))),
    "find schedules": (50, lambda storage, owner: storage.find(JobQuery(is_schedule=True))),
    "count running": (50, lambda storage, owner: storage.count(JobQuery(statuses=("running",)))),
    "count failed": (1000, lambda storage, owner: storage.count(JobQuery(statuses=("failed",)))),
    "find_unique": (5, lambda storage, owner: storage.find_unique("k")),
    "relations": (5, lambda storage, owner: storage.relations("ended-7")),
    "waiting_schedules": (5, lambda storage, owner: storage.times.waiting_schedules(due_after=0, after="", limit=9)),
    "schedules": (5, lambda storage, owner: storage.times.schedules(["later-7"])),
}
"""Calls, and how many rows they may read."""


@pytest.mark.parametrize("name", CALLS)
def test_a_call_reads_what_it_is_about(storage: PostgresStorage, name: str) -> None:
    limit, call = CALLS[name]
    owner = fill_ready(storage)
    storage.insert([running("r", owner)])
    assert rows_read(storage, lambda: call(storage, owner)) <= limit


def test_the_plan_of_a_look_for_batches(storage: PostgresStorage) -> None:
    fill_ready(storage)
    database = storage._database
    lane = texts()["whole_lane"].replace("{in_queues}", "")
    text = database.sql("batch_candidates", lane=lane).text
    nodes = _plan_of(database, "a_look", text, "ARRAY['task'], 10, true")
    scans = {(node["Node Type"], node.get("Index Name")) for node in nodes if node.get("Relation Name") == "jobs"}
    assert {index for _, index in scans if index} <= {"jobs_ready", "jobs_staged", "jobs_parked", "jobs_pkey"}
    assert "Seq Scan" not in {kind for kind, _ in scans}


def test_the_plan_of_taking_a_batch(storage: PostgresStorage) -> None:
    fill_ready(storage)
    database = storage._database
    text = database.sql("take_batch").text
    nodes = _plan_of(database, "a_batch", text, f"ARRAY[1, 2], ARRAY[0, 0], 1, {NOW}, {NOW}, 1")
    assert "Seq Scan" not in {node["Node Type"] for node in nodes if node.get("Relation Name") == "jobs"}


def _plan_of(database: Database, name: str, text: str, arguments: str) -> list[dict[str, Any]]:
    database.command(f"PREPARE {name} AS {text}")
    (plan,) = database.command(f"EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE {name} ({arguments})").fetchone() or ("",)
    return list(_nodes((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]))


@pytest.mark.parametrize("is_near", [False, True])
def test_the_plan_of_a_claim(storage: PostgresStorage, is_near: bool) -> None:
    """No table of jobs is scanned, and nothing is sorted but what the claim takes."""
    fill_ready(storage)
    database = storage._database
    source = _near(Places(0.0)) if is_near else _far(None)
    text = database.sql("claim", unflushed="", **source.fields).text
    arguments = f"ARRAY['task'], 10, 1, {NOW}, {NOW}, false, 1"
    if is_near:
        arguments += f", ARRAY['default'], ARRAY['task'], ARRAY[0], ARRAY[{NOW}], ARRAY[0]"
    nodes = _plan_of(database, "a_claim", text, arguments)
    scans = {(node["Node Type"], node.get("Index Name")) for node in nodes if node.get("Relation Name") == "jobs"}
    assert {index for _, index in scans if index} <= {"jobs_ready", "jobs_staged", "jobs_parked", "jobs_pkey"}
    assert "Seq Scan" not in {kind for kind, _ in scans}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)
