"""Limits on a server: gates that several processes want at once, and rows that a user's transaction has locked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest

from jobify.model.limit_gates import SettledLimits
from jobify.model.records import Claim, ClaimRequest, JobQuery, TaskSlots
from jobify.storage import PostgresStorage
from jobify.testing.storage_contract.given import NOW, PROFILE, claim, end, job
from jobify.testing.storage_contract.limit_rows import at_once, ended, found_ids, keyed
from support import until

PATIENCE = 20.0


@pytest.fixture
def storages(postgres_url: str) -> Iterator[list[PostgresStorage]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(3):
            opened.append(storage := PostgresStorage(postgres_url))
            storage.open()
            stack.callback(storage.close)
        yield opened


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def _while_in_a_transaction(
    storage: PostgresStorage, threads: ThreadPoolExecutor, write: Any, meanwhile: Any
) -> tuple[Any, bool]:
    """What ``meanwhile`` answers that is called when ``storage`` has written and not committed yet; whether it had to
    wait for the commit."""
    has_written, may_commit = Event(), Event()

    def transaction() -> None:
        with storage.transaction():
            write()
            has_written.set()
            may_commit.wait(PATIENCE)

    writing = threads.submit(transaction)
    assert has_written.wait(PATIENCE)
    other: Future[Any] = threads.submit(meanwhile)
    try:
        other.exception(timeout=0.5)
        waited = False
    except TimeoutError:
        waited = True
    may_commit.set()
    writing.result(PATIENCE)
    return other.result(PATIENCE), waited


def test_a_claim_that_waits_for_a_gate_goes_by_what_was_set_meanwhile(
    storages: list[PostgresStorage], threads: ThreadPoolExecutor
) -> None:
    one, two, _ = storages
    owner = one.register(PROFILE, now=NOW)
    one.define_limits({"task": [at_once(0)]})
    one.insert([job("a")])
    assert claim(one, owner) == []
    one.insert([job("b")])
    found, _ = _while_in_a_transaction(
        two, threads, lambda: two.set_limit("limit", key=None, maximum=5), lambda: claim(one, owner)
    )
    assert sorted(found_ids(found) + found_ids(claim(one, owner))) == ["a", "b"]


def test_a_claim_that_waits_for_a_gate_does_not_exceed_what_was_set_meanwhile(
    storages: list[PostgresStorage], threads: ThreadPoolExecutor
) -> None:
    one, two, _ = storages
    owner = one.register(PROFILE, now=NOW)
    one.define_limits({"task": [at_once(5)]})
    one.insert([job("a")])
    (first,) = claim(one, owner)
    one.insert([job("b")])
    found, _ = _while_in_a_transaction(
        two, threads, lambda: two.set_limit("limit", key=None, maximum=0), lambda: claim(one, owner)
    )
    assert found == []
    one.settle([ended(owner, first)])
    assert claim(one, owner) == []


def test_a_claim_does_not_wait_for_a_transaction_that_has_changed_a_job_in_the_line(
    storages: list[PostgresStorage], threads: ThreadPoolExecutor
) -> None:
    one, two, _ = storages
    owner = one.register(PROFILE, now=NOW)
    one.define_limits({"task": [at_once(1)]})
    one.insert([job("a"), job("b"), job("c")])
    (first,) = claim(one, owner)
    one.settle([ended(owner, first)])
    found, waited = _while_in_a_transaction(
        two,
        threads,
        lambda: two.cancel(["b"], reason="x", now=NOW, delete_at=None),
        lambda: found_ids(claim(one, owner)),
    )
    assert (found, waited) == (["c"], False)
    (second,) = one.find(JobQuery(statuses=("running",)))
    one.settle([end(owner, _claim_of(second), limits=SettledLimits())])
    assert claim(one, owner) == []
    assert [(limit.active, limit.waiting) for limit in one.limits()] == [(0, 0)]


@pytest.mark.parametrize("how", ["reschedule", "replace", "cancel", "define"])
def test_a_job_in_the_line_that_is_changed_while_it_is_let_go_waits_no_longer_than_it_has_to(
    storages: list[PostgresStorage], threads: ThreadPoolExecutor, how: str
) -> None:
    one, two, _ = storages
    owner = one.register(PROFILE, now=NOW)
    one.define_limits({"task": [at_once(1)]})
    one.insert([job("a"), job("b")])
    (first,) = claim(one, owner)
    one.settle([ended(owner, first)])

    def change() -> None:
        if how == "reschedule":
            two.reschedule("b", due_at=NOW, now=NOW)
        elif how == "replace":
            two.replace(job("b"))
        elif how == "cancel":
            two.cancel(["b"], reason="x", now=NOW, delete_at=None)
        else:
            two.define_limits({"task": []})

    # It is let go and not claimed, because another one goes first.
    one.insert([job("free", task="free", priority=9)])
    lanes = (TaskSlots(("free", "task"), 1),)
    _while_in_a_transaction(one, threads, lambda: one.claim(ClaimRequest(owner, lanes), now=NOW), change)
    (record,) = one.get(["b"])
    assert record.blockers == 0
    assert record.status == ("cancelled" if how == "cancel" else "scheduled")
    if how != "cancel":
        assert found_ids(claim(one, owner)) == ["b"]


def _claim_of(record: Any) -> Claim:
    return Claim(*(getattr(record, field, None) for field in Claim._fields))


@pytest.mark.slow
def test_shared_and_keyed_gates_lock_up_never(storages: list[PostgresStorage], threads: ThreadPoolExecutor) -> None:
    """Claims and settlements that need many gates in many orders, with settings that change."""
    limits = {
        "x": [at_once(7, name="all"), at_once(1, name="each", key="user"), at_once(2, name="shop", key="shop")],
        "y": [at_once(2, name="shop", key="shop"), at_once(7, name="all")],
    }
    storages[0].define_limits(limits)
    choices = random.Random(1)
    for number in range(0, 600, 20):
        storages[0].insert(
            [
                job(
                    f"{number + step:04}",
                    task=choices.choice("xy"),
                    options=keyed(user=choices.randrange(9), shop=choices.randrange(5)),
                )
                for step in range(20)
            ]
        )

    def work(storage: PostgresStorage, seed: int) -> int:
        mine, owner, done = random.Random(seed), storage.register(PROFILE, now=NOW), 0
        held: list[Claim] = []
        for _ in range(3000):
            request = ClaimRequest(
                owner, (TaskSlots(tuple(mine.sample("xy", mine.randint(1, 2))), mine.randint(1, 5)),)
            )
            held += storage.claim(request, now=NOW).claims
            mine.shuffle(held)
            some, held = held[: len(held) // 2 + 1], held[len(held) // 2 + 1 :]
            storage.settle([ended(owner, one) for one in some])
            done += len(some)
            if mine.random() < 0.02:
                storage.set_limit("shop", key=None, maximum=mine.choice([1, 3, None]))
            if not (held or storage.find(JobQuery(statuses=("scheduled",), limit=1))):
                break
        return done

    before = _deadlocks(storages[0])
    done = sum(threads.map(work, storages, range(3)))
    assert done == 600
    assert [(limit.name, limit.active, limit.waiting) for limit in storages[0].limits()] == [
        ("all", 0, 0),
        ("each", 0, 0),
        ("shop", 0, 0),
    ]
    assert _deadlocks(storages[0]) == before


def test_calls_that_change_an_earlier_job_never_deadlock(
    storages: list[PostgresStorage], threads: ThreadPoolExecutor
) -> None:
    calling, cancelling, _ = storages
    calling.insert([job("held", unique_key="key"), job("other")])
    before = _deadlocks(calling)

    def cancel() -> None:
        with cancelling.transaction():
            for id in ("other", "held"):
                cancelling.cancel([id], reason="cancelled", now=NOW, delete_at=None)

    with calling.transaction():
        calling.hold_keys(["key"])
        assert calling.hold_unique("key") == "held"
        cancelled = threads.submit(cancel)
        until(lambda: _waiting(calling) == 1)
        calling.replace(job("held", unique_key="key"))
    cancelled.result(PATIENCE)
    assert _deadlocks(calling) == before


def _waiting(storage: PostgresStorage) -> int:
    """How many connections wait for a lock."""
    import psycopg

    with psycopg.connect(storage.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _deadlocks(storage: PostgresStorage) -> int:
    import psycopg

    with psycopg.connect(storage.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[1])
