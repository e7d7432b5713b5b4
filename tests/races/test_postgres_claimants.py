"""Claims on PostgreSQL that are under way while their owner is taken for dead: no job runs for an owner that is gone.

The interleavings are made by hand, with one connection for the claim and one for what removes its owner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from jobify.model.records import ClaimRequest, Parking, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage import PostgresStorage
from jobify.testing.rows import NOW, PROFILE, again, ask, claim_once, ids_of, job, one, running, suspects

ORPHANS = "SELECT id FROM jobify.jobs WHERE status = 'running' AND owner NOT IN (SELECT id FROM jobify.owners)"
DIE = "UPDATE jobify.owners SET process = 'closed', lock_key = 17 WHERE id = %s"
"""What others see of an owner whose process has died: nothing holds its lock."""


class Case:
    """A job "a", and a way in which it becomes an owner's."""

    def __init__(self, how: str, storage: PostgresStorage) -> None:
        self._how = how
        self._storage = storage
        if how == "apart":
            self.owner = suspects(storage, ["a", "b"], deaths=3)
            storage.cancel(["b"], reason="no", now=NOW, delete_at=None)
            return
        self.owner = storage.register(PROFILE, now=NOW)
        if how != "inserted already claimed":
            storage.insert([job("a")])
        if how == "parked":
            (claim,) = claim_once(storage, self.owner).claims
            parking = Parking("no", NOW, ("old",))
            storage.settle([again(self.owner, claim, ready=True, due_at=claim.due_at, parking=parking)])

    def take(self) -> list[str]:
        """What the owner has then."""
        storage, owner = self._storage, self.owner
        match self._how:
            case "claimed":
                return ids_of(claim_once(storage, owner))
            case "apart":
                return ids_of(ask(storage, owner, ClaimScope.APART))
            case "parked":
                slots = (TaskSlots(("task",), 1),)
                request = ClaimRequest(owner, slots, None, scope=ClaimScope.PARKED, code="new")
                return ids_of(storage.claim(request, now=NOW))
        assert storage.insert([running("a", owner)]) == [True]
        return ["a"] if one(storage, "a").status == "running" else []


HOWS = ["claimed", "inserted already claimed", "apart", "parked"]


class Court:
    """Two storages at one database, and a connection that is no storage's."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.first, self.second = PostgresStorage(url), PostgresStorage(url)
        for storage in (self.first, self.second):
            storage.open()
            stack.callback(storage.close)
        self.hand = stack.enter_context(psycopg.connect(url, autocommit=True))
        self.observer = stack.enter_context(psycopg.connect(url, autocommit=True))

    def orphans(self) -> list[Any]:
        return self.observer.execute(ORPHANS).fetchall()

    def waiting(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        (count,) = self.observer.execute(query).fetchone() or (0,)
        return int(count)


@pytest.fixture
def court(postgres_url: str) -> Iterator[Court]:
    with ExitStack() as stack:
        yield Court(postgres_url, stack)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def recover(storage: PostgresStorage) -> list[str]:
    return [found.id for found in storage.recover(now=NOW, max_crashes=9, delete_at=None)]


@pytest.mark.parametrize("how", HOWS)
def test_a_claim_that_commits_after_its_owner_was_found_dead_is_recovered(court: Court, how: str) -> None:
    case = Case(how, court.first)
    recovered: list[str] = []
    with court.first.transaction():
        assert case.take() == ["a"]
        court.hand.execute(DIE, (case.owner,))
        thread = in_thread(lambda: recovered.extend(recover(court.second)))
        while thread.is_alive() and not court.waiting():
            thread.join(0.001)
    thread.join()
    recovered += recover(court.second)
    assert recovered == ["a"]
    assert court.orphans() == []
    assert one(court.second, "a").status == "scheduled"
    assert court.second.owners() == []


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_committed", [True, False])
def test_nothing_is_claimed_for_an_owner_that_is_being_removed(court: Court, how: str, is_committed: bool) -> None:
    case = Case(how, court.first)
    with court.hand.transaction(force_rollback=not is_committed):
        court.hand.execute("SELECT FROM jobify.owners WHERE id = %s FOR UPDATE", (case.owner,))
        court.hand.execute("DELETE FROM jobify.owners WHERE id = %s", (case.owner,))
        assert case.take() == [], "and it does not wait for the other transaction"
    assert court.orphans() == []
    assert one(court.second, "a").status == "scheduled"
    if how != "inserted already claimed":
        assert case.take() == ([] if is_committed else ["a"])
        assert court.orphans() == []


@pytest.mark.parametrize("how", HOWS)
def test_nothing_is_claimed_for_an_owner_that_has_been_removed(court: Court, how: str) -> None:
    case = Case(how, court.first)
    court.hand.execute(DIE, (case.owner,))
    assert recover(court.second) == []
    assert case.take() == []
    assert court.orphans() == []
    waiting = one(court.second, "a")
    assert (waiting.status, waiting.owner, waiting.started_at is None or how != HOWS[1]) == ("scheduled", None, True)


def test_a_claim_whose_answer_was_lost_goes_with_its_owner(court: Court) -> None:
    """The owner leaves on another connection, while the server is still about to commit the claim."""
    owner = court.first.register(PROFILE, now=NOW)
    court.first.insert([job("a")])
    with court.first.transaction():
        assert ids_of(claim_once(court.first, owner)) == ["a"]
        thread = in_thread(lambda: court.second.deregister(owner))
        while thread.is_alive() and not court.waiting():
            thread.join(0.001)
    thread.join()
    assert court.orphans() == []
    assert one(court.second, "a").status == "scheduled"


def test_a_claim_in_vain_writes_nothing(court: Court) -> None:
    owner = court.first.register(PROFILE, now=NOW)
    with court.first.transaction():
        assert not claim_once(court.first, owner).claims
        written = court.first._database.command("SELECT pg_current_xact_id_if_assigned()").fetchone()
    assert written == (None,)


def test_claims_race_with_the_removal_of_their_owner(court: Court) -> None:
    for number in range(300):
        owner = court.first.register(PROFILE, now=NOW)
        court.first.insert([job(f"{number}-{one}") for one in range(3)])
        start = threading.Barrier(2)

        def work(owner: int = owner, number: int = number, start: threading.Barrier = start) -> None:
            start.wait()
            claim_once(court.first, owner, limit=2)
            court.first.insert([running(f"{number}-begun", owner)])

        worker = in_thread(work)
        start.wait()
        court.second.deregister(owner)
        worker.join()
        court.first._owners._own.clear()
        assert court.orphans() == []
        court.hand.execute("DELETE FROM jobify.jobs")
