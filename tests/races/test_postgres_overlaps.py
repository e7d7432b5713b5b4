"""Two calls at the same time on PostgreSQL: what comes of them is what comes of one after the other, in some order.

Each pair of calls is made to overlap in two ways. *Open*: the first is in a transaction that commits only when the
second has ended, or waits. *Queue*: both start while another transaction holds all rows, so that they go on together.
What is expected comes from the same storage, which makes the two calls one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from jobify.model.records import JobQuery, Progress
from jobify.storage import PostgresStorage
from jobify.testing.rows import (
    NOW,
    PROFILE,
    SECOND,
    after,
    again,
    claim,
    end,
    job,
    line,
    running,
)
from support import until

LATER = NOW + 5 * SECOND
OWNER = 1
IDS = ("run", "parent", "child", "wait", "old", "failed", "fallen", "done", "tick", "new")
TABLES = ("jobs", "successors", "cancels", "dependencies", "barriers", "attempts", "messages", "suspects", "deaths")
_EMPTY = ";".join(
    (*(f"DELETE FROM jobify.{name}" for name in (*TABLES, "owners")), "ALTER TABLE jobify.owners ALTER id RESTART")
).encode()
"""Of a few rows: with TRUNCATE, the server would make new files for all tables and indexes, each time."""

Call = Callable[[Any], Any]


def settle(*ids: str, **fields: Any) -> Call:
    settlement = again if fields.get("status") == "scheduled" else end
    ends = [settlement(OWNER, running(id, OWNER), **fields) for id in ids]
    return lambda storage: [int(met) for met in storage.settle(ends)]


def settle_with_history(storage: Any) -> Any:
    ends = [end(OWNER, running(id, OWNER), history=(line(id),)) for id in ("run", "parent")]
    return [int(met) for met in storage.settle(ends)]


def cancel(*ids: str) -> Call:
    return lambda storage: storage.cancel(ids, reason="stop", now=LATER, delete_at=None)


def insert(*jobs: Any) -> Call:
    return lambda storage: storage.insert(jobs)


CALLS: dict[str, Call] = {
    "claim": lambda storage: sorted(found.id for found in claim(storage, 2, limit=20)),
    "settle both": settle("parent", "run"),
    "settle both, history": settle_with_history,
    "run again": settle("run", status="scheduled"),
    "cancel all": cancel(*reversed(IDS)),
    "expire": lambda storage: storage.expire(now=LATER, limit=10, delete_at=None),
    "retry": lambda storage: storage.retry(["failed", "wait"], now=LATER),
    "purge": lambda storage: storage.purge(now=NOW + 1000 * SECOND, limit=10),
    "insert key of failed": insert(job("new", unique_key="failed")),
    "insert done": insert(job("done", payload=b"2")),
    "insert children": insert(after("new", "parent", "run", "done"), after("new2", "parent", "run", "done")),
    "replace run": lambda storage: storage.replace(job("run", payload=b"2"), Progress(1, 1)),
    "replace tick": lambda storage: storage.replace(job("tick", rule="* * * * *", due_at=LATER), None),
    "pause": lambda storage: storage.pause(["tick", "wait"]),
    "delete": lambda storage: storage.delete(["failed", "wait", "done", "run"], now=LATER, delete_at=None),
    "deregister": lambda storage: storage.deregister(OWNER),
}


class Field:
    """Three storages at one database, and two connections that are no storage's: one takes part, one watches."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.other, self._watcher = (stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(2))
        self.first, self.second, self.third = (PostgresStorage(url) for _ in range(3))
        for storage in (self.first, self.second, self.third):
            storage.open()
            stack.callback(storage.close)
        self._serial: dict[tuple[str, str], Any] = {}

    def fill(self) -> None:
        self.other.execute(_EMPTY)
        storage = self.first
        assert [storage.register(PROFILE, now=NOW) for _ in range(2)] == [1, 2]
        storage.insert(
            [
                running("run", OWNER),
                running("parent", OWNER, queue="a"),
                after("child", "parent"),
                job("wait", unique_key="wait"),
                job("old", expires_at=NOW + SECOND),
                job("failed", unique_key="failed", task="fails"),
                after("fallen", "failed"),
                job("done", task="fails"),
                job("tick", rule="* * * * *"),
            ]
        )
        found = {one.id: one for one in claim(storage, 2, tasks=("fails",))}
        storage.settle(
            [
                end(2, found["failed"], status="failed", error="ValueError: no", delete_at=None),
                end(2, found["done"], delete_at=NOW + 2 * SECOND),
            ]
        )

    def state(self) -> Any:
        found = self.second.find(JobQuery(limit=1000))
        rows = {record.id: record for record in found}
        messages = {id: len(self.second.messages(id, after=0, limit=10)) for id in rows}
        history = {id: sorted(one.outcome for one in self.second.attempts(id)) for id in rows}
        relations = {id: [sorted(some) for some in self.second.relations(id)] for id in rows}
        return rows, messages, history, relations

    def serially(self, one: str, other: str) -> Any:
        """What the two calls answer if they are made in this order, and what the rows are then."""
        if (one, other) not in self._serial:
            self.fill()
            answer = attempted(CALLS[one], self.first)
            self._serial[one, other] = answer, attempted(CALLS[other], self.second), self.state()
        return self._serial[one, other]

    def open(self, one: str, other: str) -> Any:
        """The first call commits when the second one has ended, or waits."""
        self.fill()
        with started(CALLS[other], self.second) as thread:
            with self.first.transaction():
                answer = attempted(CALLS[one], self.first)
                thread.start()
                until(lambda: not thread.is_alive() or self.waiting() == 1)
        return answer, self.final(other, thread.answer), self.state()

    def queued(self, one: str, other: str) -> Any:
        """Both calls go on when a transaction ends that holds all rows."""
        self.fill()
        with started(CALLS[one], self.first) as first, started(CALLS[other], self.second) as second:
            with self.other.transaction():
                self.other.execute("SELECT FROM jobify.jobs FOR UPDATE")
                first.start()
                until(lambda: not first.is_alive() or self.waiting() == 1)
                second.start()
                until(lambda: first.is_alive() + second.is_alive() == self.waiting())
        return self.final(one, first.answer), self.final(other, second.answer), self.state()

    def final(self, name: str, answer: Any) -> Any:
        """A claim passes over what is locked, and takes it the next time."""
        if name == "claim":
            return sorted([*answer, *CALLS["claim"](self.second)])
        return answer

    def waiting(self) -> int:
        """How many transactions of this database wait for another one."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        (count,) = self._watcher.execute(query.encode()).fetchone() or (0,)
        return int(count)


class Overlapping(threading.Thread):
    def __init__(self, call: Call, storage: Any) -> None:
        super().__init__(daemon=True)
        self._call, self._storage = call, storage
        self.answer: Any = None

    def run(self) -> None:
        self.answer = attempted(self._call, self._storage)


def attempted(call: Call, storage: Any) -> Any:
    try:
        return call(storage)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture(scope="module")
def field(postgres_databases: Any, postgres_template: str) -> Iterator[Field]:
    url = postgres_databases.create(postgres_template)
    with ExitStack() as stack:
        yield Field(url, stack)
    postgres_databases.drop(url)


@pytest.mark.parametrize("one", CALLS)
@pytest.mark.no_cover  # others run the same lines, less often
def test_two_calls_at_once_are_as_one_after_the_other(field: Field, one: str) -> None:
    for other in CALLS:
        first, second, state = field.serially(other, one)
        expected = [field.serially(one, other), (second, first, state)]
        assert field.open(one, other) in expected, other
        assert field.queued(one, other) in expected, other


@contextmanager
def started(call: Call, storage: Any) -> Iterator[Overlapping]:
    """A thread to start in the block; afterwards it has ended."""
    thread = Overlapping(call, storage)
    yield thread
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_unique_key_that_an_open_transaction_holds_is_waited_for(field: Field) -> None:
    """If that is undone, the job of the second one is stored; and whoever waits keeps nobody else waiting."""
    keyed = job("second", unique_key="key")
    for call in (insert(keyed), insert(keyed._replace(parents=("run",))), insert(keyed, job("third"))):
        for is_undone in (True, False):
            field.fill()
            with started(call, field.second) as thread:
                with suppress(ZeroDivisionError), field.first.transaction():
                    assert field.first.insert([job("first", unique_key="key")]) == [True]
                    thread.start()
                    until(lambda: field.waiting() == 1)
                    assert field.third.cancel(["wait"], reason="stop", now=NOW, delete_at=None) == ["cancelled"]
                    assert thread.is_alive()
                    if is_undone:
                        raise ZeroDivisionError
            assert thread.answer[0] is is_undone
            assert field.second.find_unique("key") == ("second" if is_undone else "first")


def test_nothing_is_claimed_for_an_owner_that_others_have_removed(field: Field) -> None:
    field.fill()
    field.first.deregister(2)
    assert claim(field.second, 2) == []
